"""Fully connected variational autoencoders, with or without a class label: M1 and M2 of Kingma et al. (2014).

On top the terms of an evidence lower bound: likelihoods of samples, the divergence from a standard normal.

Deep SAD's released code, on flattened samples; both networks mirror each other, with biases and ReLU:

| data                                  | hidden   | latent_dim |
|---------------------------------------|----------|------------|
| MNIST                                 | 128, 64  | 32         |
| Fashion-MNIST                         | 256, 128 | 64         |
| CIFAR-10                              | 512, 256 | 128        |
| arrhythmia                            | 128, 64  | 32         |
| cardio, satellite, satimage-2, shuttle | 32, 16  | 8          |
| thyroid                               | 32, 16   | 4          |
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adlightning.networks.mlp import check_positive

MIN_SCALE = 1e-4  # keeps the logarithm of a standard deviation finite


Likelihood = Literal["bernoulli", "gaussian"]
Deviation = Literal["softplus", "at_least_one"]


def bernoulli_log_likelihood(x: Tensor, logits: Tensor) -> Tensor:
    """log p(x) (B,) of samples (B, D), summed over D, in float32; x outside [0, 1] counts as the nearer bound.

    Standardised-and-rescaled features leave [0, 1] outside the training range; taken as they are, their likelihood
    would have no upper bound.
    """
    target = x.float().clamp(0, 1)
    return -F.binary_cross_entropy_with_logits(logits.float(), target, reduction="none").sum(dim=1)


def gaussian_log_likelihood(x: Tensor, mean: Tensor) -> Tensor:
    """log p(x) (B,) of samples (B, D) under N(mean, I), in float32."""
    return -0.5 * ((x.float() - mean.float()).square() + math.log(2 * math.pi)).sum(dim=1)


LOG_LIKELIHOODS: dict[Likelihood, Callable[[Tensor, Tensor], Tensor]] = {
    "bernoulli": bernoulli_log_likelihood,
    "gaussian": gaussian_log_likelihood,
}


def kl_from_standard(mean: Tensor, scale: Tensor) -> Tensor:
    """KL divergence (B,) of N(mean, diag(scale^2)), both (B, d), from N(0, I): in closed form, in float32."""
    mean, scale = mean.float(), scale.float()
    return (0.5 * (scale.square() + mean.square() - 1) - scale.log()).sum(dim=1)


def fully_connected(widths: Sequence[int]) -> nn.Sequential:
    """Linear layers with biases from each width to the next, ReLU between them. Raises ValueError for a width below 1.

    Args:
        widths: at least two: of the input, of each hidden layer, of the output.
    """
    check_positive("widths", widths)
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def sample_gaussian(mean: Tensor, scale: Tensor) -> Tensor:
    """Reparametrised samples mean + scale * noise, with noise from torch's global generator."""
    return mean + scale * torch.randn_like(mean)


class VAE(nn.Module):
    """q(z|x, y) = N(mean, diag(scale^2)) and p(x|z, y), of flat samples x (B, n_features) and one-hot labels y.

    Without classes it is a plain VAE (M1).

    Args:
        n_features: size of a flattened sample.
        hidden: units of the encoder's hidden layers, at least one; the decoder's are reversed.
        latent_dim: size of z.
        n_classes: size of y; 0 for none.
        deviation: of q, `softplus`, which cannot overflow, however far a sample lies from the training data; or
            `at_least_one`, whose log-variance is a softplus, as in Deep SAD's released code.

    Raises:
        ValueError: no hidden layer, a size below 1, a negative number of classes, or an unknown deviation.
    """

    def __init__(
        self,
        n_features: int,
        hidden: Sequence[int],
        latent_dim: int,
        n_classes: int = 0,
        deviation: Deviation = "softplus",
    ) -> None:
        super().__init__()
        if not hidden:
            raise ValueError("hidden must name at least one hidden layer, got none")
        check_positive("n_features", (n_features,))
        check_positive("hidden", hidden)
        check_positive("latent_dim", (latent_dim,))
        if n_classes < 0:
            raise ValueError(f"n_classes must not be negative, got {n_classes}")
        if deviation not in get_args(Deviation):
            raise ValueError(f"deviation must be one of {', '.join(get_args(Deviation))}, got {deviation!r}")
        self.deviation = deviation
        self.encoder = fully_connected((n_features + n_classes, *hidden, 2 * latent_dim))
        self.decoder = fully_connected((latent_dim + n_classes, *reversed(hidden), n_features))

    def encode(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of q(z|x, y), each (B, latent_dim), in float32."""
        mean, scale = self.encoder(_joined(x, y)).float().chunk(2, dim=1)
        if self.deviation == "at_least_one":
            return mean, (F.softplus(scale) / 2).exp()
        return mean, F.softplus(scale) + MIN_SCALE

    def forward(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Parameters (B, n_features) of p(x|z, y) for one sampled z (logits or means), mean and scale of q(z|x, y)."""
        mean, scale = self.encode(x, y)
        output: Tensor = self.decoder(_joined(sample_gaussian(mean, scale), y))
        return output, mean, scale


def _joined(x: Tensor, y: Tensor | None) -> Tensor:
    return x if y is None else torch.cat([x, y.to(x.dtype)], dim=1)
