"""Kernel density ratio: KLIEP and uLSIF as detectors (Hido et al., "Statistical outlier detection using direct density
ratio estimation", KAIS 2011).

The ratio r(x) = p_normal(x) / p_unlabelled(x), a sum of Gaussian kernels at normal samples, is low for anomalies. Its
fits are in ratio_fits.py.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import logsumexp

from adlightning.core.contracts import KNOWN_NORMAL, UNLABELLED
from adlightning.shallow.base import ShallowDetector, require
from adlightning.shallow.kernel import Floats, Known, TrainingSamples, row_blocks, squared_distances
from adlightning.shallow.oracle import Choice
from adlightning.shallow.ratio_fits import Distances, held_out_score, kliep, left_out_losses, ulsif

FACTORS = (0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0)
REGULARIZATIONS = tuple(10.0 ** (half / 2) for half in range(-6, 3))


@dataclass
class KernelRatio:
    """A fitted ratio.

    Args:
        centers: c, (K, D), those with a positive coefficient.
        log_coefficients: log a, (K,).
        bandwidth: h.
        regularization: lambda of uLSIF; None for KLIEP.
    """

    centers: Floats
    log_coefficients: Floats
    bandwidth: float
    regularization: float | None

    def log_ratio(self, x: Floats) -> Floats:
        """log r (B,) of samples (B, D); exact far from all centers, where r underflows."""
        parts = [np.empty(0)]
        for rows in row_blocks(len(x), len(self.centers)):
            log_kernels = squared_distances(x[rows], self.centers) / (-2 * self.bandwidth**2)
            parts.append(logsumexp(self.log_coefficients + log_kernels, axis=1))
        return np.concatenate(parts)


class KernelRatioDetector(ShallowDetector):
    """Ratio of the normal samples' density to that of unlabelled ones, as a sum of kernels; the score is -log r.

    Needs known normals and unlabelled samples: `TransductiveLabelled`, `InductiveLabelled` and the like, or own data
    some of which have no label.

    Args:
        n_centers: number of normal samples, at random by the run's seed, that are centers of kernels; all if there are
            fewer.
        bandwidth: h, standard deviation of the kernel; null chooses among `bandwidth_factors`.
        bandwidth_factors: values of h to choose from, as multiples of the median distance of normal samples to centers.
        common: features, preprocessing and threshold, as in :class:`ShallowDetector`.

    Raises:
        ValueError: an argument outside its range, or training data without known normals or unlabelled samples.
    """

    needs_unlabelled = True
    estimator_type = KernelRatio

    def __init__(
        self,
        n_centers: int = 100,
        bandwidth: float | None = None,
        bandwidth_factors: Sequence[float] = FACTORS,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        positive = len(bandwidth_factors) > 0 and min(bandwidth_factors) > 0
        require("n_centers", n_centers >= 1, "be at least 1", n_centers)
        require("bandwidth", bandwidth is None or bandwidth > 0, "be positive", bandwidth)
        require("bandwidth_factors", positive, "be positive numbers", list(bandwidth_factors))
        self.n_centers = n_centers
        self.bandwidth = bandwidth
        self.bandwidth_factors = list(bandwidth_factors)

    @abstractmethod
    def solve(self, distances: Distances, bandwidths: Sequence[float]) -> tuple[Floats, float, float | None]:
        """log a (L,), -inf for zero, with the best of the bandwidths, and lambda where there is one."""

    def fit_estimator(self, samples: TrainingSamples, **choice: Any) -> KernelRatio:
        """The ratio, with what was not given chosen on the training samples."""
        rng, x = np.random.default_rng(self.data.effective_seed()), samples.features
        rows = (rng.permutation(np.flatnonzero(samples.known == kind)) for kind in (KNOWN_NORMAL, UNLABELLED))
        normal, unlabelled = (x[row] for row in rows)
        centers = normal[rng.permutation(len(normal))[: self.n_centers]]
        # not by way of inner products, whose rounding sets centers apart from themselves
        distances = Distances(*(cdist(part, centers, "sqeuclidean") for part in (normal, unlabelled)))
        scale = distances.median()
        bandwidths = [f * scale for f in self.bandwidth_factors] if self.bandwidth is None else [self.bandwidth]
        log_a, bandwidth, regularization = self.solve(distances, bandwidths)
        kept = np.isfinite(log_a)
        return KernelRatio(centers[kept], log_a[kept], bandwidth, regularization)

    def score_features(self, estimator: KernelRatio, features: Floats) -> Floats:
        """-log r (N,)."""
        return -estimator.log_ratio(features)

    def chosen(self, estimator: KernelRatio) -> Choice:
        """The bandwidth, and lambda where there is one."""
        values = {"bandwidth": estimator.bandwidth, "regularization": estimator.regularization}
        return {name: value for name, value in values.items() if value is not None}


class KernelKLIEP(KernelRatioDetector):
    """KLIEP: the ratio that maximises the mean of log r over normal samples with mean 1 over unlabelled ones.

    Args:
        cv_folds: folds of the likelihood cross-validation that chooses h.
        hold_out_unlabelled: whether its folds leave out unlabelled samples as well as normal ones (not in the paper):
            for data where it would take the least h because normal samples lie closer together than to unlabelled ones.
        ratio: centers and bandwidth, as in :class:`KernelRatioDetector`; features, preprocessing and threshold, as in
            :class:`ShallowDetector`.

    Raises:
        ValueError: an argument outside its range, or training data without known normals or unlabelled samples.
    """

    def __init__(self, cv_folds: int = 5, hold_out_unlabelled: bool = False, **ratio: Any) -> None:
        super().__init__(**ratio)
        require("cv_folds", cv_folds >= 2, "be at least 2", cv_folds)
        self.cv_folds = cv_folds
        self.hold_out_unlabelled = hold_out_unlabelled

    def require_samples(self, known: Known) -> None:
        """Refuse more folds than samples."""
        kinds = [("known normals", KNOWN_NORMAL), ("unlabelled samples", UNLABELLED)]
        for name, kind in kinds if self.hold_out_unlabelled else kinds[:1]:
            n = int((known == kind).sum())
            fits = self.bandwidth is not None or self.cv_folds <= n
            require("cv_folds", fits, f"be at most {n}, the number of {name}", self.cv_folds)

    def solve(self, distances: Distances, bandwidths: Sequence[float]) -> tuple[Floats, float, None]:
        """The maximum, with the bandwidth of the best held-out score."""
        h, seed = bandwidths[0], self.data.effective_seed()
        if len(bandwidths) > 1:
            scores = [held_out_score(distances, h, self.cv_folds, seed, self.hold_out_unlabelled) for h in bandwidths]
            h = bandwidths[int(np.argmax(scores))]
        return kliep(*distances.log_kernels(h)), h, None


class KernelULSIF(KernelRatioDetector):
    """uLSIF: the regularised least-squares fit of the ratio, with negative coefficients set to 0.

    Args:
        regularization: lambda; null chooses among `regularizations`, together with h, by leaving one out.
        regularizations: values of lambda to choose from.
        ratio: centers and bandwidth, as in :class:`KernelRatioDetector`; features, preprocessing and threshold, as in
            :class:`ShallowDetector`.

    Raises:
        ValueError: an argument outside its range, or training data without known normals or unlabelled samples.
    """

    def __init__(
        self, regularization: float | None = None, regularizations: Sequence[float] = REGULARIZATIONS, **ratio: Any
    ) -> None:
        super().__init__(**ratio)
        positive = len(regularizations) > 0 and min(regularizations) > 0
        require("regularization", regularization is None or regularization > 0, "be positive", regularization)
        require("regularizations", positive, "be positive numbers", list(regularizations))
        self.regularization = regularization
        self.regularizations = list(regularizations)

    def require_samples(self, known: Known) -> None:
        """Refuse to leave out the only sample of a kind."""
        chooses = self.bandwidth is None or self.regularization is None
        least = min(int((known == kind).sum()) for kind in (KNOWN_NORMAL, UNLABELLED))
        rule = "be given, with regularization, unless there are two samples of each kind to leave one out"
        require("bandwidth", not chooses or least > 1, rule, self.bandwidth)

    def solve(self, distances: Distances, bandwidths: Sequence[float]) -> tuple[Floats, float, float]:
        """The closed form, with the bandwidth and the lambda of the least leave-one-out score."""
        grid = self.regularizations if self.regularization is None else [self.regularization]
        h, regularization = bandwidths[0], grid[0]
        if len(bandwidths) * len(grid) > 1:
            losses = [left_out_losses(*distances.kernels(h), grid) for h in bandwidths]
            row, column = np.unravel_index(np.argmin(losses), (len(bandwidths), len(grid)))
            h, regularization = bandwidths[int(row)], grid[int(column)]
        a = ulsif(*distances.kernels(h), regularization)
        with np.errstate(divide="ignore"):
            return np.log(a), h, regularization
