from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score, roc_curve
from torch import Tensor

from adlightning.core.metrics import NoRanking, bootstrap_intervals, ranking_metrics
from adlightning.core.score_table import ScoreTable


def test_by_hand_without_ties() -> None:
    # Descending: 6 anomaly, 5 normal, 4 anomaly, 3 normal, 2 normal, 1 normal.
    metrics = ranking_metrics([1, 2, 3, 4, 5, 6], [0, 0, 0, 1, 0, 1])
    assert metrics == {
        "auroc": pytest.approx((4 + 3) / 8),
        "average_precision": pytest.approx((1 / 1 + 2 / 3) / 2),
        "fpr_at_95_tpr": pytest.approx(1 / 4),
        "recall_at_3_fpr": pytest.approx(1 / 2),
        "recall_at_5_fpr": pytest.approx(1 / 2),
        "normal_recall_at_3_fpr": pytest.approx(
            3 / 4
        ),  # the threshold is the lower anomaly's 4: 1, 2 and 3 lie below it
        "normal_recall_at_5_fpr": pytest.approx(3 / 4),
        "f1_at_contamination": pytest.approx(1 / 2),  # calls 6 and 5: one hit, one miss, one false alarm
        "f1_drocc_release": pytest.approx(2 * 4 / (5 + 4)),  # calls 1 to 5 normal, of which 4 is none
    }


def test_by_hand_with_ties() -> None:
    # Score 2 holds an anomaly and a normal sample, score 1 an anomaly, score 0 a normal sample.
    metrics = ranking_metrics([2, 2, 1, 0], [1, 0, 1, 0])
    assert metrics == {
        "auroc": pytest.approx((0.5 + 1 + 0 + 1) / 4),
        "average_precision": pytest.approx((1 / 2 + 2 / 3) / 2),
        "fpr_at_95_tpr": pytest.approx(1 / 2),
        "recall_at_3_fpr": 0.0,
        "recall_at_5_fpr": 0.0,
        "normal_recall_at_3_fpr": pytest.approx(1 / 2),
        "normal_recall_at_5_fpr": pytest.approx(1 / 2),
        "f1_at_contamination": pytest.approx(1 / 2),
        "f1_drocc_release": pytest.approx(2 * 2 / (4 + 2)),  # the percentile is the tie: all four are called normal
    }


def test_ties_at_the_contamination_are_all_called_anomalies() -> None:
    # k = 1, and three samples share the highest score: 1 hit, 2 false alarms.
    assert ranking_metrics([5, 5, 5, 1], [1, 0, 0, 0])["f1_at_contamination"] == pytest.approx(2 / (3 + 1))


def test_constant_scores_rank_nothing() -> None:
    metrics = ranking_metrics(np.zeros(10), [1] * 3 + [0] * 7)
    assert metrics["auroc"] == 0.5
    assert metrics["average_precision"] == pytest.approx(0.3)
    assert metrics["fpr_at_95_tpr"] == 1.0
    assert metrics["recall_at_5_fpr"] == 0.0
    assert metrics["normal_recall_at_5_fpr"] == 0.0  # no one lies below the threshold
    assert metrics["f1_drocc_release"] == pytest.approx(2 * 7 / (10 + 7))  # all are called normal


def test_recall_at_exactly_3_and_5_percent_counts() -> None:
    # 100 normals 0..99. Anomalies: one above all, one with 3, one with 5, one with 6 normals above it.
    scores = np.concatenate([np.arange(100), [200, 96.5, 94.5, 93.5]])
    metrics = ranking_metrics(scores, [0] * 100 + [1] * 4)
    assert metrics["recall_at_3_fpr"] == 0.5
    assert metrics["recall_at_5_fpr"] == 0.75
    assert metrics["fpr_at_95_tpr"] == 0.06


def test_exactly_95_percent_recall_suffices() -> None:
    # 20 anomalies, one of them below every normal sample.
    assert ranking_metrics(np.arange(30), [1] + [0] * 10 + [1] * 19)["fpr_at_95_tpr"] == 0.0


def test_separated_scores_far_outside_the_unit_interval() -> None:
    scores = np.linspace(20, 40, 21)
    metrics = ranking_metrics(scores, scores > 30)
    assert metrics["auroc"] == metrics["average_precision"] == metrics["f1_at_contamination"] == 1.0
    assert ranking_metrics(-scores, scores > 30)["auroc"] == 0.0


def test_neighbouring_floats_are_told_apart() -> None:
    scores = np.array([1e8, np.nextafter(1e8, np.inf)])
    assert ranking_metrics(scores, [0, 1])["auroc"] == 1.0
    assert ranking_metrics(scores, [1, 0])["auroc"] == 0.0


scored = st.lists(st.tuples(st.integers(-5, 5), st.sampled_from([0, 1])), min_size=2, max_size=60).filter(
    lambda rows: len({label for _, label in rows}) == 2
)


@settings(max_examples=80, deadline=None)
@given(rows=scored, seed=st.integers(0, 100))
def test_agrees_with_scikit_learn_and_depends_on_ranks_only(rows: list[tuple[int, int]], seed: int) -> None:
    scores, labels = np.array(rows).T
    metrics = ranking_metrics(scores, labels)
    assert metrics["auroc"] == pytest.approx(roc_auc_score(labels, scores))
    assert metrics["average_precision"] == pytest.approx(average_precision_score(labels, scores))
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    assert metrics["fpr_at_95_tpr"] == pytest.approx(fpr[tpr >= 0.95].min())
    assert metrics["recall_at_3_fpr"] == pytest.approx(tpr[fpr <= 0.03].max())
    assert metrics["recall_at_5_fpr"] == pytest.approx(tpr[fpr <= 0.05].max())
    normality, positive = -scores, labels == 0  # as the released codes have it
    for q in (0.03, 0.05):
        negatives = np.sort(normality[~positive])
        recall = np.mean(normality[positive] > negatives[int((1 - q) * len(negatives))])
        assert metrics[f"normal_recall_at_{100 * q:.0f}_fpr"] == pytest.approx(recall)
    f1 = f1_score(positive, normality >= np.percentile(normality, 20))
    assert metrics["f1_drocc_release"] == pytest.approx(f1)
    order = np.random.default_rng(seed).permutation(len(scores))
    assert ranking_metrics(scores[order], labels[order]) == metrics
    assert ranking_metrics(np.exp(scores) * 1e-6 - 7, labels) == metrics


def test_samples_without_label_are_left_out() -> None:
    scores, labels = np.array([1.0, 9.0, 2.0, 3.0, np.nan]), np.array([0, -1, 0, 1, -1])
    assert ranking_metrics(scores, labels) == ranking_metrics(scores[[0, 2, 3]], labels[[0, 2, 3]])


@pytest.mark.parametrize(
    ("labels", "absent"), [([0, 0, -1], r"anomalies \(label 1\)"), ([1, 1, 1], r"normal samples \(label 0\)")]
)
def test_an_absent_class_is_named(labels: list[int], absent: str) -> None:
    for function in (ranking_metrics, bootstrap_intervals):
        with pytest.raises(NoRanking, match=f"there are no {absent} among 3 samples"):
            function([1.0, 2.0, 3.0], labels)


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([1.0, float("nan"), float("inf")], [0, 1, 1], "scores must be finite, 2 of 3 are not"),
        ([1.0, 2.0], [0, 2], "labels must be 0, 1 or -1, got 1 others among 2"),
        ([1.0, 2.0], [0], r"scores and labels must both have shape \(N,\), got \(2,\) and \(1,\)"),
        ([[1.0, 2.0]], [[0, 1]], r"must both have shape \(N,\)"),
    ],
)
def test_bad_input_is_refused(scores: Any, labels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ranking_metrics(scores, labels)


@pytest.mark.parametrize(
    ("n_anomalies", "at_3", "at_5"),
    [
        (1, 0, 0),  # the threshold is the only anomaly
        (19, 0, 0),  # int(0.95 * 19) = 18: the last of 19
        (20, 0, 0),  # int(0.95 * 20) = 19, so that exactly 5 % are never accepted
        (21, 0, 1),  # int(0.95 * 21) = 19 of 0..20: one anomaly lies beyond the threshold
        (34, 1, 1),  # int(0.97 * 34) = 32 of 0..33
        (100, 2, 4),  # 97 and 95 of 0..99
        (101, 3, 5),  # int(97.97) = 97 and int(95.95) = 95 of 0..100
    ],
)
def test_recall_of_normals_at_accepted_anomalies_by_hand(n_anomalies: int, at_3: int, at_5: int) -> None:
    # Anomalies 0, 1, ...; a normal sample just below each of the first ten, so i + 1 of these lie below anomaly i.
    scores = np.concatenate([np.arange(n_anomalies), np.arange(10) - 0.5])
    metrics = ranking_metrics(scores, np.repeat([1, 0], [n_anomalies, 10]))
    assert metrics["normal_recall_at_3_fpr"] == pytest.approx((at_3 + 1) / 10)
    assert metrics["normal_recall_at_5_fpr"] == pytest.approx((at_5 + 1) / 10)


def test_a_normal_sample_with_the_score_of_the_threshold_is_rejected() -> None:
    assert ranking_metrics([5, 4, 4, 3], [1, 1, 0, 0])["normal_recall_at_3_fpr"] == 0.5
    assert ranking_metrics([5, 4, 4, 4], [1, 1, 0, 0])["normal_recall_at_3_fpr"] == 0.0
    assert ranking_metrics([5, 4, 3, 3], [1, 1, 0, 0])["normal_recall_at_3_fpr"] == 1.0


@pytest.mark.parametrize("n", [29, 66, 93, 534])
def test_a_perfect_detector_gets_0_77_from_the_f1_of_the_drocc_release(n: int) -> None:
    metrics = ranking_metrics(np.arange(2 * n), np.repeat([0, 1], n))
    assert 0.769 <= round(metrics["f1_drocc_release"], 3) <= 0.773
    assert metrics["f1_at_contamination"] == 1.0


@pytest.mark.parametrize(
    ("scores", "labels", "hits", "called"),
    [
        # normality -5..-1, 20th percentile -4.2: four are called normal, three of them are
        ([1, 2, 3, 4, 5], [0, 0, 1, 0, 0], 3, 4),
        # normality -6..-1, 20th percentile exactly -5, which is called normal
        ([1, 2, 3, 4, 5, 6], [0, 0, 0, 1, 0, 1], 4, 5),
        # the percentile lies between two equal scores, both of which are called normal
        ([1, 2, 3, 4, 4], [0, 0, 0, 0, 1], 4, 5),
    ],
)
def test_f1_of_the_drocc_release_by_hand(scores: list[int], labels: list[int], hits: int, called: int) -> None:
    expected = 2 * hits / (called + labels.count(0))
    assert ranking_metrics(scores, labels)["f1_drocc_release"] == pytest.approx(expected)


def test_bootstrap_intervals_hold_the_value_and_narrow_with_more_samples() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [1500, 500])
    scores = rng.normal(size=2000) + labels
    values, intervals = ranking_metrics(scores, labels), bootstrap_intervals(scores, labels)
    assert intervals.keys() == values.keys()
    for name, (low, high) in intervals.items():
        assert 0 <= low < values[name] < high <= 1, name
    few = bootstrap_intervals(scores[::20], labels[::20])["auroc"]
    assert few[1] - few[0] > 2 * (intervals["auroc"][1] - intervals["auroc"][0])
    wider = bootstrap_intervals(scores, labels, confidence=0.99)["auroc"]
    assert wider[0] < intervals["auroc"][0] < intervals["auroc"][1] < wider[1]


def test_bootstrap_width_agrees_with_the_standard_error_of_the_auroc() -> None:
    # Binormal AUROC of 0.76, 400 + 400 samples: Hanley and McNeil (1982) give a standard error of about 0.0168.
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], 400)
    low, high = bootstrap_intervals(rng.normal(size=800) + labels, labels, n_resamples=500)["auroc"]
    assert (high - low) / (2 * 1.96) == pytest.approx(0.0168, rel=0.15)


@pytest.mark.parametrize("n", [60, 30_000])  # all resamples at once, and some after others
def test_bootstrap_measures_each_resample_as_the_metrics_do(n: int) -> None:
    rng = np.random.default_rng(3)
    scores, labels = rng.normal(size=n).round(5 if n > 60 else 1), (np.arange(n) % 3 == 0).astype(int)
    draw = np.random.default_rng(7)
    of_class = [np.flatnonzero(labels == label) for label in (0, 1)]
    resamples = [np.concatenate([draw.choice(members, len(members)) for members in of_class]) for _ in range(5)]
    each = [ranking_metrics(scores[drawn], labels[drawn]) for drawn in resamples]
    for name, interval in bootstrap_intervals(scores, labels, n_resamples=5, confidence=0.5, seed=7).items():
        assert interval == pytest.approx(tuple(np.percentile([one[name] for one in each], [25, 75])), abs=1e-12), name


def test_bootstrap_is_deterministic_and_stratified() -> None:
    scores, labels = np.random.default_rng(2).normal(size=40), np.repeat([0, 1], [39, 1])
    assert bootstrap_intervals(scores, labels, seed=4) == bootstrap_intervals(scores, labels, seed=4)
    assert bootstrap_intervals(scores, labels, seed=4) != bootstrap_intervals(scores, labels, seed=5)
    assert bootstrap_intervals([0, 0, 1], [0, 0, 1], 20)["auroc"] == (1.0, 1.0)  # one anomaly, never lost


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_resamples": 0}, "n_resamples must be at least 1, got 0"),
        ({"confidence": 1.0}, r"confidence must lie in \(0, 1\), got 1.0"),
    ],
)
def test_bad_bootstrap_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bootstrap_intervals([0, 1], [0, 1], **arguments)


def test_table_is_sorted_by_index_and_keeps_the_first_row_of_a_sample() -> None:
    table = ScoreTable()
    table.update(torch.tensor([5.0, 30.0]), torch.tensor([0, 1]), torch.tensor([7, 2]))
    table.update(torch.tensor([9.0, 1.5]), torch.tensor([-1, 0]), torch.tensor([7, 0]))
    scores, labels, index = table.compute()
    assert index.tolist() == [0, 2, 7]
    assert scores.tolist() == [1.5, 30.0, 5.0]
    assert labels.tolist() == [0, 1, 0]
    table.reset()
    table.update(torch.tensor([4.0]), torch.tensor([1]), torch.tensor([3]))
    assert table.compute().scores.tolist() == [4.0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_table_keeps_scores_of_any_precision_exactly(dtype: torch.dtype) -> None:
    scores = (torch.tensor([1, 2, 300], dtype=torch.float64) / 3).to(dtype).requires_grad_()
    table = ScoreTable()
    table.update(scores, torch.zeros(3), torch.arange(3, dtype=torch.int32))
    result = table.compute()
    assert result.scores.tolist() == scores.double().tolist()
    assert [column.dtype.name for column in result] == ["float64", "int64", "int64"]


def test_scored_samples_are_chosen_by_their_index() -> None:
    table = ScoreTable()
    table.update(torch.tensor([5.0, 30.0, 1.5]), torch.tensor([0, 1, 0]), torch.tensor([7, 2, 0]))
    scores, labels, index = table.compute().of(np.array([7, 9, 2]))
    assert (index.tolist(), scores.tolist(), labels.tolist()) == ([2, 7], [30.0, 5.0], [1, 0])


@pytest.mark.filterwarnings("ignore:.*was called before the ``update`` method.*:UserWarning")
def test_table_that_saw_nothing_is_empty() -> None:
    assert [len(column) for column in ScoreTable().compute()] == [0, 0, 0]


@pytest.mark.parametrize(
    "batch",
    [
        (torch.zeros(2, 1), torch.zeros(2), torch.arange(2)),
        (torch.zeros(2), torch.zeros(3), torch.arange(2)),
        (torch.zeros(()), torch.zeros(()), torch.zeros(())),
    ],
)
def test_table_refuses_other_shapes(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    with pytest.raises(ValueError, match=r"scores, labels and index must all have shape \(B,\), got"):
        ScoreTable().update(*batch)


def ranks(other: tuple[Tensor, Tensor, Tensor]) -> ScoreTable:
    """A table on the first of two ranks, of which the other holds `other`. Gathering demands equal types, as NCCL."""
    columns: Iterator[Tensor] = iter(other)

    def gather(mine: Tensor, group: Any) -> list[Tensor]:
        theirs = next(columns)
        assert mine.dtype == theirs.dtype
        return [mine, theirs]

    return ScoreTable(dist_sync_fn=gather, distributed_available_fn=lambda: True)


OTHER = (torch.tensor([8.0, 9.0], dtype=torch.float64), torch.tensor([1, 0]), torch.tensor([2**40 + 1, 0]))


def test_table_over_ranks_counts_a_repeated_sample_once() -> None:
    table = ranks(OTHER)
    table.update(torch.tensor([1.0, 2.0]), torch.tensor([0, 0]), torch.tensor([0, 1]))
    scores, labels, index = table.compute()
    assert index.tolist() == [0, 1, 2**40 + 1]
    assert scores.tolist() == [1.0, 2.0, 8.0]
    assert labels.tolist() == [0, 0, 1]


@pytest.mark.filterwarnings("ignore:.*was called before the ``update`` method.*:UserWarning")
def test_table_on_a_rank_that_saw_nothing_gets_what_the_others_saw() -> None:
    scores, labels, index = ranks(OTHER).compute()
    assert index.tolist() == [0, 2**40 + 1]
    assert scores.tolist() == [9.0, 8.0]
    assert labels.tolist() == [0, 1]
