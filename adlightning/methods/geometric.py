"""GEOM: a network that tells 72 geometric transforms of normal images apart (Golan and El-Yaniv, NeurIPS 2018).

The baseline "GTs" of the density-ratio paper (Sections 2.3 and 5.3). docs/methods.md.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from adlightning.core.contracts import TrainBatch
from adlightning.methods.parts.backbone import BackboneDetector
from adlightning.methods.parts.dirichlet import dirichlet_from_means, dirichlet_normality, log_probabilities
from adlightning.methods.parts.fitted import FittedDetector
from adlightning.methods.parts.transforms import TRANSFORMS, source_pixels, transform_all, transform_each
from adlightning.networks.backbones import BackboneName

N_TRANSFORMS = len(TRANSFORMS)


class GeometricTransforms(FittedDetector, BackboneDetector):
    """GEOM: a network learns which of 72 transforms an image went through; anomalies confuse it.

    An epoch shows every training image 72 times, each time under a transform drawn at random. After the last step, for
    each transform t a Dirichlet distribution is fitted to the network's softmax outputs for the training images under
    t; the score is the negative mean log-likelihood, over t, of the outputs for an image under t, up to a constant.

    Args:
        network: `wide_resnet` (WRN-10-4), as published, or `vgg11` for images of at least 32x32 pixels, as in the
            density-ratio paper.
        batch_norm: BatchNorm in `vgg11`; `wide_resnet` always has it.
        scoring_batch: transformed images in one forward pass when scoring: memory only, scores do not depend on it.
        common: the rest of the network and optimisation, as in :class:`BackboneDetector`; preprocessing and threshold,
            as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, or images that are not square or smaller than 4x4.
    """

    uses_known_anomalies = False
    passes_per_epoch = N_TRANSFORMS
    n_outputs = N_TRANSFORMS
    sources: Tensor
    concentrations: Tensor
    mean_logs: Tensor

    def __init__(
        self,
        network: BackboneName = "wide_resnet",
        batch_norm: bool = False,
        scoring_batch: int = 1152,
        **common: Any,
    ) -> None:
        super().__init__(network=network, **common)
        if scoring_batch < 1:
            raise ValueError(f"scoring_batch must be at least 1, got {scoring_batch}")
        self.batch_norm = batch_norm
        self.scoring_batch = scoring_batch
        self.register_buffer("concentrations", torch.full((N_TRANSFORMS, N_TRANSFORMS), math.nan))
        self.register_buffer("mean_logs", torch.full((N_TRANSFORMS, N_TRANSFORMS), math.nan))

    @property
    def has_batch_norm(self) -> bool:
        """As asked for, and in a WRN always."""
        return self.batch_norm or self.network == "wide_resnet"

    def build(self, shape: tuple[int, ...]) -> None:
        """The network, and where each transform takes each pixel from."""
        if len(shape) != 3:
            raise ValueError(f"GeometricTransforms takes images (C, H, W), the data have samples of shape {shape}")
        self.register_buffer("sources", source_pixels(shape[1], shape[2]), persistent=False)
        super().build(shape)

    def training_step(self, batch: TrainBatch, batch_idx: int) -> Tensor:
        """Cross-entropy of the transforms that the batch's images went through."""
        x = self.preprocess(batch.x)
        which = torch.randint(N_TRANSFORMS, (len(x),), device=x.device)
        logits = self.net(transform_each(x, which, self.sources))
        return self.log_loss(F.cross_entropy(logits.float(), which), batch)

    def log_outputs(self, x: Tensor) -> Tensor:
        """Log softmax outputs (B, 72, 72), in float64, of raw images (B, C, H, W) under each of the 72 transforms."""
        x = self.preprocess(x)
        whole = torch.compiler.is_exporting()  # a graph has no loop over parts, whose number depends on the batch
        parts = [x] if whole else x.split(max(1, self.scoring_batch // N_TRANSFORMS))
        logits = [self.net(transform_all(part, self.sources).flatten(0, 1)) for part in parts]
        return log_probabilities(torch.cat(logits)).view(x.shape[0], N_TRANSFORMS, N_TRANSFORMS)

    def fit_on_training_data(self) -> None:
        """The Dirichlet distribution of each transform, from the mean outputs and the mean of their logarithms."""
        total = torch.zeros(2, N_TRANSFORMS, N_TRANSFORMS, dtype=torch.float64)  # on the host: not every device has it
        n = 0
        with self.trainer.precision_plugin.forward_context():
            for x in self.fitting_normals():
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
