"""Deep SAD: Deep SVDD with labelled samples (Ruff et al. 2020, equation 7; docs/methods/deep_sad.md)."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Adam
from torch.optim.lr_scheduler import MultiStepLR

from adlightning.core.contracts import TrainBatch
from adlightning.core.detector import AnomalyDetector
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
from adlightning.core.rules import positive
from adlightning.core.thresholds import NormalQuantile, ThresholdRule
from adlightning.methods.parts.hypersphere import AutoencoderPretraining, Hypersphere
from adlightning.networks.encoders import WeightInit


def deep_sad_loss(squared_distances: Tensor, known: Tensor, eta: float, eps: float = 1e-6) -> Tensor:
    """Equation 7 on a mixed batch: the mean of d for unlabelled samples and eta (d + eps)^known for labelled ones.

    Args:
        squared_distances: (B,), ||phi(x) - c||^2.
        known: (B,), +1 known normal, 0 unlabelled, -1 known anomaly.
        eta: weight of the labelled samples.
        eps: keeps the inverse distance of a known anomaly finite (the paper's footnote 1).
    """
    d = squared_distances
    labelled = eta * torch.where(known < 0, 1 / (d + eps), d + eps)
    return torch.where(known == 0, d, labelled).mean()


class DeepSAD(AnomalyDetector):
    """Deep SAD: unlabelled and known normal samples are drawn to a centre, known anomalies are pushed away from it.

    A fit has two phases. Epochs 0 to `pretraining.epochs` - 1 train an autoencoder on all training samples; then the
    encoder goes on as phi, the centre is set to the mean representation, and the objective is trained until
    `trainer.max_epochs`, which counts both phases.

    Args:
        encoder: phi, a class made for the shape of a preprocessed sample that gives (B, d), without biases, affine
            BatchNorms or bounded activations. None takes LeNet for images, an MLP for tables, an LSTM for series.
        decoder: of the first phase, a class made for (d, shape, output); None takes the encoder's mirror image.
        eta: weight of labelled against unlabelled samples, positive.
        eps: added to a labelled sample's squared distance.
        center_include_labelled: count known anomalies in the mean that sets the centre: no in the paper, yes in the
            released code.
        pretraining: the first phase, which trains encoder and decoder as an autoencoder.
        weight_init: of our own networks, `glorot` (uniform, the paper for autoencoders) or `framework` (the released
            code, but for its CIFAR decoder).
        optimizer: of the objective; its coupled weight decay w adds (w / 2) ||W||^2, the paper's lambda.
        lr_scheduler: of the objective, whose epochs it counts; null for a constant learning rate.
        lr_scheduler_interval: whether the schedule goes on after each `epoch` or each `step`.
        preprocessing: as in :class:`AnomalyDetector`.
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, or a `trainer.max_epochs` that ends within the first phase.
    """

    first_phase_argument = "pretraining.epochs"
    argument_rules: ClassVar = {"eta": positive, "eps": positive}

    def __init__(
        self,
        encoder: EncoderFactory | None = None,
        decoder: DecoderFactory | None = None,
        eta: float = 1.0,
        eps: float = 1e-6,
        center_include_labelled: bool = False,
        pretraining: AutoencoderPretraining = AutoencoderPretraining(),
        weight_init: WeightInit = "glorot",
        optimizer: OptimizerFactory = partial(Adam, lr=1e-4, weight_decay=1e-6),
        lr_scheduler: SchedulerFactory | None = partial(MultiStepLR, milestones=[50]),
        lr_scheduler_interval: Interval = "epoch",
        preprocessing: PreprocessingFactory | None = None,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__(preprocessing, threshold)
        self.make_encoder = encoder_part("encoder", encoder)
        self.make_decoder = decoder_part("decoder", decoder)
        self.eta = eta
        self.eps = eps
        self.center_include_labelled = center_include_labelled
        self.pretraining = pretraining
        self.weight_init = weight_init
        self.make_optimizer = optimizer_part("optimizer", optimizer)
        self.make_scheduler = scheduler_part("lr_scheduler", lr_scheduler)
        self.lr_scheduler_interval = lr_scheduler_interval

    def build(self, shape: tuple[int, ...]) -> None:
        """Encoder, decoder and centre."""
        parts = (self.make_encoder, self.make_decoder, self.pretraining)
        self.sphere = Hypersphere(shape, self.preprocess.output, *parts, self.weight_init)

    def configure_optimizers(self) -> Any:
        """One optimiser in each phase; the objective's is made in both, so that what is wrong is said at once."""
        parts = (self.make_optimizer, self.make_scheduler, self.lr_scheduler_interval)
        of_objective = one_optimizer(self.parameters(), *parts)
        if self.pretraining.epochs and not self.sphere.center_is_set:
            return self.pretraining.configured(self.parameters())
        return of_objective

    def on_train_epoch_start(self) -> None:
        """At the start of the second phase, set the centre."""
        super().on_train_epoch_start()
        if self.sphere.is_to_be_set(self.current_epoch):
            self.sphere.begin(self, self.center_include_labelled)

    def training_step(self, batch: TrainBatch, batch_idx: int) -> Tensor:
        """Reconstruction error in the first phase, equation 7 in the second."""
        x = self.preprocess(batch.x)
        if self.sphere.pretrains(self.current_epoch):
            return self.sphere.reconstruction_errors(x).mean()
        loss = deep_sad_loss(self.sphere.squared_distances(x), batch.known, self.eta, self.eps)
        return loss if self.trainer.world_size == 1 else loss + self.sphere.idle_weights()

    def anomaly_score(self, x: Tensor) -> Tensor:
        """Squared distance (B,) from the centre; the same ranking as the paper's distance (equation 4)."""
        return self.sphere.squared_distances(self.preprocess(x))

    def ready_to_score(self) -> bool:
        """Only once the centre is set."""
        return bool(self.sphere.center_is_set)

    def collapse_floor(self) -> float:
        """Distances that differ by less than float32 resolves at the centre's size are all the same."""
        return 1e-9 * float(self.sphere.center.square().sum())
