"""Likelihoods of samples, and the divergence from a standard normal: the terms of an evidence lower bound."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from torch import Tensor
from torch.nn import functional as F

from adlightning.core.prepared import name_of

if TYPE_CHECKING:
    from adlightning.core.detector import AnomalyDetector

Likelihood = Literal["bernoulli", "gaussian"]


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


def require_likelihood(detector: AnomalyDetector, likelihood: Likelihood) -> None:
    """Raise ValueError for the Bernoulli likelihood of preprocessed input outside [0, 1]; for `build`."""
    if likelihood == "bernoulli" and detector.preprocess.output != "sigmoid":
        raise ValueError(
            "likelihood must be gaussian, or preprocessing one to [0, 1] (UnitRange, StandardizeMinMax), got "
            f"{likelihood} with preprocessing {name_of(detector.preprocess)}"
        )
