"""Principal components: what they leave of a sample is anomalous (Jackson and Mudholkar 1979; Shyu et al. 2003)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from sklearn.decomposition import PCA as Components
from torch import Tensor

from adlightning.core.fitted_once import FittedOnce
from adlightning.core.maps import Reduction
from adlightning.core.parts import PreprocessingFactory
from adlightning.core.rules import Rule
from adlightning.core.thresholds import NormalQuantile, ThresholdRule

COMPONENTS = Rule(
    lambda value: value >= 1 if isinstance(value, int) else 0 < value < 1,
    "be a number of components, at least 1, or a share of the variance in (0, 1)",
)


def residual(x: Tensor, center: Tensor, directions: Tensor) -> Tensor:
    """What the components leave of samples (B, D): `x - c - V^T V (x - c)` for directions V (K, D)."""
    centred = x - center
    return centred - centred @ directions.T @ directions


class PCA(FittedOnce):
    """The residual of principal components: normal samples lie in a plane, an anomaly beside it.

    Nothing is trained. The first components of the normal training samples span the plane, and the mean square of what
    they leave of a sample is its score. Of an image the squares are a map of where it is anomalous.

    Args:
        components: how many, or the share of the variance that they keep, in (0, 1).
        reduction: of images, how a map of squared residuals becomes a score; null for their mean.
        preprocessing: as in :class:`AnomalyDetector`.
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, or more components than samples or values.
    """

    scoring_arguments: ClassVar = ("reduction",)
    sized_by_data: ClassVar = (*FittedOnce.sized_by_data, "directions")
    argument_rules: ClassVar = {"components": COMPONENTS}
    center: Tensor
    directions: Tensor

    def __init__(
        self,
        components: int | float = 0.95,
        reduction: Reduction | None = None,
        preprocessing: PreprocessingFactory | None = None,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__(preprocessing, threshold)
        self.components = components
        self.reduction = reduction

    def build(self, shape: tuple[int, ...]) -> None:
        """Room for the centre; how many directions there are, the data say."""
        super().build(shape)
        n_values = int(np.prod(shape))
        self.register_buffer("center", torch.zeros(n_values))
        self.register_buffer("directions", torch.empty(0, n_values))

    def on_fit_start(self) -> None:
        """Refuse more components than there can be."""
        n, most = len(self.data.training_rows()[0]), len(self.center)
        if isinstance(self.components, int) and self.components > min(n, most):
            raise ValueError(
                f"components must be at most {min(n, most)}, the smaller of {n} training samples and {most} values, "
                f"got {self.components}"
            )
        super().on_fit_start()

    def forget_fit(self) -> None:
        """There are no directions again."""
        self.directions = self.directions[:0]

    def fit_to_normals(self) -> None:
        """Centre and directions of the normal training samples, in float64."""
        x = np.concatenate([self.preprocess(x).flatten(1).cpu().double().numpy() for x in self.normal_data()])
        # a fold has fewer samples than were asked for components
        n = min(self.components, len(x)) if isinstance(self.components, int) else self.components
        fitted = Components(n, random_state=self.data.effective_seed()).fit(x)
        self.center.copy_(torch.from_numpy(fitted.mean_))
        self.directions = torch.from_numpy(fitted.components_).float().to(self.device)

    def remarks(self) -> list[str]:
        """How many components there are."""
        return [f"{len(self.directions)} principal components of {len(self.center)} values"]

    def ready_to_score(self) -> bool:
        """Only with directions."""
        return len(self.directions) > 0

    def anomaly_score(self, x: Tensor) -> Tensor:
        """The mean square of the residual (B,); or what the reduction makes of the map."""
        if self.reduction is not None:
            return self.reduction.reduce(self.anomaly_map(x))
        return residual(self.preprocess(x).flatten(1), self.center, self.directions).square().mean(dim=1)

    def reconstructions(self, x: Tensor) -> Tensor:
        """What the components keep of raw samples, (B, ...), in the preprocessed range."""
        prepared: Tensor = self.preprocess(x)
        return prepared - residual(prepared.flatten(1), self.center, self.directions).view_as(prepared)
