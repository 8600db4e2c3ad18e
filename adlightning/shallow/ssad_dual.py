"""The convex dual of SSAD, solved exactly from the whole kernel matrix (Goernitz et al. 2013, Section 3).

Primal, with eta_u and eta_l as costs C:

    min 1/2 ||w||^2 - rho - kappa m + sum_i C_i xi_i
    s.t. <w, phi(x_i)> >= rho - xi_i                for unlabelled samples,
         y_i <w, phi(x_i)> >= y_i rho + m - xi_i    for labelled ones,   m >= 0, xi >= 0.

Dual, with y = +1 for unlabelled and known normal samples and -1 for known anomalies:

    min 1/2 a' Q a,  Q_ij = y_i y_j k(x_i, x_j),
    s.t. 0 <= a_i <= C_i,  sum_i y_i a_i = 1,  sum over labelled a_i >= kappa.

rho is the multiplier of the equality, the margin m that of the inequality, and f(x) = sum_i y_i a_i k(x_i, x).

Where anomalies alone are labelled and the inequality binds, the a_i of unlabelled samples add up to 1 + kappa and those
of known anomalies to kappa. With b_i = a_i / (1 + kappa) or a_i / kappa both groups add up to 1: that is the dual of a
nu-SVM, the kernel multiplied by the divisors of its two samples. libsvm solves it ten times as fast as an interior
point method, which solves the others.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import piqp
from numpy.typing import NDArray
from sklearn.svm import NuSVC

from adlightning.shallow.kernel import Floats, Known, squared_distances
from adlightning.shallow.ocsvm import CACHE_MB

ACCURACY = 1e-10  # of the interior point method
SVM_ACCURACY = 1e-8  # of libsvm, for groups that add up to 1
ROOM = 1e-6  # part by which costs must exceed a group's sum for libsvm, which else may refuse by the last digit
NEGLIGIBLE = 1e-7  # part of the largest coefficient below which one is zero to that accuracy


class SSADProblem(NamedTuple):
    """Samples (N, D), what is known of them (N,) in {+1, 0, -1}, the constants, and distances (N, N) where kept."""

    x: Floats
    known: Known
    gamma: float
    kappa: float
    cost_unlabelled: float
    cost_labelled: float
    distances: Floats | None = None

    @property
    def y(self) -> Floats:
        """+1 for unlabelled and known normal samples, -1 for known anomalies, (N,)."""
        return np.where(self.known < 0, -1.0, 1.0)

    @property
    def upper(self) -> Floats:
        """The costs C, which bound the coefficients, (N,)."""
        return np.where(self.known == 0, self.cost_unlabelled, self.cost_labelled)

    def part(self, rows: NDArray[np.int64]) -> SSADProblem:
        """The problem restricted to some samples: the coefficients of all others are zero."""
        distances = None if self.distances is None else self.distances[np.ix_(rows, rows)]
        return self._replace(x=self.x[rows], known=self.known[rows], distances=distances)

    def squared_distances(self) -> Floats:
        """||x_i - x_j||^2, (N, N)."""
        return squared_distances(self.x, self.x) if self.distances is None else self.distances


class DualSolution(NamedTuple):
    """Coefficients a (N,), the offset rho and the margin m."""

    a: Floats
    rho: float
    margin: float


def refusal(known: Known, kappa: float, cost_unlabelled: float, cost_labelled: float) -> str | None:
    """Why the dual has no solution for samples of which this is known; None when it has one."""
    positive = cost_unlabelled * np.sum(known == 0) + cost_labelled * np.sum(known > 0)
    if positive < 1:
        return (
            f"eta_unlabelled and eta_labelled must add up to at least 1 over the samples not known as anomalies, "
            f"got {positive:g}"
        )
    balance = min(cost_labelled * np.sum(known < 0), positive - 1)  # most that known anomalies can have
    most = balance + min(cost_labelled * np.sum(known > 0), 1 + balance)  # sum_i y_i a_i = 1 bounds known normals too
    if np.any(known != 0) and most < kappa:
        return f"kappa must be at most {most:g} for {np.sum(known != 0)} labelled samples, got {kappa:g}"
    return None


def solve_dense(problem: SSADProblem) -> DualSolution:
    """The solution from the whole kernel matrix (N, N).

    Raises:
        RuntimeError: the solver did not converge.
    """
    solution = solve_as_nu_svm(problem)
    return solve_by_interior_points(problem) if solution is None else solution


def _may_be_nu_svm(problem: SSADProblem) -> bool:
    """Whether no normal sample is labelled, kappa counts, and the costs leave both groups a choice."""
    n_anomalous, kappa = int(np.sum(problem.known < 0)), problem.kappa
    if kappa == 0 or n_anomalous == 0 or np.any(problem.known > 0):
        return False
    unlabelled = problem.cost_unlabelled * (len(problem.known) - n_anomalous)
    return min(unlabelled / (1 + kappa), problem.cost_labelled * n_anomalous / kappa) > 1 + ROOM


def solve_as_nu_svm(problem: SSADProblem) -> DualSolution | None:
    """The solution where the dual is that of a nu-SVM; None elsewhere, as where known anomalies exceed kappa."""
    if not _may_be_nu_svm(problem):
        return None
    y, anomalous = problem.y, problem.known < 0
    sums = np.where(anomalous, problem.kappa, 1 + problem.kappa)
    weights = problem.upper / sums
    # On sum y a = 1 a constant may be added to the kernel. A wide one is nearly all ones, and libsvm has it in float32,
    # so it is spread over [0, 1].
    q = np.expm1(-problem.gamma * problem.squared_distances())
    scale = max(-float(q.min()), np.finfo(np.float64).tiny)
    q /= scale  # in place, as it is as large as all distances
    q += 1
    q *= sums[:, None]
    q *= sums
    accuracy = SVM_ACCURACY * float(sums.max()) ** 2
    svm = NuSVC(nu=2 / weights.sum(), kernel="precomputed", tol=accuracy, cache_size=CACHE_MB)
    svm.fit(q, y, sample_weight=weights)
    b = np.zeros(len(y))
    b[svm.support_] = np.abs(svm.dual_coef_[0])
    b /= b[~anomalous].sum()  # libsvm divides both groups by one number
    a = np.minimum(b * sums, problem.upper)
    f = 1 + scale * ((q @ (y * b)) / sums - 1)
    rho = _level(f[~anomalous], a[~anomalous], problem.upper[~anomalous])
    margin = rho + _level(-f[anomalous], a[anomalous], problem.upper[anomalous])
    return None if margin < 0 else DualSolution(a, rho, margin)


def _level(values: Floats, a: Floats, upper: Floats) -> float:
    """What the values of samples with 0 < a < upper are; those with a = 0 lie above it, those with a = upper below."""
    at_most = a >= upper * (1 - ROOM)
    inside = (a > 0) & ~at_most
    if inside.any():
        return float(values[inside].mean())
    ends = np.array([values[at_most].max(initial=-np.inf), values[a == 0].min(initial=np.inf)])
    return float(ends[np.isfinite(ends)].mean())


def solve_by_interior_points(problem: SSADProblem) -> DualSolution:
    """The solution of any problem that :func:`refusal` does not refuse.

    Raises:
        RuntimeError: the solver did not converge.
    """
    y, labelled = problem.y, (problem.known != 0).astype(np.float64)
    # On sum y a = 1, 1/2 a' Q a is 1/2 a' Q~ a + sum y a u plus a constant, with the kernel k~ centred on phi(o) and
    # u = k(., o) - 1: a wide kernel, nearly all ones, keeps its digits. Scaled to 1, as the solver's accuracy is.
    u = np.expm1(-problem.gamma * squared_distances(problem.x, problem.x.mean(axis=0, keepdims=True))[:, 0])
    q = np.expm1(-problem.gamma * problem.squared_distances()) - u[:, None] - u
    scale = max(float(np.diagonal(q).max()), np.finfo(np.float64).tiny)
    q *= y[:, None] * y / scale
    upper = problem.upper
    solver = piqp.DenseSolver()
    solver.settings.eps_abs = solver.settings.eps_rel = ACCURACY
    some = bool(labelled.any())  # without labels there is neither margin nor kappa
    solver.setup(
        np.asfortranarray(q),
        y * u / scale,
        np.asfortranarray(y[None, :]),
        np.ones(1),
        np.asfortranarray(labelled[None, :]) if some else None,
        np.array([problem.kappa]) if some else None,
        None,
        np.zeros(len(y)),
        upper,
    )
    status = solver.solve()
    if status != piqp.PIQP_SOLVED:
        raise RuntimeError(f"the solver of SSAD's dual ended with {status} on {len(y)} samples")
    a = np.clip(solver.result.x, 0, upper)
    a[a < NEGLIGIBLE * a.max()] = 0
    rho = 1 + float(u @ (y * a)) - scale * float(solver.result.y[0])
    return DualSolution(a, rho, scale * float(solver.result.z_l[0]) if some else 0.0)
