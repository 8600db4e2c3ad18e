"""Scores over time, with the threshold and the true events: a picture for sensors and other rows in an order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adlightning.callbacks.plots import COLOURS, score_axis, titled_figure
from adlightning.core.metrics import ScoredSamples
from adlightning.data.sources.sensor_table import SensorTable, Stretch
from adlightning.data.windows import Windows
from adlightning.labels import ANOMALY, NORMAL

MOST_PANELS = 6
POINTS = 2000
"""Of a curve: where there are more rows, one is the largest score of several."""


@dataclass(frozen=True)
class Panel:
    """Scores (R,) of rows that follow one another, with their times (R,) and labels (R,)."""

    name: str
    times: NDArray[Any]
    scores: NDArray[np.float64]
    labels: NDArray[np.int64]


def write_events(path: Path, data: Windows, scored: ScoredSamples, threshold: float | None, title: str) -> list[Path]:
    """The picture of a test set's rows; its path."""
    order, stretches = data.in_order(scored)
    rows = data.tables["test"].place_in_order()[scored.index[order]]
    return [events_plot(path, panels(data.tables["test"], stretches, rows, scored.scores[order]), threshold, title)]


def panels(
    table: SensorTable, stretches: Sequence[Stretch], rows: NDArray[np.int64], scores: NDArray[np.float64]
) -> list[Panel]:
    """A panel for each stretch.

    Args:
        table: the rows.
        stretches: where each begins and ends in `rows`.
        rows: places in the table, in its order.
        scores: of these rows.
    """
    times = table.times[rows].astype("datetime64[s]") if table.dates else table.times[rows]
    return [Panel(name, times[a:b], scores[a:b], table.labels[rows[a:b]]) for name, a, b in stretches]


def events_plot(path: Path, shown: Sequence[Panel], threshold: float | None, title: str) -> Path:
    """Scores over time in a panel for each stretch, of which those with the highest scores are shown, six at most.

    Events are shaded, rows above the threshold marked.
    """
    kept = sorted(shown, key=lambda panel: -_highest(panel))[:MOST_PANELS]
    kept = [panel for panel in shown if any(panel is other for other in kept)]
    finite = np.concatenate([panel.scores[np.isfinite(panel.scores)] for panel in kept])
    _, _, log = score_axis(finite, threshold)
    more = "" if len(kept) == len(shown) else f", the {len(kept)} of {len(shown)} stretches with the highest scores"
    with titled_figure(path, (9.0, 1.0 + 1.6 * len(kept)), title + more) as figure:
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
        from matplotlib.lines import Line2D
        from matplotlib.patches import Patch

        axes_of = figure.subplots(len(kept), 1, squeeze=False, sharey=True)[:, 0]
        for axes, panel in zip(axes_of, kept, strict=True):
            times, scores = _thinned(panel)
            axes.plot(times, scores, color=COLOURS[NORMAL], linewidth=0.8)
            if threshold is not None:
                above = scores > threshold
                axes.plot(times[above], scores[above], ".", color=COLOURS[ANOMALY], markersize=3)
                axes.axhline(threshold, color="black", linestyle="--", linewidth=0.9)
            for start, stop in _runs(panel.labels == ANOMALY):
                last = min(stop, len(panel.times) - 1)
                axes.axvspan(panel.times[start], panel.times[last], color=COLOURS[ANOMALY], alpha=0.25, linewidth=1)
            axes.set_xlim(panel.times[0], panel.times[-1])
            axes.set_ylabel("score")
            axes.tick_params(axis="x", labelsize=8)
            if panel.times.dtype.kind == "M":
                places = AutoDateLocator()  # type: ignore[no-untyped-call]
                axes.xaxis.set_major_locator(places)
                axes.xaxis.set_major_formatter(ConciseDateFormatter(places))  # type: ignore[no-untyped-call]
            if log:
                axes.set_yscale("log")
            if panel.name:
                axes.set_title(panel.name, fontsize=10, loc="left", parse_math=False)
        legend: list[Any] = [Line2D([], [], color=COLOURS[NORMAL], label="score")]
        if threshold is not None:
            legend.append(Line2D([], [], color=COLOURS[ANOMALY], marker=".", linestyle="", label="above the threshold"))
            legend.append(Line2D([], [], color="black", linestyle="--", label="threshold"))
        if any((panel.labels == ANOMALY).any() for panel in kept):
            legend.append(Patch(color=COLOURS[ANOMALY], alpha=0.25, label="true event"))
        figure.legend(handles=legend, loc="outside lower center", ncols=len(legend), fontsize=9)
    return path


def _highest(panel: Panel) -> float:
    """The highest score; stretches with an event come before those without."""
    highest = float(np.max(panel.scores, initial=-np.inf, where=np.isfinite(panel.scores)))
    return highest if not (panel.labels == ANOMALY).any() else np.inf


def _thinned(panel: Panel) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Times and scores of at most :data:`POINTS` rows: of each bin the highest."""
    size = -(-len(panel.scores) // POINTS)
    if size == 1:
        return panel.times, panel.scores
    bins = [slice(i, i + size) for i in range(0, len(panel.scores), size)]
    highest = [part.start + int(np.argmax(panel.scores[part])) for part in bins]
    return panel.times[highest], panel.scores[highest]


def _runs(marked: NDArray[np.bool_]) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], marked.astype(np.int8), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
