"""Gaussian mixture model (ADGAN, Section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from sklearn.mixture import GaussianMixture

from adlightning.core.parts import PreprocessingFactory
from adlightning.core.rules import each, positive
from adlightning.core.thresholds import NormalQuantile, ThresholdRule
from adlightning.shallow.base import Selection, ShallowDetector, require
from adlightning.shallow.features import Features, RawFeatures
from adlightning.shallow.kernel import Floats, Known, TrainingSamples
from adlightning.shallow.oracle import Choice


class GMM(ShallowDetector):
    """Gaussian mixture with full covariances; the score is the negative log likelihood.

    Args:
        n_components: numbers of Gaussians to choose from by the Bayesian information criterion on the training samples.
        features: as in :class:`ShallowDetector`.
        selection: as in :class:`ShallowDetector`.
        preprocessing: as in :class:`ShallowDetector`.
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range.
    """

    estimator_type = GaussianMixture
    argument_rules: ClassVar = {"n_components": each(positive, least=1)}

    def __init__(
        self,
        n_components: Sequence[int] = tuple(range(2, 21)),
        features: Features = RawFeatures(),
        selection: Selection = "none",
        preprocessing: PreprocessingFactory | None = None,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__(features, selection, preprocessing, threshold)
        self.n_components = list(n_components)

    def require_samples(self, known: Known) -> None:
        """Refuse more Gaussians than samples."""
        n, most = len(known), max(self.n_components)
        require("n_components", most <= n, f"be at most {n}, the number of training samples", most)

    def fit_estimator(self, samples: TrainingSamples, **choice: Any) -> GaussianMixture:
        """The mixture with the least BIC, the first one of equals; from the seed of the data."""
        seed, x = self.data.effective_seed(), samples.features
        mixtures = (GaussianMixture(n, random_state=seed).fit(x) for n in self.n_components)
        return min(mixtures, key=lambda mixture: float(mixture.bic(x)))

    @staticmethod
    def score_features(estimator: GaussianMixture, features: Floats, /) -> Floats:
        """Negative log likelihood (N,)."""
        return np.asarray(-estimator.score_samples(features))

    def chosen(self, estimator: GaussianMixture) -> Choice:
        """The number of Gaussians."""
        return {"n_components": int(estimator.n_components)}
