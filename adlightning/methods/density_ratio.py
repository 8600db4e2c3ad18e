"""Deep density-ratio estimation: KLIEP and the BA divergence (density-ratio paper, equations 8 and 11).

The ratio r = p_normal / p_unlabelled is the softplus of a network's logit, and is handled by its logarithm throughout.
docs/methods/density_ratio.md.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import SGD

from adlightning.core.contracts import TrainBatch
from adlightning.core.detector import AnomalyDetector
from adlightning.core.metrics import ScoredSamples
from adlightning.core.optimization import Interval, one_optimizer, optimizer_part, scheduler_part
from adlightning.core.parts import (
    EncoderFactory,
    OptimizerFactory,
    PreprocessingFactory,
    SchedulerFactory,
    encoder_part,
)
from adlightning.core.thresholds import NormalQuantile, ThresholdRule
from adlightning.labels import ANOMALY
from adlightning.networks.logits import build_logits
from adlightning.networks.mlp import PlainMLP
from adlightning.networks.vgg import VGG11

DIVERGENCE = "val/divergence"

FAR = -20.0  # below it log softplus(z) = z - e^z / 2 to float64's precision, and softplus would underflow


def log_ratio(logits: Tensor) -> Tensor:
    """log r = log softplus(logit) of logits of any shape, in float32 or finer; for very negative ones the logit itself.

    Finite, with a finite gradient, for every finite logit.
    """
    z = logits.to(torch.promote_types(logits.dtype, torch.float32))
    is_near = z > FAR
    # each form sees harmless values where the other one holds: infinity times zero would be NaN in the gradient
    near = F.softplus(torch.where(is_near, z, FAR)).log()
    far = z - torch.where(is_near, FAR, z).exp() / 2
    return torch.where(is_near, near, far)


def density_ratio_loss(
    log_r_normal: Tensor, log_r_unlabelled: Tensor, alpha: float, max_ratio: float | None = None
) -> Tensor:
    """The empirical BA divergence of equation 8; for alpha = 0 KLIEP, equation 11.

    alpha > 0: mean_u[r^(1 + alpha)] - (1 + 1/alpha) mean_n[r^alpha] + 1/alpha, which is twice uLSIF for alpha = 1.
    alpha = 0: mean_u[r] - mean_n[log r], without the limit's constant: the loss for alpha -> 0 tends to it minus 1.

    With a bound on the true ratio, mean_u[r^(1 + alpha)] is less than mean_n[r^(1 + alpha)] / max_ratio by chance
    only. Where it is less, it counts as that much, and so the loss is bounded below (Kato and Teshima, "Non-negative
    Bregman divergence minimization for deep direct density ratio estimation", ICML 2021, equation 5).

    Args:
        log_r_normal: log r (N,) of normal samples.
        log_r_unlabelled: log r (M,) of unlabelled samples.
        alpha: exponent of the BA divergence, not negative.
        max_ratio: bound on the true ratio, positive; None for no correction.

    Raises:
        ValueError: an argument outside its range.
    """
    check_divergence(alpha, max_ratio)
    unlabelled = ((1 + alpha) * log_r_unlabelled).exp().mean()
    if max_ratio is not None:
        least = ((1 + alpha) * log_r_normal).exp().mean() / max_ratio
        unlabelled = (unlabelled - least).clamp_min(0) + least
    if alpha == 0:
        return unlabelled - log_r_normal.mean()
    # (1 + 1/alpha) m - 1/alpha = m + (m - 1) / alpha: for a small alpha the second form loses no digits
    excess = torch.expm1(alpha * log_r_normal).mean()
    return unlabelled - (1 + excess) - excess / alpha


def check_divergence(alpha: float, max_ratio: float | None) -> None:
    """Raise ValueError unless alpha is finite and not negative, and the bound positive and finite or None."""
    if not 0 <= alpha < math.inf:
        raise ValueError(f"alpha must be finite and not negative, got {alpha}")
    if max_ratio is not None and not 0 < max_ratio < math.inf:
        raise ValueError(f"max_ratio must be positive and finite, or null for no correction, got {max_ratio}")


class DensityRatio(AnomalyDetector):
    """Ratio of the normal samples' density to that of unlabelled samples; the score is -log r.

    Needs known normals and unlabelled samples: `TransductiveOneVsAll` (the paper's protocol), `InductiveOneVsAll` and
    the like. A batch has `batch_size` of each; an epoch is one pass over the normals. The mean ratio of each stream is
    recorded for every step (Figure 1): with KLIEP that of the unlabelled samples is 1 at a stationary point, with
    alpha > 0 mean_u[r^(1 + alpha)] is mean_n[r^alpha] there.

    Where `data.unlabelled_validation_fraction` and `data.validation_fraction` hold samples of both kinds out,
    `val/divergence` is the loss of these: `--monitor=val/divergence` selects an epoch by it, and no label is seen.

    Args:
        encoder: a class made for the shape of a preprocessed sample. One that takes `n_outputs` ends in the one logit
            by itself (`VGG11`, `PlainMLP`); on any other, which gives (B, d), a linear layer is put. None takes VGG11
            for images, of at least 32x32 pixels, and a `PlainMLP` for tables and series.
        alpha: exponent of the BA divergence: 0 is KLIEP, 1 is twice uLSIF.
        max_ratio: bound on the true ratio, for a loss that is bounded below (not in the paper): with a share p of
            normals among the unlabelled samples it is 1/p. Null for no correction.
        allow_batch_norm: allow encoders with BatchNorm. The ratio then diverges (Section 4): for the paper's Figure 1
            only.
        joint_batches: with BatchNorm, whether both streams are normalised together, or each on its own. The paper does
            not say.
        optimizer: of the encoder; the paper names neither momentum nor schedule.
        lr_scheduler: its schedule; null for a constant learning rate.
        lr_scheduler_interval: whether the schedule goes on after each `epoch` or each `step`.
        preprocessing: as in :class:`AnomalyDetector`.
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, an encoder that does not fit, or training data without known normals
            or unlabelled samples.
    """

    uses_known_anomalies = False
    needs_unlabelled = True
    held_out_metrics: ClassVar = {DIVERGENCE: "min"}

    def __init__(
        self,
        encoder: EncoderFactory | None = None,
        alpha: float = 0.0,
        max_ratio: float | None = None,
        allow_batch_norm: bool = False,
        joint_batches: bool = True,
        optimizer: OptimizerFactory = partial(SGD, lr=0.02, weight_decay=1e-3),
        lr_scheduler: SchedulerFactory | None = None,
        lr_scheduler_interval: Interval = "epoch",
        preprocessing: PreprocessingFactory | None = None,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__(preprocessing, threshold)
        check_divergence(alpha, max_ratio)
        self.make_encoder = encoder_part("encoder", encoder)
        self.alpha = alpha
        self.max_ratio = max_ratio
        self.allow_batch_norm = allow_batch_norm
        self.joint_batches = joint_batches
        self.make_optimizer = optimizer_part("optimizer", optimizer)
        self.make_scheduler = scheduler_part("lr_scheduler", lr_scheduler)
        self.lr_scheduler_interval = lr_scheduler_interval
        self.n_unlabelled = 0

    def build(self, shape: tuple[int, ...]) -> None:
        """The network of one logit, without BatchNorm unless that is allowed."""
        self.net = build_logits(self.make_encoder or (VGG11 if len(shape) == 3 else PlainMLP), shape, n_outputs=1)
        for name, layer in self.net.named_modules():
            if isinstance(layer, _BatchNorm) and not self.allow_batch_norm:
                raise ValueError(
                    "encoder must have no BatchNorm, with which a density ratio diverges (Section 4 of its paper), got "
                    f"{type(layer).__name__} at {name}: take another one, or allow_batch_norm: true"
                )

    def configure_optimizers(self) -> Any:
        """One optimiser over everything."""
        return one_optimizer(self.parameters(), self.make_optimizer, self.make_scheduler, self.lr_scheduler_interval)

    def on_train_start(self) -> None:
        """Note how many samples of a batch are unlabelled."""
        super().on_train_start()
        self.n_unlabelled = self.data.batch_size

    def log_ratio(self, x: Tensor) -> Tensor:
        """log r (B,) of preprocessed samples, in float32."""
        return log_ratio(self.net(x).squeeze(1))

    def training_step(self, batch: TrainBatch, batch_idx: int) -> dict[str, Tensor]:
        """The divergence of a batch: its known normals come first, `batch_size` unlabelled samples after them."""
        x, n = self.preprocess(batch.x), self.n_unlabelled
        parts = [x] if self.joint_batches else [x[:-n], x[-n:]]
        log_r = torch.cat([self.log_ratio(part) for part in parts])
        normal, unlabelled = log_r[:-n], log_r[-n:]
        return {
            "loss": density_ratio_loss(normal, unlabelled, self.alpha, self.max_ratio),
            "mean_ratio_normal": normal.detach().exp().mean(),
            "mean_ratio_unlabelled": unlabelled.detach().exp().mean(),
        }

    def lacks_for_metrics(self) -> str | None:
        """The divergence of held-out samples needs both kinds."""
        if len(self.data.split.held_out_unlabelled):
            return None
        return "needs held-out unlabelled samples: data.unlabelled_validation_fraction must be above 0"

    def measure_held_out(self, scored: ScoredSamples) -> dict[str, float]:
        """The divergence of held-out samples of both kinds (Section 1: by cross-validation), without a label."""
        normal = -scored.scores[scored.labels != ANOMALY]
        if self.lacks_for_metrics() or not len(normal):
            return {}
        unlabelled = -self.scores_of(batch.x for batch in self.data.held_out_unlabelled(self.device))
        log_r_normal, log_r_unlabelled = torch.from_numpy(normal), torch.from_numpy(unlabelled)
        return {DIVERGENCE: density_ratio_loss(log_r_normal, log_r_unlabelled, self.alpha, self.max_ratio).item()}

    def anomaly_score(self, x: Tensor) -> Tensor:
        """-log r (B,), higher for more anomalous."""
        return -self.log_ratio(self.preprocess(x))
