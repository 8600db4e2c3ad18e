"""Pictures of what the scores of single samples are made of."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from adlightning.callbacks.plots import COLOURS, titled_figure
from adlightning.labels import ANOMALY, NORMAL

if TYPE_CHECKING:
    from adlightning.core.attribution import Attributions
    from adlightning.core.encoding import Columns

_MOST_BARS = 15
_MOST_LINES = 8
_DIGITS = (4, 7, 11, 15)
_LAST_DATE = 2.5e11  # in the year 9892; a number beyond is none


def write_attributions(
    folder: Path,
    found: Attributions,
    raw: NDArray[np.float64],
    names: Sequence[str],
    values: Sequence[str],
    top: int,
    columns: Columns | None = None,
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
        columns: of a table whose columns are not all plain numbers.
    """
    draw = _series if raw.ndim == 3 else partial(_bars, columns=columns)
    written = []
    for rank, row in enumerate(np.argsort(-found.scores, kind="stable")[:top], start=1):
        name = re.sub(r"[^\w.-]+", "_", names[row])[-80:]
        title = f"{names[row]}: score {found.scores[row]:.4g}; the median normal sample has {found.baseline_score:.4g}"
        written.append(draw(folder / f"{rank:03d}_{name}.png", found, raw[row], row, values, title))
    return written


def beside_the_median(
    value: float, median: float, column: int, name: str, columns: Columns | None = None
) -> tuple[str, str]:
    """A raw value and the median in words: dates, categories, and numbers of so many digits that they differ."""
    categories = columns.of(column) if columns else ()
    is_date = columns is not None and name in columns.dates
    digits = next((n for n in _DIGITS if f"{value:.{n}g}" != f"{median:.{n}g}"), _DIGITS[0])

    def said(number: float) -> str:
        if np.isnan(number):
            return "missing"
        if categories:
            return repr(categories[int(number)]) if number >= 0 else "another"
        if is_date and abs(number) < _LAST_DATE:
            return str(np.datetime64(round(number), "s")).replace("T00:00:00", "")
        return f"{number:.{digits}g}"

    return said(value), said(median)


def _bars(
    path: Path,
    found: Attributions,
    raw: NDArray[np.float64],
    row: int,
    names: Sequence[str],
    title: str,
    columns: Columns | None,
) -> Path:
    adds = found.values[row]
    chosen = np.argsort(-np.abs(adds), kind="stable")[:_MOST_BARS]
    said = {i: beside_the_median(raw[i], found.baseline[i], i, names[i], columns) for i in chosen}
    words = [f"{_short(names[i])} = {_short(own)}\n(normally {_short(usual)})" for i, (own, usual) in said.items()]
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
