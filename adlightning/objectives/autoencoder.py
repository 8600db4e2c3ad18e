"""The (convolutional) autoencoder: reconstruction error as score, and the first phase of Deep SVDD and Deep SAD.

Deep SAD, Appendices C to E.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR

from adlightning.contracts import TrainBatch
from adlightning.detector import AnomalyDetector
from adlightning.networks.encoders import EncoderName, build_decoder, build_encoder
from adlightning.networks.initialisation import glorot_uniform_


def reconstruction_error(x: Tensor, reconstruction: Tensor) -> Tensor:
    """Mean squared error of each sample, (B,), over all its pixels or features, in float32."""
    return (reconstruction.float() - x.float()).square().flatten(1).mean(dim=1)


def step_decay(rate: float, milestones: Sequence[int], epoch: int) -> float:
    """Learning rate of an epoch: a tenth of the last one from each milestone on."""
    return rate * 0.1 ** sum(epoch >= milestone for milestone in milestones)


class EncoderDetector(AnomalyDetector):
    """What the autoencoder and the hypersphere methods share: networks, Adam, and a learning rate for each epoch.

    Args:
        network: `lenet` for images, `mlp` for tables.
        conv_channels: filters of each convolutional module of a LeNet (5x5, BatchNorm, leaky ReLU, 2x2 max-pool).
        dense: units of the hidden dense layers: after a LeNet's convolutions, or of the MLP.
        rep_dim: dimension of the representation.
        leakiness: slope of the leaky ReLU below zero: 0.1 in the paper, 0.01 in its code (docs/methods.md, S4).
        lr: Adam's learning rate.
        lr_milestones: epochs at which the learning rate drops to a tenth, counted from the start of their phase.
        weight_decay: Adam's coupled weight decay w, which adds (w / 2) ||W||^2: the paper's lambda.
        weight_init: `glorot` (uniform, the paper for autoencoders) or `framework` (the released code, but for its
            CIFAR decoder).
        common: preprocessing and threshold, as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range.
    """

    encoder: nn.Module
    decoder: nn.Module

    def __init__(
        self,
        network: EncoderName = "lenet",
        conv_channels: Sequence[int] = (8, 4),
        dense: Sequence[int] = (),
        rep_dim: int = 32,
        leakiness: float = 0.1,
        lr: float = 1e-4,
        lr_milestones: Sequence[int] = (50,),
        weight_decay: float = 1e-6,
        weight_init: Literal["glorot", "framework"] = "glorot",
        **common: Any,
    ) -> None:
        super().__init__(**common)
        _require("lr_milestones", all(m >= 0 for m in lr_milestones), "not be negative", list(lr_milestones))
        _require("lr", lr > 0, "be positive", lr)
        _require("weight_decay", weight_decay >= 0, "not be negative", weight_decay)
        _require("rep_dim", rep_dim > 0, "be positive", rep_dim)
        self.network = network
        self.conv_channels = list(conv_channels)
        self.dense = list(dense)
        self.rep_dim = rep_dim
        self.leakiness = leakiness
        self.lr = lr
        self.lr_milestones = list(lr_milestones)
        self.weight_decay = weight_decay
        self.weight_init = weight_init

    def build(self, shape: tuple[int, ...]) -> None:
        """Encoder and mirrored decoder; the decoder's range is that of the preprocessed input."""
        sizes = (self.network, shape, self.conv_channels, self.dense, self.rep_dim, self.leakiness)
        self.encoder = build_encoder(*sizes)
        self.decoder = build_decoder(*sizes, output=self.preprocess.output)
        if self.weight_init == "glorot":
            glorot_uniform_(self.encoder)
            glorot_uniform_(self.decoder)

    def reconstruction_errors(self, x: Tensor) -> Tensor:
        """Mean squared reconstruction error (B,) of raw input."""
        x = self.preprocess(x)
        return reconstruction_error(x, self.decoder(self.encoder(x)))

    def learning_rate(self, epoch: int) -> float:
        """Learning rate of an epoch of the whole run."""
        return step_decay(self.lr, self.lr_milestones, epoch)

    def configure_optimizers(self) -> Any:
        """One Adam over everything; the schedule gives each epoch its learning rate."""
        optimizer = Adam(self.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        factor: Callable[[int], float] = lambda epoch: self.learning_rate(epoch) / self.lr  # noqa: E731
        return {"optimizer": optimizer, "lr_scheduler": LambdaLR(optimizer, factor)}


class Autoencoder(EncoderDetector):
    """The (C)AE baseline, unsupervised: trained on the mean squared reconstruction error, which is also its score.

    Args:
        common: networks, optimisation, preprocessing and threshold, as in :class:`EncoderDetector`.
    """

    uses_known_anomalies = False

    def __init__(self, **common: Any) -> None:
        super().__init__(**common)

    def training_step(self, batch: TrainBatch, batch_idx: int) -> Tensor:
        """Mean squared error of the batch."""
        return self.log_loss(self.reconstruction_errors(batch.x).mean(), batch)

    def anomaly_score(self, x: Tensor) -> Tensor:
        """Mean squared reconstruction error (B,)."""
        return self.reconstruction_errors(x)


def _require(argument: str, holds: bool, rule: str, value: object) -> None:
    if not holds:
        raise ValueError(f"{argument} must {rule}, got {value}")
