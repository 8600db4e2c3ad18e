"""Best against second best: the test by hand and as scipy has it, which columns it compares, how runs pair."""

from __future__ import annotations

import math

import pytest
from scipy.stats import wilcoxon
from test_report_compare import MNIST_3, compared, runs
from test_report_rows import row

from adlightning.report.significance import passed_over_remarks, signed_rank_test


def test_signed_rank_test_is_scipys() -> None:
    first = [0.91, 0.93, 0.97, 0.92, 0.95, 0.99, 0.90, 0.94]
    second = [0.90, 0.91, 0.92, 0.93, 0.90, 0.92, 0.82, 0.90]
    test = signed_rank_test(first, second)
    assert test.n_pairs == 8
    assert test.p == pytest.approx(float(wilcoxon(first, second).pvalue))
    assert test.significant


def test_signed_rank_test_without_difference_or_pairs() -> None:
    assert signed_rank_test([0.5, 0.6], [0.5, 0.6]).p == 1.0
    assert math.isnan(signed_rank_test([], []).p)
    assert not signed_rank_test([], []).significant


def test_best_against_second_best_over_the_same_runs() -> None:
    best = [0.95, 0.96, 0.97, 0.98, 0.99, 0.96, 0.97]
    second = [0.94, 0.94, 0.94, 0.94, 0.94, 0.90, 0.90]
    rows = runs(best) + runs(second, method="cae") + runs([0.3] * 7, method="supervised")
    rows += runs([0.999] * 7, variant="released")  # not the paper's: takes no part
    (test,) = compared(rows).tests.to_dict("records")
    assert (test["dataset"], test["n_pairs"]) == ("cardio", 7)
    assert test["first_mean"] == pytest.approx(sum(best) / 7)
    assert test["p"] == pytest.approx(2 / 2**7)  # seven differences of one sign
    assert test["significant"]


def test_the_same_runs_are_no_second_best() -> None:
    best = [0.95, 0.96, 0.97, 0.98, 0.99, 0.96, 0.97]
    third = [value - 0.001 * (seed + 1) for seed, value in enumerate(best)]
    columns = {("ssad", "raw"): best, ("ocsvm", "raw"): best, ("cae", ""): third}
    comparison = compared([r for (m, v), values in columns.items() for r in runs(values, method=m, variant=v)])
    (test,) = comparison.tests.to_dict("records")
    headings = [column.heading for column in comparison.layout.columns]
    assert headings[test["second"]] == "CAE"
    assert {headings[j] for j in (test["first"], *test["passed_over"])} == {"SSAD Raw", "OC-SVM Raw"}
    assert test["p"] == pytest.approx(2 / 2**7)
    assert passed_over_remarks(comparison.layout, comparison.tests) == (
        "where SSAD Raw has the very values of OC-SVM Raw, the best, OC-SVM Raw is compared with the next that differs",
    )


def test_one_differing_run_makes_a_second_best_and_nothing_else_none() -> None:
    values = [0.95, 0.96, 0.97]
    (test,) = compared(runs(values) + runs([*values[:2], 0.9], method="cae")).tests.to_dict("records")
    assert (test["n_pairs"], test["passed_over"]) == (3, [])
    assert compared(runs(values) + runs(values, method="cae")).tests.empty


def test_perfect_scores_are_a_tie() -> None:
    rows = runs([1.0] * 6) + runs([1.0] * 6, method="cae") + runs([0.9] * 6, method="supervised")
    (test,) = compared(rows).tests.to_dict("records")
    assert (test["p"], test["passed_over"], test["significant"]) == (1.0, [], False)


def test_a_run_without_labelled_class_pairs_with_each() -> None:
    labelled = [
        row(**MNIST_3, normal=str(n), labelled=str((n + k) % 10), value=0.9 + 0.001 * (n + k))
        for n in range(3)
        for k in (1, 2)
    ]
    plain = [row(**MNIST_3, normal=str(n), method="cae", value=0.8) for n in range(3)]
    (test,) = compared(labelled + plain, "deep_sad_table3").tests.to_dict("records")
    assert test["n_pairs"] == 6
