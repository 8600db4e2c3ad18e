"""Deep SAD: Deep SVDD with labelled samples (Ruff et al. 2020, equation 7; docs/methods/deep_sad.md)."""

from __future__ import annotations

from collections.abc import Callable
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
from adlightning.labels import KNOWN_NORMAL
from adlightning.methods.parts.anomaly_losses import AnomalyLoss, InverseNorm
from adlightning.methods.parts.hypersphere import AutoencoderPretraining, CenterFrom, Hypersphere
from adlightning.networks.encoders import WeightInit


def deep_sad_loss(
    squared_distances: Tensor,
    known: Tensor,
    eta: float,
    eps: float = 1e-6,
    anomaly_loss: Callable[[Tensor], Tensor] = InverseNorm(),
) -> Tensor:
    """Equation 7 on a mixed batch: the mean of d for unlabelled samples and eta (d + eps)^known for labelled ones.

    Args:
        squared_distances: (B,), ||phi(x) - c||^2.
        known: (B,), +1 known normal, 0 unlabelled, -1 known anomaly.
        eta: weight of the labelled samples.
        eps: keeps the inverse distance of a known anomaly finite (the paper's footnote 1).
        anomaly_loss: from the d + eps (B,) of known anomalies to their losses (B,).
    """
    d = squared_distances
    labelled = eta * torch.where(known < 0, anomaly_loss(d + eps), d + eps)
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
        eta: weight of labelled against unlabelled samples, positive: 1 in the paper. 1000 makes some labelled anomalies
            count among many samples (docs/defaults.md).
        eps: added to a labelled sample's squared distance.
        anomaly_loss: of known anomalies: `InverseNorm` (equation 7), or what the paper weighs against it (Section 3.2):
            `NegativeNorm`, `HingeLoss`, `NegativeHampelLoss`.
        center_include_labelled: count known anomalies in the mean that sets the centre: no in the paper, yes in the
            released code.
        center_known_normals_only: take the mean of known normals alone, against a polluted rest (Appendix C).
        learn_center: train the centre with the weights, which allows a trivial solution without known anomalies: phi
            and centre shrink to a point (Appendix C). A result's notes say where they did.
        pretraining: the first phase, which trains encoder and decoder as an autoencoder; 150 epochs in the paper, none
            by default.
        weight_init: of our own networks, `glorot` (uniform, the paper for autoencoders) or `framework` (the released
            code, but for its CIFAR decoder).
        optimizer: of the objective; its coupled weight decay w adds (w / 2) ||W||^2, the paper's lambda.
        lr_scheduler: of the objective, whose epochs it counts; null for a constant learning rate.
        lr_scheduler_interval: whether the schedule goes on after each `epoch` or each `step`.
        preprocessing: as in :class:`AnomalyDetector`.
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, a centre of known normals where none is known, or a
            `trainer.max_epochs` that ends within the first phase.
    """

    first_phase_argument = "pretraining.epochs"
    shared_module = "sphere"
    shared_arguments = ("encoder", "decoder", "pretraining", "weight_init", "learn_center", "preprocessing")
    argument_rules: ClassVar = {"eta": positive, "eps": positive}

    def __init__(
        self,
        encoder: EncoderFactory | None = None,
        decoder: DecoderFactory | None = None,
        eta: float = 1000.0,
        eps: float = 1e-6,
        anomaly_loss: AnomalyLoss = InverseNorm(),
        center_include_labelled: bool = False,
        center_known_normals_only: bool = False,
        learn_center: bool = False,
        pretraining: AutoencoderPretraining = AutoencoderPretraining(epochs=0),
        weight_init: WeightInit = "glorot",
        optimizer: OptimizerFactory = partial(Adam, lr=3e-4, weight_decay=1e-6),
        lr_scheduler: SchedulerFactory | None = partial(MultiStepLR, milestones=[40]),
        lr_scheduler_interval: Interval = "epoch",
        preprocessing: PreprocessingFactory | None = None,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__(preprocessing, threshold)
        if center_include_labelled and center_known_normals_only:
            raise ValueError("center_known_normals_only must be false with center_include_labelled, got true for both")
        self.make_encoder = encoder_part("encoder", encoder)
        self.make_decoder = decoder_part("decoder", decoder)
        self.eta = eta
        self.eps = eps
        self.anomaly_loss = anomaly_loss
        self.center_from: CenterFrom = "all" if center_include_labelled else "not_anomalies"
        if center_known_normals_only:
            self.center_from = "known_normals"
        self.learn_center = learn_center
        self.pretraining = pretraining
        self.weight_init = weight_init
        self.make_optimizer = optimizer_part("optimizer", optimizer)
        self.make_scheduler = scheduler_part("lr_scheduler", lr_scheduler)
        self.lr_scheduler_interval = lr_scheduler_interval

    def build(self, shape: tuple[int, ...]) -> None:
        """Encoder, decoder and centre."""
        parts = (self.make_encoder, self.make_decoder, self.pretraining)
        self.sphere = Hypersphere(shape, self.preprocess.output, *parts, self.weight_init, self.learn_center)

    def setup(self, stage: str) -> None:
        """Refuse a centre of known normals where there is none."""
        super().setup(stage)
        if stage == "fit" and self.center_from == "known_normals":
            _, known = self.data.training_rows()
            if not (known == KNOWN_NORMAL).any():
                raise ValueError(
                    "center_known_normals_only must be false where no training sample is known to be normal, got true: "
                    "set data.labelled_normal_ratio, or give labels"
                )

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
            self.sphere.begin(self, self.center_from)

    def on_train_end(self) -> None:
        """Measure whether the sphere collapsed."""
        super().on_train_end()
        self.sphere.end(self)

    def remarks(self) -> list[str]:
        """Whether the sphere collapsed."""
        return [*super().remarks(), *self.sphere.remarks()]

    def training_step(self, batch: TrainBatch, batch_idx: int) -> Tensor:
        """Reconstruction error in the first phase, equation 7 in the second."""
        x = self.preprocess(batch.x)
        if self.sphere.pretrains(self.current_epoch):
            return self.sphere.pretraining_loss(x)
        distances = self.sphere.squared_distances(x)
        loss = deep_sad_loss(distances, batch.known, self.eta, self.eps, self.anomaly_loss)
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
