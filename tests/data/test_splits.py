from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import astuple
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray

from adlightning.data.composition import Split, labelled_and_polluting_counts, labelled_normal_count
from adlightning.data.splits import (
    all_anomalies_holdout,
    given_parts,
    legacy_leaky_holdout,
    limited_negatives,
    one_vs_all,
    stratified_holdout,
)

TRAIN_Y = np.repeat(np.arange(4), [40, 30, 20, 10])  # class 0 has indices 0-39, 1 has 40-69, 2 has 70-89, 3 has 90-99
TEST_Y = np.array([0, 1, 2, 3, 0])
ANOMALY_Y = np.repeat([0, 1, -1], [50, 20, 10])  # normal 0-49, anomalies 50-69, not labelled 70-79


def same(a: Split, b: Split) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(astuple(a), astuple(b), strict=True))


def members(array: NDArray[np.int64]) -> set[int]:
    return set(array.tolist())


# Counts: n = 5000 normals; m = n r / (1 - r): 50.5, 263.2, 555.6, 1250. With 10 % pollution n = 5555.6, m = 292.4.
@pytest.mark.parametrize(
    ("labelled_ratio", "pollution_ratio", "expected"),
    [
        (0.0, 0.0, (0, 0)),
        (0.01, 0.0, (50, 0)),
        (0.05, 0.0, (263, 0)),
        (0.1, 0.0, (555, 0)),
        (0.2, 0.0, (1250, 0)),
        (0.05, 0.1, (292, 555)),
    ],
)
def test_counts_of_the_deep_sad_paper(labelled_ratio: float, pollution_ratio: float, expected: tuple[int, int]) -> None:
    assert labelled_and_polluting_counts(5000, labelled_ratio, pollution_ratio) == expected


def test_counts_are_truncated_as_in_the_released_code() -> None:
    assert labelled_and_polluting_counts(324, 0.0, 0.2) == (0, 80)  # 324 * 0.2 / 0.8 = 80.99999999999999
    assert labelled_and_polluting_counts(172, 0.2, 0.0) == (42, 0)  # 172 * 0.2 / 0.8 = 42.99999999999999
    for n, ratio in itertools.product(range(20, 7000, 7), (0.01, 0.05, 0.1, 0.2)):
        expected = int(n * ratio / (1 - ratio))
        assert labelled_and_polluting_counts(n, 0.0, ratio) == (0, expected)
        assert labelled_and_polluting_counts(n, ratio, 0.0) == (expected, 0)


def test_counts_solve_the_equations_of_the_ratios() -> None:
    # n_out = ratio (n_normal + n_out), m = ratio (n_normal + n_out + m)
    for n, labelled, polluting in itertools.product((105, 178, 5000, 6742), (0.01, 0.05, 0.1), (0.01, 0.05, 0.1)):
        equations = np.array([[1 - polluting, 0], [-labelled, 1 - labelled]])
        n_out, m = np.linalg.solve(equations, np.array([polluting * n, labelled * n]))
        assert labelled_and_polluting_counts(n, labelled, polluting) == (int(m), int(n_out))


def test_one_vs_all_without_options_trains_on_all_normals_and_tests_on_everything() -> None:
    split = one_vs_all(TRAIN_Y, TEST_Y, [1])
    assert split.train.tolist() == list(range(40, 70))
    assert split.known.tolist() == [0] * 30
    assert len(split.validation) == len(split.validation_labels) == 0
    assert split.test.tolist() == [0, 1, 2, 3, 4]
    assert split.test_labels.tolist() == [1, 0, 1, 1, 1]
    assert all(a.dtype == np.int64 for a in astuple(split))


# Of 5000 normals alone a tenth; beside a tenth of labelled anomalies T = 5000 / 0.9 = 5555.6, of which a tenth; with a
# tenth of polluters besides T = 5000 / (0.1 + 0.9 * 0.8) = 6097.6.
@pytest.mark.parametrize(
    ("labelled_ratio", "pollution_ratio", "expected"), [(0.0, 0.0, 500), (0.1, 0.0, 555), (0.1, 0.1, 609)]
)
def test_counts_of_known_normals(labelled_ratio: float, pollution_ratio: float, expected: int) -> None:
    assert labelled_normal_count(5000, 0.1, labelled_ratio, pollution_ratio) == expected


def test_every_ratio_holds_at_once() -> None:
    ratios = (0.1, 0.05, 0.2)
    known = labelled_normal_count(5000, *ratios)
    labelled, polluting = labelled_and_polluting_counts(5000, *ratios[1:], known)
    whole, unlabelled = 5000 + polluting + labelled, 5000 - known + polluting
    assert known / whole == pytest.approx(0.1, abs=5e-4)
    assert labelled / whole == pytest.approx(0.05, abs=5e-4)
    assert polluting / unlabelled == pytest.approx(0.2, abs=5e-4)


def test_known_normals_are_drawn_among_the_training_normals() -> None:
    # 32 of 40 normals are left to training; T = 32 / (0.25 + 0.9 * 0.65) = 38.3: 9 known, 23 * 1/9 = 2 polluters, and
    # 0.1 / 0.9 * (32 + 2.6) = 3 labelled anomalies
    draws: dict[str, Any] = {"labelled_anomaly_ratio": 0.1, "n_labelled_classes": 1, "pollution_ratio": 0.1}
    draws |= {"validation_fraction": 0.2, "seed": 2}
    split = one_vs_all(TRAIN_Y, TEST_Y, [0], labelled_normal_ratio=0.25, **draws)
    known = split.train[split.known == 1]
    assert len(known) == 9
    assert set(TRAIN_Y[known]) == {0}
    assert not members(known) & members(split.validation)
    polluting = split.train[(split.known == 0) & (TRAIN_Y[split.train] != 0)]
    assert len(polluting) == 2
    assert np.sum(split.known == -1) == 3
    without = one_vs_all(TRAIN_Y, TEST_Y, [0], **draws)
    assert members(split.train) <= members(without.train)  # the other draws are as they were
    assert np.array_equal(split.validation, without.validation)
    assert same(without, one_vs_all(TRAIN_Y, TEST_Y, [0], labelled_normal_ratio=0.0, **draws))
    assert not (without.known == 1).any()


def test_known_normals_depend_on_the_seed_and_grow_with_their_ratio() -> None:
    def known(ratio: float, seed: int) -> set[int]:
        split = one_vs_all(TRAIN_Y, TEST_Y, [0], labelled_normal_ratio=ratio, seed=seed)
        return members(split.train[split.known == 1])

    assert len(known(0.1, 0)) == 4
    assert known(0.1, 0) == known(0.1, 0) < known(0.5, 0)
    assert known(0.1, 0) != known(0.1, 1)


@pytest.mark.parametrize(
    ("ratios", "words"),
    [
        ((1.0, 0.0), r"labelled_normal_ratio must lie in \[0, 1\), got 1.0"),
        ((0.001, 0.0), "labelled_normal_ratio must amount to at least one sample, got 0.001"),
        ((0.6, 0.5), "labelled_normal_ratio and labelled_anomaly_ratio must sum to less than 1, got 1.1"),
    ],
)
def test_ratios_of_known_normals_that_cannot_be(ratios: tuple[float, float], words: str) -> None:
    normal, anomalous = ratios
    with pytest.raises(ValueError, match=words):
        one_vs_all(
            TRAIN_Y,
            TEST_Y,
            [0],
            labelled_normal_ratio=normal,
            labelled_anomaly_ratio=anomalous,
            n_labelled_classes=1 if anomalous else 0,
        )


def test_several_normal_classes_in_any_order() -> None:
    split = one_vs_all(TRAIN_Y, TEST_Y, [3, 1])
    assert members(split.train) == set(range(40, 70)) | set(range(90, 100))
    assert split.test_labels.tolist() == [1, 0, 1, 0, 1]
    assert same(split, one_vs_all(TRAIN_Y, TEST_Y, (1, 3, 1)))


def test_indices_are_pinned_for_every_machine() -> None:
    draws: dict[str, Any] = {
        "labelled_anomaly_ratio": 0.2,
        "pollution_ratio": 0.2,
        "validation_fraction": 0.2,
        "seed": 7,
    }
    split = one_vs_all(TRAIN_Y, TEST_Y, [3], n_labelled_classes=1, validation_anomalies=2, **draws)
    assert split.train.tolist() == [90, 91, 92, 94, 96, 97, 98, 99, 18, 22, 43, 46]
    assert split.known.tolist() == [0] * 10 + [-1] * 2
    assert split.validation.tolist() == [93, 95, 2, 23]
    assert split.validation_labels.tolist() == [0, 0, 1, 1]
    assert stratified_holdout(ANOMALY_Y[::10], seed=7).test.tolist() == [1, 4, 6]


def test_labelled_anomalies_come_from_the_given_classes_and_polluters_from_all() -> None:
    # 40 normals, n = 40 / 0.5 = 80: 40 polluters, and m = 80 * 0.1 / 0.9 = 8.9 -> 8 labels.
    draws: dict[str, Any] = {"labelled_anomaly_ratio": 0.1, "pollution_ratio": 0.5}
    split = one_vs_all(TRAIN_Y, TEST_Y, [0], labelled_classes=[3], **draws, seed=1)
    labelled, polluting = split.train[-8:], split.train[40:80]
    assert set(TRAIN_Y[labelled]) == {3}
    assert set(TRAIN_Y[polluting]) == {1, 2, 3}
    assert len(split.train) == 88


def test_a_sample_drawn_twice_is_in_training_twice_and_known_both_times() -> None:
    # All 60 anomalies pollute (n = 100, 60 %), so every labelled one is drawn twice.
    split = one_vs_all(TRAIN_Y, TEST_Y, [0], labelled_anomaly_ratio=0.05, labelled_classes=[1, 2], pollution_ratio=0.6)
    counts = Counter(split.train.tolist())
    twice = {i for i, n in counts.items() if n == 2}
    assert len(split.train) == 40 + 60 + 5
    assert len(twice) == 5
    assert members(split.train[split.known == -1]) == twice
    assert np.sum(split.known == -1) == 10


@pytest.mark.parametrize("n", [1, 2, 3])
def test_random_labelled_classes(n: int) -> None:
    chosen = set()
    for seed in range(20):
        split = one_vs_all(TRAIN_Y, TEST_Y, [0], labelled_anomaly_ratio=0.15, n_labelled_classes=n, seed=seed)
        classes = frozenset(TRAIN_Y[split.train[split.known == -1]].tolist())
        assert len(classes) <= n
        chosen.add(classes)
    assert {c for classes in chosen for c in classes} == {1, 2, 3}


def test_draws_are_independent_of_one_another() -> None:
    def split(**changed: Any) -> Split:
        base: dict[str, Any] = {"labelled_anomaly_ratio": 0.1, "n_labelled_classes": 2, "validation_fraction": 0.25}
        return one_vs_all(TRAIN_Y, TEST_Y, [0], **{**base, "seed": 3, **changed})

    clean, polluted = split(), split(pollution_ratio=0.05)
    assert clean.validation.tolist() == polluted.validation.tolist()
    assert clean.train[clean.known == -1].tolist() == polluted.train[polluted.known == -1].tolist()
    unlabelled = split(pollution_ratio=0.05, labelled_anomaly_ratio=0.0, n_labelled_classes=0)
    assert unlabelled.train.tolist() == polluted.train[: len(unlabelled.train)].tolist()
    # More labels or polluters keep those that were there.
    assert members(split().train) < members(split(labelled_anomaly_ratio=0.2).train)
    assert members(polluted.train) < members(split(pollution_ratio=0.2).train)


def test_validation_anomalies_are_used_by_nobody_else() -> None:
    # 10 normals of class 3, 90 anomalies: 10 polluters, 6 labels, and the 74 to 80 others can be held out.
    draws: dict[str, Any] = {"labelled_anomaly_ratio": 0.25, "pollution_ratio": 0.5}
    split = one_vs_all(TRAIN_Y, TEST_Y, [3], n_labelled_classes=3, validation_anomalies=74, **draws)
    assert not members(split.train) & members(split.validation)
    assert split.validation_labels.tolist() == [1] * 74
    assert np.all(TRAIN_Y[split.validation] != 3)


LABELS = {"labelled_anomaly_ratio": 0.1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"normal_class": [4]}, r"normal_class must be class indices in \[0, 4\), got 4"),
        ({"normal_class": []}, "normal_class must name some but not all of the 4 classes"),
        ({"normal_class": [0, 1, 2, 3]}, "normal_class must name some but not all of the 4 classes"),
        ({"normal_class": [4], "n_classes": 5}, "normal_class must have training samples, class 4 has none"),
        ({"n_classes": 3}, r"train_y must lie in \[0, 3\), got 3"),
        ({"train_y": [0, -1, 1]}, r"train_y must lie in \[0, inf\), got -1"),
        ({"train_y": [0.0, 1.5]}, "train_y must be one-dimensional and integer"),
        ({"test_y": [1, 2]}, r"test part must hold a normal sample, with normal_class=\[0\]"),
        ({"test_y": [0, 0]}, "test part must hold an anomaly, with normal_class"),
        ({"labelled_anomaly_ratio": 1.2}, r"labelled_anomaly_ratio must lie in \[0, 1\), got 1.2"),
        ({"labelled_anomaly_ratio": float("nan")}, r"labelled_anomaly_ratio must lie in \[0, 1\), got nan"),
        ({"pollution_ratio": -0.1}, r"pollution_ratio must lie in \[0, 1\), got -0.1"),
        ({"validation_fraction": 1.0}, r"validation_fraction must lie in \[0, 1\), got 1.0"),
        ({"validation_fraction": 0.01}, "validation_fraction must leave .* got 0.01 of 40 samples"),
        ({"validation_anomalies": -1}, "validation_anomalies must not be negative, got -1"),
        ({"validation_anomalies": 61}, "validation_anomalies=61 needs 61 training anomalies .* there are 60"),
        (LABELS, "labelled_anomaly_ratio=0.1 needs labelled_classes or n_labelled_classes"),
        ({**LABELS, "labelled_classes": [1], "n_labelled_classes": 1}, "n_labelled_classes=1 exclude each other"),
        ({**LABELS, "labelled_classes": [1, 0]}, "labelled_classes must not hold a normal class, got 0"),
        ({**LABELS, "labelled_classes": [7]}, r"labelled_classes must be class indices in \[0, 4\), got 7"),
        ({**LABELS, "n_labelled_classes": 4}, r"n_labelled_classes must lie in \[0, 3\], got 4"),
        (
            {"labelled_anomaly_ratio": 0.01, "n_labelled_classes": 1},
            "labelled_anomaly_ratio must amount to .* got 0.01",
        ),
        ({"pollution_ratio": 0.01}, "pollution_ratio must amount to at least one sample, got 0.01"),
        (
            {"labelled_anomaly_ratio": 0.3, "labelled_classes": [3]},
            "labelled_anomaly_ratio=0.3 needs 17 training anomalies to draw from, there are 10",
        ),
        ({"pollution_ratio": 0.7}, "pollution_ratio=0.7 needs 93 training anomalies to draw from, there are 60"),
        ({"seed": -1}, r"seed must lie in \[0, 2\*\*32\), got -1"),
    ],
)
def test_one_vs_all_refuses(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        one_vs_all(**{"train_y": TRAIN_Y, "test_y": TEST_Y, "normal_class": [0], **arguments})


@settings(max_examples=40, deadline=None)
@given(
    normal=st.sampled_from([[0], [1], [0, 1], [2, 0]]),
    labelled_ratio=st.sampled_from([0.0, 0.07, 0.1]),
    pollution_ratio=st.sampled_from([0.0, 0.1, 0.15]),
    fraction=st.sampled_from([0.0, 0.2, 0.5]),
    n_anomalies=st.integers(0, 5),
    seed=st.integers(0, 2**32 - 1),
)
def test_one_vs_all_properties(
    normal: list[int], labelled_ratio: float, pollution_ratio: float, fraction: float, n_anomalies: int, seed: int
) -> None:
    options: dict[str, Any] = {"labelled_anomaly_ratio": labelled_ratio, "pollution_ratio": pollution_ratio}
    options |= {"validation_fraction": fraction, "validation_anomalies": n_anomalies, "seed": seed}
    options |= {"labelled_classes": [3] if labelled_ratio else []}
    split = one_vs_all(TRAIN_Y, TEST_Y, normal, **options)
    assert same(split, one_vs_all(TRAIN_Y, TEST_Y, normal[::-1], **options))
    is_normal = np.isin(TRAIN_Y, normal)
    n_held_out = int(fraction * is_normal.sum())
    n_normal = int(is_normal.sum()) - n_held_out
    m, n_out = labelled_and_polluting_counts(n_normal, labelled_ratio, pollution_ratio)
    assert len(split.train) == len(split.known) == n_normal + m + n_out
    assert not members(split.train) & members(split.validation)
    assert members(split.train) | members(split.validation) >= members(np.flatnonzero(is_normal))
    assert members(split.known) <= {0, -1}
    assert not np.any(split.known[is_normal[split.train]])
    assert len(members(split.train[split.known == -1])) == m
    assert np.all(TRAIN_Y[split.train[split.known == -1]] == 3)
    assert split.validation_labels.tolist() == [0] * n_held_out + [1] * n_anomalies
    assert np.array_equal(split.validation_labels == 0, is_normal[split.validation])


def test_stratified_holdout_splits_each_kind_60_to_40_and_keeps_what_is_not_labelled_for_training() -> None:
    split = stratified_holdout(ANOMALY_Y)
    assert Counter(split.test_labels.tolist()) == {0: 20, 1: 8}
    assert Counter(split.known.tolist()) == {1: 30, -1: 12, 0: 10}
    assert members(split.train[split.known == 0]) == set(range(70, 80))
    assert len(split.train) + len(split.test) == 80


def test_stratified_holdout_under_the_protocol_of_deep_sad() -> None:
    # 30 training normals + 10 without label = 40, of which 8 are held out; 32 / 0.8 * 0.2 = 8 polluters;
    # m = 40 * 0.1 / 0.9 = 4.4 -> 4 labels.
    split = stratified_holdout(ANOMALY_Y, labelled_anomaly_ratio=0.1, pollution_ratio=0.2, validation_fraction=0.2)
    assert len(split.validation) == 8
    assert members(split.validation_labels) <= {0, -1}
    assert len(split.train) == 32 + 8 + 4
    assert members(split.known) == {0, -1}
    assert len(members(split.train[split.known == -1])) == 4
    assert np.all(ANOMALY_Y[split.train[split.known == -1]] == 1)


def test_test_counts_round_up_so_that_a_single_anomaly_is_tested() -> None:
    split = stratified_holdout([0, 0, 0, 0, 0, 1])
    assert split.test_labels.tolist() == [0, 0, 1]
    assert 5 in split.test


def test_holdout_without_anomalies_has_none_to_test() -> None:
    assert stratified_holdout([0] * 10).test_labels.tolist() == [0] * 4
    assert stratified_holdout([0] * 10, labelled_anomaly_ratio=0.0).known.tolist() == [0] * 6


@settings(max_examples=40, deadline=None)
@given(
    n=st.tuples(st.integers(10, 30), st.integers(40, 60), st.integers(0, 10)),
    test_fraction=st.floats(0.1, 0.5),
    ratio=st.sampled_from([None, 0.0, 0.3]),
    validation_fraction=st.sampled_from([0.0, 0.4]),
    seed=st.integers(0, 2**32 - 1),
)
def test_stratified_holdout_properties(
    n: tuple[int, int, int], test_fraction: float, ratio: float | None, validation_fraction: float, seed: int
) -> None:
    y = np.random.default_rng(seed).permutation(np.repeat([0, 1, -1], n))
    options: dict[str, Any] = {"labelled_anomaly_ratio": ratio, "validation_fraction": validation_fraction}
    split = stratified_holdout(y, test_fraction=test_fraction, seed=seed, **options)
    train, validation, test = members(split.train), members(split.validation), members(split.test)
    assert not train & validation
    assert not test & (train | validation)
    assert np.array_equal(split.test_labels, y[split.test])
    assert -1 not in split.test_labels
    assert np.array_equal(split.validation_labels, y[split.validation])
    assert 1 not in split.validation_labels
    assert all(y[i] == 1 for i in split.train[split.known == -1])
    assert all(y[i] == 0 for i in split.train[split.known == 1])
    if ratio is None:
        assert train | validation | test == set(range(len(y)))
        assert all(y[i] == -1 for i in split.train[split.known == 0])
    else:
        assert 1 not in split.known
    for kind in (0, 1):
        exact = test_fraction * np.sum(y == kind)
        assert exact - 1e-6 <= np.sum(split.test_labels == kind) < exact + 1


def test_validation_anomalies_are_withheld_from_the_known_ones() -> None:
    split = stratified_holdout(ANOMALY_Y, validation_anomalies=5)
    assert split.validation_labels.tolist() == [1] * 5
    assert np.sum(split.known == -1) == 7
    assert not members(split.train) & members(split.validation)


def test_leaky_holdout_draws_as_the_released_code() -> None:
    split = legacy_leaky_holdout(ANOMALY_Y, seed=5)
    state = np.random.RandomState(5)
    # Its constructors call train_test_split, whose permutation puts the test part first and rounds it up.
    train: list[int] = []
    test: list[int] = []
    for of_train in (True, False):
        for kind, n_test in (np.arange(50), 20), (np.arange(50, 70), 8):
            order = kind[state.permutation(len(kind))]
            (train if of_train else test).extend((order[n_test:] if of_train else order[:n_test]).tolist())
    assert members(split.train) == set(train) | set(range(70, 80))
    assert members(split.test) == set(test)
    assert len(split.test) == 28


def test_about_60_percent_of_the_leaky_test_set_is_training_data() -> None:
    split = legacy_leaky_holdout(np.repeat([0, 1], [3000, 600]))
    assert np.mean(np.isin(split.test, split.train)) == pytest.approx(0.6, abs=0.03)
    assert len(split.train) == 2160


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_balanced_holdout_tests_all_anomalies_and_equally_many_normals(seed: int) -> None:
    split = all_anomalies_holdout(normals_tested="as_many", y=ANOMALY_Y, validation_fraction=0.25, seed=seed)
    assert Counter(split.test_labels.tolist()) == {0: 20, 1: 20}
    assert np.array_equal(split.test_labels, ANOMALY_Y[split.test])
    # 30 other normals and 10 without label, of which a quarter is held out
    assert split.known.tolist() == [0] * 30
    assert members(split.validation_labels) <= {0, -1}
    train, validation, test = members(split.train), members(split.validation), members(split.test)
    assert (len(validation), len(test)) == (10, 40)
    assert train | validation | test == set(range(80))  # and their sizes add up to 80: disjoint
    assert test >= set(range(50, 70))


def test_half_of_the_normals_are_tested_with_all_anomalies() -> None:
    split = all_anomalies_holdout(ANOMALY_Y, normals_tested="half", seed=3)
    y = np.asarray(ANOMALY_Y)
    assert (split.test_labels == 1).sum() == (y == 1).sum()
    assert (split.test_labels == 0).sum() == (y == 0).sum() // 2
    assert not members(split.train) & members(split.test)
    assert members(split.train) | members(split.test) == set(range(len(y)))
    assert not split.known.any()


def test_balanced_holdout_draws_normals_by_the_seed() -> None:
    assert same(
        all_anomalies_holdout(normals_tested="as_many", y=ANOMALY_Y, seed=1),
        all_anomalies_holdout(normals_tested="as_many", y=ANOMALY_Y, seed=1),
    )
    assert members(all_anomalies_holdout(normals_tested="as_many", y=ANOMALY_Y, seed=1).test) != members(
        all_anomalies_holdout(normals_tested="as_many", y=ANOMALY_Y, seed=2).test
    )
    assert all_anomalies_holdout(normals_tested="as_many", y=[0, 0, 0, 0, 1, 1], seed=7).test.tolist() == [
        1,
        3,
        4,
        5,
    ]  # on every machine


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"y": [0, 0, 0]}, "more normal samples than anomalies, got 3 normal samples and 0 anomalies"),
        ({"y": [0, 0, 1, 1]}, "more normal samples than anomalies, got 2 normal samples and 2 anomalies"),
        ({"y": [0, 2]}, r"y must lie in \[-1, 2\), got 2"),
        ({"validation_fraction": 1.0}, r"validation_fraction must lie in \[0, 1\), got 1.0"),
        ({"validation_fraction": 0.01}, "validation_fraction must leave .* got 0.01 of 40 samples"),
        ({"seed": -1}, r"seed must lie in \[0, 2\*\*32\), got -1"),
    ],
)
def test_balanced_holdout_refuses(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        all_anomalies_holdout(normals_tested="as_many", **{"y": ANOMALY_Y, **arguments})


def limited(**options: Any) -> Split:
    """Class 1 normal, classes 0 and 2 far, class 3 unused; a test part of 5 samples and 6 close negatives."""
    given: dict[str, Any] = {"normal_class": [1], "far_classes": [0, 2], "n_close": 6, "seed": 3}
    return limited_negatives(TRAIN_Y, TEST_Y, **{**given, **options})


def test_limited_negatives_trains_on_known_samples_of_the_named_classes() -> None:
    split = limited()
    assert members(split.train) == set(range(90))
    assert np.array_equal(split.known == 1, TRAIN_Y[split.train] == 1)
    assert np.array_equal(split.known == -1, TRAIN_Y[split.train] != 1)
    assert split.test.tolist() == [0, 1, 2, 4, 5, 6, 7, 8, 9, 10]
    assert split.test_labels.tolist() == [1, 0] + [1] * 8
    assert len(split.validation) == 0


def test_limited_negatives_draws_as_many_as_wanted_and_holds_some_of_them_out() -> None:
    numbers = {"n_train_normal": 20, "n_train_far": 15, "n_test_far": 2, "n_test_close": 4}
    split = limited(**numbers, validation_fraction=0.25, validation_anomalies=3)
    assert Counter(split.known.tolist()) == {1: 15, -1: 12}
    assert split.validation_labels.tolist() == [0] * 5 + [1] * 3
    assert np.array_equal(split.validation_labels == 1, TRAIN_Y[split.validation] != 1)
    assert not members(split.train) & members(split.validation)
    assert len(members(split.train)) == len(split.train)
    assert sorted(split.test_labels.tolist()) == [0] + [1] * 6
    assert (split.test >= 5).sum() == 4
    # the draws are independent: what is held out does not change what is drawn, nor one number another's draw
    all_of_them, fewer = limited(**numbers), limited(**{**numbers, "n_train_far": 10})
    assert members(all_of_them.train) == members(split.train) | members(split.validation)
    assert members(fewer.train[fewer.known == 1]) == members(all_of_them.train[all_of_them.known == 1])
    assert members(fewer.train) < members(all_of_them.train)
    assert np.array_equal(fewer.test, split.test)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normal_class": [0]}, "far_classes must not hold a normal class, got 0"),
        ({"normal_class": [4]}, r"normal_class must be class indices in \[0, 4\), got 4"),
        ({"far_classes": []}, r"must name a class each, got \[1\] and \[\]"),
        ({"n_train_normal": 31}, "n_train_normal=31 needs at least 31 samples to draw from, there are 30"),
        ({"n_train_far": 0}, "n_train_far must be at least 1, got 0"),
        ({"n_test_normal": 2}, "n_test_normal=2 needs at least 2 samples to draw from, there are 1"),
        ({"n_close": 0}, "n_test_close=None needs at least 1 samples to draw from, there are 0"),
        ({"validation_anomalies": 60}, "validation_anomalies must leave a far negative to training, got 60"),
        ({"validation_anomalies": 61}, "validation_anomalies=61 needs 61 training anomalies .* there are 60"),
        ({"n_train_normal": 3, "validation_fraction": 0.1}, "validation_fraction must leave .* got 0.1 of 3 samples"),
        ({"seed": -1}, r"seed must lie in \[0, 2\*\*32\), got -1"),
    ],
)
def test_limited_negatives_refuses(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        limited(**options)


def test_given_parts_keeps_the_parts_and_carves_validation_from_what_is_not_a_known_anomaly() -> None:
    split = given_parts(ANOMALY_Y, [1, -1, 0], validation_fraction=0.5)
    assert split.test.tolist() == [0, 1, 2]
    assert split.test_labels.tolist() == [1, -1, 0]
    assert len(split.validation) == 30
    assert members(split.validation_labels) == {0, -1}
    assert np.array_equal(split.validation_labels, ANOMALY_Y[split.validation])
    assert members(split.train) | members(split.validation) == set(range(80))
    assert np.array_equal(split.known, np.array([1, -1, 0])[ANOMALY_Y[split.train]])


def test_given_parts_without_test_part_and_without_labels() -> None:
    split = given_parts([-1, -1, -1], None)
    assert split.train.tolist() == [0, 1, 2]
    assert split.known.tolist() == [0, 0, 0]
    assert len(split.test) == len(split.test_labels) == 0
    assert split.test.dtype == split.test_labels.dtype == np.int64


def test_given_parts_with_a_ratio_forgets_the_labels_of_normals() -> None:
    # 60 not known as anomalies: m = 60 * 0.1 / 0.9 = 6.7 -> 6.
    split = given_parts(ANOMALY_Y, None, labelled_anomaly_ratio=0.1)
    assert Counter(split.known.tolist()) == {0: 60, -1: 6}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stratified_holdout([0, 1, 2]), r"y must lie in \[-1, 2\), got 2"),
        (lambda: stratified_holdout(np.zeros((2, 2), dtype=int)), r"y must be one-dimensional .* got shape \(2, 2\)"),
        (lambda: stratified_holdout(ANOMALY_Y, test_fraction=0.0), r"test_fraction must lie in \(0, 1\), got 0.0"),
        (lambda: stratified_holdout(ANOMALY_Y, test_fraction=1.0), r"test_fraction must lie in \(0, 1\), got 1.0"),
        (lambda: stratified_holdout(ANOMALY_Y, seed=-3), r"seed must lie in \[0, 2\*\*32\), got -3"),
        (lambda: stratified_holdout([0, 1, 1]), "training part must hold a sample that is not labelled an anomaly"),
        (lambda: stratified_holdout([]), "training part must hold a sample"),
        (
            lambda: stratified_holdout(ANOMALY_Y, pollution_ratio=0.1),
            "pollution_ratio must be 0 if labelled_anomaly_ratio is None, got 0.1",
        ),
        (
            lambda: stratified_holdout([0] * 100, labelled_anomaly_ratio=0.1),
            "labelled_anomaly_ratio=0.1 needs 6 training anomalies to draw from, there are 0",
        ),
        (lambda: legacy_leaky_holdout([0, 0, 0, 1]), "test_fraction must leave both kinds .* 3 normal samples and 1"),
        (lambda: legacy_leaky_holdout([1, 1, 1]), "test_fraction must leave both kinds .* 0 normal samples and 3"),
        (lambda: given_parts([1, 1], None), "training part must hold a sample that is not labelled an anomaly"),
        (lambda: given_parts([0, 0], [3]), r"test_y must lie in \[-1, 2\), got 3"),
        (lambda: given_parts([0, 0], None, validation_fraction=0.2), "validation_fraction must leave .* 0.2 of 2"),
    ],
)
def test_anomaly_labelled_splits_refuse(call: Callable[[], Split], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
