"""The development set: tables on which defaults for people's own data are chosen, and a holdout that chose nothing.

docs/defaults.md says what each table is. Nothing here is a table that a claim of ours is made with elsewhere: the six
of ODDS and abalone are those of the papers, whose own configs do not depend on these defaults.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn import datasets

from adlightning.data.sources import Abalone, Odds
from adlightning.data.sources.odds import ODDS_SIZES

Floats = NDArray[np.float64]
Marks = NDArray[np.int64]
Table = tuple[Floats, Marks]
"""Rows (N, D) and their labels (N,), 0 normal and 1 anomaly."""


class Split(NamedTuple):
    """What a detector is given of a table, and what it is tested on.

    Args:
        train: (N, D), normal rows, with some anomalies at the end where the setting has them.
        known: (N,), +1 known normal, 0 not labelled, -1 known anomaly.
        test: (M, D).
        labels: (M,), 0 normal and 1 anomaly.
    """

    train: Floats
    known: Marks
    test: Floats
    labels: Marks


# ---- tables of others ------------------------------------------------------------------------------------------------


def _odds(name: str) -> Table:
    samples = Odds(name).load("train")  # type: ignore[arg-type]
    assert samples is not None
    return np.asarray(samples.x, dtype=np.float64), np.asarray(samples.y)


def _abalone() -> Table:
    samples = Abalone().load("train")
    assert samples is not None
    return np.asarray(samples.x, dtype=np.float64), np.asarray(samples.y)


def _breast_cancer() -> Table:
    x, y = datasets.load_breast_cancer(return_X_y=True)
    return x, (y == 0).astype(np.int64)  # malignant


def _wine() -> Table:
    x, y = datasets.load_wine(return_X_y=True)
    return x, (y == 0).astype(np.int64)


def _digits(*normal: int) -> Table:
    x, y = datasets.load_digits(return_X_y=True)
    return x, (~np.isin(y, normal)).astype(np.int64)


# ---- synthetic tables ------------------------------------------------------------------------------------------------


def _with(normal: Floats, anomalous: Floats) -> Table:
    return np.concatenate([normal, anomalous]), np.repeat([0, 1], [len(normal), len(anomalous)])


def _mixing(rng: np.random.Generator, rows: int, columns: int) -> Floats:
    return np.asarray(rng.normal(size=(rows, columns)) / np.sqrt(rows))


def _correlated() -> Table:
    """Ten correlated Gaussian columns; anomalies have the same columns, each drawn by itself."""
    rng = np.random.default_rng(1)
    mixing = _mixing(rng, 4, 10)

    def draw(n: int) -> Floats:
        return np.asarray(rng.normal(size=(n, 4)) @ mixing + 0.2 * rng.normal(size=(n, 10)))

    return _with(draw(1500), np.stack([rng.permutation(column) for column in draw(150).T], axis=1))


def _clusters() -> Table:
    """Six round clusters of several sizes in eight dimensions; anomalies are uniform in a box around them."""
    rng = np.random.default_rng(2)
    centers, scales = rng.uniform(-4, 4, size=(6, 8)), rng.uniform(0.3, 1.0, size=6)
    which = rng.integers(6, size=1800)
    normal = centers[which] + scales[which, None] * rng.normal(size=(1800, 8))
    return _with(normal, rng.uniform(normal.min(0), normal.max(0), size=(120, 8)))


def _manifold() -> Table:
    """A curved surface in twelve dimensions; anomalies are off it by a tenth to a half of its size."""
    rng = np.random.default_rng(3)
    frequencies, phases = rng.normal(size=(2, 12)) * 1.5, rng.uniform(0, 2 * np.pi, 12)

    def draw(n: int) -> Floats:
        return np.sin(rng.uniform(-1, 1, size=(n, 2)) @ frequencies + phases)

    normal = draw(1500) + 0.02 * rng.normal(size=(1500, 12))
    return _with(normal, draw(150) + rng.uniform(0.1, 0.5, size=(150, 1)) * rng.normal(size=(150, 12)))


def _heavy_tails() -> Table:
    """Eight skewed columns with heavy tails; anomalies are shifted in three of them."""
    rng = np.random.default_rng(4)
    mixing = _mixing(rng, 8, 8) + np.eye(8)

    def draw(n: int) -> Floats:
        return rng.standard_t(3, size=(n, 8)) @ mixing

    normal, anomalous = draw(1500), draw(100)
    anomalous[:, :3] += 5 * rng.choice([-1, 1], size=(100, 3))

    def skewed(x: Floats) -> Floats:
        return np.where(np.arange(8) % 2, np.exp(x / 3), x)

    return _with(skewed(normal), skewed(anomalous))


def _irrelevant() -> Table:
    """Five columns of three clusters among forty of noise; anomalies are away from the clusters in those five."""
    rng = np.random.default_rng(5)
    centers = rng.uniform(-3, 3, size=(3, 5))
    normal = np.hstack([centers[rng.integers(3, size=1500)] + 0.4 * rng.normal(size=(1500, 5)), np.empty((1500, 0))])
    anomalous = rng.uniform(-6, 6, size=(120, 5))
    rows = np.concatenate([normal, anomalous])
    rows = np.hstack([rows, rng.normal(size=(len(rows), 40))])
    return rows, np.repeat([0, 1], [1500, 120])


def _densities() -> Table:
    """A dense and a wide cluster in six dimensions; anomalies are as near to the dense one as the wide one's rows."""
    rng = np.random.default_rng(6)
    dense, wide = 0.15 * rng.normal(size=(900, 6)), 4 + 1.2 * rng.normal(size=(900, 6))
    directions = rng.normal(size=(100, 6))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return _with(np.concatenate([dense, wide]), rng.uniform(0.8, 2.0, size=(100, 1)) * directions)


def _mixed() -> Table:
    """Counts, shares, switches and times that go with a hidden state; anomalies have columns of another state."""
    rng = np.random.default_rng(7)

    def draw(state: Floats) -> Floats:
        n = len(state)
        counts = rng.poisson(np.exp(1 + state))[:, None]
        switches = (rng.uniform(size=(n, 3)) < 1 / (1 + np.exp(-3 * state[:, None]))).astype(float)
        times = rng.exponential(np.exp(-state))[:, None]
        shares = 1 / (1 + np.exp(-(state[:, None] + 0.3 * rng.normal(size=(n, 3)))))
        amounts = 1000 * state[:, None] + 200 * rng.normal(size=(n, 2))
        return np.hstack([counts, switches, times, shares, amounts])

    normal = draw(rng.normal(size=1500))
    first, second = draw(rng.normal(-1.2, 0.4, size=120)), draw(rng.normal(1.2, 0.4, size=120))
    return _with(normal, np.where(rng.uniform(size=first.shape) < 0.4, second, first))


DEVELOPMENT: dict[str, Callable[[], Table]] = {
    **{name: lambda name=name: _odds(name) for name in ODDS_SIZES},  # type: ignore[misc]
    "abalone": _abalone,
    "breast_cancer": _breast_cancer,
    "wine": _wine,
    "digits_8": lambda: _digits(8),
    "digits_0_to_4": lambda: _digits(0, 1, 2, 3, 4),
    "correlated": _correlated,
    "clusters": _clusters,
    "manifold": _manifold,
    "heavy_tails": _heavy_tails,
    "irrelevant": _irrelevant,
    "densities": _densities,
    "mixed": _mixed,
}


# ---- splits ----------------------------------------------------------------------------------------------------------


def split(table: Table, seed: int, setting: str, rows: int | None = None) -> Split:
    """60 % of a table's rows to train on and 40 % for the test, of both kinds alike.

    Args:
        table: rows and labels.
        seed: of the split.
        setting: `normals`, the training part's normal rows alone; `labelled`, with known anomalies, 1 % of their number
            but at least one; `unlabelled`, half of the normals known, the other half unlabelled with the anomalies.
        rows: at most so many training normals, and twice as many test rows; None for all.
    """
    rng = np.random.default_rng((seed, 99))
    x, y = table
    normal, anomalous = (rng.permutation(np.flatnonzero(y == kind)) for kind in (0, 1))
    n, m = round(0.6 * len(normal)), round(0.6 * len(anomalous))
    train, test = normal[:n][:rows], np.concatenate([normal[n:], anomalous[m:]])
    if rows is not None:
        test = rng.permutation(test)[: 2 * rows]
    extra = {"normals": 0, "labelled": max(1, round(0.01 * len(train))), "unlabelled": m}[setting]
    extra = min(extra, max(1, round(len(train) * m / n))) if setting == "unlabelled" else extra
    known = np.zeros(len(train) + extra, dtype=np.int64)
    if setting == "labelled":
        known[len(train) :] = -1
    if setting == "unlabelled":
        known[: len(train) // 2] = 1
    return Split(x[np.concatenate([train, anomalous[:m][:extra]])], known, x[test], y[test])
