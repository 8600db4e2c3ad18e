"""OC-SVM, which is SVDD under a radial kernel (Schoelkopf et al. 2001, Tax and Duin 2004; Deep SAD, Appendix E)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from sklearn.svm import OneClassSVM

from adlightning.core.parts import PreprocessingFactory
from adlightning.core.rules import Rule, at_least, between, each, not_negative, positive
from adlightning.core.saving import naming_checkpoint
from adlightning.core.thresholds import NormalQuantile, ThresholdRule
from adlightning.shallow.base import Selection, ShallowDetector, require
from adlightning.shallow.features import Features, RawFeatures
from adlightning.shallow.kernel import Floats, Gamma, KernelExpansion, TrainingSamples, gamma_of
from adlightning.shallow.oracle import Choice, Grid

PAPER_GAMMAS = tuple(2.0**exponent for exponent in range(-7, 3))
CACHE_MB = 1000
GAMMA = Rule(
    lambda value: value in ("scale", "narrow") or positive.holds(value), f"{positive.words}, or scale or narrow"
)


class OCSVM(ShallowDetector):
    """One-class SVM, with f(x) = sum_i a_i k(x_i, x); a sample is outside its boundary where f is below rho.

    The score is log rho - log f with `rbf`, above 0 outside, and -f with other kernels. Both rank as the paper's
    rho - f does, and tell apart what is far from all training samples, where rho - f is rho to the last digit.

    Args:
        kernel: `rbf`, exp(-gamma ||x - y||^2); `linear`, the released code's twin on autoencoder codes; or `poly`,
            (gamma <x, y> + coef0)^degree, which DROCC's Figure 5 has with degree 20.
        nu: bound on the share of training samples outside, in (0, 1).
        gamma: of the radial and the polynomial kernel; `scale` is 1 / (D Var[x]), `narrow` ten times that.
        degree: of the polynomial kernel.
        coef0: of the polynomial kernel; not stated in the paper.
        gammas: with `selection: oracle`, values of gamma to choose from on 10 % of the test set.
        nus: with `selection: oracle`, values of nu to choose from on the whole test set.
        features: as in :class:`ShallowDetector`.
        selection: as in :class:`ShallowDetector`.
        preprocessing: as in :class:`ShallowDetector`.
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range.
    """

    estimator_type = KernelExpansion
    argument_rules: ClassVar = {
        "nu": between(0, 1),
        "gamma": GAMMA,
        "degree": at_least(1),
        "coef0": not_negative,
        "gammas": each(positive, least=1),
        "nus": each(between(0, 1), least=1),
    }
    max_workers = 4

    def __init__(
        self,
        kernel: Literal["rbf", "linear", "poly"] = "rbf",
        nu: float = 0.1,
        gamma: Gamma = "narrow",
        degree: int = 3,
        coef0: float = 0.0,
        gammas: Sequence[float] = PAPER_GAMMAS,
        nus: Sequence[float] = (0.01, 0.05, 0.1, 0.2, 0.5),
        features: Features = RawFeatures(),
        selection: Selection = "none",
        preprocessing: PreprocessingFactory | None = None,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__(features, selection, preprocessing, threshold)
        self.kernel = kernel
        self.nu = nu
        self.gamma = gamma
        self.degree = degree
        self.coef0 = coef0
        self.gammas = list(gammas)
        self.nus = list(nus)

    def grids(self) -> tuple[Grid, Grid]:
        """Nu on the whole test set, gamma on 10 % of it."""
        return {"nu": self.nus}, {} if self.kernel == "linear" else {"gamma": self.gammas}

    def fit_estimator(self, samples: TrainingSamples, **choice: Any) -> KernelExpansion:
        """libsvm's solution, as its support vectors: from the kernel matrix where that fits in memory."""
        x, nu = samples.features, choice.get("nu", self.nu)
        if self.kernel == "linear":
            return _expansion(OneClassSVM(kernel="linear", nu=nu, cache_size=CACHE_MB).fit(x), x, None)
        gamma = choice.get("gamma", gamma_of(self.gamma, x))
        if self.kernel == "poly":
            polynomial: dict[str, Any] = {"degree": self.degree, "coef0": self.coef0}
            svm = OneClassSVM(kernel="poly", gamma=gamma, nu=nu, cache_size=CACHE_MB, **polynomial).fit(x)
            return _expansion(svm, x, gamma, **polynomial)
        distances = samples.squared_distances()
        if distances is None:
            return _expansion(OneClassSVM(gamma=gamma, nu=nu, cache_size=CACHE_MB).fit(x), x, gamma)
        kernel = np.exp(-gamma * distances)
        return _expansion(OneClassSVM(kernel="precomputed", nu=nu, cache_size=CACHE_MB).fit(kernel), x, gamma)

    @staticmethod
    def score_features(estimator: KernelExpansion, features: Floats, /) -> Floats:
        """Anomaly scores (N,) of features (N, D)."""
        return estimator.log_anomaly_scores(features) if estimator.is_radial else estimator.anomaly_scores(features)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a sum of kernels that has no logarithm with a ValueError."""
        super().on_load_checkpoint(checkpoint)
        read: KernelExpansion | None = self.estimator
        if read is None or not read.is_radial:
            return
        with naming_checkpoint(self):
            require("its estimator's rho", read.rho > 0, "be positive", read.rho)
            least = float(read.coefficients.min())
            require("its estimator's coefficients", least > 0, "be positive", least)

    def chosen(self, estimator: KernelExpansion) -> Choice:
        """Gamma, which may be of the data."""
        return {} if estimator.gamma is None else {"gamma": estimator.gamma}


def _expansion(
    svm: OneClassSVM, x: Floats, gamma: float | None, degree: int | None = None, coef0: float = 0.0
) -> KernelExpansion:
    return KernelExpansion(x[svm.support_], svm.dual_coef_[0], -float(svm.intercept_[0]), gamma, degree, coef0)
