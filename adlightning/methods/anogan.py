"""AnoGAN: the search for a latent alone, by residual and by the critic's features (Schlegl et al., IPMI 2017)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from adlightning.methods.parts.inversion import Inversion
from adlightning.methods.parts.searching import SearchingDetector


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


class AnoGAN(SearchingDetector):
    """A GAN of the normal samples, and for each sample a search for the latent that reproduces it: the GAN stays.

    On ADGAN's network, as in its paper; the critic's last feature maps are the features.

    Args:
        n_seeds: starting latents for each sample.
        n_steps: steps of Adam in the search; 500 in the paper.
        lr_latent: its learning rate, which the paper does not state.
        feature_weight: lambda in [0, 1], share of the critic's features in the score; 0.1 in the paper.
        common: seed and chunks of the search, as in :class:`SearchingDetector`; the GAN and its training, as in
            :class:`WGANDetector`; preprocessing and threshold, as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, or images of a side that the network cannot make.
    """

    def __init__(
        self,
        n_seeds: int = 1,
        n_steps: int = 500,
        lr_latent: float = 0.01,
        feature_weight: float = 0.1,
        **common: Any,
    ) -> None:
        super().__init__(n_seeds=n_seeds, n_steps=n_steps, lr_latent=lr_latent, **common)
        if not 0 <= feature_weight <= 1:
            raise ValueError(f"feature_weight must lie in [0, 1], got {feature_weight}")
        self.feature_weight = feature_weight

    def distance(self, images: Tensor, x: Tensor) -> Tensor:
        """The loss (N,) of generated images and preprocessed samples, both (N, ...)."""
        with torch.no_grad():
            features = self.critic.features(x)
        return anogan_loss(images, x, self.critic.features(images), features, self.feature_weight)

    def inversion(self) -> Inversion:
        """Of latents alone."""
        return Inversion(self.n_steps, self.lr_latent, lr_weights=0.0, betas=(0.9, 0.999), loss=self.distance)
