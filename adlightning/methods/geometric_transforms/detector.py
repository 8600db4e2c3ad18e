"""GEOM: a network that tells 72 geometric transforms of normal images apart (Golan and El-Yaniv, NeurIPS 2018).

The baseline "GTs" of the density-ratio paper (Sections 2.3 and 5.3). docs/methods/geometric_transforms.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import SGD

from adlightning.core.contracts import TrainBatch
from adlightning.core.detector import AnomalyDetector
from adlightning.core.optimization import Interval, one_optimizer, optimizer_part, scheduler_part
from adlightning.core.parts import (
    EncoderFactory,
    OptimizerFactory,
    PreprocessingFactory,
    SchedulerFactory,
    encoder_part,
)
from adlightning.core.rules import Rule, at_least
from adlightning.core.thresholds import NormalQuantile, ThresholdRule
from adlightning.methods.geometric_transforms.dirichlet import MIN_PROBABILITY, dirichlet_from_means
from adlightning.methods.geometric_transforms.transforms import (
    GROUPS,
    Group,
    of_groups,
    source_pixels,
    transform_all,
    transform_each,
)
from adlightning.networks.logits import build_logits
from adlightning.networks.wide_resnet import WideResNet10x4

_SOME_GROUPS = Rule(
    lambda names: bool(names) and set(names) <= set(GROUPS) and len(set(names)) == len(names),
    f"name some of {', '.join(GROUPS)}, each once",
)


def log_probabilities(logits: Tensor) -> Tensor:
    """Log softmax (..., K) of logits, in float64, on the host where the device has none; no less than of 1e-38."""
    logits = logits.cpu() if logits.device.type == "mps" else logits
    return logits.double().log_softmax(dim=-1).clamp_min(math.log(MIN_PROBABILITY))


def dirichlet_normality(log_p: Tensor, alpha: Tensor, mean_log: Tensor) -> Tensor:
    """Normality (B,), high for normal: the mean over t of sum_k (alpha_tk - 1) (log p_tk - mean_log_tk).

    That is the mean log-likelihood of a sample's outputs, up to a constant. Concentrations of outputs that hardly vary
    are huge: what all samples have in common goes before the sum, which would drown the rest in its rounding.

    Args:
        log_p: log probabilities (B, T, K), a sample's outputs for each of T transforms, in float64.
        alpha: concentrations (T, K).
        mean_log: means (T, K) of the log probabilities that they were fitted to.
    """
    return ((alpha - 1) * (log_p - mean_log)).sum(dim=2).mean(dim=1)


class GeometricTransforms(AnomalyDetector):
    """GEOM: a network learns which of T transforms an image went through, 72 by default; anomalies confuse it.

    An epoch shows every training image T times, each time under a transform drawn at random. After the last step, for
    each transform t a Dirichlet distribution is fitted to the network's softmax outputs for the training images under
    t; the score is the negative mean log-likelihood, over t, of the outputs for an image under t, up to a constant.

    Args:
        encoder: a class made for the shape of a preprocessed image. One that takes `n_outputs` ends in the T logits by
            itself: `WideResNet10x4`, as published and taken for None, or `VGG11` for images of at least 32x32 pixels,
            as in the density-ratio paper. On any other, which gives (B, d), a linear layer is put.
        transforms: what the transforms are made of: `flip` (horizontal), `translation` (nine) and `rotation` (four
            quarter turns) make 72 of them; `flip` alone makes two.
        scoring_batch: transformed images in one forward pass when scoring: memory only, scores do not depend on it.
        optimizer: of the encoder.
        lr_scheduler: its schedule; null for a constant learning rate.
        lr_scheduler_interval: whether the schedule goes on after each `epoch` or each `step`.
        preprocessing: as in :class:`AnomalyDetector`.
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, or images that are not square or smaller than 4x4.
    """

    uses_known_anomalies = False
    fits_at_end = True
    argument_rules: ClassVar = {"transforms": _SOME_GROUPS, "scoring_batch": at_least(1)}
    sources: Tensor
    concentrations: Tensor
    mean_logs: Tensor

    def __init__(
        self,
        encoder: EncoderFactory | None = None,
        transforms: Sequence[Group] = GROUPS,
        scoring_batch: int = 1152,
        optimizer: OptimizerFactory = partial(SGD, lr=0.02, weight_decay=1e-3),
        lr_scheduler: SchedulerFactory | None = None,
        lr_scheduler_interval: Interval = "epoch",
        preprocessing: PreprocessingFactory | None = None,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__(preprocessing, threshold)
        self.make_encoder = encoder_part("encoder", encoder)
        self.transforms = of_groups(transforms)
        self.scoring_batch = scoring_batch
        self.make_optimizer = optimizer_part("optimizer", optimizer)
        self.make_scheduler = scheduler_part("lr_scheduler", lr_scheduler)
        self.lr_scheduler_interval = lr_scheduler_interval
        self.register_buffer("concentrations", torch.full((len(self.transforms),) * 2, math.nan))
        self.register_buffer("mean_logs", torch.full((len(self.transforms),) * 2, math.nan))

    @property
    def passes_per_epoch(self) -> int:  # type: ignore[override]
        """One for each transform."""
        return len(self.transforms)

    def build(self, shape: tuple[int, ...]) -> None:
        """The network, and where each transform takes each pixel from."""
        if len(shape) != 3:
            raise ValueError(f"GeometricTransforms takes images (C, H, W), the data have samples of shape {shape}")
        self.register_buffer("sources", source_pixels(shape[1], shape[2], self.transforms), persistent=False)
        self.net = build_logits(self.make_encoder or WideResNet10x4, shape, len(self.transforms))

    def configure_optimizers(self) -> Any:
        """One optimiser over everything."""
        return one_optimizer(self.parameters(), self.make_optimizer, self.make_scheduler, self.lr_scheduler_interval)

    def training_step(self, batch: TrainBatch, batch_idx: int) -> Tensor:
        """Cross-entropy of the transforms that the batch's images went through."""
        x = self.preprocess(batch.x)
        which = torch.randint(len(self.transforms), (len(x),), device=x.device)
        logits = self.net(transform_each(x, which, self.sources))
        return F.cross_entropy(logits.float(), which)

    def log_outputs(self, x: Tensor) -> Tensor:
        """Log softmax outputs (B, T, T), in float64, of raw images (B, C, H, W) under each of the transforms."""
        n = len(self.transforms)
        x = self.preprocess(x)
        whole = torch.compiler.is_exporting()  # a graph has no loop over parts, whose number depends on the batch
        parts = [x] if whole else x.split(max(1, self.scoring_batch // n))
        logits = [self.net(transform_all(part, self.sources).flatten(0, 1)) for part in parts]
        return log_probabilities(torch.cat(logits)).view(x.shape[0], n, n)

    def fit_on_training_data(self) -> None:
        """The Dirichlet distribution of each transform, from the mean outputs and the mean of their logarithms."""
        total = torch.zeros(2, *self.concentrations.shape, dtype=torch.float64)  # on the host: not every device has it
        n = 0
        with self.trainer.precision_plugin.forward_context():
            for x in self.normal_data():
                log_p = self.log_outputs(x).cpu()
                total += torch.stack([log_p.exp().sum(dim=0), log_p.sum(dim=0)])
                n += len(log_p)
        mean, mean_log = total / n
        self.mean_logs.copy_(mean_log)
        self.concentrations.copy_(dirichlet_from_means(mean, mean_log))

    def forget_fit(self) -> None:
        """No distributions."""
        self.concentrations.fill_(math.nan)

    def ready_to_score(self) -> bool:
        """Once the distributions are fitted."""
        return bool(self.concentrations.isfinite().all())

    def anomaly_score(self, x: Tensor) -> Tensor:
        """Negative mean log-likelihood (B,) of the outputs, up to a constant."""
        log_p = self.log_outputs(x)
        fitted = (self.concentrations.to(log_p), self.mean_logs.to(log_p))
        return -dirichlet_normality(log_p, *fitted).to(x.device, torch.float32)
