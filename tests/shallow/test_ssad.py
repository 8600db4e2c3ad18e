"""SSAD's dual: a hand-worked problem, optimality, the OC-SVM as its limit, and what labels do."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from conftest import MakeTrainer
from shallow_cases import auroc_on_test, fit, make, table
from sklearn.metrics import roc_auc_score
from sklearn.svm import OneClassSVM

from adlightning.shallow import ssad_working_set
from adlightning.shallow.kernel import squared_distances
from adlightning.shallow.ssad_dual import (
    DualSolution,
    SSADProblem,
    refusal,
    solve_as_nu_svm,
    solve_by_interior_points,
    solve_dense,
)
from adlightning.shallow.ssad_working_set import solve


def problem(n: int = 150, n_normal: int = 10, n_anomalous: int = 12, **options: Any) -> SSADProblem:
    """Unlabelled and known normal samples around zero, known anomalies to one side, overlapping."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(n + n_normal, 3)), rng.normal(size=(n_anomalous, 3)) + np.array([1.5, 0, 0])])
    known = np.repeat([0, 1, -1], [n, n_normal, n_anomalous])
    defaults = {"gamma": 0.3, "kappa": 1.0, "cost_unlabelled": 1.0, "cost_labelled": 1.0}
    return SSADProblem(x, known, **{**defaults, **options})


def objective(p: SSADProblem, a: np.ndarray[Any, Any]) -> float:
    kernel = np.exp(-p.gamma * squared_distances(p.x, p.x))
    return float(0.5 * (a * p.y) @ kernel @ (a * p.y))


def require_optimal(p: SSADProblem, solution: DualSolution, tolerance: float) -> None:
    """The conditions of optimality of the primal and the dual, each written out from the problem's statement."""
    a, upper = solution.a, np.where(p.known == 0, p.cost_unlabelled, p.cost_labelled)
    f = np.exp(-p.gamma * squared_distances(p.x, p.x)) @ (a * p.y)
    tolerance *= np.ptp(f)
    labelled = p.known != 0
    assert np.all((a >= 0) & (a <= upper + 1e-9))
    assert (a * p.y).sum() == pytest.approx(1, abs=1e-6)
    assert solution.margin >= -1e-9
    if labelled.any():
        assert a[labelled].sum() >= p.kappa - 1e-6
        assert solution.margin * (a[labelled].sum() - p.kappa) == pytest.approx(0, abs=1e-6)
    slack = p.y * (f - solution.rho) - solution.margin * labelled  # of each sample's constraint, without its xi
    assert np.all(slack[a < 1e-9] >= -tolerance)
    assert np.all(slack[a > upper - 1e-7] <= tolerance)
    inside = (a > 1e-6) & (a < upper - 1e-6)
    assert inside.any()
    np.testing.assert_allclose(slack[inside], 0, atol=tolerance)


def test_two_samples_worked_by_hand() -> None:
    # min 1/2 (a^2 + b^2) - k a b  s.t.  a - b = 1,  b >= 1:  b = 1, a = 2;
    # a f-condition each: f(u) = 2 - k = rho, and for the anomaly -(f(v) - rho) = margin with f(v) = 2 k - 1
    k = np.exp(-0.5)
    p = SSADProblem(np.array([[0.0], [1.0]]), np.array([0, -1]), 0.5, 1.0, 5.0, 5.0)
    solution = solve_dense(p)
    np.testing.assert_allclose(solution.a, [2, 1], rtol=1e-6)
    assert solution.rho == pytest.approx(2 - k)
    assert solution.margin == pytest.approx((2 - k) - (2 * k - 1))
    expansion, _ = solve(p)
    np.testing.assert_allclose(expansion.rho - expansion(p.x), [0, 3 - 3 * k], atol=1e-6)
    # f of the two is 2 - k = rho and 2 k - 1, both positive
    np.testing.assert_allclose(expansion.signed_log_anomaly_scores(p.x), [0, np.log((2 - k) / (2 * k - 1))], atol=1e-6)
    assert expansion.rho == pytest.approx(2 - k)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gamma": 5.0},
        {"gamma": 0.01},
        {"gamma": 1e-7},
        {"kappa": 3.0},
        {"kappa": 0.0},
        {"cost_unlabelled": 0.02, "cost_labelled": 0.2},
        {"n_normal": 0},
        {"n_normal": 0, "gamma": 1e-7},
        {"n_normal": 0, "gamma": 5.0},
        {"n_normal": 0, "kappa": 0.0},
        {"n_normal": 0, "kappa": 0.01},
        {"n_normal": 0, "kappa": 3.0, "cost_unlabelled": 0.05, "cost_labelled": 0.3},
        {"n_anomalous": 0},
        {"n_normal": 0, "n_anomalous": 0},
    ],
)
def test_the_working_set_finds_what_the_whole_problem_has(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    p = problem(**options)
    whole = solve_dense(p)
    require_optimal(p, whole, 1e-3)
    monkeypatch.setattr(ssad_working_set, "FIRST_SET", 6)
    expansion, solution = solve(p, tolerance=1e-4)
    require_optimal(p, solution, 1e-3)
    assert objective(p, solution.a) == pytest.approx(objective(p, whole.a), rel=1e-4)
    # without known anomalies all weight may lie on known normal samples, and the offset is then any of an interval
    f = np.exp(-p.gamma * squared_distances(p.x, p.x)) @ (whole.a * p.y)
    np.testing.assert_allclose(expansion(p.x), f, atol=2e-3 * np.ptp(f))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gamma": 5.0},
        {"gamma": 1e-3, "kappa": 9.5},
        {"gamma": 1e-7, "kappa": 9.5},
        {"kappa": 5.0},
        {"kappa": 3.0, "cost_unlabelled": 0.05, "cost_labelled": 0.3},
        {"cost_unlabelled": 0.02, "cost_labelled": 0.09},
    ],
)
def test_a_nu_svm_is_the_same_problem(options: dict[str, Any]) -> None:
    p = problem(n_normal=0, **options)
    solution, slow = solve_as_nu_svm(p), solve_by_interior_points(p)
    assert solution is not None
    require_optimal(p, solution, 1e-4)
    assert objective(p, solution.a) == pytest.approx(objective(p, slow.a), rel=1e-6)
    np.testing.assert_allclose(solution.a, slow.a, atol=1e-3 * slow.a.max())
    assert solution.rho == pytest.approx(slow.rho, abs=1e-6)
    assert solution.margin == pytest.approx(slow.margin, abs=1e-6)
    kept = p._replace(distances=squared_distances(p.x, p.x))
    grid = np.random.default_rng(1).normal(size=(50, 3))
    np.testing.assert_allclose(solve(kept)[0](grid), solve(p, tolerance=1e-9)[0](grid), rtol=1e-5, atol=1e-8)


def test_what_no_nu_svm_solves_is_left_to_the_other_solver() -> None:
    overlapping = problem(n_normal=0, kappa=0.01, cost_unlabelled=0.02)  # anomalies add up to more than kappa
    assert solve_by_interior_points(overlapping).a[overlapping.known < 0].sum() > 0.02
    for p in (problem(), problem(n_normal=0, kappa=0.0), problem(n_anomalous=0), overlapping):
        assert solve_as_nu_svm(p) is None
        require_optimal(p, solve_dense(p), 1e-3)
    edge = problem(n_normal=0, kappa=1.0, cost_unlabelled=2 / 150)  # each unlabelled sample has its whole cost
    assert solve_as_nu_svm(edge) is None


@pytest.mark.parametrize("cost", [0.05, 0.01])
def test_without_labels_it_is_the_one_class_svm(cost: float) -> None:
    p = problem(n_normal=0, n_anomalous=0, cost_unlabelled=cost)
    svm = OneClassSVM(gamma=p.gamma, nu=1 / (len(p.x) * cost), tol=1e-8).fit(p.x)
    grid = np.random.default_rng(1).normal(size=(50, 3)) * 2
    # libsvm's coefficients add up to nu n, ours to 1
    ours, total = solve(p)[0], svm.dual_coef_.sum()
    np.testing.assert_allclose(ours(grid), svm.score_samples(grid) / total, atol=1e-5)
    assert ours.rho == pytest.approx(svm.offset_[0] / total, abs=1e-5)


def test_samples_that_are_all_alike_are_all_at_the_boundary() -> None:
    p = SSADProblem(np.ones((6, 2)), np.array([0, 0, 0, 0, -1, -1]), 0.5, 1.0, 1.0, 1.0)
    f, solution = solve(p)
    assert solution.a[:4].sum() - solution.a[4:].sum() == pytest.approx(1)
    np.testing.assert_allclose([f.rho, solution.margin, *f(p.x)], [1, 0, *[1] * 6], atol=1e-9)


def test_duplicates_do_not_disturb_the_solution() -> None:
    p = problem()
    twice = p.part(np.tile(np.arange(len(p.x)), 2))
    grid = np.random.default_rng(1).normal(size=(50, 3))
    values = [solve(q, tolerance=1e-5)[0](grid) for q in (p, twice)]
    np.testing.assert_allclose(values[1], values[0], atol=1e-3 * np.ptp(values[0]))


def test_labels_help() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(300, 2))
    x[270:] += [2.0, 0.0]  # anomalies among the unlabelled samples
    test, label = rng.normal(size=(400, 2)), np.repeat([0, 1], 200)
    test[200:] += [2.0, 0.0]
    aucs = []
    for n_known in (0, 20):
        known = np.zeros(300, dtype=np.int64)
        known[300 - n_known :] = -1
        p = SSADProblem(x, known, 0.3, 1.0, 1.0, 1.0)
        aucs.append(roc_auc_score(label, solve(p)[0].signed_log_anomaly_scores(test)))
    assert aucs[1] > aucs[0] + 0.1


def test_kappa_counts() -> None:
    values = [solve(problem(kappa=kappa))[0](np.zeros((1, 3)))[0] for kappa in (0.0, 4.0)]
    assert values[0] != pytest.approx(values[1], rel=1e-3)


@pytest.mark.parametrize(
    ("known", "constants", "message"),
    [
        ([0] * 5, (1.0, 0.1, 1.0), "add up to at least 1 .* got 0.5"),
        ([0, 0, -1], (1.5, 1.0, 5.0), "kappa must be at most 1 for 1 labelled samples, got 1.5"),
        ([0, 0, 0, -1], (1.5, 1.0, 1.0), "kappa must be at most 1 for 1 labelled samples"),
        ([1, 0], (2.5, 1.0, 2.0), "kappa must be at most 1 for 1 labelled"),
        ([1] * 5 + [0] * 25, (2.0, 1.0, 1.0), "kappa must be at most 1 for 5 labelled"),
    ],
)
def test_problems_without_a_solution_are_told_apart(
    known: list[int], constants: tuple[float, float, float], message: str
) -> None:
    reason = refusal(np.array(known), *constants)
    assert reason is not None
    assert re.search(message, reason)
    assert refusal(np.array([0, 0, 0, -1, 1]), 1.0, 1.0, 1.0) is None


def test_the_detector_uses_known_anomalies(make_trainer: MakeTrainer) -> None:
    scores = []
    for ratio in (0.0, 0.1):
        detector, data = make("ssad"), table(labelled_anomaly_ratio=ratio)
        trainer = fit(make_trainer, detector, data)
        assert auroc_on_test(trainer, detector, data) > 0.9
        scores.append(detector.results["test"].scores)
    assert not np.allclose(scores[0], scores[1])
