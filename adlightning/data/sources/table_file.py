"""Files of rows and columns as frames: CSV, TSV (either also gzipped) and Parquet. Names of columns are text."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from adlightning.core.contracts import SourceError
from adlightning.core.features import refuse_twins
from adlightning.core.memory import lacks_memory
from adlightning.core.messages import quoted
from adlightning.data.sources.parquet_size import require_unpacked_parquet
from adlightning.files.dialects import AUTO, MISSING, SEPARATORS, Dialect, Given, find_dialect
from adlightning.files.text import is_gzip
from adlightning.files.unpacking import require_unpacked_gzip

MOST_COLUMNS = 2**18
"""Of a file of text: each column takes some hundred bytes of memory, whatever is in it."""

_INDEX = "__index_level_"  # what pandas calls a Parquet file's column that was an index without a name


def is_table(path: Path) -> bool:
    """Whether a file's name is that of a table."""
    return path.name.lower().endswith((*SEPARATORS, ".parquet"))


def read_frame(path: Path, text: Collection[str | None] = (), given: Given = AUTO) -> pd.DataFrame:
    """A table by its suffix: .csv, .tsv (also .gz), .parquet. Columns named in `text` are the text of the file.

    The index of a frame that pandas wrote is a column like others. A row in messages is counted from 0, without the
    header. What was found of how a text is written, and is not what its name says, is said by a warning.

    Args:
        path: the file.
        text: columns that are no numbers.
        given: how a text is written, as far as it is not to be found.

    Raises:
        SourceError: the file is missing, of another suffix, unreadable, ragged, without rows, has two columns of one
            name, may be meant in two ways, or unpacks to more than it may (see :mod:`adlightning.files.unpacking`).
    """
    if not path.is_file():
        raise SourceError(f"there is no file {path}")
    if not is_table(path):
        raise SourceError(f"{path} must end in one of {', '.join(SEPARATORS)}, .parquet")
    try:
        if path.suffix.lower() == ".parquet":
            _refuse_options(path, given)
            frame = _read_parquet(path)
        else:
            if is_gzip(path):
                require_unpacked_gzip(path)
            frame = _read_text(path, _dialect(path, given), text)
    except SourceError:
        raise
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


def _refuse_options(path: Path, given: Given) -> None:
    if said := [name for name, value in asdict(given).items() if value != "auto"]:
        raise SourceError(f"{', '.join(said)}: {path} is Parquet, which has no such option")


# ---- text ------------------------------------------------------------------------------------------------------------


def _dialect(path: Path, given: Given) -> Dialect:
    try:
        dialect = find_dialect(path, given)
    except UnicodeDecodeError:
        raise
    except ValueError as error:
        raise SourceError(str(error)) from error
    if dialect.reasons:
        warnings.warn(f"{path} is read with {', '.join(dialect.reasons)}", stacklevel=4)
    return dialect


def _read_text(path: Path, dialect: Dialect, text: Collection[str | None]) -> pd.DataFrame:
    header = dialect.names(path)
    if len(header) > MOST_COLUMNS:
        raise SourceError(f"{path} has {len(header)} columns, a table may have {MOST_COLUMNS}")
    if not header:
        raise SourceError(f"{path} is empty: a first row with the names of the columns and rows of numbers are needed")
    # as pandas calls columns without a name
    names = [name or f"Unnamed: {i}" for i, name in enumerate(header)]
    refuse_twins(path, names)
    keys: Sequence[Any] = names if dialect.header else range(len(names))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header
            frame = pd.read_csv(
                path,
                sep=dialect.separator,
                decimal=dialect.decimal,
                encoding=dialect.encoding,
                skiprows=dialect.skip,
                header=0 if dialect.header else None,
                index_col=False,
                low_memory=False,
                dtype={key: str for key, name in zip(keys, names, strict=True) if name in text},
                keep_default_na=False,
                na_values={key: list(MISSING) for key, name in zip(keys, names, strict=True) if name not in text},
            )
    except (pd.errors.ParserError, pd.errors.ParserWarning):
        _refuse_ragged(path, dialect, len(header))
        raise
    frame.columns = pd.Index(names, dtype=object)
    last = frame.iloc[:, -1]
    if (last.isna() | (last == "")).any():  # short rows are filled up
        _refuse_ragged(path, dialect, len(header))
    return frame


def _refuse_ragged(path: Path, dialect: Dialect, width: int) -> None:
    for row, fields in enumerate(dialect.rows(path), start=-1 if dialect.header else 0):
        if len(fields) != width:
            first = "header" if dialect.header else "first row"
            longer = "; text with a separator in it needs quotes, a number has a point and no commas"
            raise SourceError(
                f"{path}: row {row} has {len(fields)} fields, the {first} has {width}"
                f"{longer if len(fields) > width and dialect.separator == ',' else ''}"
            )


# ---- names of columns ------------------------------------------------------------------------------------------------


def plain_name(name: str) -> str:
    """A name without what is not seen: spaces of any kind around it, byte order marks, upper case."""
    return re.sub(r"^[\s\u200b\u2060\ufeff]+|[\s\u200b\u2060\ufeff]+$", "", name).casefold()


def is_unnamed(name: str) -> bool:
    """Whether a column had no name, as the row numbers that pandas writes have none."""
    return name.startswith(("Unnamed: ", _INDEX)) or not plain_name(name)
