"""A ranking as tables, and as the critical-difference diagram of Demšar (2006)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adlightning.published import dataset_heading, metrics
from adlightning.report.drawing import COLOURS, Picture, draw
from adlightning.report.grid import STAR, Entry, Grid, Line
from adlightning.report.page import Section
from adlightning.report.ranks import Ranking
from adlightning.report.significance import ALPHA

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def rank_section(ranking: Ranking) -> Section:
    """The table of ranks, the tests of pairs below it, and the diagram between them."""
    return Section(_ranks_grid(ranking), [_pairs_grid(ranking)], [diagram(ranking)])


def rank_facts(ranking: Ranking) -> list[tuple[str, str]]:
    """What was ranked, in a few lines."""
    data_sets = dict.fromkeys(dataset_heading(name) for name in ranking.values.index.get_level_values("dataset"))
    facts = [
        ("cells", f"{len(ranking.values)} of {', '.join(data_sets)}"),
        ("methods", f"{len(ranking.methods)} ranked, {len(ranking.left_out)} left out"),
    ]
    if ranking.friedman is not None:
        verdict = "the methods differ" if ranking.friedman < ALPHA else "no difference between the methods is shown"
        facts.append(("Friedman's test", f"p = {ranking.friedman:.2g}: {verdict}"))
    return facts


def _ranks_grid(ranking: Ranking) -> Grid:
    known = metrics().get(ranking.metric)
    heading = known.heading if known else ranking.metric
    down = known is not None and known.lower_is_better
    best = ranking.ranks.eq(ranking.ranks.min(axis=1), axis=0)
    lines = [
        Line(
            "",
            (Entry(name),),
            (
                Entry(f"{ranking.ranks[name].mean():.2f}", bold=place == 0),
                Entry(f"{ranking.values[name].mean():.4f}"),
                Entry(f"{ranking.values[name].max() if down else ranking.values[name].min():.4f}"),
                Entry(str(int(best[name].sum()))),
            ),
        )
        for place, name in enumerate(ranking.methods)
    ]
    remarks = [f"left out: {name}, which {_as_clause(reason)}" for name, reason in ranking.left_out.items()]
    remarks.append("classes of one data set are no independent samples: p-values are optimistic where cells are such")
    return Grid(
        id="ranks",
        title="Mean ranks",
        caption=f"Of {heading} over {len(ranking.values)} cells of data set and class, 1 is the best. Runs of a cell "
        "are averaged over seeds, and over labelled classes, first.",
        stub_headings=("method",),
        headings=tuple(Entry(text) for text in ("mean rank", f"mean {heading}", "worst cell", "cells best")),
        lines=tuple(lines),
        remarks=tuple(remarks),
    )


def _pairs_grid(ranking: Ranking) -> Grid:
    ordered = sorted(ranking.pairs, key=lambda pair: pair.adjusted)
    lines = [
        Line(
            "",
            (Entry(pair.first), Entry(pair.second)),
            (Entry(f"{pair.p:.2g}"), Entry(f"{pair.adjusted:.2g}" + (f" {STAR}" if pair.differs else ""))),
        )
        for pair in ordered
    ]
    n_cells, smallest = len(ranking.values), 2.0 ** (1 - len(ranking.values)) * len(lines)
    remarks = [f"{STAR}: p < {ALPHA} after Holm's correction for {len(lines)} pairs"]
    if smallest >= ALPHA:
        least = f"{min(smallest, 1):.2g} is the least that {n_cells} cells and {len(lines)} pairs allow"
        remarks.append(f"no pair can differ at {ALPHA}: {least}")
    return Grid(
        id="rank_pairs",
        title="Pairs",
        caption="Wilcoxon signed-rank test over the cells, two-sided; the better mean rank first.",
        stub_headings=("better", "worse"),
        headings=(Entry("p"), Entry("p, Holm")),
        lines=tuple(lines),
        remarks=tuple(remarks),
    )


def diagram(ranking: Ranking) -> Picture:
    """Methods on an axis of mean ranks; a bar joins neighbours of which no two differ."""
    n = len(ranking.methods)
    means, half = ranking.ranks.mean().tolist(), (n + 1) // 2
    groups = ranking.groups()
    below = 0.6 + 0.28 * len(groups)

    def paint(figure: Figure, panels: list[Axes]) -> None:
        axes = panels[0]
        axes.set(xlim=(1 - 0.35 * (n - 1), n + 0.35 * (n - 1)), ylim=(below + 0.62 * half + 0.2, -0.75))
        axes.axis("off")
        axes.plot([1, n], [0, 0], color="black", linewidth=1.2)
        for rank in range(1, n + 1):
            axes.plot([rank, rank], [0, -0.14], color="black", linewidth=1.2)
            axes.text(rank, -0.22, str(rank), ha="center", va="bottom", fontsize=9)
        for place, (name, mean) in enumerate(zip(ranking.methods, means, strict=True)):
            left = place < half
            row = place if left else n - 1 - place
            end, height = (1 - 0.04 * n if left else n + 0.04 * n), below + 0.62 * row + 0.3
            axes.plot([mean, mean, end], [0, height, height], color=COLOURS[0] if place == 0 else "0.35", linewidth=1)
            axes.text(
                end,
                height,
                f" {name}  {mean:.2f} ",
                ha="right" if left else "left",
                va="center",
                fontsize=9,
                parse_math=False,
            )
        for number, (first, last) in enumerate(groups):
            height = 0.35 + 0.28 * number
            axes.plot([means[first] - 0.03, means[last] + 0.03], [height, height], color=COLOURS[1], linewidth=4)

    png = draw((8.6, 1.3 + 0.27 * (below + half)), (1, 1), "Mean ranks", paint)
    caption = "Mean ranks; a bar joins methods of which no two differ (Wilcoxon signed-rank tests, Holm, 0.05)."
    return Picture("ranks", caption, png)


def _as_clause(reason: str) -> str:
    return f"was {reason}" if reason.startswith("chosen") else reason
