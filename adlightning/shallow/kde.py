"""Kernel density estimation (Parzen 1962; Deep SAD, Appendix E; ADGAN, Section 4.2).

Not scikit-learn's KernelDensity: its trees are more than ten times slower on images, and far from all samples their
running sums lose the density to rounding, where anomalies are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from sklearn.model_selection import KFold

from adlightning.core.parts import PreprocessingFactory
from adlightning.core.rules import at_least, each, or_none, positive
from adlightning.core.thresholds import NormalQuantile, ThresholdRule
from adlightning.shallow.base import Selection, ShallowDetector, require
from adlightning.shallow.features import Features, RawFeatures
from adlightning.shallow.kernel import (
    Floats,
    GaussianKDE,
    Known,
    TrainingSamples,
    log_density,
    row_blocks,
    squared_distances,
)
from adlightning.shallow.oracle import Choice

BANDWIDTHS = tuple(2.0 ** (half / 2) for half in range(-8, 11))
"""From 2^-4, well below the distances of neighbours in a standardised table, to 2^5."""


def cross_validated_bandwidth(
    x: Floats, bandwidths: Sequence[float], folds: int, seed: int, n_held_out: int | None = None
) -> float:
    """The bandwidth with the largest log-likelihood of held-out samples, over shuffled folds of x (N, D).

    Args:
        x: samples.
        bandwidths: to choose from.
        folds: at least 2.
        seed: of the folds.
        n_held_out: at most about so many samples, of all folds together, whose likelihood counts; None for all.
    """
    likelihoods = np.zeros(len(bandwidths))
    for train, held_out in KFold(folds, shuffle=True, random_state=seed).split(x):
        if n_held_out is not None and n_held_out < len(x):
            held_out = np.random.default_rng(seed).permutation(held_out)[: max(1, n_held_out // folds)]
        for rows in row_blocks(len(held_out), len(train)):
            distances = squared_distances(x[held_out[rows]], x[train])
            likelihoods += [log_density(distances, h, x.shape[1]).sum() for h in bandwidths]
    return float(bandwidths[int(np.argmax(likelihoods))])


class KDE(ShallowDetector):
    """Kernel density estimate with a Gaussian kernel; the score is the negative log density.

    Args:
        bandwidth: h, standard deviation of the kernel; null takes the likeliest of `bandwidths`.
        bandwidths: values of h to choose from by cross-validation on the training samples. The papers' are 2^0.5, 2,
            2^1.5, ..., 2^5; from 2^-4 on serves standardised tables better.
        cv_folds: folds of the cross-validation.
        cv_samples: training samples, at random by the run's seed, whose likelihood chooses h; null for all.
        features: as in :class:`ShallowDetector`.
        selection: as in :class:`ShallowDetector`.
        preprocessing: as in :class:`ShallowDetector`.
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range.
    """

    estimator_type = GaussianKDE
    scores_left_out = True
    argument_rules: ClassVar = {
        "bandwidth": or_none(positive, "the likeliest of bandwidths"),
        "bandwidths": each(positive, least=1),
        "cv_folds": at_least(2),
        "cv_samples": or_none(at_least(1), "all"),
    }
    score_features = staticmethod(GaussianKDE.anomaly_scores)

    def __init__(
        self,
        bandwidth: float | None = None,
        bandwidths: Sequence[float] = BANDWIDTHS,
        cv_folds: int = 5,
        cv_samples: int | None = 2000,
        features: Features = RawFeatures(),
        selection: Selection = "none",
        preprocessing: PreprocessingFactory | None = None,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__(features, selection, preprocessing, threshold)
        self.bandwidth = bandwidth
        self.bandwidths = list(bandwidths)
        self.cv_folds = cv_folds
        self.cv_samples = cv_samples

    def require_samples(self, known: Known) -> None:
        """Refuse more folds than samples."""
        fits = self.bandwidth is not None or self.cv_folds <= len(known)
        require("cv_folds", fits, f"be at most {len(known)}, the number of training samples", self.cv_folds)

    def fit_estimator(self, samples: TrainingSamples, **choice: Any) -> GaussianKDE:
        """The density, with a bandwidth chosen on the training samples unless one is given."""
        x, h = samples.features, self.bandwidth
        if h is None:
            folds = (self.cv_folds, self.data.effective_seed(), self.cv_samples)
            h = cross_validated_bandwidth(x, self.bandwidths, *folds)
            self.note_search("bandwidth", h, self.bandwidths, "bandwidths")
        return GaussianKDE(x, h)

    def training_scores(self) -> Floats:
        """Of each sample by the others' kernels: with its own it would look normal."""
        return np.asarray(-self.estimator.left_out_log_density())

    def chosen(self, estimator: GaussianKDE) -> Choice:
        """The bandwidth."""
        return {"bandwidth": estimator.bandwidth}
