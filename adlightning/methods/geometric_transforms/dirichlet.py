"""Dirichlet distributions fitted by maximum likelihood, many at once: the score of GEOM (Golan and El-Yaniv, 2018).

The fixed point is Minka's ("Estimating a Dirichlet distribution", 2000), with the steps and tolerance of GEOM's code.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.special import digamma, polygamma

EULER_GAMMA = 0.5772156649015329  # -digamma(1)
MIN_PROBABILITY = torch.finfo(torch.float32).tiny
"""Probabilities are taken for no smaller: what a float32 softmax could hold stays as it is."""

TOLERANCE = 1e-9
MAX_ITERATIONS = 1000
NEWTON_STEPS = 5
MIN_DIVERGENCE = 1e-9  # samples (nearly) all alike would have an infinite concentration


def fit_dirichlet(probabilities: Tensor) -> Tensor:
    """Maximum-likelihood concentrations (T, K) of T sets of N samples, probabilities (T, N, K).

    Runs, and answers, in float64 on the host: not every device has float64.

    Raises:
        ValueError: not (T, N, K), with N at least 1 and K at least 2.
    """
    if probabilities.dim() != 3 or probabilities.shape[1] < 1 or probabilities.shape[2] < 2:
        raise ValueError(
            "probabilities must be (T, N, K) with N at least 1 and K at least 2, "
            f"got the shape {tuple(probabilities.shape)}"
        )
    p = probabilities.detach().cpu().double().clamp_min(MIN_PROBABILITY)
    return dirichlet_from_means(p.mean(dim=1), p.log().mean(dim=1))


def dirichlet_from_means(mean: Tensor, mean_log: Tensor) -> Tensor:
    """Maximum-likelihood concentrations (T, K) from all that the likelihood depends on, and a first guess.

    Each row goes on until it moves by less than 1e-9, at most 1000 times, as it would on its own.

    Args:
        mean: mean of the probabilities, (T, K), float64: where the search starts.
        mean_log: mean of their logarithms, (T, K), float64, finite.
    """
    n_categories = mean.shape[1]
    # zero for samples all alike, positive for others (Jensen)
    divergence = (mean * (mean.log() - mean_log)).sum(dim=1, keepdim=True).clamp_min(MIN_DIVERGENCE)
    alpha = mean * (n_categories - 1) * EULER_GAMMA / divergence
    moving = torch.ones(len(alpha), dtype=torch.bool)
    for _ in range(MAX_ITERATIONS):
        old = alpha[moving]
        new = inverse_digamma(digamma(old.sum(dim=1, keepdim=True)) + mean_log[moving])
        alpha[moving] = new
        moving[moving.clone()] = (new - old).norm(dim=1) >= TOLERANCE
        if not moving.any():
            break
    return alpha


def inverse_digamma(y: Tensor) -> Tensor:
    """The x > 0 with digamma(x) = y, elementwise, by 5 Newton steps from Minka's first guess."""
    x = torch.where(y >= -2.22, y.exp() + 0.5, -1 / (y + EULER_GAMMA))
    for _ in range(NEWTON_STEPS):
        x = x - (digamma(x) - y) / polygamma(1, x)
    return x
