"""Deep SAD: Deep SVDD with labelled samples (Ruff et al. 2020, equation 7; docs/methods.md)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from adlightning.methods.parts.hypersphere import HypersphereDetector


def deep_sad_loss(squared_distances: Tensor, known: Tensor, eta: float, eps: float = 1e-6) -> Tensor:
    """Equation 7 on a mixed batch: the mean of d for unlabelled samples and eta (d + eps)^known for labelled ones.

    Args:
        squared_distances: (B,), ||phi(x) - c||^2.
        known: (B,), +1 known normal, 0 unlabelled, -1 known anomaly.
        eta: weight of the labelled samples.
        eps: keeps the inverse distance of a known anomaly finite (the paper's footnote 1).
    """
    d = squared_distances
    labelled = eta * torch.where(known < 0, 1 / (d + eps), d + eps)
    return torch.where(known == 0, d, labelled).mean()


class DeepSAD(HypersphereDetector):
    """Deep SAD: unlabelled and known normal samples are drawn to the centre, known anomalies are pushed away from it.

    Args:
        eta: weight of labelled against unlabelled samples, positive.
        eps: added to a labelled sample's squared distance.
        common: phases, networks, optimisation, preprocessing and threshold, as in :class:`HypersphereDetector`.

    Raises:
        ValueError: an argument outside its range.
    """

    def __init__(self, eta: float = 1.0, eps: float = 1e-6, **common: Any) -> None:
        super().__init__(**common)
        if eta <= 0:
            raise ValueError(f"eta must be positive, got {eta}")
        if eps <= 0:
            raise ValueError(f"eps must be positive, got {eps}")
        self.eta = eta
        self.eps = eps

    def objective(self, squared_distances: Tensor, known: Tensor) -> Tensor:
        """Equation 7."""
        return deep_sad_loss(squared_distances, known, self.eta, self.eps)
