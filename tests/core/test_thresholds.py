from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from adlightning.core.thresholds import Contamination, FixedThreshold, NormalQuantile, ThresholdRule, fit_threshold

SCORES = np.arange(101, dtype=np.float64)  # the q quantile is 100 q


def test_quantile_of_normal_scores_leaves_anomalies_out() -> None:
    scores = np.concatenate([SCORES, [1e6, -1e6]])
    for label in (0, -1):
        labels = np.array([label] * 101 + [1, 1])
        assert fit_threshold(NormalQuantile(), scores, labels) == pytest.approx(95)
        assert fit_threshold(NormalQuantile(0.5), scores, labels) == pytest.approx(50)
    assert fit_threshold(NormalQuantile(), SCORES) == pytest.approx(95)


def test_samples_without_label_count_only_where_none_is_known_to_be_normal() -> None:
    labels = np.array([0] * 41 + [-1] * 60)
    assert fit_threshold(NormalQuantile(), SCORES, labels) == pytest.approx(
        38
    )  # of 0 to 40: who knows what the others are


@pytest.mark.parametrize(("n", "value"), [(10, 0.1), (10, 0.5), (100, 0.05), (40, 0.25), (7, 1 / 7)])
def test_contamination_puts_that_share_of_all_scores_strictly_above(n: int, value: float) -> None:
    scores = np.random.default_rng(0).permutation(n).astype(np.float64)
    threshold = fit_threshold(Contamination(value), scores, np.ones(n))
    assert np.sum(scores > threshold) == round(n * value)


def test_fixed_is_the_value_itself() -> None:
    assert fit_threshold(FixedThreshold(-3.5), SCORES) == -3.5


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_tensors_of_any_precision(dtype: torch.dtype) -> None:
    scores = torch.arange(101).to(dtype).requires_grad_()
    threshold = fit_threshold(NormalQuantile(), scores, torch.zeros(101, dtype=torch.int64))
    assert isinstance(threshold, float)
    assert threshold == pytest.approx(95)


@pytest.mark.parametrize(
    ("rule", "value", "message"),
    [
        (NormalQuantile, 0.0, r"quantile must lie in \(0, 1\), got 0.0"),
        (NormalQuantile, 1.0, r"quantile must lie in \(0, 1\), got 1.0"),
        (NormalQuantile, float("nan"), r"quantile must lie in \(0, 1\), got nan"),
        (NormalQuantile, "much", r"quantile must lie in \(0, 1\), got 'much'"),
        (Contamination, 0.0, r"share must lie in \(0, 0.5\], got 0.0"),
        (Contamination, 0.51, r"share must lie in \(0, 0.5\], got 0.51"),
        (FixedThreshold, float("inf"), "value must be finite, got inf"),
    ],
)
def test_values_outside_their_range_are_refused(rule: Any, value: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rule(value)


@dataclass(frozen=True)
class Largest(ThresholdRule):
    """A rule of one's own."""

    def fit(self, scores: NDArray[np.float64], labels: NDArray[Any] | None) -> float:
        return float(scores.max())


def test_a_rule_of_ones_own() -> None:
    assert fit_threshold(Largest(), SCORES) == 100


@pytest.mark.parametrize(
    ("scores", "labels", "rule", "message"),
    [
        ([1.0, 2.0], [1, 1], NormalQuantile(), "needs scores of samples not labelled anomalies, there are none"),
        ([], None, Contamination(), "threshold=Contamination needs scores of samples, there are none"),
        ([1.0, float("nan"), float("inf")], None, Contamination(), "scores must be finite, 2 of 3 are not"),
        ([[1.0]], None, Contamination(), r"scores must have shape \(N,\), got \(1, 1\)"),
        ([1.0, 2.0], [0], NormalQuantile(), r"labels must have the shape of scores, \(2,\), got \(1,\)"),
    ],
)
def test_bad_scores_are_refused(scores: Any, labels: Any, rule: ThresholdRule, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_threshold(rule, np.array(scores), None if labels is None else np.array(labels))


@pytest.mark.parametrize("given", [float("nan"), "high", None])
def test_a_rule_that_gives_no_number_is_named(given: Any) -> None:
    class Odd(ThresholdRule):
        def fit(self, scores: Any, labels: Any) -> Any:
            return given

    with pytest.raises(ValueError, match=f"threshold: Odd.fit must give a number, got {given!r}"):
        fit_threshold(Odd(), np.ones(3))


@pytest.mark.parametrize(("n", "share"), [(1, "50%"), (6, "18%"), (16, "10%"), (17, None), (100, None), (0, None)])
def test_a_quantile_of_few_scores_is_doubted(n: int, share: str | None) -> None:
    # with 6 scores the quantile lies at the 5.75th, above 5.75 / 7 of new ones
    doubt = NormalQuantile(quantile=0.95).doubt(n)
    assert (doubt is None) == (share is None)
    assert share is None or f"about {share} of new normal ones lie above it, where 0.05 is meant" in str(doubt)
