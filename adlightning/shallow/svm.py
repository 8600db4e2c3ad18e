"""SVMs that classify: normal against anomaly, or against the unlabelled (Deep SAD, Figure 1c and 1e).

The biased SVM is that of Liu et al., "Building Text Classifiers Using Positive and Unlabeled Examples", ICDM 2003.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from sklearn.svm import SVC

from adlightning.core.parts import PreprocessingFactory
from adlightning.core.rules import each, positive
from adlightning.core.thresholds import NormalQuantile, ThresholdRule
from adlightning.labels import KNOWN_ANOMALY, KNOWN_NORMAL, UNLABELLED
from adlightning.shallow.base import Selection, ShallowDetector, require
from adlightning.shallow.features import Features, RawFeatures
from adlightning.shallow.kernel import Floats, Gamma, KernelExpansion, Known, TrainingSamples, gamma_of
from adlightning.shallow.ocsvm import CACHE_MB, GAMMA, PAPER_GAMMAS
from adlightning.shallow.oracle import Choice, Grid


def fit_svm(x: Floats, y: Known, costs: Floats, gamma: float) -> KernelExpansion:
    """The soft-margin SVM with the kernel exp(-gamma ||x - y||^2).

    Args:
        x: samples (N, D).
        y: (N,), 1 for normal and -1 for the other class, some of each.
        costs: (N,), of each sample's slack, positive.
        gamma: of the kernel.
    """
    svm = SVC(C=1.0, gamma=gamma, cache_size=CACHE_MB).fit(x, y, sample_weight=costs)
    return KernelExpansion(x[svm.support_], svm.dual_coef_[0], -float(svm.intercept_[0]), gamma)


def minus_decision(machine: KernelExpansion, features: Floats, /) -> Floats:
    """Minus the decision function, (N,), of features (N, D): above 0 on the side of the anomalies."""
    return machine.rho - machine(features)


class SVM(ShallowDetector):
    """The supervised SVM: normal against known anomalies; the score is minus its decision function.

    Args:
        gamma: of the kernel exp(-gamma ||x - y||^2); `scale` is 1 / (D Var[x]), `narrow` ten times that.
        cost: C, of a sample on the wrong side of the margin, positive.
        unlabelled: what unlabelled samples are: `normal`, as Deep SAD's paper takes them (Appendix E), or `left_out`,
            which needs known normals.
        gammas: with `selection: oracle`, values of gamma to choose from on 10 % of the test set.
        features: as in :class:`ShallowDetector`.
        selection: as in :class:`ShallowDetector`.
        preprocessing: as in :class:`ShallowDetector`.
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, training data without a known anomaly, or, with unlabelled samples
            left out, without a known normal.
    """

    uses_known_anomalies = True
    needs_known_anomalies = True
    estimator_type = KernelExpansion
    argument_rules: ClassVar = {"gamma": GAMMA, "cost": positive, "gammas": each(positive, least=1)}
    score_features = staticmethod(minus_decision)

    def __init__(
        self,
        gamma: Gamma = "scale",
        cost: float = 1.0,
        unlabelled: Literal["normal", "left_out"] = "normal",
        gammas: Sequence[float] = PAPER_GAMMAS,
        features: Features = RawFeatures(),
        selection: Selection = "none",
        preprocessing: PreprocessingFactory | None = None,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__(features, selection, preprocessing, threshold)
        self.gamma = gamma
        self.cost = cost
        self.unlabelled = unlabelled
        self.gammas = list(gammas)

    def grids(self) -> tuple[Grid, Grid]:
        """Gamma on 10 % of the test set."""
        return {}, {"gamma": self.gammas}

    def require_samples(self, known: Known) -> None:
        """Refuse to leave out all that is not a known anomaly."""
        left = self.unlabelled == "normal" or bool((known == KNOWN_NORMAL).any())
        require("unlabelled", left, "be normal where no sample is known to be normal", self.unlabelled)

    def fit_estimator(self, samples: TrainingSamples, **choice: Any) -> KernelExpansion:
        """libsvm's solution, as its support vectors."""
        taken = (samples.known != UNLABELLED) | (self.unlabelled == "normal")
        x, known = samples.features[taken], samples.known[taken]
        gamma = choice.get("gamma", gamma_of(self.gamma, x))
        y = np.where(known == KNOWN_ANOMALY, -1, 1)
        return fit_svm(x, y, np.full(len(y), self.cost), gamma)

    def chosen(self, estimator: KernelExpansion) -> Choice:
        """Gamma, which may be of the data."""
        return {"gamma": estimator.gamma}


class BiasedSVM(ShallowDetector):
    """Learning from positive (normal) and unlabelled examples: an SVM of known normals against all unlabelled samples.

    An error on an unlabelled sample costs less, for most of them are normal. The score is minus the decision function.
    Known anomalies are left out, as in every method of this kind. Needs known normals and unlabelled samples.

    Args:
        gamma: of the kernel exp(-gamma ||x - y||^2); `scale` is 1 / (D Var[x]), `narrow` ten times that.
        cost_normal: C+, of a known normal on the wrong side of the margin, positive.
        cost_unlabelled: C-, of an unlabelled sample on the wrong side, positive; the article chooses both on held-out
            samples, C+ the larger.
        gammas: with `selection: oracle`, values of gamma to choose from on 10 % of the test set.
        features: as in :class:`ShallowDetector`.
        selection: as in :class:`ShallowDetector`.
        preprocessing: as in :class:`ShallowDetector`.
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, or training data without known normals or unlabelled samples.
    """

    needs_unlabelled = True
    estimator_type = KernelExpansion
    argument_rules: ClassVar = {
        "gamma": GAMMA,
        "cost_normal": positive,
        "cost_unlabelled": positive,
        "gammas": each(positive, least=1),
    }
    score_features = staticmethod(minus_decision)

    def __init__(
        self,
        gamma: Gamma = "scale",
        cost_normal: float = 1.0,
        cost_unlabelled: float = 0.1,
        gammas: Sequence[float] = PAPER_GAMMAS,
        features: Features = RawFeatures(),
        selection: Selection = "none",
        preprocessing: PreprocessingFactory | None = None,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__(features, selection, preprocessing, threshold)
        self.gamma = gamma
        self.cost_normal = cost_normal
        self.cost_unlabelled = cost_unlabelled
        self.gammas = list(gammas)

    def grids(self) -> tuple[Grid, Grid]:
        """Gamma on 10 % of the test set."""
        return {}, {"gamma": self.gammas}

    def fit_estimator(self, samples: TrainingSamples, **choice: Any) -> KernelExpansion:
        """libsvm's solution, as its support vectors."""
        x, known = samples.features, samples.known
        gamma = choice.get("gamma", gamma_of(self.gamma, x))
        is_normal = known == KNOWN_NORMAL
        costs = np.where(is_normal, self.cost_normal, self.cost_unlabelled)
        return fit_svm(x, np.where(is_normal, 1, -1), costs, gamma)

    def chosen(self, estimator: KernelExpansion) -> Choice:
        """Gamma, which may be of the data."""
        return {"gamma": estimator.gamma}
