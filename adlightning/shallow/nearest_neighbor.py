"""Nearest neighbour (a baseline of DROCC, Table 1, on raw pixels)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from adlightning.core.parts import PreprocessingFactory
from adlightning.core.rules import at_least
from adlightning.core.thresholds import NormalQuantile, ThresholdRule
from adlightning.shallow.base import Selection, ShallowDetector, require
from adlightning.shallow.features import Features, RawFeatures
from adlightning.shallow.kernel import Floats, Known, TrainingSamples

Aggregation = Literal["largest", "mean"]


class NearestNeighbor(ShallowDetector):
    """Euclidean distance to the k nearest training samples.

    Source: Ramaswamy et al., SIGMOD 2000 (the distance to the k-th); Angiulli and Pizzuti, PKDD 2002 (to all k).

    Args:
        n_neighbors: k, to how many of the nearest training samples a distance is taken.
        aggregation: of the k distances: `largest`, which is that to the k-th, or their `mean`.
        features: as in :class:`ShallowDetector`.
        selection: as in :class:`ShallowDetector`.
        preprocessing: as in :class:`ShallowDetector`.
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range.
    """

    estimator_type = NearestNeighbors
    scores_left_out = True
    argument_rules: ClassVar = {"n_neighbors": at_least(1)}

    def __init__(
        self,
        n_neighbors: int = 1,
        aggregation: Aggregation = "largest",
        features: Features = RawFeatures(),
        selection: Selection = "none",
        preprocessing: PreprocessingFactory | None = None,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__(features, selection, preprocessing, threshold)
        self.n_neighbors = n_neighbors
        self.aggregation = aggregation

    def require_samples(self, known: Known) -> None:
        """Refuse more neighbours than a sample has."""
        others = len(known) - 1
        fits = self.n_neighbors <= others
        require("n_neighbors", fits, f"be at most {others}, the other training samples", self.n_neighbors)

    def fit_estimator(self, samples: TrainingSamples, **choice: Any) -> NearestNeighbors:
        """The training samples."""
        return NearestNeighbors(n_neighbors=self.n_neighbors, algorithm="brute").fit(samples.features)

    def score_features(self, estimator: NearestNeighbors, features: Floats, /) -> Floats:
        """Distance (N,) to the k nearest training samples."""
        return self._aggregated(estimator.kneighbors(features)[0])

    def nearest_normal(self, x: Tensor) -> Tensor | None:
        """The k-th nearest training image itself, (B, C, H, W); None of other samples, or with features of its own."""
        if self.built_for.kind != "image" or not isinstance(self.features, RawFeatures):
            return None
        place = self.estimator.kneighbors(self.represent(x))[1][:, -1]
        nearest = torch.from_numpy(self.estimator._fit_X[place]).float()
        return nearest.view(x.shape[0], *self.preprocess.output_shape()).to(x.device)

    def training_scores(self) -> Floats:
        """The distance of each sample, which is not its own neighbour."""
        return self._aggregated(self.estimator.kneighbors()[0])

    def _aggregated(self, distances: Floats) -> Floats:
        """A distance (N,) of those to k samples (N, k), in ascending order."""
        return np.asarray(distances[:, -1] if self.aggregation == "largest" else distances.mean(axis=1))
