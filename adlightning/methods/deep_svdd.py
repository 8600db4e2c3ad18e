"""Deep SVDD, one-class and soft-boundary (Ruff et al. 2018; Deep SAD, equation 3; docs/methods/deep_svdd.md)."""

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
from adlightning.core.rules import between, not_negative
from adlightning.core.thresholds import NormalQuantile, ThresholdRule
from adlightning.methods.parts.hypersphere import AutoencoderPretraining, Hypersphere
from adlightning.networks.encoders import WeightInit


def one_class_loss(squared_distances: Tensor) -> Tensor:
    """Mean squared distance from the centre: equation 3 of Deep SAD without its weight decay."""
    return squared_distances.mean()


def soft_boundary_loss(squared_distances: Tensor, radius: Tensor, nu: float) -> Tensor:
    """R^2 + (1 / nu) mean max(0, d - R^2)."""
    squared_radius = radius.square()
    return squared_radius + (squared_distances - squared_radius).clamp_min(0).mean() / nu


def optimal_radius(squared_distances: Tensor, nu: float) -> Tensor:
    """The (1 - nu) quantile of the distances: the radius that minimises the soft-boundary loss of the batch."""
    return squared_distances.detach().float().sqrt().quantile(1 - nu)


class DeepSVDD(AnomalyDetector):
    """One-class Deep SVDD, unsupervised: every training sample is drawn to a centre.

    A fit has two phases. Epochs 0 to `pretraining.epochs` - 1 train an autoencoder on all training samples; then the
    encoder goes on as phi, the centre is set to the mean representation, and the objective is trained until
    `trainer.max_epochs`, which counts both phases.

    Args:
        encoder: phi, a class made for the shape of a preprocessed sample that gives (B, d), without biases, affine
            BatchNorms or bounded activations. None takes LeNet for images, an MLP for tables, an LSTM for series.
        decoder: of the first phase, a class made for (d, shape, output); None takes the encoder's mirror image.
        learn_center: train the centre with the weights, which allows a trivial solution: phi and centre shrink to a
            point (Deep SAD, Appendix C). A result's notes say where they did.
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
        ValueError: an argument outside its range, or a `trainer.max_epochs` that ends within the first phase.
    """

    uses_known_anomalies = False
    first_phase_argument = "pretraining.epochs"
    shared_module = "sphere"
    shared_arguments = ("encoder", "decoder", "pretraining", "weight_init", "learn_center", "preprocessing")

    def __init__(
        self,
        encoder: EncoderFactory | None = None,
        decoder: DecoderFactory | None = None,
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
        self.make_encoder = encoder_part("encoder", encoder)
        self.make_decoder = decoder_part("decoder", decoder)
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
            self.sphere.begin(self)

    def on_train_end(self) -> None:
        """Measure whether the sphere collapsed."""
        super().on_train_end()
        self.sphere.end(self)

    def remarks(self) -> list[str]:
        """Whether the sphere collapsed."""
        return [*super().remarks(), *self.sphere.remarks()]

    def training_step(self, batch: TrainBatch, batch_idx: int) -> Tensor:
        """Reconstruction error in the first phase, the one-class loss in the second."""
        x = self.preprocess(batch.x)
        if self.sphere.pretrains(self.current_epoch):
            return self.sphere.pretraining_loss(x)
        loss = one_class_loss(self.sphere.squared_distances(x))
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


class SoftBoundaryDeepSVDD(DeepSVDD):
    """Soft-boundary Deep SVDD: a share `nu` of the training samples may lie outside a sphere of learnt radius R.

    R starts at 0 and is left alone for `warm_up_epochs` of the objective; then, after every batch, it becomes the
    (1 - nu) quantile of that batch's distances (of all ranks' batches, where several train).

    Args:
        nu: share in (0, 1) of samples outside; the Deep SAD paper takes 0.01 and 0.1 and reports the better.
        warm_up_epochs: epochs of the objective before R moves; 10 in the released code.
        encoder, decoder, learn_center, pretraining, weight_init, optimizer, lr_scheduler, lr_scheduler_interval: as in
            :class:`DeepSVDD`.
        preprocessing: as in :class:`AnomalyDetector`.
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range.
    """

    argument_rules: ClassVar = {"nu": between(0, 1), "warm_up_epochs": not_negative}
    radius: Tensor

    def __init__(
        self,
        nu: float = 0.1,
        warm_up_epochs: int = 10,
        encoder: EncoderFactory | None = None,
        decoder: DecoderFactory | None = None,
        learn_center: bool = False,
        pretraining: AutoencoderPretraining = AutoencoderPretraining(epochs=0),
        weight_init: WeightInit = "glorot",
        optimizer: OptimizerFactory = partial(Adam, lr=3e-4, weight_decay=1e-6),
        lr_scheduler: SchedulerFactory | None = partial(MultiStepLR, milestones=[40]),
        lr_scheduler_interval: Interval = "epoch",
        preprocessing: PreprocessingFactory | None = None,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        networks = (encoder, decoder, learn_center, pretraining, weight_init)
        super().__init__(*networks, optimizer, lr_scheduler, lr_scheduler_interval, preprocessing, threshold)
        self.nu = nu
        self.warm_up_epochs = warm_up_epochs
        self.register_buffer("radius", torch.tensor(0.0))
        self._distances = torch.empty(0)

    def training_step(self, batch: TrainBatch, batch_idx: int) -> Tensor:
        """Reconstruction error in the first phase, the soft-boundary loss at the current radius in the second."""
        x = self.preprocess(batch.x)
        if self.sphere.pretrains(self.current_epoch):
            return self.sphere.pretraining_loss(x)
        distances = self.sphere.squared_distances(x)
        self._distances = distances.detach()
        loss = soft_boundary_loss(distances, self.radius, self.nu)
        return loss if self.trainer.world_size == 1 else loss + self.sphere.idle_weights()

    def on_train_batch_end(self, outputs: Any, batch: TrainBatch, batch_idx: int) -> None:
        """Update the radius, after warm-up."""
        super().on_train_batch_end(outputs, batch, batch_idx)
        if self.current_epoch >= self.pretraining.epochs + self.warm_up_epochs:
            distances = self.all_gather(self._distances) if self.trainer.world_size > 1 else self._distances
            assert isinstance(distances, Tensor)
            self.radius.copy_(optimal_radius(distances.flatten(), self.nu))

    def remarks(self) -> list[str]:
        """Whether the radius has moved."""
        still = self.warm_up_epochs > 0 and not self.radius
        words = f"training ended within model.warm_up_epochs={self.warm_up_epochs}: the radius is 0"
        return [*super().remarks(), *([words] if still else [])]

    def anomaly_score(self, x: Tensor) -> Tensor:
        """d - R^2 (B,): positive outside the sphere."""
        return self.sphere.squared_distances(self.preprocess(x)) - self.radius.square()
