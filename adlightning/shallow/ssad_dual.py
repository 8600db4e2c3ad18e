"""The convex dual of SSAD, solved exactly on a working set (Goernitz et al. 2013, Section 3).

Primal, with eta_u and eta_l as costs C:

    min 1/2 ||w||^2 - rho - kappa m + sum_i C_i xi_i
    s.t. <w, phi(x_i)> >= rho - xi_i                for unlabelled samples,
         y_i <w, phi(x_i)> >= y_i rho + m - xi_i    for labelled ones,   m >= 0, xi >= 0.

Dual, with y = +1 for unlabelled and known normal samples and -1 for known anomalies:

    min 1/2 a' Q a,  Q_ij = y_i y_j k(x_i, x_j),
    s.t. 0 <= a_i <= C_i,  sum_i y_i a_i = 1,  sum over labelled a_i >= kappa.

rho is the multiplier of the equality, the margin m that of the inequality, and f(x) = sum_i y_i a_i k(x_i, x).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import piqp
from numpy.typing import NDArray

from adlightning.shallow.kernel import Floats, KernelExpansion, Known, squared_distances

FIRST_SET = 500  # samples of each group in the first working set
MOST = 2 / 3  # part of the samples from which on the working set is all of them: another round would cost as much
ACCURACY = 1e-10  # of the interior point method
NEGLIGIBLE = 1e-7  # part of the largest coefficient below which one is zero to that accuracy


class SSADProblem(NamedTuple):
    """Samples (N, D), what is known of them (N,) in {+1, 0, -1}, and the constants of the problem."""

    x: Floats
    known: Known
    gamma: float
    kappa: float
    cost_unlabelled: float
    cost_labelled: float

    @property
    def y(self) -> Floats:
        """+1 for unlabelled and known normal samples, -1 for known anomalies, (N,)."""
        return np.where(self.known < 0, -1.0, 1.0)

    def part(self, rows: NDArray[np.int64]) -> SSADProblem:
        """The problem restricted to some samples: the coefficients of all others are zero."""
        return self._replace(x=self.x[rows], known=self.known[rows])


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
    """The solution from the whole kernel matrix (N, N), by an interior point method.

    Raises:
        RuntimeError: the solver did not converge.
    """
    y, labelled = problem.y, (problem.known != 0).astype(np.float64)
    # On sum y a = 1, 1/2 a' Q a is 1/2 a' Q~ a + sum y a u plus a constant, with the kernel k~ centred on phi(o) and
    # u = k(., o) - 1: a wide kernel, nearly all ones, keeps its digits. Scaled to 1, as the solver's accuracy is.
    u = np.expm1(-problem.gamma * squared_distances(problem.x, problem.x.mean(axis=0, keepdims=True))[:, 0])
    q = np.expm1(-problem.gamma * squared_distances(problem.x, problem.x)) - u[:, None] - u
    scale = max(float(np.diagonal(q).max()), np.finfo(np.float64).tiny)
    q *= y[:, None] * y / scale
    upper = np.where(labelled, problem.cost_labelled, problem.cost_unlabelled)
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


def solve(problem: SSADProblem, tolerance: float = 1e-3, seed: int = 0) -> tuple[KernelExpansion, DualSolution]:
    """The solution on all samples, and the decision function that belongs to it.

    A working set is solved exactly; samples outside whose constraint the result violates join it, until there are none.
    Then the conditions of optimality hold for all samples: the rest's coefficients are zero.

    Args:
        problem: one that :func:`refusal` does not refuse.
        tolerance: largest violation left, as a part of the range of f over the samples.
        seed: of the first working set; the result does not depend on it beyond the tolerance.
    """
    n, y, known = len(problem.known), problem.y, problem.known
    working = _first_set(problem, np.random.default_rng(seed))
    while True:
        inside = solve_dense(problem.part(working))
        support = working[inside.a > 0]
        f = KernelExpansion(problem.x[support], (y[working] * inside.a)[inside.a > 0], inside.rho, problem.gamma)
        values = f(problem.x)
        violation = inside.margin * (known != 0) - y * (values - inside.rho)
        violation[working] = 0
        violators = np.flatnonzero(violation > tolerance * np.ptp(values))
        if not len(violators):
            a = np.zeros(n)
            np.add.at(a, working, inside.a)
            return f, DualSolution(a, inside.rho, inside.margin)
        worst = violators[np.argsort(-violation[violators], kind="stable")[: len(working)]]
        working = np.concatenate([working, worst])
        if len(working) > MOST * n:
            working = np.arange(n)


def _first_set(problem: SSADProblem, rng: np.random.Generator) -> NDArray[np.int64]:
    """Some samples of each group, at random, as many as it takes for a solution to exist."""
    groups = [rng.permutation(np.flatnonzero(problem.known == value)) for value in (0, 1, -1)]
    size = FIRST_SET
    while True:
        rows = np.concatenate([group[:size] for group in groups])
        costs = (problem.kappa, problem.cost_unlabelled, problem.cost_labelled)
        if size >= len(problem.known) or refusal(problem.known[rows], *costs) is None:
            return rows
        size *= 2
