"""Curves of the metric over the varying setting: Deep SAD, Figures 2 to 6; DROCC, Figures 7 and 8."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from adlightning.published import class_names, dataset_heading
from adlightning.report.compare import Comparison
from adlightning.report.drawing import (
    Look,
    Picture,
    draw,
    legend_handle,
    looks,
    marker_style,
    metric_label,
    scaled,
)
from adlightning.report.grid import STAR
from adlightning.report.runs import setting_values
from adlightning.report.significance import ALPHA

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LOGARITHMIC = ("eta", "rep_dim", "d", "k")
_WIDE = 30  # times the least value: more is drawn on a logarithmic axis, whatever it is
_MAX_METHODS = 7  # in a panel; more would hide each other


def curves(comparison: Comparison) -> Picture | None:
    """Mean with a band of one standard deviation, a column of panels a data set, published values dashed.

    Where a table has normal classes in rows of their own, each has a column of its own. Many methods are spread over
    several rows of panels. Where there are no runs, published values are drawn alone. A method that the paper prints
    for one setting only does not depend on it, and is drawn as a level line.
    """
    layout, cells = comparison.layout, scaled(comparison.layout, comparison.cells)
    cells = cells.assign(x=[setting_values(setting).get(layout.varies, math.nan) for setting in cells["setting"]])
    cells = cells[cells["x"].notna()]
    if not layout.varies or cells["x"].nunique() < 2 or cells.duplicated(["dataset", "normal", "x", "column"]).any():
        return None
    cells.loc[cells["aside"].astype(bool), ["ours_mean", "ours_std"]] = math.nan
    own = cells[cells["ours_mean"].notna()]
    shown = cells if own.empty else own
    there = set(zip(shown["dataset"], shown["normal"], strict=True))
    groups = [key for key in dict.fromkeys((row.dataset, row.normal) for row in layout.rows) if key in there]
    drawn = [j for j in range(len(layout.columns)) if (shown["column"] == j).any()]
    n_rows = -(-len(drawn) // _MAX_METHODS)
    per_row = -(-len(drawn) // n_rows)
    rows = [drawn[start : start + per_row] for start in range(0, len(drawn), per_row)]
    level = {j for j in drawn if layout.columns[j].only}
    styles = looks(layout)

    def paint(figure: Figure, axes: list[Axes]) -> None:
        for number, panel in enumerate(axes):
            row, group = divmod(number, len(groups))
            dataset, normal = groups[group]
            of_group = cells[(cells["dataset"] == dataset) & (cells["normal"] == normal)]
            ends = float(of_group["x"].min()), float(of_group["x"].max())
            for j in rows[row]:
                _curve(panel, of_group[of_group["column"] == j].sort_values("x"), ends, styles[j], j in level)
            _stars(panel, comparison, of_group[of_group["column"].isin(rows[row])])
            _x_axis(panel, layout.varies, sorted(set(of_group["x"])), label=row == len(rows) - 1)
            panel.grid(axis="y", color="0.92")
            if row == 0:
                alone = [name for name, _ in groups].count(dataset) == 1
                own_class = "" if alone else f", {class_names(dataset).get(normal, normal)}"
                panel.set_title(dataset_heading(dataset) + own_class)
            if group == 0:
                panel.set_ylabel(metric_label(layout))
            if group == len(groups) - 1:
                handles = [legend_handle(layout.columns[j], styles[j], linestyle="-") for j in rows[row]]
                panel.legend(handles=handles, loc="center left", bbox_to_anchor=(1.02, 0.5))

    parts = ["solid: ours, mean with a band of one standard deviation"] if len(own) else []
    parts += ["dashed: published"] if cells["published_mean"].notna().any() else []
    parts += ["level: does not depend on the setting"] if level else []
    parts += [f"{STAR}: best differs from second best (p < {ALPHA})"] if comparison.tests["significant"].any() else []
    caption = f"{metric_label(layout)} over {layout.varies}; {'; '.join(parts)}"
    size = (max(3.5 * len(groups) + 1.8, 6.0), 3.0 * len(rows) + 0.6)
    png = draw(size, (len(rows), len(groups)), comparison.heading, paint, sharey="col")
    return Picture(f"{layout.id}_curves", caption, png)


def _curve(panel: Axes, line: pd.DataFrame, ends: tuple[float, float], look: Look, level: bool) -> None:
    """One method in one panel: ours with its band, published dashed; a level line for a single point that says all."""
    ours, theirs = line[line["ours_mean"].notna()], line[line["published_mean"].notna()]
    solid: dict[str, Any] = {"linewidth": 1.6} | marker_style(look)
    dashed: dict[str, Any] = {"linestyle": "--", "linewidth": 1.1, "color": look.colour}
    if level and len(theirs) == 1:
        panel.plot(ends, [theirs["published_mean"].iloc[0]] * 2, **dashed)
    else:
        alone: dict[str, Any] = (
            {"marker": "_", "markersize": 14} if len(theirs) == 1 else {}
        )  # a line of one point is not seen
        panel.plot(theirs["x"], theirs["published_mean"], **dashed, **alone)
    x, mean, std = (ours[name].tolist() for name in ("x", "ours_mean", "ours_std"))
    if level and len(ours) == 1:
        x, mean, std = list(ends), mean * 2, std * 2
    panel.plot(x, mean, **solid)
    low, high = ([m + sign * s for m, s in zip(mean, std, strict=True)] for sign in (-1, 1))
    panel.fill_between(x, low, high, color=look.colour, alpha=0.08, linewidth=0)


def _stars(panel: Axes, comparison: Comparison, cells: pd.DataFrame) -> None:
    for test in comparison.tests[comparison.tests["significant"]].to_dict("records"):
        at = cells[(cells["row"] == test["row"]) & (cells["column"] == test["first"])]
        for x, y in zip(at["x"], at["ours_mean"], strict=True):
            panel.annotate(STAR, (x, y), (0, 7), textcoords="offset points", ha="center", fontsize=10)


def _x_axis(panel: Axes, name: str, values: list[float], label: bool) -> None:
    """Ticks at the values that were run, without those whose labels would touch."""
    places, positive = values, [value for value in values if value > 0]
    wide = len(positive) == len(values) and max(values) > _WIDE * min(values)
    if positive and (name in _LOGARITHMIC or wide):
        least = min(positive)  # below it, where 0 may lie, the axis goes on straight for a decade
        panel.set_xscale("symlog", linthresh=least) if min(values) <= 0 else panel.set_xscale("log")
        panel.minorticks_off()
        places = [math.log10(value / least) + (min(values) <= 0) if value > 0 else value / least for value in values]
    kept: list[int] = []
    for i, place in enumerate(places):
        if not kept or place - places[kept[-1]] > 0.08 * (places[-1] - places[0]):
            kept.append(i)
    panel.set_xticks([values[i] for i in kept], [f"{values[i]:g}" for i in kept])
    panel.set_xlabel(name if label else "")
