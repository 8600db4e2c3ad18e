"""The windows of a table that somebody wants scored, and the scores of its rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adlightning.core.contracts import InputSpec
from adlightning.core.windows import scores_of_rows
from adlightning.data.sources.sensor_table import SensorTable
from adlightning.data.window_splits import starts_in


class RowsOfWindows:
    """Windows (T, D) of a table, one after the other, cut when asked for.

    Args:
        table: the rows.
        spec: what the detector was trained on.
        where: the table in words, for messages.

    Raises:
        ValueError: a group is shorter than a window.
    """

    def __init__(self, table: SensorTable, spec: InputSpec, where: str | Path) -> None:
        assert spec.windows is not None
        self.table, self.windows = table, spec.windows
        length = self.windows.length
        for group in table.groups:
            if len(group) < length:
                which = f"group {group.group!r}" if len(table.groups) > 1 else "the series"
                raise ValueError(
                    f"{where}: {which} has {len(group)} rows, the detector takes windows of {length}: give more rows, "
                    f"or leave it out"
                )
        self.starts = starts_in(table.groups, length, self.windows.stride)
        self._values = table.values.to(getattr(torch, spec.dtype))

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> Tensor:
        start = int(self.starts[index])
        return self._values[start : start + self.windows.length]

    def names(self) -> list[str]:
        """What each window holds, in words: `m1: row 7 to row 38`, by the rows' numbers in the file."""
        groups = np.searchsorted([start for _, start, _ in self.table.groups], self.starts, side="right") - 1
        first, last = (self.table.rows[self.starts + i] for i in (0, self.windows.length - 1))
        heads = [f"{group.group}: " if group.group else "" for group in self.table.groups]
        return [f"{heads[g]}row {a} to row {b}" for g, a, b in zip(groups, first, last, strict=True)]

    def scores(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores of the rows of the table, in the order of the file, from those of the windows."""
        of_rows, rows = scores_of_rows(scores, self.starts, self.windows.length, self.windows.row_score)
        in_file = np.empty(len(self.table.rows))
        in_file[self.table.rows[rows]] = of_rows
        return in_file
