"""Files of rows and columns as frames: CSV, TSV (either also gzipped) and Parquet. Names of columns are text."""

from __future__ import annotations

import csv
import gzip
import json
import re
import warnings
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from adlightning.core.contracts import SourceError
from adlightning.core.features import refuse_twins
from adlightning.core.memory import lacks_memory
from adlightning.core.messages import quoted
from adlightning.data.sources.parquet_size import require_unpacked_parquet
from adlightning.files.unpacking import require_unpacked_gzip

SEPARATORS = {".csv": ",", ".csv.gz": ",", ".tsv": "\t", ".tsv.gz": "\t"}
MISSING = ("", "NaN", "nan", "-nan", "NA", "N/A", "n/a", "<NA>", "#N/A", "None", "NULL", "null")
"""Cells of a column of numbers that hold no number; elsewhere they are text."""

MOST_COLUMNS, LONGEST_LINE = 2**18, 2**24
"""Of a file of text: each column takes some hundred bytes of memory, whatever is in it."""

NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*|\s*[+-]?(inf|infinity|nan)\s*", re.IGNORECASE)

_SEPARATOR_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_NO_TEXT = {
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"\x1f\x8b": "compressed by gzip",
    b"BZh91AY&SY": "compressed by bzip2",
    b"\xfd7zXZ": "compressed by xz",
    b"\x28\xb5\x2f\xfd": "compressed by zstd",
    b"PAR1\x15": "a Parquet file",
    b"ARROW1\0\0": "a Feather (Arrow) file",
    b"\x89HDF": "an HDF5 file",
    b"SQLite format 3": "an SQLite database",
    b"%PDF-": "a PDF",
}
_CHUNK = 2**20
_START = 4096  # bytes of a file that are looked at to say what it is
_INDEX = "__index_level_"  # what pandas calls a Parquet file's column that was an index without a name


def is_table(path: Path) -> bool:
    """Whether a file's name is that of a table."""
    return path.name.lower().endswith((*SEPARATORS, ".parquet"))


def read_frame(path: Path, text: Collection[str | None] = ()) -> pd.DataFrame:
    """A table by its suffix: .csv, .tsv (also .gz), .parquet. Columns named in `text` are the text of the file.

    The index of a frame that pandas wrote is a column like others. A row in messages is counted from 0, without the
    header.

    Raises:
        SourceError: the file is missing, of another suffix, unreadable, of other separators or another encoding,
            ragged, without a header or rows, has two columns of one name, or unpacks to more than it may (see
            :mod:`adlightning.files.unpacking`).
    """
    if not path.is_file():
        raise SourceError(f"there is no file {path}")
    separator = next((s for suffix, s in SEPARATORS.items() if path.name.lower().endswith(suffix)), None)
    if not is_table(path):
        raise SourceError(f"{path} must end in one of {', '.join(SEPARATORS)}, .parquet")
    try:
        if separator is None:
            frame = _read_parquet(path)
        else:
            if path.suffix.lower() == ".gz":
                require_unpacked_gzip(path)
            frame = _read_text(path, separator, text)
    except SourceError:
        raise
    except UnicodeDecodeError as error:
        where = f"byte {error.object[error.start]:#04x} at {error.start}"
        raise SourceError(f"{path} is not UTF-8 ({where}; Latin-1 or Windows-1252?): save it as UTF-8") from error
    except Exception as error:  # parsers raise many types, of which pandas documents few
        if lacks_memory(error):
            raise
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise SourceError(f"{path} cannot be read as a table: {reason}") from error
    if len(frame) == 0:
        raise SourceError(f"{path} has no rows")
    return frame


# ---- Parquet ---------------------------------------------------------------------------------------------------------


def _read_parquet(path: Path) -> pd.DataFrame:
    require_unpacked_parquet(path)
    with pq.ParquetFile(path) as file:  # a data set would add columns from the names of folders
        table = file.read()
    refuse_twins(path, table.column_names)
    _refuse_named_range(path, (table.schema.metadata or {}).get(b"pandas", b"{}"))
    # what pandas says of its own frame in the file would take columns away, as an index
    frame: pd.DataFrame = table.to_pandas(ignore_metadata=True, integer_object_nulls=True)
    frame.columns = pd.Index([str(name) for name in table.column_names], dtype=object)
    return frame


def _refuse_named_range(path: Path, said: bytes) -> None:
    """An index of row numbers with a name is a column that the file does not hold."""
    try:
        index = json.loads(said)["index_columns"]
        names = [part["name"] for part in index if isinstance(part, dict) and isinstance(part.get("name"), str)]
    except (ValueError, KeyError, TypeError, RecursionError):  # anybody can say anything there
        return
    if names:
        raise SourceError(
            f"{path}: {quoted(names)} is an index that the file names and does not hold: write the frame again after "
            f"reset_index()"
        )


# ---- text ------------------------------------------------------------------------------------------------------------


def _read_text(path: Path, separator: str, text: Collection[str | None]) -> pd.DataFrame:
    _require_text(path)
    _require_short_lines(path)
    header = next(_rows(path, separator), [])
    if len(header) > MOST_COLUMNS:
        raise SourceError(f"{path} has {len(header)} columns, a table may have {MOST_COLUMNS}")
    _require_header(path, separator, header)
    # as pandas calls columns without a name
    names = [name or f"Unnamed: {i}" for i, name in enumerate(header)]
    refuse_twins(path, names)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header
            frame = pd.read_csv(
                path,
                sep=separator,
                index_col=False,
                low_memory=False,
                dtype={name: str for name in names if name in text},
                keep_default_na=False,
                na_values={name: list(MISSING) for name in names if name not in text},
            )
    except (pd.errors.ParserError, pd.errors.ParserWarning):
        _refuse_ragged(path, separator, header)
        raise
    last = frame.iloc[:, -1]
    if (last.isna() | (last == "")).any():  # short rows are filled up
        _refuse_ragged(path, separator, header)
    return frame


def _rows(path: Path, separator: str) -> Iterator[list[str]]:
    opener = gzip.open if path.suffix.lower() == ".gz" else open
    with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
        yield from (fields for fields in csv.reader(file, delimiter=separator) if fields)


def _require_text(path: Path) -> None:
    """Refuse what is no UTF-8 text, by how it begins."""
    with (gzip.open if path.suffix.lower() == ".gz" else open)(path, "rb") as file:
        start = file.read(_START)
    for magic, what in _NO_TEXT.items():
        if start.startswith(magic):
            remedy = "call it .gz" if "gzip" in what and path.suffix.lower() != ".gz" else "save it as CSV in UTF-8"
            raise SourceError(f"{path} is no text but {what}: {remedy}")
    if start[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in start:
        raise SourceError(f"{path} is not UTF-8 but, by its first bytes, UTF-16: save it as UTF-8")
    if re.match(rb"\s*<(!doctype|html|\?xml)", start, re.IGNORECASE):
        raise SourceError(f"{path} is no table but a page of HTML or XML, perhaps a download that failed")


def _require_short_lines(path: Path) -> None:
    """Refuse a line beyond any use: a kilobyte of .gz may be a line of a million empty fields."""
    length = 0
    with (gzip.open if path.suffix.lower() == ".gz" else open)(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            first = min((i for i in map(chunk.find, (b"\n", b"\r")) if i >= 0), default=len(chunk))
            if length + first > LONGEST_LINE:
                raise SourceError(f"{path} has a line of more than {LONGEST_LINE >> 20} MiB: refused")
            last = max(map(chunk.rfind, (b"\n", b"\r")))
            length = length + len(chunk) if last < 0 else len(chunk) - 1 - last


def _require_header(path: Path, separator: str, header: Sequence[str]) -> None:
    if not header:
        raise SourceError(f"{path} is empty: a first row with the names of the columns and rows of numbers are needed")
    if len(header) == 1 and (others := {s: header[0].count(s) for s in _SEPARATOR_NAMES if s in header[0]}):
        found = max(others, key=lambda s: others[s])
        suffix = ".tsv (tabs)" if separator == "," else ".csv (commas)"
        rename = f", or call it {suffix}" if found in SEPARATORS.values() else ""
        raise SourceError(
            f"{path} is separated by {_SEPARATOR_NAMES[found]} ({found!r}), not by {_SEPARATOR_NAMES[separator]}: save "
            f"it with {_SEPARATOR_NAMES[separator]} between values and a point in numbers{rename}"
        )
    counted = [str(i) for i in range(len(header))]  # the names of columns that pandas numbered
    if all(NUMBER.fullmatch(name) for name in header) and list(header) != counted:
        raise SourceError(
            f"{path} has no header: its first row holds numbers only ({quoted(header)}); a first row with the names of "
            f"the columns is needed"
        )


def _refuse_ragged(path: Path, separator: str, header: Sequence[str]) -> None:
    for row, fields in enumerate(_rows(path, separator)):
        if len(fields) != len(header):
            longer = "; text with a separator in it needs quotes, a number has a point and no commas"
            raise SourceError(
                f"{path}: row {row - 1} has {len(fields)} fields, the header has {len(header)}"
                f"{longer if len(fields) > len(header) else ''}"
            )


# ---- names of columns ------------------------------------------------------------------------------------------------


def plain_name(name: str) -> str:
    """A name without what is not seen: spaces of any kind around it, byte order marks, upper case."""
    return re.sub(r"^[\s\u200b\u2060\ufeff]+|[\s\u200b\u2060\ufeff]+$", "", name).casefold()


def is_unnamed(name: str) -> bool:
    """Whether a column had no name, as the row numbers that pandas writes have none."""
    return name.startswith(("Unnamed: ", _INDEX)) or not plain_name(name)
