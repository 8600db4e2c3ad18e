"""Wilcoxon signed-rank tests of the best against the second best method (Deep SAD, Section 4.2: alpha = 0.05)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from adlightning.published import Layout, metrics

if TYPE_CHECKING:
    import pandas as pd

ALPHA = 0.05
RUN = ["normal", "labelled", "seed"]
"""What pairs a run of one method with a run of another, in the same cell."""


_NAMES = ["row", "dataset", "setting", "normal", "first", "second", "first_mean", "second_mean"]
_NAMES += ["n_pairs", "p", "significant", "passed_over"]


class SignedRankTest(NamedTuple):
    """A paired two-sided test.

    Args:
        n_pairs: pairs of runs.
        p: p-value, NaN without a pair.
    """

    n_pairs: int
    p: float

    @property
    def significant(self) -> bool:
        """Whether p is below 0.05."""
        return self.p < ALPHA


def best_two_tests(layout: Layout, cells: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Best against second best of each row, where the table has such tests.

    Columns that only we have take no part beside a paper's. One that has the runs of the best (with no labels, SSAD is
    the OC-SVM) is no second best: the next that differs is taken, and `passed_over` holds the columns before it.

    Args:
        layout: of the table.
        cells: of a comparison.
        runs: with `row`, `column` and `value`.
    """
    import pandas as pd

    takes_part = [j for j, column in enumerate(layout.columns) if column.printed or not layout.printed]
    there = cells["column"].isin(takes_part) & cells["ours_mean"].notna() & ~cells["aside"].astype(bool)
    entered = cells[there] if layout.test else cells.iloc[:0]
    done = runs[runs["value"].notna()]
    tests = []
    for i, group in entered.groupby("row"):
        down = metrics()[layout.rows[int(str(i))].metric].lower_is_better
        order = group.sort_values("ours_mean", ascending=down, kind="stable").to_dict("records")
        of_row = done[done["row"] == i]
        tests += _best_two_test(order, {j: of_row[of_row["column"] == j] for j in group["column"]})
    return pd.DataFrame(tests, columns=_NAMES)


def _best_two_test(cells: Sequence[dict[Any, Any]], runs: Mapping[int, pd.DataFrame]) -> list[dict[str, Any]]:
    """The test of a row whose cells are given from the best on; none where there are no two to compare."""
    cells = [cell for cell in cells if len(runs[cell["column"]])]  # an average over classes has no runs of its own
    passed_over: list[int] = []
    for second in cells[1:]:
        first = cells[0]
        pairs = paired_values(runs[first["column"]], runs[second["column"]])
        if _same_runs(pairs):
            passed_over.append(second["column"])
            continue
        test = signed_rank_test(pairs["value_1"].tolist(), pairs["value_2"].tolist())
        return [
            {
                **{name: first[name] for name in ("row", "dataset", "setting", "normal")},
                **{"first": first["column"], "second": second["column"]},
                **{"first_mean": first["ours_mean"], "second_mean": second["ours_mean"]},
                **{"n_pairs": test.n_pairs, "p": test.p, "significant": test.significant, "passed_over": passed_over},
            }
        ]
    return []


def passed_over_remarks(layout: Layout, tests: pd.DataFrame) -> tuple[str, ...]:
    """Which columns were no second best to another, having the same runs."""
    headings = [column.heading for column in layout.columns]
    records = tests.to_dict("records")
    same = dict.fromkeys((headings[j], headings[test["first"]]) for test in records for j in test["passed_over"])
    return tuple(
        f"where {one} has the very values of {other}, the best, {other} is compared with the next that differs"
        for one, other in same
    )


def _same_runs(pairs: pd.DataFrame) -> bool:
    """Whether all pairs are of equal values; but perfect scores alone are a tie of different methods."""
    same = pairs["value_1"] == pairs["value_2"]
    return bool(len(pairs) and same.all() and (pairs["value_1"] != 1.0).any())


def paired_values(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Runs of two methods side by side, as `value_1` and `value_2`.

    Args:
        first: runs with normal class, labelled class, seed and value.
        second: likewise.

    A method without use for labels is run once for all labelled classes, so that its run pairs with each of them.
    """
    keys = RUN if (first["labelled"] == "").all() == (second["labelled"] == "").all() else ["normal", "seed"]
    columns = [*RUN, "value"]
    return first[columns].merge(second[columns], on=keys, suffixes=("_1", "_2"))


def signed_rank_test(first: Sequence[float], second: Sequence[float]) -> SignedRankTest:
    """Wilcoxon signed-rank test of paired values, two-sided; pairs without difference are dropped."""
    import numpy as np
    from scipy.stats import wilcoxon

    difference = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    if len(difference) == 0:
        return SignedRankTest(0, float("nan"))
    if not difference.any():
        return SignedRankTest(len(difference), 1.0)
    return SignedRankTest(len(difference), float(wilcoxon(difference).pvalue))
