"""The (convolutional) autoencoder: the reconstruction error is loss and score (Deep SAD, Appendices C to E)."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

from torch import Tensor
from torch.optim import Adam
from torch.optim.lr_scheduler import MultiStepLR

from adlightning.core.contracts import TrainBatch
from adlightning.core.detector import AnomalyDetector
from adlightning.core.maps import Reduction
from adlightning.core.optimization import Interval, one_optimizer, optimizer_part, scheduler_part
from adlightning.core.parts import (
    DecoderFactory,
    EncoderFactory,
    OptimizerFactory,
    PreprocessingFactory,
    SchedulerFactory,
    decoder_part,
    encoder_part,
)
from adlightning.core.thresholds import NormalQuantile, ThresholdRule
from adlightning.networks.encoders import WeightInit, build_decoder, build_encoder
from adlightning.networks.initialisation import start_weights_
from adlightning.networks.mlp import MLPEncoder

TABLE_ENCODER = partial(MLPEncoder, dense=(128,), rep_dim=16)
"""What serves tables of one's own best (docs/defaults.md)."""


def reconstruction_error(x: Tensor, reconstruction: Tensor) -> Tensor:
    """Mean squared error of each sample, (B,), over all its pixels or features, in float32."""
    return (reconstruction.float() - x.float()).square().flatten(1).mean(dim=1)


class Autoencoder(AnomalyDetector):
    """The (C)AE baseline, unsupervised: trained on the mean squared reconstruction error, which is also its score.

    Args:
        encoder: a class made for the shape of a preprocessed sample that gives (B, d). None takes LeNet for images, an
            MLP for tables, an LSTM for series.
        decoder: a class made for (d, shape, output); None takes the encoder's mirror image.
        weight_init: of our own networks, `glorot` (uniform, the paper) or `framework` (the released code).
        optimizer: of encoder and decoder.
        lr_scheduler: its schedule; null for a constant learning rate.
        lr_scheduler_interval: whether the schedule goes on after each `epoch` or each `step`.
        reduction: of images, how a map of squared residuals becomes the score; null for their mean, the paper's.
        preprocessing: as in :class:`AnomalyDetector`.
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, or networks that do not fit the data.
    """

    uses_known_anomalies = False
    scoring_arguments: ClassVar = ("reduction",)

    def __init__(
        self,
        encoder: EncoderFactory | None = None,
        decoder: DecoderFactory | None = None,
        weight_init: WeightInit = "glorot",
        optimizer: OptimizerFactory = partial(Adam, lr=1e-3, weight_decay=1e-6),
        lr_scheduler: SchedulerFactory | None = partial(MultiStepLR, milestones=[40]),
        lr_scheduler_interval: Interval = "epoch",
        reduction: Reduction | None = None,
        preprocessing: PreprocessingFactory | None = None,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__(preprocessing, threshold)
        self.reduction = reduction
        self.make_encoder = encoder_part("encoder", encoder)
        self.make_decoder = decoder_part("decoder", decoder)
        self.weight_init = weight_init
        self.make_optimizer = optimizer_part("optimizer", optimizer)
        self.make_scheduler = scheduler_part("lr_scheduler", lr_scheduler)
        self.lr_scheduler_interval = lr_scheduler_interval

    def build(self, shape: tuple[int, ...]) -> None:
        """Encoder and decoder; the decoder's range is that of the preprocessed input."""
        self.encoder = build_encoder(self.make_encoder, shape, of_tables=TABLE_ENCODER)
        self.decoder = build_decoder(self.make_decoder, self.encoder, shape, self.preprocess.output)
        start_weights_(self, self.weight_init)

    def configure_optimizers(self) -> Any:
        """One optimiser over everything."""
        return one_optimizer(self.parameters(), self.make_optimizer, self.make_scheduler, self.lr_scheduler_interval)

    def training_step(self, batch: TrainBatch, batch_idx: int) -> Tensor:
        """Mean squared error of the batch."""
        x = self.preprocess(batch.x)
        return reconstruction_error(x, self.decoder(self.encoder(x))).mean()

    def anomaly_score(self, x: Tensor) -> Tensor:
        """Mean squared reconstruction error (B,); or what the reduction makes of the map."""
        if self.reduction is not None:
            return self.reduction.reduce(self.anomaly_map(x))
        x = self.preprocess(x)
        return reconstruction_error(x, self.decoder(self.encoder(x)))

    def reconstructions(self, x: Tensor) -> Tensor:
        """Reconstructions (B, ...) of raw samples, in the preprocessed range."""
        reconstruction: Tensor = self.decoder(self.encoder(self.preprocess(x)))
        return reconstruction
