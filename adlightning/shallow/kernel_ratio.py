"""Kernel density ratio: KLIEP and uLSIF as detectors (Hido et al., "Statistical outlier detection using direct density
ratio estimation", KAIS 2011).

The ratio r(x) = p_normal(x) / p_unlabelled(x), a sum of Gaussian kernels at normal samples, is low for anomalies; the
score is -log r. Its fits are in ratio_fits.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from scipy.spatial.distance import cdist

from adlightning.core.parts import PreprocessingFactory
from adlightning.core.rules import at_least, each, or_none, positive
from adlightning.core.thresholds import NormalQuantile, ThresholdRule
from adlightning.labels import KNOWN_NORMAL, UNLABELLED
from adlightning.shallow.base import Selection, ShallowDetector, require
from adlightning.shallow.features import Features, RawFeatures
from adlightning.shallow.kernel import Floats, KernelRatio, Known, TrainingSamples
from adlightning.shallow.oracle import Choice
from adlightning.shallow.ratio_fits import Distances, held_out_score, kliep, left_out_losses, ulsif

FACTORS = (0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0)
REGULARIZATIONS = tuple(10.0 ** (half / 2) for half in range(-6, 3))

KERNEL_RULES = {
    "n_centers": at_least(1),
    "bandwidth": or_none(positive, "one of bandwidth_factors"),
    "bandwidth_factors": each(positive, least=1),
}


def drawn_centers(samples: TrainingSamples, n_centers: int, seed: int) -> tuple[Floats, Distances]:
    """Normal samples at random as centers of kernels (L, D), and the distances of both kinds of samples to them."""
    rng, x = np.random.default_rng(seed), samples.features
    rows = (rng.permutation(np.flatnonzero(samples.known == kind)) for kind in (KNOWN_NORMAL, UNLABELLED))
    normal, unlabelled = (x[row] for row in rows)
    centers = normal[rng.permutation(len(normal))[:n_centers]]
    # not by way of inner products, whose rounding sets centers apart from themselves
    return centers, Distances(*(cdist(part, centers, "sqeuclidean") for part in (normal, unlabelled)))


def bandwidths_of(distances: Distances, bandwidth: float | None, factors: Sequence[float]) -> list[float]:
    """The values of h to choose from: the one given, or multiples of the median distance."""
    scale = distances.median()
    return [f * scale for f in factors] if bandwidth is None else [bandwidth]


def ratio(centers: Floats, log_a: Floats, bandwidth: float, regularization: float | None) -> KernelRatio:
    """The ratio from log a (L,), without the centers for which it is -inf."""
    kept = np.isfinite(log_a)
    return KernelRatio(centers[kept], log_a[kept], bandwidth, regularization)


class KernelKLIEP(ShallowDetector):
    """KLIEP: the ratio that maximises the mean of log r over normal samples with mean 1 over unlabelled ones.

    Needs known normals and unlabelled samples: `TransductiveLabelled`, `InductiveLabelled` and the like, or own data
    some of which have no label.

    Args:
        n_centers: number of normal samples, at random by the run's seed, that are centers of kernels; all if there are
            fewer.
        bandwidth: h, standard deviation of the kernel; null chooses among `bandwidth_factors`.
        bandwidth_factors: values of h to choose from, as multiples of the median distance of normal samples to centers.
        cv_folds: folds of the likelihood cross-validation that chooses h.
        hold_out_unlabelled: whether its folds leave out unlabelled samples as well as normal ones (not in the paper):
            for data where it would take the least h because normal samples lie closer together than to unlabelled ones.
        features: as in :class:`ShallowDetector`.
        selection: as in :class:`ShallowDetector`.
        preprocessing: as in :class:`ShallowDetector`.
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, or training data without known normals or unlabelled samples.
    """

    needs_unlabelled = True
    estimator_type = KernelRatio
    score_features = staticmethod(KernelRatio.anomaly_scores)
    argument_rules: ClassVar = {**KERNEL_RULES, "cv_folds": at_least(2)}

    def __init__(
        self,
        n_centers: int = 100,
        bandwidth: float | None = None,
        bandwidth_factors: Sequence[float] = FACTORS,
        cv_folds: int = 5,
        hold_out_unlabelled: bool = False,
        features: Features = RawFeatures(),
        selection: Selection = "none",
        preprocessing: PreprocessingFactory | None = None,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__(features, selection, preprocessing, threshold)
        self.n_centers = n_centers
        self.bandwidth = bandwidth
        self.bandwidth_factors = list(bandwidth_factors)
        self.cv_folds = cv_folds
        self.hold_out_unlabelled = hold_out_unlabelled

    def require_samples(self, known: Known) -> None:
        """Refuse more folds than samples."""
        kinds = [("known normals", KNOWN_NORMAL), ("unlabelled samples", UNLABELLED)]
        for name, kind in kinds if self.hold_out_unlabelled else kinds[:1]:
            n = int((known == kind).sum())
            fits = self.bandwidth is not None or self.cv_folds <= n
            require("cv_folds", fits, f"be at most {n}, the number of {name}", self.cv_folds)

    def fit_estimator(self, samples: TrainingSamples, **choice: Any) -> KernelRatio:
        """The maximum, with the bandwidth of the best held-out score unless one is given."""
        seed = self.data.effective_seed()
        centers, distances = drawn_centers(samples, self.n_centers, seed)
        bandwidths = bandwidths_of(distances, self.bandwidth, self.bandwidth_factors)
        h = bandwidths[0]
        if len(bandwidths) > 1:
            scores = [held_out_score(distances, h, self.cv_folds, seed, self.hold_out_unlabelled) for h in bandwidths]
            h = bandwidths[int(np.argmax(scores))]
            self.note_search("bandwidth", h, bandwidths, "bandwidth_factors")
        return ratio(centers, kliep(*distances.log_kernels(h)), h, None)

    def chosen(self, estimator: KernelRatio) -> Choice:
        """The bandwidth."""
        return {"bandwidth": estimator.bandwidth}


class KernelULSIF(ShallowDetector):
    """uLSIF: the regularised least-squares fit of the ratio, with negative coefficients set to 0.

    Needs known normals and unlabelled samples, as :class:`KernelKLIEP`.

    Args:
        n_centers: number of normal samples, at random by the run's seed, that are centers of kernels; all if there are
            fewer.
        bandwidth: h, standard deviation of the kernel; null chooses among `bandwidth_factors`.
        bandwidth_factors: values of h to choose from, as multiples of the median distance of normal samples to centers.
        regularization: lambda; null chooses among `regularizations`, together with h, by leaving one out.
        regularizations: values of lambda to choose from.
        features: as in :class:`ShallowDetector`.
        selection: as in :class:`ShallowDetector`.
        preprocessing: as in :class:`ShallowDetector`.
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, or training data without known normals or unlabelled samples.
    """

    needs_unlabelled = True
    estimator_type = KernelRatio
    score_features = staticmethod(KernelRatio.anomaly_scores)
    argument_rules: ClassVar = {
        **KERNEL_RULES,
        "regularization": or_none(positive, "one of regularizations"),
        "regularizations": each(positive, least=1),
    }

    def __init__(
        self,
        n_centers: int = 100,
        bandwidth: float | None = None,
        bandwidth_factors: Sequence[float] = FACTORS,
        regularization: float | None = None,
        regularizations: Sequence[float] = REGULARIZATIONS,
        features: Features = RawFeatures(),
        selection: Selection = "none",
        preprocessing: PreprocessingFactory | None = None,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__(features, selection, preprocessing, threshold)
        self.n_centers = n_centers
        self.bandwidth = bandwidth
        self.bandwidth_factors = list(bandwidth_factors)
        self.regularization = regularization
        self.regularizations = list(regularizations)

    def require_samples(self, known: Known) -> None:
        """Refuse to leave out the only sample of a kind."""
        chooses = self.bandwidth is None or self.regularization is None
        least = min(int((known == kind).sum()) for kind in (KNOWN_NORMAL, UNLABELLED))
        rule = "be given, with regularization, unless there are two samples of each kind to leave one out"
        require("bandwidth", not chooses or least > 1, rule, self.bandwidth)

    def fit_estimator(self, samples: TrainingSamples, **choice: Any) -> KernelRatio:
        """The closed form, with the bandwidth and the lambda of the least leave-one-out score unless they are given."""
        centers, distances = drawn_centers(samples, self.n_centers, self.data.effective_seed())
        bandwidths = bandwidths_of(distances, self.bandwidth, self.bandwidth_factors)
        grid = self.regularizations if self.regularization is None else [self.regularization]
        h, regularization = bandwidths[0], grid[0]
        if len(bandwidths) * len(grid) > 1:
            losses = [left_out_losses(*distances.kernels(h), grid) for h in bandwidths]
            row, column = np.unravel_index(np.argmin(losses), (len(bandwidths), len(grid)))
            h, regularization = bandwidths[int(row)], grid[int(column)]
            self.note_search("bandwidth", h, bandwidths, "bandwidth_factors")
            self.note_search("regularization", regularization, grid, "regularizations")
        a = ulsif(*distances.kernels(h), regularization)
        with np.errstate(divide="ignore"):
            return ratio(centers, np.log(a), h, regularization)

    def chosen(self, estimator: KernelRatio) -> Choice:
        """The bandwidth and lambda."""
        assert estimator.regularization is not None
        return {"bandwidth": estimator.bandwidth, "regularization": estimator.regularization}
