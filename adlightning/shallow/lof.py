"""Local outlier factor (Breunig et al. 2000; a baseline of DROCC, Table 2)."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.neighbors import LocalOutlierFactor

from adlightning.shallow.base import ShallowDetector, require
from adlightning.shallow.kernel import Floats, Known, TrainingSamples


class LOF(ShallowDetector):
    """Density of a sample's neighbours over its own, about 1 among normal samples; that is the score.

    Args:
        n_neighbors: k, number of training samples that are its neighbours.
        common: features, selection, preprocessing and threshold, as in :class:`ShallowDetector`.

    Raises:
        ValueError: an argument outside its range.
    """

    estimator_type = LocalOutlierFactor

    def __init__(self, n_neighbors: int = 20, **common: Any) -> None:
        super().__init__(**common)
        require("n_neighbors", n_neighbors >= 1, "be at least 1", n_neighbors)
        self.n_neighbors = n_neighbors

    def require_samples(self, known: Known) -> None:
        """Refuse more neighbours than a sample has."""
        others = len(known) - 1
        fits = self.n_neighbors <= others
        require("n_neighbors", fits, f"be at most {others}, the other training samples", self.n_neighbors)

    def fit_estimator(self, samples: TrainingSamples, **choice: Any) -> LocalOutlierFactor:
        """The training samples with their densities."""
        factor = LocalOutlierFactor(n_neighbors=self.n_neighbors, algorithm="brute", novelty=True)
        return factor.fit(samples.features)

    def score_features(self, estimator: LocalOutlierFactor, features: Floats) -> Floats:
        """The factor (N,)."""
        return np.asarray(-estimator.score_samples(features))

    def _training_scores(self) -> Floats:
        return np.asarray(-self.estimator.negative_outlier_factor_)  # a sample is not its own neighbour
