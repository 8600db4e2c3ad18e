"""The pictures of a table: curves over its setting, ROC, the best two, box plots, ours against published."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adlightning.published import dataset_heading, metrics
from adlightning.report.compare import Comparison
from adlightning.report.curves import curves
from adlightning.report.drawing import (
    Picture,
    draw,
    factor,
    legend_handle,
    looks,
    marker_style,
    metric_label,
    scaled,
)
from adlightning.report.grid import setting_label
from adlightning.report.roc import averaged_roc
from adlightning.report.significance import ALPHA, paired_values, passed_over_remarks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def pictures(comparison: Comparison) -> list[Picture]:
    """All pictures that there is something to draw for."""
    drawn = [curves(comparison), averaged_roc(comparison), best_two(comparison), boxes(comparison)]
    drawn.append(ours_against_published(comparison))
    return [picture for picture in drawn if picture is not None]


def best_two(comparison: Comparison) -> Picture | None:
    """Each pair of runs of the best and the second best method as a point, a panel a row of the table."""
    layout, tests = comparison.layout, comparison.tests
    tests = tests[tests["n_pairs"] > 1]
    if tests.empty:
        return None
    scale = factor(layout)
    done = comparison.runs[comparison.runs["value"].notna()]

    def paint(figure: Figure, axes: list[Axes]) -> None:
        for panel, test in zip(axes, tests.to_dict("records"), strict=False):
            of_row = done[done["row"] == test["row"]]
            first, second = (of_row[of_row["column"] == test[which]] for which in ("first", "second"))
            pairs = paired_values(first, second)
            x, y = pairs["value_2"] * scale, pairs["value_1"] * scale
            panel.plot(x, y, "o", color=looks(layout)[test["first"]].colour, alpha=0.55, markersize=4.5, mew=0)
            _identity(panel, [*x, *y])
            row = layout.rows[test["row"]]
            label = f"{layout.varies} = {setting_label(layout, row)}" if layout.varies else row.normal
            p = f"p = {test['p']:.2g}" + (" *" if test["significant"] else "")
            panel.set_title(f"{dataset_heading(row.dataset)} {label}".strip() + f"\n{p}", fontsize=9)
            panel.set_xlabel(f"2nd {layout.columns[test['second']].heading}", fontsize=9)
            panel.set_ylabel(f"1st {layout.columns[test['first']].heading}", fontsize=9)
        for panel in axes[len(tests) :]:
            panel.set_visible(False)

    per_dataset = tests.groupby("dataset").size().max()
    n_columns = int(per_dataset) if per_dataset > 1 else min(3, len(tests))
    n_columns = min(n_columns, 5)
    n_rows = -(-len(tests) // n_columns)
    size = (max(2.6 * n_columns, 6.0), 2.65 * n_rows + 0.5)
    caption = f"{metric_label(layout)} of the best against the second best method, a point a pair of runs; above the "
    caption += f"line the best is better. *: Wilcoxon signed-rank test, p < {ALPHA}."
    caption += "".join(f" {remark[0].upper()}{remark[1:]}." for remark in passed_over_remarks(layout, comparison.tests))
    png = draw(size, (n_rows, n_columns), f"{comparison.heading}: best against second best", paint)
    return Picture(f"{layout.id}_best_two", caption, png)


def boxes(comparison: Comparison) -> Picture | None:
    """The metric of all runs by method, a panel a data set and value of the varying setting that has repeated runs."""
    layout = comparison.layout
    done = comparison.runs[comparison.runs["value"].notna()]
    counts = done.groupby(["row", "column"]).size()
    rows = {row for row, _ in counts[counts > 1].index}
    if not rows:
        return None
    done = done[done["row"].isin(rows)]
    columns = [j for j in range(len(layout.columns)) if (done["column"] == j).any()]
    settings = [setting_label(layout, row) if layout.varies else "" for row in layout.rows]
    done = done.assign(label=[settings[row] for row in done["row"]])
    shown = list(dict.fromkeys((layout.rows[i].dataset, settings[i]) for i in range(len(settings)) if i in rows))
    styles, scale = looks(layout), factor(layout)

    def paint(figure: Figure, axes: list[Axes]) -> None:
        for panel, key in zip(axes, shown, strict=False):
            here = done[(done["dataset"] == key[0]) & (done["label"] == key[1])]
            for position, j in enumerate(columns):
                values = here.loc[here["column"] == j, "value"].to_numpy() * scale
                if len(values):
                    _box(panel, values, position, styles[j].colour)
            panel.set_yticks(range(len(columns)), [layout.columns[j].heading for j in columns], fontsize=8)
            panel.set_ylim(len(columns) - 0.4, -0.6)
            label = f"{layout.varies} = {key[1]}" if key[1] else ""
            panel.set_title(" ".join(part for part in (dataset_heading(key[0]), label) if part), fontsize=9)
            panel.grid(axis="x", color="0.92")
            panel.tick_params(axis="x", labelsize=8)
            panel.locator_params(axis="x", nbins=5)
        for panel in axes[len(shown) :]:
            panel.set_visible(False)
        figure.supxlabel(metric_label(layout), fontsize=10)

    per_dataset = max(sum(key[0] == dataset for key in shown) for dataset in layout.datasets)
    n_columns = per_dataset if per_dataset > 1 else min(3, len(shown))
    n_rows = -(-len(shown) // n_columns)
    size = (max(2.3 * n_columns + 1.4, 6.0), (0.2 * len(columns) + 0.7) * n_rows + 0.9)
    caption = f"{metric_label(layout)} of all runs: median, quartiles, whiskers to 1.5 times the interquartile range."
    png = draw(size, (n_rows, n_columns), f"{comparison.heading}: all runs", paint, sharey=True)
    return Picture(f"{layout.id}_boxes", caption, png)


def ours_against_published(comparison: Comparison) -> Picture | None:
    """Each cell as a point, published across, ours up; filled where they differ by more than two standard errors.

    Seconds are left out, and averages of which some classes were not run.
    """
    layout, cells = comparison.layout, scaled(comparison.layout, comparison.cells)
    comparable = cells["metric"].map(lambda name: metrics()[name].comparable).astype(bool)
    both = cells[cells["difference"].notna() & cells["covered"].astype(bool) & comparable]
    if both.empty:
        return None
    styles = looks(layout)
    columns = sorted(set(both["column"]))

    def paint(figure: Figure, axes: list[Axes]) -> None:
        from matplotlib.lines import Line2D

        (panel,) = axes
        _identity(panel, [*both["published_mean"], *both["ours_mean"]])
        for cell in both.to_dict("records"):
            look = styles[cell["column"]]
            face = look.colour if cell["outside_2se"] is True else "white"
            style = marker_style(look, 6.5) | {"markerfacecolor": face, "linestyle": "none", "alpha": 0.9}
            panel.plot([cell["published_mean"]], [cell["ours_mean"]], **style)
        panel.set(xlabel=f"published {metric_label(layout)}", ylabel=f"ours {metric_label(layout)}")
        handles = [
            legend_handle(layout.columns[j], styles[j], linestyle="none", markerfacecolor="white") for j in columns
        ]
        filled: dict[str, Any] = {"marker": "o", "linestyle": "none", "color": "0.4"}
        handles.append(Line2D([], [], label="filled: more than two\nstandard errors apart", **filled))
        figure.legend(handles=handles, loc="outside right center")

    caption = (
        "Ours against published, a point a cell; filled points differ by more than two standard errors, hollow ones "
    )
    caption += "do not, or are of single runs."
    png = draw((7.4, 4.9), (1, 1), f"{comparison.heading}: ours against published", paint)
    return Picture(f"{layout.id}_published", caption, png)


# ---- parts -----------------------------------------------------------------------------------------------------------


def _identity(panel: Axes, values: list[float]) -> None:
    low, high = min(values), max(values)
    margin = max(0.06 * (high - low), 0.01 * abs(high))
    ends = (low - margin, high + margin)
    panel.plot(ends, ends, color="0.6", linewidth=1, linestyle="--", zorder=0)
    panel.set(xlim=ends, ylim=ends, aspect="equal")
    panel.locator_params(nbins=4)
    panel.set_yticks(panel.get_xticks())
    panel.set_ylim(ends)


def _box(panel: Axes, values: Any, position: int, colour: str) -> None:
    line: dict[str, Any] = {"color": colour, "linewidth": 1.1}
    panel.boxplot(
        [values],
        positions=[position],
        orientation="horizontal",
        widths=0.6,
        manage_ticks=False,
        patch_artist=True,
        boxprops={"facecolor": colour, "alpha": 0.35, "edgecolor": colour},
        medianprops=line | {"linewidth": 2},
        whiskerprops=line,
        capprops=line,
        flierprops={"marker": ".", "markersize": 3, "markeredgecolor": colour},
    )
