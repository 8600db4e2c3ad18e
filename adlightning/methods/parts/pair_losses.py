"""Terms of AMA's objective, interpolation and scores, as pure functions (Somepalli et al., arXiv:2003.10713)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Simplex = Literal["normalized", "remainder"]


def mean_over(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of the chosen ones of values (B,); 0 where none is."""
    total: Tensor = torch.where(chosen, values, 0).sum()
    return total / chosen.sum().clamp_min(1)


def reconstruction_terms(real: Tensor, made: Tensor, negative: Tensor, lambda_neg: float) -> Tensor:
    """Mean over the batch of d on normals and -lambda_neg d on negatives, d = D(x, x) - D(x, G(E(x))).

    Equations 1 and 4, over the whole batch as in the released code. With the values D(x) and D(G(E(x))) of a critic of
    single images it is the plain Wasserstein loss.

    Args:
        real, made: the critic's values (B,).
        negative: (B,), True for negatives.
        lambda_neg: weight of the negatives.
    """
    difference = real - made
    return torch.where(negative, -lambda_neg * difference, difference).mean()


def latent_norms(latents: Tensor) -> Tensor:
    """||E(x)|| (B,) of latents (B, d), not squared."""
    norms: Tensor = torch.linalg.vector_norm(latents.float(), dim=1)
    return norms


def simplex_weights(n: int, k: int, form: Simplex, device: torch.device) -> Tensor:
    """Random weights (n, k) of k latents, rows of sum 1.

    `normalized`: a_i / sum a, a_i ~ U(0, 0.5), as in the paper. `remainder`: a_1 ... a_(k-1) ~ U(0, 0.5) and what is
    left to 1, as in the released code, which judges the image beside each of the k samples; here it is judged beside
    one, so which of them has the remainder is drawn.
    """
    if form == "normalized":
        alpha = 1 - torch.rand(n, k, device=device)  # above 0; the factor 0.5 cancels
        return alpha / alpha.sum(dim=1, keepdim=True)
    alpha = torch.rand(n, k - 1, device=device) / 2
    weights = torch.cat([alpha, 1 - alpha.sum(dim=1, keepdim=True)], dim=1)
    return weights.gather(1, torch.rand(n, k, device=device).argsort(dim=1))


def corners(negative: Tensor, k: int) -> Tensor:
    """Positions (B, k) of the samples that each one is mixed with: itself, then random normals; normals only.

    A negative (B,) has a random normal in its own place.
    """
    normals = negative.long().argsort(stable=True)  # normals first: no host synchronisation
    n_normal = (~negative).sum()
    drawn = normals[(torch.rand(len(negative), k, device=negative.device) * n_normal).long()]
    drawn[:, 0] = torch.where(negative, drawn[:, 0], torch.arange(len(negative), device=negative.device))
    return drawn


def r_score(features_real: Tensor, features_made: Tensor) -> Tensor:
    """||f(x, x) - f(x, G(E(x)))||_1 (B,) of the critic's features (B, width): equation 5."""
    return (features_real.float() - features_made.float()).abs().sum(dim=1)


def a_score(r: Tensor, mean: Tensor) -> Tensor:
    """(R - mean)^2 (B,): falls as the normal density of equation 6 rises, without its underflow far from the mean."""
    return (r - mean).square()
