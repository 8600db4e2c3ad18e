"""Isolation forest (Liu et al. 2008; Deep SAD, Appendix E)."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from sklearn.ensemble import IsolationForest as Forest

from adlightning.core.parts import PreprocessingFactory
from adlightning.core.rules import at_least
from adlightning.core.thresholds import NormalQuantile, ThresholdRule
from adlightning.shallow.base import Selection, ShallowDetector
from adlightning.shallow.features import Features, RawFeatures
from adlightning.shallow.kernel import Floats, TrainingSamples


class IsolationForest(ShallowDetector):
    """Random trees isolate an anomaly in few splits; the score 2^(-E[h] / c) lies in (0, 1].

    Args:
        n_estimators: t, number of trees.
        max_samples: psi, training samples a tree; all of them where there are fewer.
        features: as in :class:`ShallowDetector`.
        selection: as in :class:`ShallowDetector`.
        preprocessing: as in :class:`ShallowDetector`.
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range.
    """

    estimator_type = Forest
    argument_rules: ClassVar = {"n_estimators": at_least(1), "max_samples": at_least(2)}

    def __init__(
        self,
        n_estimators: int = 100,
        max_samples: int = 256,
        features: Features = RawFeatures(),
        selection: Selection = "none",
        preprocessing: PreprocessingFactory | None = None,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__(features, selection, preprocessing, threshold)
        self.n_estimators = n_estimators
        self.max_samples = max_samples

    def fit_estimator(self, samples: TrainingSamples, **choice: Any) -> Forest:
        """The forest, from the seed of the data."""
        seed, psi = self.data.effective_seed(), min(self.max_samples, len(samples))
        return Forest(n_estimators=self.n_estimators, max_samples=psi, random_state=seed).fit(samples.features)

    @staticmethod
    def score_features(estimator: Forest, features: Floats, /) -> Floats:
        """The paper's score, (N,)."""
        return np.asarray(-estimator.score_samples(features))
