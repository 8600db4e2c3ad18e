"""Kernel density estimation (Parzen 1962; Deep SAD, Appendix E; ADGAN, Section 4.2).

Not scikit-learn's KernelDensity: its trees are more than ten times slower on images, and far from all samples their
running sums lose the density to rounding, where anomalies are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.model_selection import KFold

from adlightning.shallow.base import ShallowDetector, require
from adlightning.shallow.kernel import Floats, Known, TrainingSamples, row_blocks, squared_distances
from adlightning.shallow.oracle import Choice

PAPER_BANDWIDTHS = tuple(2.0 ** (half / 2) for half in range(1, 11))


def log_density(distances: Floats, bandwidth: float, dimension: int) -> Floats:
    """log (1/M sum_j N(x | x_j, h^2 I)), (B,), from squared distances (B, M) to the M samples; exact far from all."""
    nearest, scale = distances.min(axis=1), 2 * bandwidth**2
    sums = np.exp((nearest[:, None] - distances) / scale).sum(axis=1)
    constant = math.log(distances.shape[1]) + dimension / 2 * math.log(math.pi * scale)
    return np.asarray(np.log(sums) - nearest / scale - constant)


@dataclass
class GaussianKDE:
    """A density: samples (N, D) and the bandwidth h of the Gaussian at each."""

    samples: Floats
    bandwidth: float

    def log_density(self, x: Floats) -> Floats:
        """Log density (B,) of samples (B, D)."""
        blocks = row_blocks(len(x), len(self.samples))
        parts = [log_density(squared_distances(x[b], self.samples), self.bandwidth, x.shape[1]) for b in blocks]
        return np.concatenate([np.empty(0), *parts])

    def left_out_log_density(self) -> Floats:
        """Log density (N,) of each of its own samples under all others; -inf is not possible for two or more."""
        parts, n = [], len(self.samples)
        for rows in row_blocks(n, n):
            distances = squared_distances(self.samples[rows], self.samples)
            np.fill_diagonal(distances[:, rows], np.inf)  # itself: no part of the sum, but counted in its mean
            parts.append(log_density(distances, self.bandwidth, self.samples.shape[1]))
        return np.concatenate(parts) + math.log(n / (n - 1))


def cross_validated_bandwidth(x: Floats, bandwidths: Sequence[float], folds: int, seed: int) -> float:
    """The bandwidth with the largest log-likelihood of held-out samples, over shuffled folds of x (N, D)."""
    likelihoods = np.zeros(len(bandwidths))
    for train, held_out in KFold(folds, shuffle=True, random_state=seed).split(x):
        for rows in row_blocks(len(held_out), len(train)):
            distances = squared_distances(x[held_out[rows]], x[train])
            likelihoods += [log_density(distances, h, x.shape[1]).sum() for h in bandwidths]
    return float(bandwidths[int(np.argmax(likelihoods))])


class KDE(ShallowDetector):
    """Kernel density estimate with a Gaussian kernel; the score is the negative log density.

    Args:
        bandwidth: h, standard deviation of the kernel; null takes the likeliest of `bandwidths`.
        bandwidths: values of h to choose from by cross-validation on the training samples.
        cv_folds: its number of folds.
        common: features, selection, preprocessing and threshold, as in :class:`ShallowDetector`.

    Raises:
        ValueError: an argument outside its range.
    """

    estimator_type = GaussianKDE

    def __init__(
        self,
        bandwidth: float | None = None,
        bandwidths: Sequence[float] = PAPER_BANDWIDTHS,
        cv_folds: int = 5,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        require("bandwidth", bandwidth is None or bandwidth > 0, "be positive", bandwidth)
        require("bandwidths", len(bandwidths) > 0 and min(bandwidths) > 0, "be positive numbers", list(bandwidths))
        require("cv_folds", cv_folds >= 2, "be at least 2", cv_folds)
        self.bandwidth = bandwidth
        self.bandwidths = list(bandwidths)
        self.cv_folds = cv_folds

    def require_samples(self, known: Known) -> None:
        """Refuse more folds than samples."""
        fits = self.bandwidth is not None or self.cv_folds <= len(known)
        require("cv_folds", fits, f"be at most {len(known)}, the number of training samples", self.cv_folds)

    def fit_estimator(self, samples: TrainingSamples, **choice: Any) -> GaussianKDE:
        """The density, with a bandwidth chosen on the training samples unless one is given."""
        x, h = samples.features, self.bandwidth
        if h is None:
            h = cross_validated_bandwidth(x, self.bandwidths, self.cv_folds, self.data.effective_seed())
        return GaussianKDE(x, h)

    def score_features(self, estimator: GaussianKDE, features: Floats) -> Floats:
        """Negative log density (N,)."""
        return -estimator.log_density(features)

    def _training_scores(self) -> Floats:
        return np.asarray(-self.estimator.left_out_log_density())  # with its own kernel each would look normal

    def chosen(self, estimator: GaussianKDE) -> Choice:
        """The bandwidth."""
        return {"bandwidth": estimator.bandwidth}
