"""Isolation forest (Liu et al. 2008; Deep SAD, Appendix E)."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.ensemble import IsolationForest as Forest

from adlightning.shallow.base import ShallowDetector, require
from adlightning.shallow.kernel import Floats, TrainingSamples


class IsolationForest(ShallowDetector):
    """Random trees isolate an anomaly in few splits; the score 2^(-E[h] / c) lies in (0, 1].

    Args:
        n_estimators: t, number of trees.
        max_samples: psi, training samples a tree; all of them where there are fewer.
        common: features, selection, preprocessing and threshold, as in :class:`ShallowDetector`.

    Raises:
        ValueError: an argument outside its range.
    """

    estimator_type = Forest

    def __init__(self, n_estimators: int = 100, max_samples: int = 256, **common: Any) -> None:
        super().__init__(**common)
        require("n_estimators", n_estimators >= 1, "be at least 1", n_estimators)
        require("max_samples", max_samples >= 2, "be at least 2", max_samples)
        self.n_estimators = n_estimators
        self.max_samples = max_samples

    def fit_estimator(self, samples: TrainingSamples, **choice: Any) -> Forest:
        """The forest, from the seed of the data."""
        seed, psi = self.data.effective_seed(), min(self.max_samples, len(samples))
        return Forest(n_estimators=self.n_estimators, max_samples=psi, random_state=seed).fit(samples.features)

    def score_features(self, estimator: Forest, features: Floats) -> Floats:
        """The paper's score, (N,)."""
        return np.asarray(-estimator.score_samples(features))
