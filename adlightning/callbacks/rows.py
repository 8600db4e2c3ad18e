"""Rows of numbers as the text of a CSV that grows: each row is put into words once."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence


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
