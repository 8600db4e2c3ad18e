"""Skip-GANomaly: how well a U-Net trained against a discriminator reproduces an image (Akcay et al., IJCNN 2019)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.optim import Adam

from adlightning.core.contracts import TrainBatch
from adlightning.core.detector import AnomalyDetector
from adlightning.core.maps import Reduction
from adlightning.core.optimization import Interval, optimizer_part, scheduler_part
from adlightning.core.parts import (
    DiscriminatorFactory,
    OptimizerFactory,
    PreprocessingFactory,
    SchedulerFactory,
    Shape,
    network_part,
)
from adlightning.core.rules import between, not_negative, or_none, positive
from adlightning.core.thresholds import NormalQuantile, ThresholdRule
from adlightning.methods.parts.adversarial import Players, fake_loss, one_optimizer_each, real_loss
from adlightning.networks.checks import check_network, make_network
from adlightning.networks.unet import FeatureDiscriminator, UNet
from adlightning.preprocessing import Output

ReproducerFactory = Callable[[Shape, Output], nn.Module]
"""From the shape of a sample and its range to a module from samples to samples."""

Residual = Literal["squared", "absolute"]


def contextual_loss(x: Tensor, images: Tensor) -> Tensor:
    """Mean |x - G(x)|, over all values of samples and reproductions (B, ...)."""
    return (x.float() - images.float()).abs().mean()


def latent_loss(features: Tensor, image_features: Tensor) -> Tensor:
    """Mean (f(x) - f(G(x)))^2, over all of the discriminator's features (B, n_features) of both."""
    return (features.float() - image_features.float()).square().mean()


def skip_ganomaly_score(
    x: Tensor, images: Tensor, features: Tensor, image_features: Tensor, share: float, residual: Residual
) -> Tensor:
    """share * R + (1 - share) * L, (B,): the mean residual of the values and the mean squared one of the features.

    Args:
        x, images: samples and their reproductions (B, ...).
        features, image_features: the discriminator's features (B, n_features) of both.
        share: in [0, 1].
        residual: R is the mean of squares, as in the released code, or of absolute values, as in training.
    """
    difference = (x.float() - images.float()).flatten(1)
    reconstruction = (difference.square() if residual == "squared" else difference.abs()).mean(dim=1)
    latent = (features.float() - image_features.float()).square().mean(dim=1)
    return share * reconstruction + (1 - share) * latent


class SkipGANomaly(AnomalyDetector):
    """Skip-GANomaly: a generator with skips that reproduces normal samples, and a discriminator's features of both.

    Each batch is a step of the generator down

        adversarial_weight * -mean log D(G(x)) + contextual_weight * mean |x - G(x)| + latent_weight * mean (f(x) -
        f(G(x)))^2

    and one of the discriminator. A score is computed in eval mode, where the released code lets a batch's statistics,
    and so its company, into it.

    Args:
        generator: a class made for (shape, output), from images to their reproductions.
        discriminator: a class made for the shape of an image, from images to logits (B,), high for the data's, and
            features (B, n).
        adversarial_weight: weight of calling reproductions real.
        contextual_weight: weight of the residual.
        latent_weight: weight of the features' distance.
        discriminator_latent: the discriminator as well goes down the features' weighted distance, as in the released
            code.
        reconstruction_share: share of the residual in the score, in [0, 1]; the rest is the features'.
        residual: the score's: `squared`, as the released code, or `absolute`.
        generator_optimizer: of the generator.
        discriminator_optimizer: of the discriminator.
        lr_scheduler: of both; null for constant learning rates.
        lr_scheduler_interval: whether the schedule goes on after each `epoch`, or after each `step` of the player.
        max_gradient_norm: bound on the norm of a player's gradient; null for none.
        reduction: how a map of squared residuals becomes the score; null for the score above, the paper's.
        preprocessing: as in :class:`AnomalyDetector`.
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, or networks that do not fit the images.
    """

    uses_known_anomalies = False
    scoring_arguments: ClassVar = ("reconstruction_share", "residual", "reduction")
    argument_rules: ClassVar = {
        "adversarial_weight": not_negative,
        "contextual_weight": not_negative,
        "latent_weight": not_negative,
        "reconstruction_share": between(0, 1, "both"),
        "max_gradient_norm": or_none(positive, "no bound"),
    }

    def __init__(
        self,
        generator: ReproducerFactory = partial(UNet, width=64),
        discriminator: DiscriminatorFactory = partial(FeatureDiscriminator, n_features=100, width=64),
        adversarial_weight: float = 1.0,
        contextual_weight: float = 50.0,
        latent_weight: float = 1.0,
        discriminator_latent: bool = False,
        reconstruction_share: float = 0.9,
        residual: Residual = "squared",
        generator_optimizer: OptimizerFactory = partial(Adam, lr=2e-4, betas=(0.5, 0.999)),
        discriminator_optimizer: OptimizerFactory = partial(Adam, lr=2e-4, betas=(0.5, 0.999)),
        lr_scheduler: SchedulerFactory | None = None,
        lr_scheduler_interval: Interval = "epoch",
        max_gradient_norm: float | None = None,
        reduction: Reduction | None = None,
        preprocessing: PreprocessingFactory | None = None,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__(preprocessing, threshold)
        self.reduction = reduction
        self.automatic_optimization = False
        self.make_generator = network_part("generator", generator)
        self.make_discriminator = network_part("discriminator", discriminator)
        self.adversarial_weight = adversarial_weight
        self.contextual_weight = contextual_weight
        self.latent_weight = latent_weight
        self.discriminator_latent = discriminator_latent
        self.reconstruction_share = reconstruction_share
        self.residual = residual
        self.make_optimizers = {
            "generator": optimizer_part("generator_optimizer", generator_optimizer),
            "discriminator": optimizer_part("discriminator_optimizer", discriminator_optimizer),
        }
        self.make_scheduler = scheduler_part("lr_scheduler", lr_scheduler)
        self.lr_scheduler_interval = lr_scheduler_interval
        self.max_gradient_norm = max_gradient_norm

    def build(self, shape: tuple[int, ...]) -> None:
        """Generator and discriminator for images of this shape; the generator's range is the preprocessed input's."""
        self.generator = make_network("generator", self.make_generator, shape, self.preprocess.output)
        self.discriminator = make_network("discriminator", self.make_discriminator, shape)
        check_network("generator", self.generator, [shape], shape)
        check_network("discriminator", self.discriminator, [shape], (), (None,))
        networks = {"generator": self.generator, "discriminator": self.discriminator}
        self.players = Players(self, networks, self.max_gradient_norm, self.lr_scheduler_interval)

    def configure_optimizers(self) -> Any:
        """One optimiser for each player."""
        return one_optimizer_each(self.players.networks, self.make_optimizers, self.make_scheduler)

    def training_step(self, batch: TrainBatch, batch_idx: int) -> dict[str, Tensor]:
        """A step of the generator, and one of the discriminator on the same reproductions."""
        real = self.preprocess(batch.x)
        with self.players.only("generator"):
            fake = self.generator(real)
            logits, fake_features = self.discriminator(fake)
            with torch.no_grad():
                _, features = self.discriminator(real)
            adversarial, contextual = real_loss(logits.float()), contextual_loss(real, fake)
            latent = latent_loss(features, fake_features)
            loss = self.adversarial_weight * adversarial + self.contextual_weight * contextual
            loss = loss + self.latent_weight * latent
            self.players.minimise(loss, "generator")
        with self.players.only("discriminator"):
            logits, features = self.discriminator(real)
            fake_logits, fake_features = self.discriminator(fake.detach())
            of_discriminator = real_loss(logits.float()) + fake_loss(fake_logits.float())
            if self.discriminator_latent:
                of_discriminator = of_discriminator + self.latent_weight * latent_loss(features, fake_features)
            self.players.minimise(of_discriminator, "discriminator")
        curves = {"contextual_loss": contextual, "latent_loss": latent, "discriminator": of_discriminator}
        return {"loss": loss, **curves}

    def on_train_epoch_end(self) -> None:
        """Let the schedules go on."""
        super().on_train_epoch_end()
        self.players.end_epoch()

    def reconstructions(self, x: Tensor) -> Tensor:
        """What the generator makes of raw images, (B, C, H, W), in the preprocessed range."""
        images: Tensor = self.generator(self.preprocess(x))
        return images

    def anomaly_score(self, x: Tensor) -> Tensor:
        """The weighted residuals (B,) of values and features."""
        if self.reduction is not None:
            return self.reduction.reduce(self.anomaly_map(x))
        real = self.preprocess(x)
        fake = self.generator(real)
        features, fake_features = self.discriminator(real)[1], self.discriminator(fake)[1]
        return skip_ganomaly_score(real, fake, features, fake_features, self.reconstruction_share, self.residual)
