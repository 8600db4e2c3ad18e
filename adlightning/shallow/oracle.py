"""Hyper-parameters chosen on TEST data, as papers did for their baselines; a result must say `selection: oracle`.

Deep SAD, Appendix E: gamma by AUROC on a stratified 10 % of the test set; that repeated for each nu, and the best final
result, which is on the whole test set, reported. Nothing else in the framework reads test labels in a fit.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.parallel import Parallel, delayed
from torch import Tensor

from adlightning.core.contracts import EvalBatch
from adlightning.core.metrics import ranking_metrics
from adlightning.labels import ANOMALY, NORMAL
from adlightning.shallow.kernel import Floats

Choice = dict[str, Any]
Grid = Mapping[str, Sequence[Any]]

SHARE = 0.1


class OracleSet(NamedTuple):
    """Features (N, D) of all labelled test samples, their labels (N,), and the rows (M,) of the 10 %."""

    features: Floats
    labels: NDArray[np.int64]
    part: NDArray[np.int64]


def require_both_classes(batches: Iterable[EvalBatch]) -> None:
    """Raise ValueError unless batches of test data hold labelled normal samples and anomalies."""
    labels = np.concatenate([batch.label.cpu().numpy() for batch in batches])
    for name, label in (("normal samples", NORMAL), ("anomalies", ANOMALY)):
        if not np.any(labels == label):
            raise ValueError(f"selection: oracle needs labelled test samples of both classes, there are no {name}")


def stratified_part(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """A random 10 % of the rows of each class, at least one, ascending."""
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(np.flatnonzero(labels == label)) for label in (NORMAL, ANOMALY)]
    return np.sort(np.concatenate([r[: max(1, round(SHARE * len(r)))] for r in rows]))


def read_test_set(batches: Iterable[EvalBatch], features: Callable[[Tensor], Floats], seed: int) -> OracleSet:
    """The labelled samples among batches of test data, as features of their raw input."""
    columns = [(features(batch.x), batch.label.cpu().numpy()) for batch in batches]
    z, labels = (np.concatenate(column) for column in zip(*columns, strict=True))
    z, labels = z[labels >= 0], labels[labels >= 0]
    return OracleSet(z, labels, stratified_part(labels, seed))


def candidates(grid: Grid) -> list[Choice]:
    """Every combination of a grid's values; one empty choice for an empty grid."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def choose(
    fit: Callable[[Choice], Any],
    score: Callable[[Any, Choice, Floats], Floats],
    outer: Grid,
    inner: Grid,
    test: OracleSet,
    max_workers: int,
) -> tuple[Any, Choice]:
    """The estimator with the best AUROC on the test set, and the values that it was fitted with.

    For each combination of `outer` the best of `inner` by AUROC on the 10 %, among those the best on the whole test
    set; the first one of equals.

    Args:
        fit: an estimator for a choice.
        score: anomaly scores (N,) that it gives features (N, D).
        outer: arguments chosen on the whole test set.
        inner: arguments chosen on 10 % of it.
        test: the test set.
        max_workers: threads that try candidates at the same time, at most as many as torch uses.
    """

    def trial(choice: Choice) -> tuple[float, Any]:
        estimator = fit(choice)
        return auroc(estimator, choice, test.part), estimator

    def auroc(estimator: Any, choice: Choice, rows: NDArray[np.int64]) -> float:
        return ranking_metrics(score(estimator, choice, test.features[rows]), test.labels[rows])["auroc"]

    best: tuple[float, Any, Choice] | None = None
    everything, workers = np.arange(len(test.labels)), min(max_workers, torch.get_num_threads())
    for first in candidates(outer):
        choices = [{**first, **second} for second in candidates(inner)]
        trials = Parallel(n_jobs=workers, prefer="threads")(delayed(trial)(choice) for choice in choices)
        winner = max(range(len(choices)), key=lambda i, trials=trials: trials[i][0])  # type: ignore[misc]
        estimator, choice = trials[winner][1], choices[winner]
        whole = auroc(estimator, choice, everything)
        if best is None or whole > best[0]:
            best = (whole, estimator, choice)
    assert best is not None  # grids are not empty
    return best[1], best[2]
