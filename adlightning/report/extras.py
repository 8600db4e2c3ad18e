"""The small tables beside a comparison: significance tests, seconds and memory; and what was run, in a few lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from adlightning.published import dataset_heading
from adlightning.report.compare import Comparison
from adlightning.report.grid import STAR, Entry, Grid, Line, grouped, row_stubs
from adlightning.report.runs import one_a_fit
from adlightning.report.significance import ALPHA, passed_over_remarks

if TYPE_CHECKING:
    import pandas as pd

_COSTS = {"seconds.fit": "fit s", "seconds.test": "score s", "peak_memory_mb": "peak MB"}


def significance_grid(comparison: Comparison) -> Grid | None:
    """Best against second best in each row of the table; None when nothing was tested."""
    tests, layout = comparison.tests, comparison.layout
    if tests.empty:
        return None
    labels, headings = row_stubs(layout)
    factor = 100.0 if layout.scale == "percent" else 1.0
    lines = []
    for test in tests.to_dict("records"):
        best, second = (
            f"{layout.columns[int(test[which])].heading} {test[f'{which}_mean'] * factor:.{layout.decimals}f}"
            for which in ("first", "second")
        )
        p = f"{test['p']:.2g}" + (f" {STAR}" if test["significant"] else "")
        stub = tuple(Entry(label) for label in labels[int(test["row"])])
        lines.append(Line("", stub, (Entry(best), Entry(second), Entry(str(test["n_pairs"])), Entry(p))))
    return Grid(
        id=f"{layout.id}_tests",
        title="Best against second best",
        caption="Wilcoxon signed-rank test, two-sided, over pairs of runs with the same normal class, labelled class "
        "and seed; a run without labelled class pairs with those of every labelled class.",
        stub_headings=headings,
        headings=tuple(Entry(text) for text in ("best", "second best", "pairs", "p")),
        lines=tuple(lines),
        remarks=(
            f"{STAR}: p < {ALPHA}, without correction for the number of tests",
            *passed_over_remarks(layout, comparison.tests),
        ),
    )


def costs_grid(comparison: Comparison) -> Grid | None:
    """Mean seconds of training and of scoring, and peak memory, by method and data set; None without finished runs."""
    layout, runs = comparison.layout, comparison.runs
    done = runs[(runs["status"] == "done") & runs["column"].notna()]
    there = {name: text for name, text in _COSTS.items() if name in done and done[name].notna().any()}
    if done.empty or not there:
        return None
    datasets = [name for name in layout.datasets if (done["dataset"] == name).any()]
    means = done.groupby(["column", "dataset"])[list(there)].mean()
    lines = []
    for j, column in enumerate(layout.columns):
        for name, text in there.items():
            values = [float(means[name].get((j, dataset), float("nan"))) for dataset in datasets]
            if any(value == value for value in values):
                stub = (Entry(column.heading), Entry(text))
                shown = short if name == "peak_memory_mb" else seconds
                lines.append(Line(text, stub, tuple(Entry(shown(value)) for value in values)))
    devices = ", ".join(sorted(set(done["device"]) - {""}))
    return Grid(
        id=f"{layout.id}_costs",
        title="Seconds and memory",
        caption="Mean of the finished runs" + (f", on {devices}." if devices else "."),
        stub_headings=("method", ""),
        headings=tuple(Entry(dataset_heading(name)) for name in datasets),
        lines=grouped(lines),
    )


def overview(runs: pd.DataFrame, comparisons: Sequence[Comparison]) -> list[tuple[str, str]]:
    """What was run: tables, runs, failures, code versions, devices, time; nothing but the tables without runs."""
    tables = [("tables", ", ".join(comparison.layout.id for comparison in comparisons))]
    if runs.empty:
        return [*tables, ("runs", "none; published numbers alone")]
    runs = one_a_fit(runs)
    failed = int((runs["status"] == "failed").sum())
    grids = [("grid", title) for title in dict.fromkeys(runs["title"]) if title]
    facts = [*grids, ("runs", f"{len(runs) - failed} done, {failed} failed")]
    cells = sum(int((comparison.cells["ours_n"] > 0).sum()) for comparison in comparisons)
    compared = sum(int(comparison.cells["difference"].notna().sum()) for comparison in comparisons)
    outside = sum(int((comparison.cells["outside_2se"] == True).sum()) for comparison in comparisons)  # noqa: E712
    facts.append(
        ("cells", f"{cells} with runs, {compared} beside a published value, {outside} outside two standard errors")
    )
    codes = sorted(set(runs["code"]) - {""})
    told = ", ".join(codes) or "not stated"
    facts.append(("code", told if len(codes) < 9 else f"{len(codes)} digests of the code behind each method"))
    facts.append(("device", ", ".join(sorted(set(runs["device"]) - {""})) or "not stated"))
    if "seconds.total" in runs and runs["seconds.total"].notna().any():
        facts.append(("computing time", _duration(float(runs["seconds.total"].sum()))))
    if finished := sorted(set(runs["finished"]) - {""}):
        facts.append(("finished", f"{finished[0]} to {finished[-1]}"))
    return [*tables, *facts]


def short(value: float) -> str:
    """A number of three digits, or whole from 100 on."""
    if value != value:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def seconds(value: float) -> str:
    """Seconds of rows, which have milliseconds."""
    if value < 0.001:
        return "<0.001"
    return f"{value:.3f}" if value < 0.1 else short(value)


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{seconds:.0f} s" if seconds < 120 else f"{minutes} min"
