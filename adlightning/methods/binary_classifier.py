"""The supervised deep binary classifier: a baseline of Deep SAD (Appendix E) and of DROCC (Section 5.2)."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor
from torch.nn import functional as F
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
from adlightning.labels import KNOWN_ANOMALY
from adlightning.methods.parts.head import Head
from adlightning.networks.encoders import WeightInit, build_encoder
from adlightning.networks.initialisation import start_weights_
from adlightning.networks.mlp import MLPEncoder

TABLE_ENCODER = partial(MLPEncoder, dense=(256,), rep_dim=128)
"""What serves tables of one's own best (docs/defaults.md)."""


def classification_loss(logits: Tensor, known: Tensor) -> Tensor:
    """Mean binary cross-entropy, in float32; whatever is not a known anomaly counts as normal.

    Args:
        logits: (B,), log-odds of an anomaly.
        known: (B,), +1 known normal, 0 unlabelled, -1 known anomaly.
    """
    return F.binary_cross_entropy_with_logits(logits.float(), (known == KNOWN_ANOMALY).float())


class BinaryClassifier(AnomalyDetector):
    """The supervised baseline: normal against known anomaly, every unlabelled sample taken for normal.

    Args:
        encoder: a class made for the shape of a preprocessed sample that gives (B, d); biases and affine BatchNorms do
            no harm here. None takes LeNet for images, an MLP for tables, an LSTM for series.
        head: on the encoder; its logit is the score.
        weight_init: of our own networks, `glorot` (uniform, the paper) or `framework` (the released code).
        optimizer: of encoder and head.
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
        head: Head = Head(),
        weight_init: WeightInit = "glorot",
        optimizer: OptimizerFactory = partial(Adam, lr=1e-3, weight_decay=1e-6),
        lr_scheduler: SchedulerFactory | None = partial(MultiStepLR, milestones=[40]),
        lr_scheduler_interval: Interval = "epoch",
        preprocessing: PreprocessingFactory | None = None,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__(preprocessing, threshold)
        self.make_encoder = encoder_part("encoder", encoder)
        self.make_head = head.on
        self.weight_init = weight_init
        self.make_optimizer = optimizer_part("optimizer", optimizer)
        self.make_scheduler = scheduler_part("lr_scheduler", lr_scheduler)
        self.lr_scheduler_interval = lr_scheduler_interval

    def build(self, shape: tuple[int, ...]) -> None:
        """Encoder and head."""
        self.encoder = build_encoder(self.make_encoder, shape, of_tables=TABLE_ENCODER)
        self.head = self.make_head(self.encoder, shape)
        start_weights_(self, self.weight_init)

    def configure_optimizers(self) -> Any:
        """One optimiser over everything."""
        return one_optimizer(self.parameters(), self.make_optimizer, self.make_scheduler, self.lr_scheduler_interval)

    def logits(self, x: Tensor) -> Tensor:
        """Log-odds (B,) of an anomaly, of preprocessed samples."""
        logits: Tensor = self.head(self.encoder(x))
        return logits.squeeze(1)

    def training_step(self, batch: TrainBatch, batch_idx: int) -> Tensor:
        """Binary cross-entropy of the batch."""
        return classification_loss(self.logits(self.preprocess(batch.x)), batch.known)

    def anomaly_score(self, x: Tensor) -> Tensor:
        """Log-odds (B,) of an anomaly."""
        return self.logits(self.preprocess(x))
