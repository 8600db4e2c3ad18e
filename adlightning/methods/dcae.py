"""The convolutional autoencoder that ADGAN compares with: reconstruction error on DCGAN's layers (Section 4.2)."""

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
from adlightning.methods.autoencoder import reconstruction_error
from adlightning.networks.encoders import build_encoder, representation_size
from adlightning.networks.gan import DCGANEncoder, build_dcgan_decoder


class DCAE(AnomalyDetector):
    """ADGAN's DCAE, unsupervised: trained on the mean squared reconstruction error, which is also its score.

    :class:`Autoencoder` is another: Deep SAD's, on LeNet's layers (or an MLP, or an LSTM), with max-pooling, without
    biases or an affine part. Here convolutions are strided, BatchNorms affine and activations ReLU, as in a DCGAN.

    Args:
        encoder: a class made for the shape of a preprocessed sample that gives (B, d). None takes `DCGANEncoder`, with
            256 dimensions, which the paper does not state.
        decoder: a class made for (d, shape, output). None takes the mirror image of a `DCGANEncoder`, or a DCGAN's
            generator for another encoder.
        optimizer: of encoder and decoder.
        lr_scheduler: its schedule; null for a constant learning rate.
        lr_scheduler_interval: whether the schedule goes on after each `epoch` or each `step`.
        reduction: how a map of squared residuals becomes the score; null for the score above, the paper's.
        preprocessing: as in :class:`AnomalyDetector`.
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, or images of a side that the networks cannot make.
    """

    uses_known_anomalies = False
    scoring_arguments: ClassVar = ("reduction",)

    def __init__(
        self,
        encoder: EncoderFactory | None = None,
        decoder: DecoderFactory | None = None,
        optimizer: OptimizerFactory = partial(Adam, lr=1e-4, weight_decay=1e-6),
        lr_scheduler: SchedulerFactory | None = partial(MultiStepLR, milestones=[50]),
        lr_scheduler_interval: Interval = "epoch",
        reduction: Reduction | None = None,
        preprocessing: PreprocessingFactory | None = None,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__(preprocessing, threshold)
        self.reduction = reduction
        self.make_encoder = encoder_part("encoder", encoder)
        self.make_decoder = decoder_part("decoder", decoder)
        self.make_optimizer = optimizer_part("optimizer", optimizer)
        self.make_scheduler = scheduler_part("lr_scheduler", lr_scheduler)
        self.lr_scheduler_interval = lr_scheduler_interval

    def build(self, shape: tuple[int, ...]) -> None:
        """Encoder and decoder; the decoder's range is that of the preprocessed input."""
        self.encoder = build_encoder(self.make_encoder or DCGANEncoder, shape)
        d, output = representation_size(self.encoder, shape), self.preprocess.output
        self.decoder = build_dcgan_decoder(self.make_decoder, self.encoder, d, shape, output)

    def configure_optimizers(self) -> Any:
        """One optimiser over everything."""
        return one_optimizer(self.parameters(), self.make_optimizer, self.make_scheduler, self.lr_scheduler_interval)

    def training_step(self, batch: TrainBatch, batch_idx: int) -> Tensor:
        """Mean squared error of the batch."""
        x = self.preprocess(batch.x)
        return reconstruction_error(x, self.decoder(self.encoder(x))).mean()

    def anomaly_score(self, x: Tensor) -> Tensor:
        """Mean squared reconstruction error (B,)."""
        if self.reduction is not None:
            return self.reduction.reduce(self.anomaly_map(x))
        x = self.preprocess(x)
        return reconstruction_error(x, self.decoder(self.encoder(x)))

    def reconstructions(self, x: Tensor) -> Tensor:
        """Reconstructions (B, C, H, W) of raw images, in the preprocessed range."""
        images: Tensor = self.decoder(self.encoder(self.preprocess(x)))
        return images
