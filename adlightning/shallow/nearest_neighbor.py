"""Nearest neighbour (a baseline of DROCC, Table 1, on raw pixels)."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.neighbors import NearestNeighbors

from adlightning.shallow.base import ShallowDetector, require
from adlightning.shallow.kernel import Floats, Known, TrainingSamples


class NearestNeighbor(ShallowDetector):
    """Euclidean distance to the k-th nearest training sample.

    Args:
        n_neighbors: k.
        common: features, selection, preprocessing and threshold, as in :class:`ShallowDetector`.

    Raises:
        ValueError: an argument outside its range.
    """

    estimator_type = NearestNeighbors

    def __init__(self, n_neighbors: int = 1, **common: Any) -> None:
        super().__init__(**common)
        require("n_neighbors", n_neighbors >= 1, "be at least 1", n_neighbors)
        self.n_neighbors = n_neighbors

    def require_samples(self, known: Known) -> None:
        """Refuse more neighbours than a sample has."""
        others = len(known) - 1
        fits = self.n_neighbors <= others
        require("n_neighbors", fits, f"be at most {others}, the other training samples", self.n_neighbors)

    def fit_estimator(self, samples: TrainingSamples, **choice: Any) -> NearestNeighbors:
        """The training samples."""
        return NearestNeighbors(n_neighbors=self.n_neighbors, algorithm="brute").fit(samples.features)

    def score_features(self, estimator: NearestNeighbors, features: Floats) -> Floats:
        """Distance (N,) to the k-th training sample."""
        return np.asarray(estimator.kneighbors(features)[0][:, -1])

    def _training_scores(self) -> Floats:
        return np.asarray(self.estimator.kneighbors()[0][:, -1])  # a sample is not its own neighbour
