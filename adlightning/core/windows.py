"""Windows over the rows of a series, and what their scores say of the rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

RowScore = Literal["mean", "max"]

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class WindowSpec:
    """How the rows of a table over time become samples, as a checkpoint keeps it.

    Args:
        length: rows of a window, at least 1.
        stride: rows from the beginning of a window to that of the next one, at least 1.
        row_score: score of a row: the `mean`, or the largest (`max`), of those of the windows that hold it.
        time_column: column of the time; None for none.
        group_column: column that names what a row was recorded of, such as a machine; None for one series.

    Raises:
        ValueError: a number below 1, or another `row_score`.
    """

    length: int
    stride: int
    row_score: RowScore = "mean"
    time_column: str | None = None
    group_column: str | None = None

    def __post_init__(self) -> None:
        for name in ("length", "stride"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} of windows must be a whole number and at least 1, got {value!r}")
        if self.row_score not in get_args(RowScore):
            raise ValueError(f"row_score must be one of {', '.join(get_args(RowScore))}, got {self.row_score!r}")

    def as_dict(self) -> dict[str, Any]:
        """Plain values by name."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> WindowSpec:
        """The inverse of :meth:`as_dict`. Raises ValueError for values that it does not give."""
        names = {own.name for own in fields(cls)}
        columns = (values.get("time_column"), values.get("group_column"))
        if set(values) != names or not all(column is None or isinstance(column, str) for column in columns):
            raise ValueError("windows of an input are none")
        return cls(**values)


def window_starts(n_rows: int, length: int, stride: int) -> Rows:
    """First rows of the windows of `length` rows in a stretch of `n_rows`: every `stride`-th, and the last one.

    The last window ends where the stretch ends, so that every row is in one. There are none where it is too short.
    """
    last = n_rows - length
    if last < 0:
        return np.empty(0, dtype=np.int64)
    return np.append(np.arange(0, last, stride, dtype=np.int64), last)


def rows_of_windows(starts: Rows, length: int) -> Rows:
    """The rows that windows hold, ascending, each once.

    Args:
        starts: first rows (N,) of the windows.
        length: rows of a window.
    """
    if not len(starts):
        return np.empty(0, dtype=np.int64)
    held = np.zeros(int(starts.max()) + length + 1, dtype=np.int64)
    np.add.at(held, starts, 1)
    np.add.at(held, starts + length, -1)
    return np.flatnonzero(np.cumsum(held))


def scores_of_rows(
    scores: NDArray[np.float64], starts: Rows, length: int, row_score: RowScore
) -> tuple[NDArray[np.float64], Rows]:
    """Scores (R,) of the rows that windows hold, and these rows, ascending.

    A row's score depends on the windows that hold it and on nothing else.

    Args:
        scores: of the windows, (N,).
        starts: their first rows (N,), each once.
        length: rows of a window.
        row_score: `mean` or `max` of the windows' scores.
    """
    rows = rows_of_windows(starts, length)
    place = np.searchsorted(rows, starts)  # rows of a window follow one another
    counts = np.zeros(len(rows), dtype=np.int64)
    result = np.zeros(len(rows)) if row_score == "mean" else np.full(len(rows), -np.inf)
    for step in range(length):  # the starts differ: no row comes twice in one step
        at = place + step
        counts[at] += 1
        result[at] = result[at] + scores if row_score == "mean" else np.maximum(result[at], scores)
    return (result / counts if row_score == "mean" else result), rows
