"""Who is normal, labelled, polluting and held out: pure functions from label arrays to indices.

A split knows nothing of pixels. The same arguments and the same seed give the same indices on any machine.
Two conventions hold throughout: labels are 0 normal, 1 anomaly, -1 not labelled; what training may know of a sample is
+1 known normal, 0 unlabelled, -1 known anomaly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike
from sklearn.model_selection import train_test_split

from adlightning.data.composition import (
    ROUNDING,
    Indices,
    Protocol,
    Split,
    Streams,
    as_labels,
    check_classes,
    compose,
)
from adlightning.labels import ANOMALY, KNOWN_ANOMALY, NO_LABEL, NORMAL


def one_vs_all(
    train_y: ArrayLike,
    test_y: ArrayLike,
    normal_class: Sequence[int],
    *,
    labelled_anomaly_ratio: float = 0.0,
    labelled_classes: Sequence[int] = (),
    n_labelled_classes: int = 0,
    labelled_normal_ratio: float = 0.0,
    pollution_ratio: float = 0.0,
    validation_fraction: float = 0.0,
    validation_anomalies: int = 0,
    n_classes: int | None = None,
    seed: int = 0,
) -> Split:
    """Some classes are normal, all others anomalies; tested on the whole test part.

    Training holds the normal classes, unlabelled, less `validation_fraction` of them; `labelled_anomaly_ratio` adds
    known anomalies of `labelled_classes`, or of `n_labelled_classes` classes drawn at random; `labelled_normal_ratio`
    makes known a share of the normals; `pollution_ratio` adds anomalies of any class to the unlabelled ones. A sample
    drawn twice is in training twice, and known both times (as in the released code of Deep SAD). `validation_anomalies`
    come from anomalies that training does not use. The draws are independent: changing one ratio leaves the others'
    draws as they were. `n_classes` defaults to the highest class index that occurs plus one. Raises ValueError for what
    cannot be satisfied.
    """
    protocol = Protocol(
        labelled_anomaly_ratio, pollution_ratio, validation_fraction, validation_anomalies, labelled_normal_ratio
    )
    upper = n_classes or math.inf
    train_y, test_y = as_labels("train_y", train_y, 0, upper), as_labels("test_y", test_y, 0, upper)
    n_classes = n_classes or int(max(train_y.max(initial=-1), test_y.max(initial=-1))) + 1
    normal = check_classes("normal_class", normal_class, n_classes)
    anomalous = [c for c in range(n_classes) if c not in normal]
    if not normal or not anomalous:
        raise ValueError(f"normal_class must name some but not all of the {n_classes} classes, got {normal}")
    if empty := [c for c in normal if not np.any(train_y == c)]:
        raise ValueError(f"normal_class must have training samples, class {empty[0]} has none")

    streams = Streams(seed)
    given = check_classes("labelled_classes", labelled_classes, n_classes)
    labelled = _labelled_classes(given, n_labelled_classes, labelled_anomaly_ratio, anomalous, streams.classes)
    train_labels, test_labels = (np.where(np.isin(y, normal), NORMAL, ANOMALY) for y in (train_y, test_y))
    for label, word in (NORMAL, "a normal sample"), (ANOMALY, "an anomaly"):
        if not np.any(test_labels == label):
            raise ValueError(f"the test part must hold {word}, with normal_class={normal} it holds none")
    drawn = compose(train_labels, np.arange(len(train_y)), np.isin(train_y, labelled), protocol, streams)
    return Split(*drawn, np.arange(len(test_y)), test_labels)


def _others(n: int, rows: Indices) -> Indices:
    """Rows of n that are not among these, in order."""
    is_other = np.ones(n, dtype=bool)
    is_other[rows] = False
    return np.flatnonzero(is_other)


def stratified_holdout(
    y: ArrayLike,
    *,
    test_fraction: float = 0.4,
    labelled_anomaly_ratio: float | None = None,
    pollution_ratio: float = 0.0,
    validation_fraction: float = 0.0,
    validation_anomalies: int = 0,
    seed: int = 0,
) -> Split:
    """One anomaly-labelled part (0, 1, -1), of which `test_fraction` of the normals and of the anomalies is tested.

    Test counts round up; samples without label all go to training. With `labelled_anomaly_ratio=None` training knows
    every label (+1, -1, and 0 without label), and a validation sample keeps its label. With a number, training takes
    the normals as unlabelled and knows only that ratio of anomalies, as in :func:`one_vs_all`; further anomalies are
    left out. Raises ValueError for what cannot be satisfied.
    """
    protocol = Protocol(labelled_anomaly_ratio, pollution_ratio, validation_fraction, validation_anomalies)
    y, normals, anomalies, streams = _check_holdout(y, test_fraction, seed)
    counts = [math.ceil(test_fraction * len(a) - ROUNDING) for a in (normals, anomalies)]
    parts = [streams.parts.permutation(a)[:n] for a, n in zip((normals, anomalies), counts, strict=True)]
    test = np.sort(np.concatenate(parts))
    return _split(y, _others(len(y), test), protocol, streams, test, y[test])


def all_anomalies_holdout(
    y: ArrayLike, *, normals_tested: Literal["as_many", "half"], validation_fraction: float = 0.0, seed: int = 0
) -> Split:
    """One anomaly-labelled part (0, 1, -1), of which all anomalies and some of the normals, at random, are tested.

    `as_many` normals as anomalies is the composition of DROCC's tables and series (Goyal et al., ICML 2020, and its
    released code), `half` of them, rounded down, that of DAGMM (Zong et al., ICLR 2018) and GOAD. Training takes the
    other normals, and samples without label, all as unlabelled; no anomaly is left to it. Raises ValueError for what
    cannot be satisfied.
    """
    protocol, streams = Protocol(0.0, 0.0, validation_fraction, 0), Streams(seed)
    y = as_labels("y", y, -1, 2)
    normals, anomalies = np.flatnonzero(y == NORMAL), np.flatnonzero(y == ANOMALY)
    if not 0 < len(anomalies) < len(normals):
        counts = f"{len(normals)} normal samples and {len(anomalies)} anomalies"
        raise ValueError(f"y must hold anomalies, and more normal samples than anomalies, got {counts}")
    n_tested = len(anomalies) if normals_tested == "as_many" else len(normals) // 2
    test = np.sort(np.concatenate([streams.parts.permutation(normals)[:n_tested], anomalies]))
    train = _others(len(y), test)
    return Split(*compose(y, train, y == ANOMALY, protocol, streams), test, y[test])


def legacy_leaky_holdout(
    y: ArrayLike,
    *,
    test_fraction: float = 0.4,
    labelled_anomaly_ratio: float | None = None,
    pollution_ratio: float = 0.0,
    validation_fraction: float = 0.0,
    validation_anomalies: int = 0,
    seed: int = 0,
) -> Split:
    """The released Deep SAD code's hold-out, in which TEST SAMPLES ARE TRAINING SAMPLES: only to match its numbers.

    That code hands one `RandomState` to the constructors of its training and its test set. Each splits the data anew,
    and the state moves on in between: the test half of the second split is about 60 % training data of the first.
    Hence neither `train` nor `validation` is disjoint from `test`. All else is as in :func:`stratified_holdout`.
    """
    protocol = Protocol(labelled_anomaly_ratio, pollution_ratio, validation_fraction, validation_anomalies)
    y, normals, anomalies, streams = _check_holdout(y, test_fraction, seed)
    kinds = [a for a in (normals, anomalies) if len(a)]
    if not len(normals) or any(math.ceil(test_fraction * len(a)) >= len(a) for a in kinds):
        counts = f"{len(normals)} normal samples and {len(anomalies)} anomalies"
        raise ValueError(f"test_fraction must leave both kinds to training, got {test_fraction} of {counts}")
    state = np.random.RandomState(seed)  # the legacy generator, as in the released code
    halves: list[list[Indices]] = []
    for keep_test in (False, True):  # the training set's constructor, then the test set's
        pairs = [train_test_split(a, test_size=test_fraction, random_state=state) for a in kinds]
        halves.append([pair[keep_test] for pair in pairs])
    train, test = (np.sort(np.concatenate(half)) for half in halves)
    train = np.union1d(train, np.flatnonzero(y == NO_LABEL))
    return _split(y, train, protocol, streams, test, y[test])


def _split(
    y: Indices, pool: Indices, protocol: Protocol, streams: Streams, test: Indices, test_labels: Indices
) -> Split:
    """What training takes of `pool`, any anomaly of which may be labelled, and what it leaves; with the test set."""
    train, known, validation, validation_labels = compose(y, pool, y == ANOMALY, protocol, streams)
    unused = np.setdiff1d(pool[y[pool] == ANOMALY], np.concatenate([train, validation]))
    return Split(train, known, validation, validation_labels, test, test_labels, unused_anomalies=unused)


def given_parts(
    train_y: ArrayLike,
    test_y: ArrayLike | None,
    *,
    labelled_anomaly_ratio: float | None = None,
    pollution_ratio: float = 0.0,
    validation_fraction: float = 0.0,
    validation_anomalies: int = 0,
    seed: int = 0,
) -> Split:
    """Anomaly-labelled parts (0, 1, -1) as they were given; without a test part `test` is empty.

    What training knows, and what is held out of it for validation, is as in :func:`stratified_holdout`. The test
    part may hold any labels, and samples without one. Raises ValueError for what cannot be satisfied.
    """
    protocol = Protocol(labelled_anomaly_ratio, pollution_ratio, validation_fraction, validation_anomalies)
    y, test_y = as_labels("train_y", train_y, -1, 2), as_labels("test_y", [] if test_y is None else test_y, -1, 2)
    return _split(y, np.arange(len(y)), protocol, Streams(seed), np.arange(len(test_y)), test_y)


def limited_negatives(
    train_y: ArrayLike,
    test_y: ArrayLike,
    normal_class: Sequence[int],
    far_classes: Sequence[int],
    n_close: int,
    *,
    n_train_normal: int | None = None,
    n_train_far: int | None = None,
    n_test_normal: int | None = None,
    n_test_far: int | None = None,
    n_test_close: int | None = None,
    validation_fraction: float = 0.0,
    validation_anomalies: int = 0,
    n_classes: int | None = None,
    seed: int = 0,
) -> Split:
    """Known normals and known far negatives are trained on; close negatives, of no training sample's kind, are tested.

    Goyal et al., DROCC, ICML 2020, section 4.1. Training samples are the normal classes (+1) and the far classes (-1),
    as many as `n_train_normal` and `n_train_far` draw (None takes all), less a `validation_fraction` of these normals
    and `validation_anomalies` of these far negatives. The test part is taken to be followed by `n_close` close
    negatives: their indices are len(test_y) on, their label 1. Other classes are not used. The draws are independent of
    one another. Raises ValueError for what cannot be satisfied.
    """
    protocol = Protocol(None, 0.0, validation_fraction, validation_anomalies)
    upper = n_classes or math.inf
    train_y, test_y = as_labels("train_y", train_y, 0, upper), as_labels("test_y", test_y, 0, upper)
    n_classes = n_classes or int(max(train_y.max(initial=-1), test_y.max(initial=-1))) + 1
    normal = check_classes("normal_class", normal_class, n_classes)
    far = check_classes("far_classes", far_classes, n_classes)
    if not normal or not far:
        raise ValueError(f"normal_class and far_classes must name a class each, got {normal} and {far}")
    if both := sorted(set(normal) & set(far)):
        raise ValueError(f"far_classes must not hold a normal class, got {both[0]}")

    streams = Streams(seed)
    more = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(11)[6:])  # the first 6 are in streams
    wanted = (
        ("n_train_normal", n_train_normal, np.flatnonzero(np.isin(train_y, normal))),
        ("n_train_far", n_train_far, np.flatnonzero(np.isin(train_y, far))),
        ("n_test_normal", n_test_normal, np.flatnonzero(np.isin(test_y, normal))),
        ("n_test_far", n_test_far, np.flatnonzero(np.isin(test_y, far))),
        ("n_test_close", n_test_close, len(test_y) + np.arange(n_close)),
    )
    drawn = [_some(name, n, rows, rng) for (name, n, rows), rng in zip(wanted, more, strict=True)]
    labels = np.isin(train_y, far).astype(np.int64)
    training = compose(labels, np.concatenate(drawn[:2]), labels == ANOMALY, protocol, streams)
    if not np.any(training[1] == KNOWN_ANOMALY):
        raise ValueError(f"validation_anomalies must leave a far negative to training, got {validation_anomalies}")
    test = np.sort(np.concatenate(drawn[2:]))
    return Split(*training, test, np.where(np.isin(test, drawn[2]), NORMAL, ANOMALY))


def normals_only(
    train_y: ArrayLike,
    test_y: ArrayLike,
    normal_class: Sequence[int] | None = None,
    *,
    validation_fraction: float = 0.0,
    n_classes: int | None = None,
    seed: int = 0,
) -> Split:
    """Some classes, or all (None), are normal and there are no anomalies: these come from elsewhere.

    Training holds the normal classes, unlabelled, less `validation_fraction` of them; their test samples are tested.
    Other classes are not used. Raises ValueError for what cannot be satisfied.
    """
    protocol, upper = Protocol(0.0, 0.0, validation_fraction, 0), n_classes or math.inf
    train_y, test_y = as_labels("train_y", train_y, 0, upper), as_labels("test_y", test_y, 0, upper)
    n_classes = n_classes or int(max(train_y.max(initial=-1), test_y.max(initial=-1))) + 1
    normal = list(range(n_classes)) if normal_class is None else check_classes("normal_class", normal_class, n_classes)
    pool, test = np.flatnonzero(np.isin(train_y, normal)), np.flatnonzero(np.isin(test_y, normal))
    for part, rows in (("training", pool), ("test", test)):
        if not len(rows):
            raise ValueError(f"normal_class must have {part} samples, {normal} have none")
    labels = np.zeros_like(train_y)
    return Split(*compose(labels, pool, labels == ANOMALY, protocol, Streams(seed)), test, np.zeros_like(test))


def drawn_anomalies(n: int, n_test: int | None, n_validation: int, seed: int) -> tuple[Indices, Indices]:
    """Rows of `n` anomalies to test and to validate on, at random without replacement, disjoint, each ascending.

    Neither depends on how many the other takes, but that `n_test=None` tests all that validation leaves. The draw
    depends on `n` and the seed only, so that sets which are read twice are drawn alike. Raises ValueError when there
    are too few.
    """
    wanted = (1 if n_test is None else n_test) + n_validation
    if n < wanted:
        raise ValueError(f"{wanted} anomalies are needed, there are {n}")
    rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(13)[12])  # apart from all other streams
    shuffled = rng.permutation(n)
    end = n - n_validation
    return np.sort(shuffled[: end if n_test is None else n_test]), np.sort(shuffled[end:])


def with_tested(split: Split, n_test: int, seed: int) -> Split:
    """The split with `n_test` of its test samples, drawn at random; nothing else changes.

    Raises:
        ValueError: there are fewer.
    """
    if n_test > len(split.test):
        raise ValueError(f"n_test must be at most {len(split.test)}, the number of test samples, got {n_test}")
    rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(14)[13])  # apart from all other streams
    drawn = np.sort(rng.permutation(len(split.test))[:n_test])
    return replace(split, test=split.test[drawn], test_labels=split.test_labels[drawn])


def _labelled_classes(given: list[int], n: int, ratio: float, anomalous: list[int], rng: Generator) -> list[int]:
    """The classes whose anomalies may be labelled: those given, or `n` of the anomalous ones at random."""
    if not 0 <= n <= len(anomalous):
        raise ValueError(f"n_labelled_classes must lie in [0, {len(anomalous)}], got {n}")
    if given and n:
        raise ValueError(f"labelled_classes={given} and n_labelled_classes={n} exclude each other: give one")
    if normal := sorted(set(given) - set(anomalous)):
        raise ValueError(f"labelled_classes must not hold a normal class, got {normal[0]}")
    if ratio > 0 and not (given or n):
        raise ValueError(f"labelled_anomaly_ratio={ratio} needs labelled_classes or n_labelled_classes, got neither")
    return given or sorted(rng.permutation(anomalous)[:n].tolist())


def _check_holdout(y: ArrayLike, test_fraction: float, seed: int) -> tuple[Indices, Indices, Indices, Streams]:
    """Checked labels, the indices of normals and of anomalies, and the random streams."""
    labels = as_labels("y", y, -1, 2)
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction must lie in (0, 1), got {test_fraction}")
    return labels, np.flatnonzero(labels == NORMAL), np.flatnonzero(labels == ANOMALY), Streams(seed)


def _some(name: str, n: int | None, rows: Indices, rng: Generator) -> Indices:
    """`n` of these samples at random in ascending order, or all of them."""
    if n is not None and n < 1:
        raise ValueError(f"{name} must be at least 1, got {n}")
    if len(rows) < (n or 1):
        raise ValueError(f"{name}={n} needs at least {n or 1} samples to draw from, there are {len(rows)}")
    return rows if n is None else np.sort(rng.permutation(rows)[:n])
