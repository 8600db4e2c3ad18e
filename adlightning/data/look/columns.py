"""What the columns of a table hold, found in one pass in bounded memory."""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from adlightning.files.dialects import MISSING

MOST_VALUES = 1000
"""Distinct values of a column that are kept; one of more is no label and no category."""

FLOAT32_MAX = float(np.finfo(np.float32).max)
EXACT = 2**53  # whole numbers up to here are float64 numbers

_SPACE = r"[\s]*"
_NUMBER = rf"^{_SPACE}(?:[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|(?i:[+-]?(?:inf|infinity))){_SPACE}$"
_DATE = r"^\s*(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4})([ T]\d{1,2}:\d{2}.*)?\s*$"
_PLAIN_DATE = (  # as TableData reads it
    r"^\s*\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}([.,]\d{1,9})?)?\s*(Z|[+-]\d{2}:?\d{2})?)?\s*$|"
    r"^\s*\d{4}/\d{2}/\d{2}\s*$"
)
_TIME = r"^\s*\d{1,2}:\d{2}(:\d{2}.*)?\s*$"
_GROUPED = re.compile(r"\s*[+-]?\d{1,3}([,.' \u00a0\u2009\u202f]\d{3})+([.,]\d+)?\s*")
_TRUTH = ("true", "false", "True", "False", "TRUE", "FALSE")
_WHOLE = re.compile(r"\s*[+-]?\d+\s*")
_ABSENT = pa.array(MISSING)
_WRAP = 2**64


@dataclass
class Column:
    """One column, of which batch after batch is taken in.

    Args:
        name: as the file has it.
        kind: `number`, `text`, `date` (of Parquet) or the type of what is neither, such as a list.
        rows: cells seen.
        missing: cells without a value.
        numbers: cells that are finite numbers.
        texts: cells of text.
        dates: cells of text that are dates or times of day.
        plain_dates: those that are a day with the year first, which can be read in one way only.
        first_text: the first cell of text with its row.
        first_wild: the first infinite or too large number with its row.
        first_inexact: the first whole number that float64 does not keep, with its row.
        low: the smallest number.
        high: the largest.
        values: how often each value comes, as text; None where there are more than :data:`MOST_VALUES`.
    """

    name: str
    kind: str = "number"
    rows: int = 0
    missing: int = 0
    numbers: int = 0
    texts: int = 0
    dates: int = 0
    plain_dates: int = 0
    wild: int = 0
    first_text: tuple[int, str] | None = None
    first_wild: tuple[int, str] | None = None
    first_inexact: tuple[int, str] | None = None
    low: float = math.inf
    high: float = -math.inf
    values: dict[str, int] | None = field(default_factory=dict)
    _steps: bool = True  # whole numbers so far
    _sums: tuple[int, int] = (0, 0)  # of numbers and their squares, modulo 2**64
    _digest: Any = field(default_factory=lambda: hashlib.blake2b(digest_size=16))

    @property
    def is_constant(self) -> bool:
        """Whether every cell has the same number, those that are missing aside, or the same text."""
        if not self.missing and len(self.values or {}) == 1:
            return True
        return 0 < self.numbers == self.rows - self.missing and self.low == self.high

    @property
    def counts_rows(self) -> bool:
        """Whether the cells are whole numbers one after the other, in any order."""
        n = self.numbers
        if not self._steps or n != self.rows or not n or self.high - self.low != n - 1:
            return False
        first, last = int(self.low), int(self.high)
        squares = [k * (k + 1) * (2 * k + 1) // 6 for k in (last, first - 1)]
        return self._sums == ((first + last) * n // 2 % _WRAP, (squares[0] - squares[1]) % _WRAP)

    @property
    def digest(self) -> bytes:
        """The same for columns of the same values, and nearly certainly for no others."""
        return bytes(self._digest.digest())

    # ---- a batch ----------------------------------------------------------------------------------------------------

    def take(self, cells: pa.Array, decimal: str) -> None:
        """Take in a batch of cells, text or numbers."""
        kind = cells.type
        if pa.types.is_dictionary(kind):
            cells = cells.dictionary_decode()
            kind = cells.type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            self._take_text(pc.cast(cells, pa.string()), decimal)
        elif pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
            self._take_numbers(cells)
        elif pa.types.is_decimal(kind):
            self._take_numbers(pc.cast(cells, pa.float64()))
        elif pa.types.is_temporal(kind):
            self._take_text(pc.cast(cells, pa.string()), decimal)
            self.kind = "date"
        elif pa.types.is_null(kind):
            self.missing += len(cells)
        else:
            self.kind, self.values = str(kind), None
        self.rows += len(cells)

    def _take_numbers(self, cells: pa.Array) -> None:
        there = pc.is_valid(cells).to_numpy(zero_copy_only=False)
        if self.values is not None:
            self._count(pc.cast(cells.drop_null(), pa.string()))
        if pa.types.is_integer(cells.type) and cells.type.bit_width == 64:
            whole = cells.drop_null().to_numpy()
            large = np.abs(whole.astype(np.float64)) >= EXACT
            self._note_inexact(np.flatnonzero(there)[large], whole[large])
        values = pc.cast(cells, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        self._take_floats(np.flatnonzero(there & ~np.isnan(values)), values)
        self.missing += int(np.count_nonzero(np.isnan(values)))

    def _take_text(self, cells: pa.Array, decimal: str) -> None:
        values = None if cells.null_count else _as_numbers(cells, decimal)
        if values is not None and not np.isnan(values).any():  # as most columns are
            if self.values is not None:
                self._count(cells)
        else:
            values = self._mixed(cells, decimal)
        rows = np.flatnonzero(~np.isnan(values))
        large = rows[np.abs(values[rows]) >= EXACT]
        if len(large) and self.first_inexact is None:
            written = cells.take(pa.array(large)).to_pylist()
            self._note_inexact(large, [int(x) if _WHOLE.fullmatch(x) else None for x in written])
        self.missing += len(cells) - len(rows)
        self._take_floats(rows, values)

    def _mixed(self, cells: pa.Array, decimal: str) -> NDArray[np.float64]:
        """Numbers (N,) of cells of which some are missing or text; NaN for these. Text is noted."""
        absent = pc.or_kleene(pc.is_null(cells), pc.is_in(cells, value_set=_ABSENT))
        there = np.flatnonzero(~absent.to_numpy(zero_copy_only=False))
        held = cells.take(pa.array(there))
        if self.values is not None:
            self._count(held)
        values = np.full(len(cells), np.nan)
        numbers = _as_numbers(held, decimal)
        if numbers is not None and not np.isnan(numbers).any():
            values[there] = numbers
            return values
        plain = _with_points(held, decimal)
        is_number = pc.match_substring_regex(plain, _NUMBER).to_numpy(zero_copy_only=False)
        if decimal == ",":
            is_number = is_number & ~pc.match_substring(held, ".").to_numpy(zero_copy_only=False)
        trimmed = pc.utf8_trim_whitespace(plain.filter(pa.array(is_number)))
        values[there[is_number]] = pc.cast(trimmed, pa.float64()).to_numpy(zero_copy_only=False)
        text = there[~is_number]
        self.missing -= len(text)  # which are no numbers, and not missing
        self._note_text(text, held.filter(pa.array(~is_number)))
        return values

    def _take_floats(self, rows: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        numbers = values[rows]
        usable = np.abs(numbers) <= FLOAT32_MAX
        self._digest.update(np.ascontiguousarray(values).tobytes())
        if not usable.all():
            worst = int(np.argmin(usable))
            self.wild += int(np.count_nonzero(~usable))
            self.first_wild = self.first_wild or (self.rows + int(rows[worst]), f"{numbers[worst]}")
            numbers = numbers[usable]
        if not len(numbers):
            return
        self.numbers += len(numbers)
        self.low, self.high = min(self.low, float(numbers.min())), max(self.high, float(numbers.max()))
        if self._steps and max(abs(self.low), abs(self.high)) < EXACT and bool((numbers == np.rint(numbers)).all()):
            whole = numbers.astype(np.int64).view(np.uint64)
            first, second = (int(part.sum(dtype=np.uint64)) for part in (whole, whole * whole))
            self._sums = ((self._sums[0] + first) % _WRAP, (self._sums[1] + second) % _WRAP)
        else:
            self._steps = False

    def _note_inexact(self, rows: NDArray[np.int64], numbers: Any) -> None:
        for row, number in zip(rows, numbers, strict=True):
            if self.first_inexact is None and number is not None and int(float(int(number))) != int(number):
                self.first_inexact = (self.rows + int(row), str(number))

    def _note_text(self, rows: NDArray[np.int64], cells: pa.Array) -> None:
        if not len(cells):
            return
        self.kind = "text"
        self.texts += len(cells)
        self.first_text = self.first_text or (self.rows + int(rows[0]), cells[0].as_py())
        dates = pc.or_(pc.match_substring_regex(cells, _DATE), pc.match_substring_regex(cells, _TIME))
        self.dates += int(pc.sum(dates).as_py() or 0)
        self.plain_dates += int(pc.sum(pc.match_substring_regex(cells, _PLAIN_DATE)).as_py() or 0)
        if self.values is not None:
            self._digest.update("\0".join(cells.to_pylist()).encode("utf-8", "surrogatepass"))

    def _count(self, cells: pa.Array) -> None:
        counts = pc.value_counts(cells)
        assert self.values is not None
        if len(counts) > MOST_VALUES:
            self.values = None
            return
        for entry in counts.to_pylist():
            self.values[entry["values"]] = self.values.get(entry["values"], 0) + entry["counts"]
        if len(self.values) > MOST_VALUES:
            self.values = None


def _as_numbers(cells: pa.Array, decimal: str) -> NDArray[np.float64] | None:
    """Cells of text as numbers (N,); None where one is none."""
    if decimal == "," and pc.any(pc.match_substring(cells, ".")).as_py():  # a point is no decimal mark then
        return None
    try:
        return np.asarray(pc.cast(_with_points(cells, decimal), pa.float64()).to_numpy(zero_copy_only=False))
    except pa.ArrowInvalid:
        return None


def _with_points(cells: pa.Array, decimal: str) -> pa.Array:
    return pc.replace_substring(cells, ",", ".", max_replacements=1) if decimal == "," else cells


def looks_grouped(text: str) -> bool:
    """Whether a cell is a number with separators of thousands."""
    return _GROUPED.fullmatch(text) is not None


def looks_true_or_false(values: dict[str, int] | None) -> bool:
    """Whether a column of text holds true and false alone, which become 1 and 0."""
    return bool(values) and all(value in _TRUTH for value in values or {})
