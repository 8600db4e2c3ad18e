"""Methods ranked over cells of data set and class: Friedman's test, then Wilcoxon's of each pair, corrected by Holm.

Demšar, "Statistical comparisons of classifiers over multiple data sets" (2006), with the pairwise tests that Benavoli
et al., "Should we really use post-hoc tests based on mean-ranks?" (2016) put in the place of Nemenyi's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from adlightning.published import metrics
from adlightning.report.significance import ALPHA, signed_rank_test

if TYPE_CHECKING:
    import pandas as pd

CELL = ["paper", "table", "dataset", "setting", "test_set", "normal"]
"""What a cell is: a data set, a class, and what else a run shares with the runs that it is compared with."""

_MOST_TOLD = 4


@dataclass(frozen=True)
class Pair:
    """Two methods over all cells.

    Args:
        p: of the signed-rank test, two-sided.
        adjusted: the same, corrected for the number of pairs by Holm.
    """

    first: str
    second: str
    p: float
    adjusted: float

    @property
    def differs(self) -> bool:
        """Whether the corrected p-value is below 0.05."""
        return self.adjusted < ALPHA


@dataclass(frozen=True)
class Ranking:
    """Methods from the best mean rank on.

    Args:
        metric: its name.
        values: means over seeds, a row a cell, a column a method in the order of the ranking.
        ranks: of each method in each cell, 1 for the best, the mean rank for ties; like `values`.
        friedman: p-value of Friedman's test; None for fewer than three methods.
        pairs: each pair of methods.
        left_out: why a method has no rank, by its name.
    """

    metric: str
    values: pd.DataFrame
    ranks: pd.DataFrame
    friedman: float | None
    pairs: tuple[Pair, ...]
    left_out: dict[str, str]

    @property
    def methods(self) -> list[str]:
        """Their names."""
        return list(self.values.columns)

    def groups(self) -> list[tuple[int, int]]:
        """First and last of each longest row of neighbours of which no two differ; of at least two methods."""
        differ = {frozenset((pair.first, pair.second)) for pair in self.pairs if pair.differs}
        found: list[tuple[int, int]] = []
        for first in range(len(self.methods)):
            last = first
            while last + 1 < len(self.methods) and not any(
                frozenset((self.methods[i], self.methods[last + 1])) in differ for i in range(first, last + 1)
            ):
                last += 1
            if last > first and not (found and found[-1][1] >= last):
                found.append((first, last))
        return found


def rank_methods(runs: pd.DataFrame, metric: str) -> Ranking:
    """Rank the methods of runs over all of their cells.

    Runs of a method in a cell, over seeds and labelled classes, are averaged first. A method that lacks a cell which
    another has, or was chosen on test data, is left out and named.

    Args:
        runs: as :func:`adlightning.report.runs.runs_frame` gives them.
        metric: name of a metric that they have.

    Raises:
        ValueError: no run has this metric, or fewer than two methods or cells are left.
    """
    import numpy as np
    from scipy.stats import friedmanchisquare

    column = f"metrics.{metric}"
    if column not in runs or not runs[column].notna().any():
        raise ValueError(f"metric: no run has {metric}")
    done = runs[(runs["status"] == "done") & runs[column].notna()]
    done = done.assign(name=[_name(*pair) for pair in zip(done["method"], done["variant"], strict=True)])
    oracle = sorted(set(done.loc[done["selection"].str.startswith("oracle"), "name"]))
    left_out = dict.fromkeys(oracle, "chosen on test data (oracle)")
    values = done[~done["name"].isin(oracle)].pivot_table(column, CELL, "name", aggfunc="mean")
    missing = values.isna().sum()
    left_out |= {name: f"lacks {n} of {len(values)} cells" for name, n in missing.items() if n}
    values = values[[name for name, n in missing.items() if not n]]
    if values.shape[1] < 2 or len(values) < 2:
        told = [f"{name} {reason}" for name, reason in left_out.items()]
        reasons = "; ".join(told[:_MOST_TOLD]) + (f"; {len(told) - _MOST_TOLD} more" if len(told) > _MOST_TOLD else "")
        raise ValueError(
            f"results must have two methods with the same two cells or more to rank, there are {values.shape[1]} "
            f"methods with all of {len(values)} cells" + (f": {reasons}" if reasons else "")
        )
    down = metrics()[metric].lower_is_better if metric in metrics() else False
    ranks = values.rank(axis=1, ascending=down)
    order = ranks.mean().sort_values(kind="stable").index
    values, ranks = values[order], ranks[order]
    friedman = None
    if len(order) > 2:
        tied = bool(np.ptp(ranks.to_numpy()) == 0)
        friedman = 1.0 if tied else float(friedmanchisquare(*values.to_numpy().T).pvalue)
    return Ranking(metric, values, ranks, friedman, _pairs(values), left_out)


def _name(method: str, variant: str) -> str:
    return f"{method} ({variant})" if variant else method


def _pairs(values: pd.DataFrame) -> tuple[Pair, ...]:
    names = list(combinations(values.columns, 2))
    p = [signed_rank_test(values[a].tolist(), values[b].tolist()).p for a, b in names]
    return tuple(Pair(*pair, *both) for pair, both in zip(names, zip(p, holm(p), strict=True), strict=True))


def holm(p: Sequence[float]) -> list[float]:
    """P-values corrected for their number (Holm 1979): the k-th smallest of m times m - k + 1, never falling."""
    adjusted = [0.0] * len(p)
    largest = 0.0
    for number, place in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        largest = max(largest, min(1.0, (len(p) - number) * p[place]))
        adjusted[place] = largest
    return adjusted
