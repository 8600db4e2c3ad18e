"""Rows of numbers as a CSV that grows: each row is put into words once, and many are written at a time."""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from adlightning.files.disk import write_atomically

WAIT_S = 1.0
"""Seconds between one time that a growing file is written and the next, unless a checkpoint is."""


class GrowingFile:
    """A CSV of rows that are only ever added to, whole at every instant.

    Args:
        path: the file; its folder is made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._table = GrowingTable()
        self._n_written, self._last = 0, time.monotonic()

    def write(self, rows: Sequence[Mapping[str, float]], wait: float = 0.0) -> None:
        """Write all rows. Raises NotWritten.

        Args:
            rows: those of the last time, and more.
            wait: seconds since the last time, or since training began, before which nothing is written. Each time is
                one for the disk to say that it has them, as long as a small network's epoch.
        """
        now = time.monotonic()
        if len(rows) == self._n_written or now < self._last + wait:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, self._table.text(rows))
        self._n_written, self._last = len(rows), now


class GrowingTable:
    """The text of a list of rows that is only ever added to, with a column for each name that a row has.

    Floats have six digits. What a row lacks, or is NaN, is empty. A list with fewer rows than before begins anew.
    """

    def __init__(self) -> None:
        self._columns: dict[str, None] = {}
        self._text = io.StringIO()
        self._written = 0

    def text(self, rows: Sequence[Mapping[str, float]]) -> str:
        """The text of all rows; those of the call before come first, as they were."""
        new = rows[self._written :]
        if len(rows) < self._written or any(name not in self._columns for row in new for name in row):
            self._columns = dict.fromkeys(name for row in rows for name in row)
            self._text, new = io.StringIO(), rows
            csv.writer(self._text, lineterminator="\n").writerow(self._columns)
        lines = csv.writer(self._text, lineterminator="\n")
        lines.writerows([_cell(row.get(name)) for name in self._columns] for row in new)
        self._written = len(rows)
        return self._text.getvalue()


def _cell(value: float | None) -> str:
    if value is None or math.isnan(value):
        return ""
    return str(value) if isinstance(value, int) else f"{value:.6g}"
