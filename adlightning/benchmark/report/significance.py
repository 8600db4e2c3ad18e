"""Wilcoxon signed-rank tests of the best against the second best method (Deep SAD, Section 4.2: alpha = 0.05)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

ALPHA = 0.05
RUN = ["normal", "labelled", "seed"]
"""What pairs a run of one method with a run of another, in the same cell."""


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
