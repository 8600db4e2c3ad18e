"""The radial loss of HSC and FCDD: a cross-entropy by the distance from the origin (Ruff et al. 2021, Section 3)."""

from __future__ import annotations

import torch
from torch import Tensor

from adlightning.labels import KNOWN_ANOMALY

_NEAREST = 1e-9
"""Added to an anomaly's distance, since the logarithm of nothing is not finite."""


def pseudo_huber(squares: Tensor) -> Tensor:
    """sqrt(r^2 + 1) - 1 of squared radii r^2, in float32: r^2 / 2 near the origin, r - 1 far out.

    Written as r^2 / (sqrt(r^2 + 1) + 1), which keeps small ones.
    """
    squares = squares.float()
    return squares / ((squares + 1).sqrt() + 1)


def far_loss(distances: Tensor) -> Tensor:
    """-log(1 - exp(-h)) of distances h >= 0: large at the origin, nothing far from it."""
    return -torch.log(-torch.expm1(-(distances + _NEAREST)))


def radial_losses(distances: Tensor, known: Tensor) -> Tensor:
    """Losses (B,): h of what is not known to be anomalous, -log(1 - exp(-h)) of known anomalies.

    They are the cross-entropy of a classifier that takes a sample for normal with the probability exp(-h).

    Args:
        distances: (B,), h >= 0.
        known: (B,), +1 known normal, 0 unlabelled, -1 known anomaly.
    """
    return torch.where(known == KNOWN_ANOMALY, far_loss(distances), distances)
