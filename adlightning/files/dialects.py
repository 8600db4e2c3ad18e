"""How a table of text is written: what stands between values and in numbers, its encoding, whether it has a header.

Found from the first rows, or given. What may be meant in two ways is never guessed: `Undecided` names the option.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Literal

from adlightning.files.text import WESTERN, Undecided, find_encoding, open_text, require_text, required_encoding

SEPARATORS = {".csv": ",", ".csv.gz": ",", ".tsv": "\t", ".tsv.gz": "\t"}
"""What a name promises."""

MISSING = ("", "NaN", "nan", "-nan", "NA", "N/A", "n/a", "<NA>", "#N/A", "None", "NULL", "null")
"""Cells of a column of numbers that hold no number; elsewhere they are text."""

SEPARATOR_NAMES = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|", "space": " "}
DECIMAL_NAMES = {"point": ".", "comma": ","}
Header = bool | Literal["auto"]

_CANDIDATES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_SAMPLE, _ROWS = 2**18, 500  # characters and rows that are looked at
_MOST_RAGGED = 0.1  # of the rows: a file with a fault in it keeps its separator, and the fault is reported
_POINT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|infinity|nan)", re.IGNORECASE)
_COMMA = re.compile(r"[+-]?(\d+,?\d*|,\d+)([eE][+-]?\d+)?|[+-]?(inf|infinity|nan)", re.IGNORECASE)
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+")
_WHOLE = re.compile(r"[+-]?\d+")

Rows = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Dialect:
    """How a file is written.

    Args:
        separator: one character between values.
        decimal: `.` or `,`.
        encoding: as Python calls it.
        header: whether the first row names the columns; without one they are called 0, 1, ...
        skip: lines before the first row: the `sep=;` that Excel reads.
        reasons: what was found that a file of its name need not have, in words.
    """

    separator: str
    decimal: str
    encoding: str
    header: bool
    skip: int = 0
    reasons: tuple[str, ...] = ()

    def is_number(self, cell: str) -> bool:
        """Whether a cell holds a number; a missing one is none."""
        return _pattern(self.decimal).fullmatch(cell.strip()) is not None

    def rows(self, path: Path) -> Iterator[list[str]]:
        """The rows of the file that are not empty, the header among them. Raises csv.Error, UnicodeDecodeError."""
        with open_text(path, self.encoding) as file:
            lines = islice(file, self.skip, None)
            yield from (fields for fields in csv.reader(lines, delimiter=self.separator) if fields)

    def names(self, path: Path) -> list[str]:
        """Names of the columns as the file has them; counted from 0 without a header; empty for an empty one."""
        first = next(self.rows(path), [])
        return first if self.header else [str(i) for i in range(len(first))]


def separator_of(given: str) -> str | None:
    """The character that is meant; None for auto. Raises ValueError."""
    if given == "auto":
        return None
    character = SEPARATOR_NAMES.get(given, {"\\t": "\t"}.get(given, given))
    if len(character) != 1 or character.isalnum() or character in "\"'.\r\n\0":
        raise ValueError(f"separator must be auto, {', '.join(SEPARATOR_NAMES)} or one character, got {given!r}")
    return character


def decimal_of(given: str) -> str | None:
    """The character that is meant; None for auto. Raises ValueError."""
    if given == "auto":
        return None
    character = DECIMAL_NAMES.get(given, given)
    if character not in DECIMAL_NAMES.values():
        raise ValueError(f"decimal must be auto, point or comma, got {given!r}")
    return character


@dataclass(frozen=True)
class Given:
    """What is said of how a file is written; `auto` for what is to be found.

    Args:
        separator: one character, or comma, semicolon, tab, bar, space.
        decimal: point or comma, as a word or a character.
        encoding: utf-8, utf-16, cp1252, ...
        header: whether there is one.

    Raises:
        ValueError: an option outside its range.
    """

    separator: str = "auto"
    decimal: str = "auto"
    encoding: str = "auto"
    header: Header = "auto"

    def __post_init__(self) -> None:
        separator_of(self.separator)
        decimal_of(self.decimal)
        if self.header not in (True, False, "auto"):
            raise ValueError(f"header must be auto, true or false, got {self.header!r}")


AUTO = Given()


def find_dialect(path: Path, given: Given = AUTO) -> Dialect:
    """How a table of text is written, as far as it is not given.

    Args:
        path: .csv or .tsv, also .gz. All of it is decoded, its first rows are looked at.
        given: what is known already.

    Raises:
        Undecided: it may be meant in two ways; the message and `option` name what to say.
        ValueError: no text, another encoding than given, or a line beyond any use.
    """
    require_text(path)
    encoding = find_encoding(path) if given.encoding == "auto" else required_encoding(path, given.encoding)
    with open_text(path, encoding) as file:
        sample = file.read(_SAMPLE)
        if len(sample) == _SAMPLE:  # the last row is not whole
            sample = sample[: max(sample.rfind("\n"), sample.rfind("\r")) + 1] or sample
    promised = next((s for suffix, s in SEPARATORS.items() if path.name.lower().endswith(suffix)), ",")
    skip, named = 0, re.match(r"sep=(.)\r?\n", sample)
    if named:
        skip, sample = 1, sample[named.end() :]
    separator = separator_of(given.separator) or (named and named[1]) or _find_separator(path, sample, promised)
    rows = _split(sample, separator)
    decimal = decimal_of(given.decimal) or _find_decimal(path, rows)
    dialect = Dialect(separator, decimal, encoding, given.header is not False, skip)
    if given.header == "auto":
        _require_header(path, rows, dialect)
    return replace(dialect, reasons=tuple(_reasons(dialect, promised, given)))


def _split(sample: str, separator: str) -> list[list[str]]:
    """The first rows that are not empty; none where quotes have no end."""
    reader = csv.reader(io.StringIO(sample, newline=""), delimiter=separator)
    try:
        return list(islice((fields for fields in reader if fields), _ROWS))
    except csv.Error:
        return []


def _pattern(decimal: str) -> re.Pattern[str]:
    return _COMMA if decimal == "," else _POINT


def _is_missing(cell: str) -> bool:
    return cell.strip() in MISSING


# ---- what stands between values --------------------------------------------------------------------------------------


def _find_separator(path: Path, sample: str, promised: str) -> str:
    split = {separator: _split(sample, separator) for separator in _CANDIDATES}
    several = {separator: rows for separator, rows in split.items() if rows and len(rows[0]) > 1}
    even = {separator: rows for separator, rows in several.items() if _share_even(rows) >= 1 - _MOST_RAGGED}
    if even:
        shares = {separator: _share_of_numbers(rows) for separator, rows in even.items()}
        best = [separator for separator, share in shares.items() if share == max(shares.values())]
        if len(best) > 1 and promised not in best:
            words = " or ".join(f"{_CANDIDATES[separator]} (separator={_word(separator)})" for separator in best)
            raise Undecided(
                f"{path} may be separated by {words}: say which", "separator", tuple(_word(each) for each in best)
            )
        return promised if promised in best else best[0]
    if several:  # rows of different lengths, which is reported when they are read
        return promised if promised in several else max(several, key=lambda each: _share_even(several[each]))
    _require_one_column(path, sample, promised)
    return promised


def _share_even(rows: Rows) -> float:
    """Share of the rows that are as long as the first."""
    return sum(len(row) == len(rows[0]) for row in rows[1:]) / max(len(rows) - 1, 1) if len(rows) > 1 else 1.0


def _share_of_numbers(rows: Rows) -> float:
    """Share of the cells below the first row that are numbers, with one decimal mark or the other, or missing."""
    cells = [cell.strip() for row in rows[1:] or rows for cell in row]
    numbers = sum(bool(_POINT.fullmatch(cell) or _COMMA.fullmatch(cell)) or _is_missing(cell) for cell in cells)
    return numbers / max(len(cells), 1)


def _require_one_column(path: Path, sample: str, promised: str) -> None:
    """Refuse what looks as if it had one column and may have several."""
    lines = [line.strip() for line in sample.splitlines()[:_ROWS] if line.strip()]
    numbers = len(lines) > 1 and all(_COMMA.fullmatch(line) for line in lines[1:])
    if numbers and promised == "," and "," in "".join(lines[1:]):
        raise Undecided(
            f"{path} has a header of one column and rows such as {lines[1]!r}: for one column with decimal commas say "
            f"separator=semicolon, else write a number with a point and no commas",
            "separator",
            ("semicolon",),
        )
    widths = {len(line.split(" ")) for line in lines}
    if len(lines) > 1 and len(widths) == 1 and widths != {1} and _share_of_numbers([_.split() for _ in lines]) >= 0.5:
        raise Undecided(
            f"{path} looks separated by spaces: say separator=space, or save it with commas between values",
            "separator",
            ("space", _word(promised)),
        )


def _word(separator: str) -> str:
    return next((word for word, character in SEPARATOR_NAMES.items() if character == separator), separator)


# ---- what stands in numbers ------------------------------------------------------------------------------------------


def _find_decimal(path: Path, rows: Rows) -> str:
    """The mark by which columns are numbers that have one in the first rows."""
    with_comma, with_point, grouped = "", "", ""
    for column in _columns(rows):
        cells = [cell for cell in column if not _is_missing(cell)]
        marked = [cell for cell in cells if "," in cell]
        if marked and all(_COMMA.fullmatch(cell) for cell in cells):
            if all(_THOUSANDS.fullmatch(cell) for cell in marked):
                grouped = grouped or marked[0]
            else:
                with_comma = with_comma or marked[0]
        elif any("." in cell for cell in cells) and all(_POINT.fullmatch(cell) for cell in cells):
            with_point = with_point or next(cell for cell in cells if "." in cell)
    if with_comma and with_point:
        raise Undecided(
            f"{path} has numbers such as {with_comma!r} and {with_point!r}: say decimal=comma or decimal=point: the "
            f"other columns are text then",
            "decimal",
            ("point", "comma"),
        )
    if grouped and not with_comma and not with_point:
        thousand = grouped.replace(",", "")
        raise Undecided(
            f"{path} has {grouped!r}, which may be {grouped.replace(',', '.', 1)} or {thousand}: say decimal=comma for "
            f"the former, else write numbers without separators of thousands",
            "decimal",
            ("comma", "point"),
        )
    return "," if with_comma else "."


def _columns(rows: Rows) -> list[list[str]]:
    """Cells below the first row, column by column, of rows that are as long as it."""
    even = [row for row in rows[1:] if len(row) == len(rows[0])]
    return [[row[i].strip() for row in even] for i in range(len(rows[0]) if rows else 0)]


# ---- the header ------------------------------------------------------------------------------------------------------


def _require_header(path: Path, rows: Rows, dialect: Dialect) -> None:
    """Refuse a first row that looks as those below do. Names that are numbers may be counted or evenly spaced."""
    if not rows or list(rows[0]) == [str(i) for i in range(len(rows[0]))] or rows[0] in rows[1:]:
        return  # counted by pandas, or a header that comes twice, whose second row is refused as text
    first = [cell.strip() for cell in rows[0]]
    numbers = [cell for cell in first if dialect.is_number(cell)]
    again = [cell for cell, column in zip(first, _columns(rows), strict=True) if _is_value_of(cell, column, dialect)]
    shown = ", ".join(repr(cell) for cell in first[:6]) + (", ..." if len(first) > 6 else "")
    if len(numbers) == len(first):
        reason = f"its first row holds numbers only ({shown})"
    elif again:
        reason = f"its first row holds values of the rows below ({again[0]!r} in {shown})"
    elif 2 * len(numbers) > len(first) and not _evenly_spaced(numbers, dialect):
        reason = f"its first row holds numbers for the most part ({shown})"
    else:
        return
    raise Undecided(
        f"{path} has no header: {reason}; say header=false, and the columns are called 0, 1, ..., or header=true if "
        f"these are the names of the columns",
        "header",
        ("false", "true"),
    )


def _is_value_of(cell: str, column: Sequence[str], dialect: Dialect) -> bool:
    """Whether a cell of the first row is text, and one of those below it."""
    return not _is_missing(cell) and not dialect.is_number(cell) and cell in column


def _evenly_spaced(numbers: Sequence[str], dialect: Dialect) -> bool:
    """Whether they are steps of one width, as wavelengths and years are."""
    values = [float(number.replace(",", ".") if dialect.decimal == "," else number) for number in numbers]
    steps = [after - before for before, after in pairwise(values)]
    if not steps or not steps[0]:
        return False
    if len(steps) == 1:
        return abs(steps[0]) == 1 and all(_WHOLE.fullmatch(number) for number in numbers)
    return all(abs(step - steps[0]) <= 1e-6 * abs(steps[0]) + 1e-9 * abs(values[-1]) for step in steps)


# ---- in words --------------------------------------------------------------------------------------------------------


def _reasons(dialect: Dialect, promised: str, given: Given) -> Iterator[str]:
    """What was found and not given, where it is not what everybody expects."""
    if given.separator == "auto" and dialect.separator != promised:
        yield f"{_CANDIDATES.get(dialect.separator, repr(dialect.separator))} between values"
    if given.decimal == "auto" and dialect.decimal == ",":
        yield "commas in numbers"
    if given.encoding == "auto" and dialect.encoding.startswith(("utf-16", "utf-32")):
        yield f"encoding {dialect.encoding}"
    if given.encoding == "auto" and dialect.encoding == WESTERN:
        yield f"encoding Windows-1252 ({WESTERN}; if names look wrong, say encoding)"
