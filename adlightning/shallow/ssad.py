"""SSAD: the OC-SVM with labelled samples (Goernitz et al. 2013; Deep SAD, Appendix E)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from adlightning.core.parts import PreprocessingFactory
from adlightning.core.rules import each, not_negative, positive
from adlightning.core.thresholds import NormalQuantile, ThresholdRule
from adlightning.shallow.base import Selection, ShallowDetector
from adlightning.shallow.features import Features, RawFeatures
from adlightning.shallow.kernel import Gamma, KernelExpansion, Known, TrainingSamples, gamma_of
from adlightning.shallow.ocsvm import GAMMA, PAPER_GAMMAS
from adlightning.shallow.oracle import Choice, Grid
from adlightning.shallow.ssad_dual import SSADProblem, refusal
from adlightning.shallow.ssad_working_set import solve


class SSAD(ShallowDetector):
    """Semi-supervised anomaly detection: known normal samples inside the OC-SVM's boundary, known anomalies outside.

    The convex problem with a radial kernel, solved exactly. With f(x) = sum_i y_i a_i k(x_i, x) the score is
    log rho - log f, continued to negative f. It is 0 at the boundary and ranks as rho - f does. Without labels it is
    the OC-SVM with nu = 1 / (n eta_unlabelled). The released code never forwards kappa; here it counts
    (docs/methods/kernel_machines.md, S8).

    Args:
        gamma: of the kernel exp(-gamma ||x - y||^2); `scale` is 1 / (D Var[x]), `narrow` ten times that.
        kappa: weight of the margin of labelled samples, not negative.
        eta_unlabelled: cost of an unlabelled sample on the wrong side.
        eta_labelled: cost of a labelled sample on the wrong side.
        gammas: with `selection: oracle`, values of gamma to choose from on 10 % of the test set.
        features: as in :class:`ShallowDetector`.
        selection: as in :class:`ShallowDetector`.
        preprocessing: as in :class:`ShallowDetector`.
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, or for which the training samples allow no solution.
    """

    uses_known_anomalies = True
    estimator_type = KernelExpansion
    argument_rules: ClassVar = {
        "gamma": GAMMA,
        "kappa": not_negative,
        "eta_unlabelled": positive,
        "eta_labelled": positive,
        "gammas": each(positive, least=1),
    }
    score_features = staticmethod(KernelExpansion.signed_log_anomaly_scores)

    def __init__(
        self,
        gamma: Gamma = "scale",
        kappa: float = 1.0,
        eta_unlabelled: float = 1.0,
        eta_labelled: float = 1.0,
        gammas: Sequence[float] = PAPER_GAMMAS,
        features: Features = RawFeatures(),
        selection: Selection = "none",
        preprocessing: PreprocessingFactory | None = None,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__(features, selection, preprocessing, threshold)
        self.gamma = gamma
        self.kappa = kappa
        self.eta_unlabelled = eta_unlabelled
        self.eta_labelled = eta_labelled
        self.gammas = list(gammas)

    def grids(self) -> tuple[Grid, Grid]:
        """Gamma on 10 % of the test set."""
        return {}, {"gamma": self.gammas}

    def require_samples(self, known: Known) -> None:
        """Refuse costs and kappa for which the dual has no solution."""
        if reason := refusal(known, self.kappa, self.eta_unlabelled, self.eta_labelled):
            raise ValueError(reason)

    def fit_estimator(self, samples: TrainingSamples, **choice: Any) -> KernelExpansion:
        """The solution of the dual."""
        x = samples.features
        gamma = choice.get("gamma", gamma_of(self.gamma, x))
        costs = (self.kappa, self.eta_unlabelled, self.eta_labelled)
        problem = SSADProblem(x, samples.known, gamma, *costs, samples.squared_distances())
        return solve(problem, seed=self.data.effective_seed())[0]

    def chosen(self, estimator: KernelExpansion) -> Choice:
        """Gamma, which may be of the data."""
        return {"gamma": estimator.gamma}
