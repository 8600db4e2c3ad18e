"""Pictures of what the scores of single samples are made of."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from adlightning.callbacks.plots import COLOURS, titled_figure
from adlightning.labels import ANOMALY, NORMAL

if TYPE_CHECKING:
    from adlightning.core.attribution import Attributions

_MOST_BARS = 15
_MOST_LINES = 8


def write_attributions(
    folder: Path, found: Attributions, raw: NDArray[np.float64], names: Sequence[str], values: Sequence[str], top: int
) -> list[Path]:
    """A picture of each of the most anomalous samples, as PNG files named by rank and name; their paths.

    Of a table a bar a column, the largest ones; of a series its course, and a bar a step.

    Args:
        folder: where they go.
        found: what each value adds.
        raw: the samples (N, D) or (N, T, D).
        names: of the samples.
        values: names of all values of a sample, flat.
        top: how many samples.
    """
    draw = _series if raw.ndim == 3 else _bars
    written = []
    for rank, row in enumerate(np.argsort(-found.scores, kind="stable")[:top], start=1):
        name = re.sub(r"[^\w.-]+", "_", names[row])[-80:]
        title = f"{names[row]}: score {found.scores[row]:.4g}; the median normal sample has {found.baseline_score:.4g}"
        written.append(draw(folder / f"{rank:03d}_{name}.png", found, raw[row], row, values, title))
    return written


def _bars(
    path: Path, found: Attributions, raw: NDArray[np.float64], row: int, names: Sequence[str], title: str
) -> Path:
    adds = found.values[row]
    chosen = np.argsort(-np.abs(adds), kind="stable")[:_MOST_BARS]
    words = [f"{_short(names[i])} = {raw[i]:.4g}\n(normally {found.baseline[i]:.4g})" for i in chosen]
    with titled_figure(path, (7.4, 1.4 + 0.44 * len(chosen)), title) as figure:
        axes = figure.add_subplot()
        bars = axes.barh(range(len(chosen)), adds[chosen], color=_colours(adds[chosen]))
        axes.bar_label(bars, [f"{value:+.3g}" for value in adds[chosen]], padding=3, fontsize=8.5)
        axes.set_yticks(range(len(chosen)), words, fontsize=8.5, parse_math=False)
        axes.invert_yaxis()
        axes.axvline(0, color="black", linewidth=0.8)
        axes.margins(x=0.14)
        left = len(adds) - len(chosen)
        axes.set_xlabel("adds to the score" + (f" ({left} columns that add less are left out)" if left else ""))
    return path


def _series(
    path: Path, found: Attributions, raw: NDArray[np.float64], row: int, names: Sequence[str], title: str
) -> Path:
    adds, channels = found.values[row].sum(axis=1), raw.shape[1]
    largest = np.argsort(-np.abs(found.values[row]).sum(axis=0), kind="stable")[:_MOST_LINES]
    with titled_figure(path, (8.0, 5.4), title) as figure:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
        for channel in largest:
            above.plot(raw[:, channel], linewidth=1.3, label=None if channels == 1 else f"channel {channel}")
        above.set_prop_cycle(None)
        for channel in largest:
            above.plot(found.baseline[:, channel], linewidth=0.8, linestyle=":")
        above.set_ylabel("sample, and median normal (dotted)")
        if channels > 1:
            above.legend(fontsize=8, ncols=4, loc="upper right")
        below.bar(range(len(adds)), adds, width=1.0, color=_colours(adds))
        below.axhline(0, color="black", linewidth=0.8)
        below.set(xlabel="step", ylabel="adds to the score")
    return path


def _colours(adds: NDArray[np.float64]) -> Any:
    return [COLOURS[ANOMALY if value > 0 else NORMAL] for value in adds]


def _short(name: str) -> str:
    return name if len(name) <= 30 else f"{name[:14]}…{name[-15:]}"
