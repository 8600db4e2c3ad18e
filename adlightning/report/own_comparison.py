"""Methods compared on somebody's own data: ranked where there are labels, else by agreement and stability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adlightning.report.drawing import COLOURS, Picture, draw
from adlightning.report.extras import seconds, short
from adlightning.report.grid import Entry, Grid, Line
from adlightning.report.page import Section, html_page

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

N_TOP = 20
"""Samples that are named."""

_MANY = 16  # methods in a picture of all pairs, with numbers in it


@dataclass(frozen=True)
class Trained:
    """A finished fit.

    Args:
        method: its name.
        seed: of weights and split.
        row: what the benchmark's pool keeps of it.
        run: its run folder, with `scores.csv` or `held_out.csv`, and `metrics.json`.
    """

    method: str
    seed: int
    row: Mapping[str, Any]
    run: Path


@dataclass(frozen=True)
class Compared:
    """Methods from the best on.

    Args:
        tested: whether there were labels.
        table: a row a method: of tested ones `auroc`, `low`, `high`, `average_precision`; of all `consensus`,
            `agreement`, `stability` (NaN with nothing to compare with), `seeds`, `fit`, `score` (s), `memory` (MB).
        correlation: Spearman's between the scores of two methods, a mean over seeds.
        top: a row a sample, the most anomalous by all methods first: `name`, `label`, `mean`, and a column a method,
            the share of samples with lower scores.
    """

    tested: bool
    table: pd.DataFrame
    correlation: pd.DataFrame
    top: pd.DataFrame

    @property
    def methods(self) -> list[str]:
        """Their names."""
        return list(self.table.index)

    def lines(self) -> list[str]:
        """The ranking for a terminal."""
        width = max(map(len, self.methods))
        return [f"{name:{width}}  {_words(row, self.tested)}" for name, row in self.table.iterrows()]


def nothing_to_compare(run: Path, tested: bool) -> str | None:
    """Why a finished fit has nothing to be compared by, None where it has.

    Args:
        run: its run folder.
        tested: whether its test samples rank it.
    """
    if not any((run / name).exists() for name in ("scores.csv", "held_out.csv")):
        return "nothing was scored with these options"
    if not tested:
        return None
    report: dict[str, Any] = next(iter(_report(run)["test_sets"].values()), {})
    return None if report.get("metrics") else str(report.get("note", "nothing was tested with these options"))


def compared(trained: Sequence[Trained], tested: bool) -> Compared:
    """Compare finished fits.

    Args:
        trained: at least one, each with something to compare (:func:`nothing_to_compare`).
        tested: whether their scores are of labelled test samples; else of samples held out of training.
    """
    import pandas as pd

    scores = {(one.method, one.seed): _scores(one.run) for one in trained}
    shares = {key: frame["score"].rank(pct=True) for key, frame in scores.items()}
    methods = list(dict.fromkeys(one.method for one in trained))
    correlation = _correlation(shares, methods)
    rows = [_row([one for one in trained if one.method == method], shares, correlation, tested) for method in methods]
    table = pd.DataFrame(rows, index=methods)
    table = table.sort_values(["auroc"] if tested else ["consensus"], ascending=False, kind="stable")
    order = list(table.index)
    return Compared(tested, table, correlation.loc[order, order], _top(scores, shares, order))


def _scores(run: Path) -> pd.DataFrame:
    """Scores of a run by the names of samples: of those tested, else of those held out."""
    import pandas as pd

    tested = run / "scores.csv"
    frame = pd.read_csv(tested if tested.exists() else run / "held_out.csv", converters={"name": str})  # NA is a name
    return frame.drop_duplicates("name").set_index("name")


def _report(run: Path) -> dict[str, Any]:
    import json

    report: dict[str, Any] = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    return report


def _row(
    of: list[Trained], shares: Mapping[tuple[str, int], pd.Series[float]], correlation: pd.DataFrame, tested: bool
) -> dict[str, float]:
    method = of[0].method
    row: dict[str, float] = {"seeds": len(of)}
    if tested:
        found = [next(iter(_report(one.run)["test_sets"].values()))["metrics"] for one in of]
        row["auroc"] = _mean([metrics["auroc"]["value"] for metrics in found])
        row["low"], row["high"] = (_mean([metrics["auroc"]["interval"][end] for metrics in found]) for end in (0, 1))
        row["average_precision"] = _mean([metrics["average_precision"]["value"] for metrics in found])
    own = [shares[one.method, one.seed] for one in of]
    pairs = [(a, b) for i, a in enumerate(own) for b in own[i + 1 :]]
    row["stability"] = _mean([value for a, b in pairs if (value := _spearman(a, b)) == value])
    row["agreement"] = _mean(correlation[method].drop(method).dropna().tolist())
    row["consensus"] = _mean([value for one in of if (value := _with_others(one, shares)) == value])
    for name, keys in {"fit": ("seconds", "fit"), "score": ("seconds", "test")}.items():
        row[name] = _mean([one.row[keys[0]][keys[1]] for one in of if keys[1] in one.row[keys[0]]])
    row["memory"] = _mean([one.row["peak_memory_mb"] for one in of])
    return row


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


def _with_others(one: Trained, shares: Mapping[tuple[str, int], pd.Series[float]]) -> float:
    """How a fit's scores go with the mean of what all other methods say, at the same seed."""
    import pandas as pd

    others = [values for (method, seed), values in shares.items() if seed == one.seed and method != one.method]
    if not others:
        return float("nan")
    return _spearman(shares[one.method, one.seed], pd.concat(others, axis=1).mean(axis=1))


def _spearman(a: pd.Series[float], b: pd.Series[float]) -> float:
    """Rank correlation over the samples of both; NaN where they have fewer than three in common."""
    both = a.index.intersection(b.index)
    return float(a[both].corr(b[both], method="spearman")) if len(both) > 2 else float("nan")


def _correlation(shares: Mapping[tuple[str, int], pd.Series[float]], methods: list[str]) -> pd.DataFrame:
    import pandas as pd

    seeds = dict.fromkeys(seed for _, seed in shares)
    of_seeds = [
        pd.DataFrame({method: shares[method, seed] for method in methods if (method, seed) in shares}).corr("spearman")
        for seed in seeds
    ]
    stacked = pd.concat(of_seeds, keys=range(len(of_seeds)))
    return stacked.groupby(level=1).mean().loc[methods, methods]


def _top(
    scores: Mapping[tuple[str, int], pd.DataFrame],
    shares: Mapping[tuple[str, int], pd.Series[float]],
    methods: list[str],
) -> pd.DataFrame:
    """The samples that are most anomalous by the mean of all methods."""
    import pandas as pd

    of_method = {
        method: pd.concat([values for (one, _), values in shares.items() if one == method], axis=1).mean(axis=1)
        for method in methods
    }
    table = pd.DataFrame(of_method)
    table.insert(0, "mean", table.mean(axis=1))
    labels = pd.concat([frame["label"] for frame in scores.values() if "label" in frame] or [pd.Series(dtype=float)])
    table.insert(0, "label", labels.groupby(level=0).first().reindex(table.index))
    return table.sort_values("mean", ascending=False, kind="stable").head(N_TOP).rename_axis("name").reset_index()


# ---- the page --------------------------------------------------------------------------------------------------------


def comparison_page(
    comparison: Compared, data: str, kind: str, left_out: Mapping[str, str], commands: Mapping[str, str]
) -> str:
    """One HTML page that needs nothing beside itself.

    Args:
        comparison: what was found.
        data: name of the data.
        kind: table, folder, windows or sounds.
        left_out: what is not there, by the reason: methods, or fits with some seeds.
        commands: what to do with the first method, by what it does.
    """
    best = comparison.methods[0]
    facts = [
        ("data", f"{data}, as {kind}"),
        (
            "judged by",
            "AUROC on held-out samples" if comparison.tested else "agreement of methods; there are no labels",
        ),
        ("first", f"{best}: {_words(comparison.table.loc[best], comparison.tested)}"),
        *commands.items(),
        *((f"left out, {reason}", names) for reason, names in left_out.items()),
    ]
    pictures = [_intervals(comparison)] if comparison.tested else []
    pictures += [_pairs(comparison)] if len(comparison.methods) > 1 else []
    sections = [Section(_ranking(comparison), [_samples(comparison)], pictures)]
    return html_page(f"Methods on {data}", facts, sections)


def _words(row: Any, tested: bool) -> str:
    if tested:
        return f"AUROC {row['auroc']:.4f} ({row['low']:.3f} to {row['high']:.3f}), {seconds(row['fit'])} s a fit"
    return f"agrees {row['consensus']:.2f} with the others, {seconds(row['fit'])} s a fit"


def _ranking(comparison: Compared) -> Grid:
    shown = {"agreement": "agrees with others", "stability": "agrees with itself", "seeds": "seeds"}
    lines = []
    for place, (name, row) in enumerate(comparison.table.iterrows()):
        entries = []
        if comparison.tested:
            entries += [
                Entry(f"{row['auroc']:.4f}", bold=place == 0),
                Entry(f"{row['low']:.3f} to {row['high']:.3f}"),
                Entry(f"{row['average_precision']:.4f}"),
            ]
        else:
            entries.append(Entry(_two(row["consensus"]), bold=place == 0))
        entries += [Entry(_two(row["agreement"])), Entry(_two(row["stability"])), Entry(f"{row['seeds']:.0f}")]
        entries += [Entry(seconds(row["fit"])), Entry(seconds(row["score"])), Entry(short(row["memory"]))]
        lines.append(Line("", (Entry(str(name)),), tuple(entries)))
    first = ["AUROC", "95 % interval", "average precision"] if comparison.tested else ["agrees with the mean"]
    remarks = [
        "agreement is Spearman's rank correlation of scores: with each other method, and between seeds of one method",
    ]
    if comparison.tested:
        remarks.append(
            "AUROC and its bootstrap interval are means over seeds, each with its own split. Nothing was chosen on the "
            "test samples, but the first of many is first by luck in part: expect a little less of it on new data."
        )
    else:
        remarks.append("a seed trains on half of the samples and scores the other half, the same half for every method")
        remarks.append(
            "without labels nothing says which method is right: the first agrees most with the mean of the others, "
            "which is a safe choice, not a proof. Samples that all methods find anomalous are worth a look."
        )
    return Grid(
        id="ranking",
        title="Methods",
        caption="Each at its defaults for such data.",
        stub_headings=("method",),
        headings=tuple(Entry(text) for text in [*first, *shown.values(), "fit s", "score s", "peak MB"]),
        lines=tuple(lines),
        remarks=tuple(remarks),
    )


def _samples(comparison: Compared) -> Grid:
    known = comparison.tested and comparison.top["label"].notna().any()
    lines = []
    for row in comparison.top.to_dict("records"):
        label = {0: "normal", 1: "anomaly"}.get(row["label"], "")
        values = [row["mean"], *(row[method] for method in comparison.methods)]
        entries = [Entry(f"{100 * value:.1f}" if value == value else "-") for value in values]
        lines.append(Line("", (Entry(str(row["name"])),), (*((Entry(label),) if known else ()), *entries)))
    return Grid(
        id="samples",
        title="The samples most agreed upon",
        caption="The share of samples, in percent, that a method finds less anomalous than this one.",
        stub_headings=("sample",),
        headings=tuple(Entry(text) for text in [*(["label"] if known else []), "mean", *comparison.methods]),
        lines=tuple(lines),
    )


def _intervals(comparison: Compared) -> Picture:
    table = comparison.table

    def paint(figure: Figure, panels: list[Axes]) -> None:
        axes, places = panels[0], range(len(table))
        axes.hlines(places, table["low"], table["high"], color=COLOURS[0], linewidth=2)
        axes.plot(table["auroc"], places, "o", color=COLOURS[0])
        axes.set_yticks(places, table.index, parse_math=False)
        axes.invert_yaxis()
        axes.set_xlabel("AUROC")
        axes.grid(axis="x", alpha=0.3)

    png = draw((7.4, 1.2 + 0.3 * len(table)), (1, 1), "AUROC and its interval", paint)
    return Picture("intervals", "AUROC on held-out samples with 95 % bootstrap intervals, means over seeds.", png)


def _pairs(comparison: Compared) -> Picture:
    values = comparison.correlation.to_numpy()
    names = list(comparison.correlation.index)

    def paint(figure: Figure, panels: list[Axes]) -> None:
        axes = panels[0]
        shown = axes.imshow(values, vmin=-1, vmax=1, cmap="RdBu")
        axes.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=8, parse_math=False)
        axes.set_yticks(range(len(names)), names, fontsize=8, parse_math=False)
        for i in range(len(names) if len(names) <= _MANY else 0):
            for j in range(len(names)):
                colour = "white" if abs(values[i, j]) > 0.6 else "black"
                axes.text(j, i, f"{values[i, j]:.2f}", ha="center", va="center", fontsize=7, color=colour)
        figure.colorbar(shown, ax=axes, shrink=0.7, label="rank correlation")

    size = 2.6 + 0.42 * len(names)
    return Picture(
        "pairs",
        "Spearman's rank correlation of the scores of two methods, a mean over seeds.",
        draw((size + 0.8, size), (1, 1), "Which methods say the same", paint),
    )


def _two(value: float) -> str:
    return f"{value:.2f}" if value == value else "-"
