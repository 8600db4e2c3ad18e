from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from adlightning.core.thresholds import Rule, fit_threshold, validate_rule

SCORES = np.arange(101, dtype=np.float64)  # the q quantile is 100 q


def test_quantile_of_normal_scores_leaves_anomalies_out() -> None:
    scores = np.concatenate([SCORES, [1e6, -1e6]])
    for label in (0, -1):
        labels = np.array([label] * 101 + [1, 1])
        assert fit_threshold(scores, labels) == pytest.approx(95)
        assert fit_threshold(scores, labels, "normal_quantile", 0.5) == pytest.approx(50)
    assert fit_threshold(SCORES, None) == pytest.approx(95)


def test_samples_without_label_count_only_where_none_is_known_to_be_normal() -> None:
    labels = np.array([0] * 41 + [-1] * 60)
    assert fit_threshold(SCORES, labels) == pytest.approx(38)  # of 0 to 40: who knows what the others are


@pytest.mark.parametrize(("n", "value"), [(10, 0.1), (10, 0.5), (100, 0.05), (40, 0.25), (7, 1 / 7)])
def test_contamination_puts_that_share_of_all_scores_strictly_above(n: int, value: float) -> None:
    scores = np.random.default_rng(0).permutation(n).astype(np.float64)
    threshold = fit_threshold(scores, np.ones(n), "contamination", value)
    assert np.sum(scores > threshold) == round(n * value)


def test_fixed_is_the_value_itself() -> None:
    assert fit_threshold(SCORES, None, "fixed", -3.5) == -3.5


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_tensors_of_any_precision(dtype: torch.dtype) -> None:
    scores = torch.arange(101).to(dtype).requires_grad_()
    threshold = fit_threshold(scores, torch.zeros(101, dtype=torch.int64))
    assert isinstance(threshold, float)
    assert threshold == pytest.approx(95)


@pytest.mark.parametrize(
    ("rule", "value", "message"),
    [
        ("normal_quantile", 0.0, r"threshold_value must lie in \(0, 1\) for threshold_rule=normal_quantile, got 0.0"),
        ("normal_quantile", 1.0, r"threshold_value must lie in \(0, 1\)"),
        ("normal_quantile", float("nan"), r"threshold_value must lie in \(0, 1\)"),
        ("contamination", 0.0, r"threshold_value must lie in \(0, 0.5\] for threshold_rule=contamination, got 0.0"),
        ("contamination", 0.51, r"threshold_value must lie in \(0, 0.5\]"),
        ("fixed", float("inf"), "threshold_value must be finite for threshold_rule=fixed, got inf"),
        ("quantile", 0.5, "threshold_rule must be one of normal_quantile, contamination, fixed, got 'quantile'"),
    ],
)
def test_bad_rules_are_refused(rule: Any, value: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        validate_rule(rule, value)
    with pytest.raises(ValueError, match=message):
        fit_threshold(SCORES, None, rule, value)


@pytest.mark.parametrize(("rule", "value"), [("normal_quantile", 0.95), ("contamination", 0.5), ("fixed", -1e9)])
def test_good_rules_pass(rule: Rule, value: float) -> None:
    validate_rule(rule, value)


@pytest.mark.parametrize(
    ("scores", "labels", "rule", "message"),
    [
        ([1.0, 2.0], [1, 1], "normal_quantile", "needs scores of samples not labelled anomalies, there are none"),
        ([], None, "contamination", "threshold_rule=contamination needs scores of samples, there are none"),
        ([1.0, float("nan"), float("inf")], None, "contamination", "scores must be finite, 2 of 3 are not"),
        ([[1.0]], None, "contamination", r"scores must have shape \(N,\), got \(1, 1\)"),
        ([1.0, 2.0], [0], "normal_quantile", r"labels must have the shape of scores, \(2,\), got \(1,\)"),
    ],
)
def test_bad_scores_are_refused(scores: Any, labels: Any, rule: Rule, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_threshold(np.array(scores), None if labels is None else np.array(labels), rule, 0.5)
