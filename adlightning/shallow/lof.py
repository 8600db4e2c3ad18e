"""Local outlier factor (Breunig et al. 2000; a baseline of DROCC, Table 2)."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from sklearn.neighbors import LocalOutlierFactor

from adlightning.core.parts import PreprocessingFactory
from adlightning.core.rules import at_least
from adlightning.core.thresholds import NormalQuantile, ThresholdRule
from adlightning.shallow.base import Selection, ShallowDetector, require
from adlightning.shallow.features import Features, RawFeatures
from adlightning.shallow.kernel import Floats, Known, TrainingSamples


class LOF(ShallowDetector):
    """Density of a sample's neighbours over its own, about 1 among normal samples; that is the score.

    Args:
        n_neighbors: k, number of training samples that are its neighbours.
        features: as in :class:`ShallowDetector`.
        selection: as in :class:`ShallowDetector`.
        preprocessing: as in :class:`ShallowDetector`.
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range.
    """

    estimator_type = LocalOutlierFactor
    scores_left_out = True
    argument_rules: ClassVar = {"n_neighbors": at_least(1)}

    def __init__(
        self,
        n_neighbors: int = 20,
        features: Features = RawFeatures(),
        selection: Selection = "none",
        preprocessing: PreprocessingFactory | None = None,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__(features, selection, preprocessing, threshold)
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

    @staticmethod
    def score_features(estimator: LocalOutlierFactor, features: Floats, /) -> Floats:
        """The factor (N,)."""
        return np.asarray(-estimator.score_samples(features))

    def training_scores(self) -> Floats:
        """The factor of each sample, which is not its own neighbour."""
        return np.asarray(-self.estimator.negative_outlier_factor_)
