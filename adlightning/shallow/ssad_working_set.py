"""SSAD's dual on all samples, by an exact solution on a growing part of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from adlightning.shallow.kernel import Floats, KernelExpansion
from adlightning.shallow.ssad_dual import DualSolution, SSADProblem, refusal, solve_as_nu_svm, solve_dense

FIRST_SET = 500  # samples of each group in the first working set
MOST = 2 / 3  # part of the samples from which on the working set is all of them: another round would cost as much


def solve(problem: SSADProblem, tolerance: float = 1e-3, seed: int = 0) -> tuple[KernelExpansion, DualSolution]:
    """The solution on all samples, and the decision function that belongs to it.

    A nu-SVM whose distances are kept is solved at once. Else a working set is solved exactly; samples outside whose
    constraint the result violates join it, until there are none. Then the conditions of optimality hold for all
    samples: the rest's coefficients are zero.

    Args:
        problem: one that :func:`refusal` does not refuse.
        tolerance: largest violation left, as a part of the range of f over the samples.
        seed: of the first working set; the result does not depend on it beyond the tolerance.
    """
    n, y, known = len(problem.known), problem.y, problem.known
    whole = None if problem.distances is None else solve_as_nu_svm(problem)
    if whole is not None:
        return _expansion(problem, np.arange(n), whole), whole
    working = _first_set(problem, np.random.default_rng(seed))
    while True:
        inside = solve_dense(problem.part(working))
        f = _expansion(problem, working, inside)
        values = _on_all(f, problem, working[inside.a > 0])
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


def _expansion(problem: SSADProblem, rows: NDArray[np.int64], solution: DualSolution) -> KernelExpansion:
    """f by the support vectors of a solution on some rows."""
    support = rows[solution.a > 0]
    coefficients = problem.y[support] * solution.a[solution.a > 0]
    return KernelExpansion(problem.x[support], coefficients, solution.rho, problem.gamma)


def _on_all(f: KernelExpansion, problem: SSADProblem, support: NDArray[np.int64]) -> Floats:
    """f (N,) of all samples."""
    if problem.distances is None:
        return f(problem.x)
    return np.asarray(np.exp(-problem.gamma * problem.distances[:, support]) @ f.coefficients)


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
