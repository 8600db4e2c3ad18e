"""Volumes under the surface: values of the authors' code, and what must hold whatever the scores."""

from __future__ import annotations

import numpy as np
import pytest

from adlightning.core.metrics import ranking_metrics
from adlightning.core.range_metrics import volumes_under_surface

STEPS = np.arange(120)
LABELS = np.zeros(120, dtype=np.int64)
for start, stop in ((30, 40), (70, 73), (80, 84)):
    LABELS[start:stop] = 1
SCORES = np.sin(STEPS * 0.7) + 0.5 * np.cos(STEPS * 1.3) + 1.2 * LABELS + 0.8 * np.roll(LABELS, 3)


@pytest.mark.parametrize(
    ("buffer", "vus_roc", "vus_pr"),
    [  # of generate_curve(LABELS, SCORES, buffer) in TSB-AD 1.5
        (0, 0.8720731010850942, 0.6973632650345875),
        (1, 0.8720731010850942, 0.6973632650345875),
        (8, 0.9377991763510776, 0.8274959540986796),
        (21, 0.9634305486650859, 0.8861788967216303),
    ],
)
def test_values_of_the_authors_code(buffer: int, vus_roc: float, vus_pr: float) -> None:
    assert volumes_under_surface(SCORES, LABELS, buffer) == pytest.approx({"vus_roc": vus_roc, "vus_pr": vus_pr})


def test_by_hand() -> None:
    # an event of one row; with a buffer of 2 its neighbours count sqrt(1 - 1 / 2), and the row before is detected first
    labels, scores = np.array([0, 0, 1, 0, 0]), np.array([0.0, 5.0, 4.0, 1.0, 2.0])
    side = np.sqrt(0.5)
    # detected in turn: before, event, row 4, after, row 0
    counted = np.cumsum([side, 1, 0, side, 0])
    recall = np.minimum(counted / (1 + np.cumsum([side, 0, 0, side, 0]) / 2), 1)
    precision = counted / np.arange(1, 6)
    area = np.sum(np.diff(recall, prepend=0) * precision)
    plain = 0.5  # buffers 0 and 1: the event is the second of all
    assert volumes_under_surface(scores, labels, 2)["vus_pr"] == pytest.approx((2 * plain + area) / 3)


def test_perfect_scores_are_perfect_and_no_buffer_leaves_its_stretch() -> None:
    labels = np.array([0] * 20 + [1] * 5 + [0] * 20)
    assert volumes_under_surface(labels, labels, 0) == pytest.approx({"vus_roc": 1.0, "vus_pr": 1.0})
    late = np.roll(labels, 2)
    whole = volumes_under_surface(late, labels, 10)
    cut = volumes_under_surface(late, labels, 10, [(0, 25), (25, 45)])
    assert cut["vus_pr"] < whole["vus_pr"]


def test_without_a_buffer_and_with_one_event_the_roc_area_is_the_usual_one() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 0], [100, 20, 80])
    scores = rng.permutation(200) + 60.0 * labels
    wanted = ranking_metrics(scores, labels)["auroc"]
    assert volumes_under_surface(scores, labels, 0)["vus_roc"] == pytest.approx(wanted, abs=0.01)  # recall 0 at first


@pytest.mark.parametrize(
    ("scores", "labels", "buffer", "message"),
    [
        ([1.0, 2.0], [0, 1, 0], 1, r"shape \(N,\), got \(2,\) and \(3,\)"),
        ([1.0, 2.0], [0, 0], 1, r"labels must be 0 and 1, and both be there, got \[0\]"),
        ([1.0, np.nan], [0, 1], 1, "scores must be finite"),
        ([1.0, 2.0], [0, 1], -1, "buffer must not be negative, got -1"),
    ],
)
def test_refusals(scores: list[float], labels: list[int], buffer: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        volumes_under_surface(scores, labels, buffer)
