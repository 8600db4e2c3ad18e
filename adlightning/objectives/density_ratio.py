"""Deep density-ratio estimation: KLIEP and the BA divergence (density-ratio paper, equations 8 and 11).

The ratio r = p_normal / p_unlabelled is the softplus of a network's logit, and is handled by its logarithm throughout.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

FAR = -20.0  # below it log softplus(z) = z - e^z / 2 to float64's precision, and softplus would underflow


def log_ratio(logits: Tensor) -> Tensor:
    """log r = log softplus(logit) of logits of any shape, in float32 or finer; for very negative ones the logit itself.

    Finite, with a finite gradient, for every finite logit.
    """
    z = logits.to(torch.promote_types(logits.dtype, torch.float32))
    is_near = z > FAR
    # each form sees harmless values where the other one holds: infinity times zero would be NaN in the gradient
    near = F.softplus(torch.where(is_near, z, FAR)).log()
    far = z - torch.where(is_near, FAR, z).exp() / 2
    return torch.where(is_near, near, far)


def density_ratio_loss(log_r_normal: Tensor, log_r_unlabelled: Tensor, alpha: float) -> Tensor:
    """The empirical BA divergence of equation 8; for alpha = 0 KLIEP, equation 11.

    alpha > 0: mean_u[r^(1 + alpha)] - (1 + 1/alpha) mean_n[r^alpha] + 1/alpha, which is twice uLSIF for alpha = 1.
    alpha = 0: mean_u[r] - mean_n[log r], without the limit's constant: the loss for alpha -> 0 tends to it minus 1.

    Args:
        log_r_normal: log r (N,) of normal samples.
        log_r_unlabelled: log r (M,) of unlabelled samples.
        alpha: exponent of the BA divergence, not negative.

    Raises:
        ValueError: alpha negative or not finite.
    """
    check_alpha(alpha)
    if alpha == 0:
        return log_r_unlabelled.exp().mean() - log_r_normal.mean()
    unlabelled = ((1 + alpha) * log_r_unlabelled).exp().mean()
    # (1 + 1/alpha) m - 1/alpha = m + (m - 1) / alpha: for a small alpha the second form loses no digits
    excess = torch.expm1(alpha * log_r_normal).mean()
    return unlabelled - (1 + excess) - excess / alpha


def check_alpha(alpha: float) -> None:
    """Raise ValueError unless alpha is finite and not negative."""
    if not 0 <= alpha < math.inf:
        raise ValueError(f"alpha must be finite and not negative, got {alpha}")
