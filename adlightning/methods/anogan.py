"""AnoGAN: the search for a latent alone, by residual and by the critic's features (Schlegl et al., IPMI 2017)."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import RMSprop

from adlightning.core.maps import Reduction
from adlightning.core.optimization import Interval
from adlightning.core.parts import (
    CriticFactory,
    GeneratorFactory,
    OptimizerFactory,
    PreprocessingFactory,
    SchedulerFactory,
)
from adlightning.core.rules import at_least, between, or_none, positive
from adlightning.core.thresholds import NormalQuantile, ThresholdRule
from adlightning.methods.adgan import ADGAN, CriticTurns
from adlightning.methods.parts.adversarial import Lipschitz, WeightClipping
from adlightning.methods.parts.inversion import LatentSearch, mean_over_seeds
from adlightning.networks.gan import DCGANCritic, DCGANGenerator

SEARCH = LatentSearch(n_seeds=1, n_steps=500, lr_latent=0.01, lr_weights=0.0, betas=(0.9, 0.999))
"""The paper's steps, of Adam as it comes; the paper does not state its learning rate."""


def anogan_loss(images: Tensor, x: Tensor, image_features: Tensor, features: Tensor, feature_weight: float) -> Tensor:
    """(1 - lambda) ||G(z) - x||_1 + lambda ||f(G(z)) - f(x)||_1, (N,): the paper's equations 3 to 5.

    Args:
        images, x: generated images and samples (N, ...).
        image_features, features: the critic's features (N, ...) of both.
        feature_weight: lambda in [0, 1].
    """
    residual = (images.float() - x.float()).abs().flatten(1).sum(dim=1)
    difference = (image_features.float() - features.float()).abs().flatten(1).sum(dim=1)
    return (1 - feature_weight) * residual + feature_weight * difference


class AnoGAN(ADGAN):
    """ADGAN's GAN, trained alike, and for each sample a search for the latent that reproduces it: the GAN stays.

    On ADGAN's network, as in its paper; the critic's last feature maps are the features.

    Args:
        generator: a class made for (latent_dim, shape, output) whose modules make samples (B, ...) of latents (B, d).
        critic: a class made for (shape, batch_norm) whose modules give one number a sample, (B,), and have a method
            `features(x)`, (B, ...); where `batch_norm` is False it must have no BatchNorm.
        latent_dim: dimension of the latents, N(0, I).
        lipschitz: how the critic is kept Lipschitz: `WeightClipping` or `GradientPenalty`.
        critic_turns: how many steps of the critic there are for one of the generator.
        search: the search, of latents alone: `lr_weights` is 0.
        feature_weight: lambda in [0, 1], share of the critic's features in the score; 0.1 in the paper.
        critic_optimizer: of the critic. With the penalty, Adam with betas (0, 0.9) is usual.
        generator_optimizer: of the generator.
        lr_scheduler: of both; null for constant learning rates.
        lr_scheduler_interval: whether a player's schedule goes on after each `epoch`, or each `step` of the player.
        max_gradient_norm: bound on the norm of a player's gradient; null for none.
        reduction: how a map of squared residuals becomes the score; null for the score above, the paper's.
        preprocessing: as in :class:`AnomalyDetector`.
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, or networks that do not fit the data.
    """

    critic: Any  # a module with features

    scoring_arguments: ClassVar = ("search", "feature_weight", "reduction")
    argument_rules: ClassVar = {
        "latent_dim": at_least(1),
        "feature_weight": between(0, 1, "both"),
        "max_gradient_norm": or_none(positive, "no bound"),
    }

    def __init__(
        self,
        generator: GeneratorFactory = DCGANGenerator,
        critic: CriticFactory = DCGANCritic,
        latent_dim: int = 256,
        lipschitz: Lipschitz = WeightClipping(bound=0.01),
        critic_turns: CriticTurns = CriticTurns(),
        search: LatentSearch = SEARCH,
        feature_weight: float = 0.1,
        critic_optimizer: OptimizerFactory = partial(RMSprop, lr=5e-5),
        generator_optimizer: OptimizerFactory = partial(RMSprop, lr=5e-5),
        lr_scheduler: SchedulerFactory | None = None,
        lr_scheduler_interval: Interval = "epoch",
        max_gradient_norm: float | None = None,
        reduction: Reduction | None = None,
        preprocessing: PreprocessingFactory | None = None,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__(
            generator,
            critic,
            latent_dim,
            lipschitz=lipschitz,
            critic_turns=critic_turns,
            search=search,
            critic_optimizer=critic_optimizer,
            generator_optimizer=generator_optimizer,
            lr_scheduler=lr_scheduler,
            lr_scheduler_interval=lr_scheduler_interval,
            max_gradient_norm=max_gradient_norm,
            reduction=reduction,
            preprocessing=preprocessing,
            threshold=threshold,
        )
        if search.lr_weights:
            raise ValueError(
                f"search.lr_weights must be 0, got {search.lr_weights}: AnoGAN leaves the generator as it is (its "
                f"paper's search is {SEARCH})"
            )
        self.feature_weight = feature_weight

    def build(self, shape: tuple[int, ...]) -> None:
        """As ADGAN's; the critic has features."""
        super().build(shape)
        if not callable(getattr(self.critic, "features", None)):
            raise ValueError(
                f"critic: {type(self.critic).__name__} must have a method features(x), (B, ...) of samples (B, ...): "
                "AnoGAN compares them"
            )

    def distance(self, images: Tensor, x: Tensor) -> Tensor:
        """The loss (N,) of generated images and preprocessed samples, both (N, ...)."""
        with torch.no_grad():
            features = self.critic.features(x)
        return anogan_loss(images, x, self.critic.features(images), features, self.feature_weight)

    def anomaly_score(self, x: Tensor) -> Tensor:
        """Mean over the seeds (B,) of what is left of the loss where the search ends."""
        if self.reduction is not None:
            return self.reduction.reduce(self.anomaly_map(x))
        return mean_over_seeds(self.inversion(self.generator, x, self.preprocess(x))[1], self.inversion.search.n_seeds)
