"""Deep SVDD, one-class and soft-boundary (Ruff et al. 2018; Deep SAD, equation 3; docs/methods.md)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from adlightning.core.contracts import TrainBatch
from adlightning.methods.parts.hypersphere import HypersphereDetector


def one_class_loss(squared_distances: Tensor) -> Tensor:
    """Mean squared distance from the centre: equation 3 of Deep SAD without its weight decay."""
    return squared_distances.mean()


def soft_boundary_loss(squared_distances: Tensor, radius: Tensor, nu: float) -> Tensor:
    """R^2 + (1 / nu) mean max(0, d - R^2)."""
    squared_radius = radius.square()
    return squared_radius + (squared_distances - squared_radius).clamp_min(0).mean() / nu


def optimal_radius(squared_distances: Tensor, nu: float) -> Tensor:
    """The (1 - nu) quantile of the distances: the radius that minimises the soft-boundary loss of the batch."""
    return squared_distances.detach().float().sqrt().quantile(1 - nu)


class DeepSVDD(HypersphereDetector):
    """One-class Deep SVDD, unsupervised: every training sample is drawn to the centre.

    Args:
        common: phases, networks, optimisation, preprocessing and threshold, as in :class:`HypersphereDetector`.
    """

    uses_known_anomalies = False

    def __init__(self, **common: Any) -> None:
        super().__init__(**common)

    def objective(self, squared_distances: Tensor, known: Tensor) -> Tensor:
        """One-class loss."""
        return one_class_loss(squared_distances)


class SoftBoundaryDeepSVDD(HypersphereDetector):
    """Soft-boundary Deep SVDD: a share `nu` of the training samples may lie outside a sphere of learnt radius R.

    R starts at 0 and is left alone for `warm_up_epochs` of the objective; then, after every batch, it becomes the
    (1 - nu) quantile of that batch's distances (of all ranks' batches, where several train).

    Args:
        nu: share in (0, 1) of samples outside; the Deep SAD paper takes 0.01 and 0.1 and reports the better.
        warm_up_epochs: epochs of the objective before R moves; 10 in the released code.
        common: phases, networks, optimisation, preprocessing and threshold, as in :class:`HypersphereDetector`.

    Raises:
        ValueError: an argument outside its range.
    """

    uses_known_anomalies = False
    radius: Tensor

    def __init__(self, nu: float = 0.1, warm_up_epochs: int = 10, **common: Any) -> None:
        super().__init__(**common)
        if not 0 < nu < 1:
            raise ValueError(f"nu must lie in (0, 1), got {nu}")
        if warm_up_epochs < 0:
            raise ValueError(f"warm_up_epochs must not be negative, got {warm_up_epochs}")
        self.nu = nu
        self.warm_up_epochs = warm_up_epochs
        self.register_buffer("radius", torch.tensor(0.0))
        self._distances = torch.empty(0)

    def objective(self, squared_distances: Tensor, known: Tensor) -> Tensor:
        """Soft-boundary loss at the current radius."""
        self._distances = squared_distances.detach()
        return soft_boundary_loss(squared_distances, self.radius, self.nu)

    def on_train_batch_end(self, outputs: Any, batch: TrainBatch, batch_idx: int) -> None:
        """Update the radius, after warm-up."""
        if self.current_epoch >= self.pretrain_epochs + self.warm_up_epochs:
            distances = self.all_gather(self._distances) if self.trainer.world_size > 1 else self._distances
            assert isinstance(distances, Tensor)
            self.radius.copy_(optimal_radius(distances.flatten(), self.nu))

    def remarks(self) -> list[str]:
        """Whether the radius has moved."""
        still = self.warm_up_epochs > 0 and not self.radius
        return [f"training ended within model.warm_up_epochs={self.warm_up_epochs}: the radius is 0"] if still else []

    def anomaly_score(self, x: Tensor) -> Tensor:
        """d - R^2 (B,): positive outside the sphere."""
        return self.squared_distances(x) - self.radius.square()
