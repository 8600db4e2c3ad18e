"""Skip-GANomaly: how well a U-Net trained against a discriminator reproduces an image (Akcay et al., IJCNN 2019)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from adlightning.core.contracts import TrainBatch
from adlightning.methods.parts.adversarial import AdversarialDetector, fake_loss, real_loss
from adlightning.networks.unet import FeatureDiscriminator, UNet

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


class SkipGANomaly(AdversarialDetector):
    """Skip-GANomaly: a generator with skips that reproduces normal samples, and a discriminator's features of both.

    Each batch is a step of the generator down

        adversarial_weight * -mean log D(G(x)) + contextual_weight * mean |x - G(x)| + latent_weight * mean (f(x) -
        f(G(x)))^2

    and one of the discriminator. A score is computed in eval mode, where the released code lets a batch's statistics,
    and so its company, into it.

    Args:
        n_features: size of the discriminator's layer of features.
        width: channels of the feature map next to the image, in both networks.
        adversarial_weight: weight of calling reproductions real.
        contextual_weight: weight of the residual.
        latent_weight: weight of the features' distance.
        discriminator_latent: the discriminator as well goes down the features' weighted distance, as in the released
            code.
        reconstruction_share: share of the residual in the score, in [0, 1]; the rest is the features'.
        residual: the score's: `squared`, as the released code, or `absolute`.
        lr: learning rate of both, of Adam with betas (0.5, 0.999).
        common: schedule and gradient norm, as in :class:`AdversarialDetector`; preprocessing and threshold, as in
            :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, or images of a side that the networks do not take.
    """

    uses_known_anomalies = False

    generator: UNet
    discriminator: FeatureDiscriminator

    def __init__(
        self,
        n_features: int = 100,
        width: int = 64,
        adversarial_weight: float = 1.0,
        contextual_weight: float = 50.0,
        latent_weight: float = 1.0,
        discriminator_latent: bool = False,
        reconstruction_share: float = 0.9,
        residual: Residual = "squared",
        lr: float = 2e-4,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        for name, value in (("n_features", n_features), ("width", width)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        weights = (adversarial_weight, contextual_weight, latent_weight)
        for name, weight in zip(("adversarial_weight", "contextual_weight", "latent_weight"), weights, strict=True):
            if not 0 <= weight < math.inf:
                raise ValueError(f"{name} must not be negative and be finite, got {weight}")
        if not 0 <= reconstruction_share <= 1:
            raise ValueError(f"reconstruction_share must lie in [0, 1], got {reconstruction_share}")
        if residual not in get_args(Residual):
            raise ValueError(f"residual must be one of {', '.join(get_args(Residual))}, got {residual!r}")
        if not 0 < lr < math.inf:
            raise ValueError(f"lr must be positive and finite, got {lr}")
        self.n_features = n_features
        self.width = width
        self.adversarial_weight = adversarial_weight
        self.contextual_weight = contextual_weight
        self.latent_weight = latent_weight
        self.discriminator_latent = discriminator_latent
        self.reconstruction_share = reconstruction_share
        self.residual = residual
        self.lr = lr

    def build(self, shape: tuple[int, ...]) -> None:
        """Generator and discriminator for images of this shape; the generator's range is the preprocessed input's."""
        self.generator = UNet(shape, self.width, self.preprocess.output)
        self.discriminator = FeatureDiscriminator(shape, self.n_features, self.width)

    def players(self) -> dict[str, nn.Module]:
        """Generator and discriminator."""
        return {"generator": self.generator, "discriminator": self.discriminator}

    def new_optimizer(self, player: str, parameters: Iterator[nn.Parameter]) -> Optimizer:
        """Adam for both."""
        return Adam(parameters, lr=self.lr, betas=(0.5, 0.999))

    def training_step(self, batch: TrainBatch, batch_idx: int) -> None:
        """A step of the generator, and one of the discriminator on the same reproductions."""
        real = self.preprocess(batch.x)
        with self.only("generator"):
            fake = self.generator(real)
            logits, fake_features = self.discriminator(fake)
            with torch.no_grad():
                _, features = self.discriminator(real)
            adversarial, contextual = real_loss(logits.float()), contextual_loss(real, fake)
            latent = latent_loss(features, fake_features)
            loss = self.adversarial_weight * adversarial + self.contextual_weight * contextual
            loss = loss + self.latent_weight * latent
            self.minimise(loss, "generator")
        with self.only("discriminator"):
            logits, features = self.discriminator(real)
            fake_logits, fake_features = self.discriminator(fake.detach())
            of_discriminator = real_loss(logits.float()) + fake_loss(fake_logits.float())
            if self.discriminator_latent:
                of_discriminator = of_discriminator + self.latent_weight * latent_loss(features, fake_features)
            self.minimise(of_discriminator, "discriminator")
        self.curves.add(
            self.global_step, contextual_loss=contextual, latent_loss=latent, discriminator=of_discriminator
        )
        self.log_loss(loss, batch)

    def anomaly_score(self, x: Tensor) -> Tensor:
        """The weighted residuals (B,) of values and features."""
        real = self.preprocess(x)
        fake = self.generator(real)
        features, fake_features = self.discriminator(real)[1], self.discriminator(fake)[1]
        return skip_ganomaly_score(real, fake, features, fake_features, self.reconstruction_share, self.residual)
