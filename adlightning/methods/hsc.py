"""HSC, the hypersphere classifier (Ruff et al., "Rethinking Assumptions in Deep Anomaly Detection", 2021)."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor
from torch.optim import Adam
from torch.optim.lr_scheduler import MultiStepLR

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
from adlightning.core.thresholds import NormalQuantile, ThresholdRule
from adlightning.methods.parts.radial import pseudo_huber, radial_losses
from adlightning.networks.encoders import WeightInit, build_encoder
from adlightning.networks.initialisation import start_weights_
from adlightning.networks.mlp import MLPEncoder

TABLE_ENCODER = partial(MLPEncoder, dense=(256,), rep_dim=128)
"""That of the other methods with known anomalies (docs/defaults.md)."""


def hsc_loss(codes: Tensor, known: Tensor) -> Tensor:
    """Equation 4: the mean of h for samples that are not known to be anomalous, of -log(1 - exp(-h)) for anomalies.

    Args:
        codes: (B, d); h = sqrt(|code|^2 + 1) - 1.
        known: (B,), +1 known normal, 0 unlabelled, -1 known anomaly.
    """
    return radial_losses(pseudo_huber(codes.float().square().sum(dim=1)), known).mean()


class HSC(AnomalyDetector):
    """The hypersphere classifier: what is not known to be anomalous lies at the origin, known anomalies far from it.

    It needs known anomalies: labelled ones, other data (outlier exposure), or images of `data.synthetic_anomalies`.
    Without any the least loss is that of a network that maps everything to the origin.

    Args:
        encoder: a class made for the shape of a preprocessed sample that gives (B, d); biases and affine BatchNorms do
            no harm here. None takes LeNet for images, an MLP for tables, an LSTM for series.
        weight_init: of our own networks, `glorot` (uniform) or `framework`.
        optimizer: of the encoder.
        lr_scheduler: its schedule; null for a constant learning rate.
        lr_scheduler_interval: whether the schedule goes on after each `epoch` or each `step`.
        preprocessing: as in :class:`AnomalyDetector`.
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, a network that does not fit the data, or training data without a
            known anomaly.
    """

    needs_known_anomalies = True

    def __init__(
        self,
        encoder: EncoderFactory | None = None,
        weight_init: WeightInit = "glorot",
        optimizer: OptimizerFactory = partial(Adam, lr=1e-3, weight_decay=1e-6),
        lr_scheduler: SchedulerFactory | None = partial(MultiStepLR, milestones=[40]),
        lr_scheduler_interval: Interval = "epoch",
        preprocessing: PreprocessingFactory | None = None,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__(preprocessing, threshold)
        self.make_encoder = encoder_part("encoder", encoder)
        self.weight_init = weight_init
        self.make_optimizer = optimizer_part("optimizer", optimizer)
        self.make_scheduler = scheduler_part("lr_scheduler", lr_scheduler)
        self.lr_scheduler_interval = lr_scheduler_interval

    def build(self, shape: tuple[int, ...]) -> None:
        """The encoder."""
        self.encoder = build_encoder(self.make_encoder, shape, of_tables=TABLE_ENCODER)
        start_weights_(self, self.weight_init)

    def configure_optimizers(self) -> Any:
        """One optimiser over everything."""
        return one_optimizer(self.parameters(), self.make_optimizer, self.make_scheduler, self.lr_scheduler_interval)

    def training_step(self, batch: TrainBatch, batch_idx: int) -> Tensor:
        """Equation 4."""
        return hsc_loss(self.encoder(self.preprocess(batch.x)), batch.known)

    def anomaly_score(self, x: Tensor) -> Tensor:
        """h (B,), which ranks as the paper's probability of an anomaly, 1 - exp(-h)."""
        codes: Tensor = self.encoder(self.preprocess(x))
        return pseudo_huber(codes.float().square().sum(dim=1))
