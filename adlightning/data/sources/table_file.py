"""Files of rows and columns as frames: CSV, TSV (either also gzipped) and Parquet. Names of columns are text."""

from __future__ import annotations

import contextlib
import json
import re
import warnings
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from adlightning.core.contracts import SourceError
from adlightning.core.features import refuse_twins
from adlightning.core.memory import lacks_memory
from adlightning.core.messages import quoted
from adlightning.data.sources.parquet_size import require_unpacked_parquet
from adlightning.files.dialects import AUTO, MISSING, SEPARATORS, Dialect, Given, find_dialect
from adlightning.files.text import count_lines, is_gzip
from adlightning.files.unpacking import require_unpacked_gzip

MOST_COLUMNS = 2**18
"""Of a file of text: each column takes some hundred bytes of memory, whatever is in it."""

_INDEX = "__index_level_"  # what pandas calls a Parquet file's column that was an index without a name


def is_table(path: Path) -> bool:
    """Whether a file's name is that of a table."""
    return path.name.lower().endswith((*SEPARATORS, ".parquet"))


class FrameFile:
    """A table by its suffix: .csv, .tsv (also .gz), .parquet; as one frame, or in parts.

    The index of a frame that pandas wrote is a column like others. A row in messages is counted from 0, without the
    header. What was found of how a text is written, and is not what its name says, is said by a warning.

    Args:
        path: the file.
        text: columns whose cells are the text of the file.
        given: how a text is written, as far as it is not to be found.

    Raises:
        SourceError: the file is missing, of another suffix, unreadable, ragged, without rows, has two columns of one
            name, may be meant in two ways, or unpacks to more than it may (see :mod:`adlightning.files.unpacking`).
    """

    def __init__(self, path: Path, text: Collection[str | None] = (), given: Given = AUTO) -> None:
        if not path.is_file():
            raise SourceError(f"there is no file {path}")
        if not is_table(path):
            raise SourceError(f"{path} must end in one of {', '.join(SEPARATORS)}, .parquet")
        self.path, self.text = path, text
        with _explained(path):
            self._reader: _Parquet | _Text = (
                _Parquet(path, given) if path.suffix.lower() == ".parquet" else _Text(path, text, given)
            )
        self.names = self._reader.names

    def most_rows(self) -> int:
        """Rows that it may have at most."""
        with _explained(self.path):
            return self._reader.most_rows()

    def read(self) -> pd.DataFrame:
        """All of it."""
        with _explained(self.path):
            frame = self._reader.read()
        if len(frame) == 0:
            raise SourceError(f"{self.path} has no rows")
        return frame

    def parts(self, cells: int) -> Iterator[pd.DataFrame]:
        """Rows of about so many cells at a time."""
        parts = self._reader.parts(max(1, cells // len(self.names)))
        while True:
            with _explained(self.path):
                part = next(parts, None)
            if part is None:
                return
            yield part


def read_frame(path: Path, text: Collection[str | None] = (), given: Given = AUTO) -> pd.DataFrame:
    """A table as one frame; arguments and errors are those of :class:`FrameFile`."""
    return FrameFile(path, text, given).read()


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Say of what a parser fails with that the file is no table."""
    try:
        yield
    except SourceError:
        raise
    except Exception as error:  # parsers raise many types, of which pandas documents few
        if lacks_memory(error):
            raise
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise SourceError(f"{path} cannot be read as a table: {reason}") from error


# ---- Parquet ---------------------------------------------------------------------------------------------------------


class _Parquet:
    """Raises whatever pyarrow raises."""

    def __init__(self, path: Path, given: Given) -> None:
        if said := [name for name, value in asdict(given).items() if value != "auto"]:
            raise SourceError(f"{', '.join(said)}: {path} is Parquet, which has no such option")
        require_unpacked_parquet(path)
        self.path = path
        with pq.ParquetFile(path) as file:  # a data set would add columns from the names of folders
            schema, self.n_rows = file.schema_arrow, int(file.metadata.num_rows)
        refuse_twins(path, schema.names)
        _refuse_named_range(path, (schema.metadata or {}).get(b"pandas", b"{}"))
        self.names = [str(name) for name in schema.names]

    def most_rows(self) -> int:
        return self.n_rows

    def read(self) -> pd.DataFrame:
        with pq.ParquetFile(self.path) as file:
            return self._frame(file.read())

    def parts(self, rows: int) -> Iterator[pd.DataFrame]:
        # without a buffer for all of a group of rows
        with pq.ParquetFile(self.path, pre_buffer=False) as file:
            yield from map(self._frame, file.iter_batches(batch_size=rows))

    def _frame(self, table: pa.Table | pa.RecordBatch) -> pd.DataFrame:
        # what pandas says of its own frame in the file would take columns away, as an index
        frame: pd.DataFrame = table.to_pandas(ignore_metadata=True, integer_object_nulls=True)
        frame.columns = pd.Index(self.names, dtype=object)
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


class _Text:
    """Raises whatever pandas raises."""

    def __init__(self, path: Path, text: Collection[str | None], given: Given) -> None:
        self.path, self.text = path, text
        if is_gzip(path):
            require_unpacked_gzip(path)
        self.dialect = _dialect(path, given)
        header = self.dialect.names(path)
        if len(header) > MOST_COLUMNS:
            raise SourceError(f"{path} has {len(header)} columns, a table may have {MOST_COLUMNS}")
        if not header:
            raise SourceError(
                f"{path} is empty: a first row with the names of the columns and rows of numbers are needed"
            )
        # as pandas calls columns without a name
        self.names = [name or f"Unnamed: {i}" for i, name in enumerate(header)]
        refuse_twins(path, self.names)

    def most_rows(self) -> int:
        return count_lines(self.path)

    def read(self) -> pd.DataFrame:
        with self._refusing_ragged():
            return self._whole(pd.read_csv(self.path, low_memory=False, **self._options()))

    def parts(self, rows: int) -> Iterator[pd.DataFrame]:
        with pd.read_csv(self.path, chunksize=rows, low_memory=False, **self._options()) as parts:
            while True:
                with self._refusing_ragged():
                    part = next(parts, None)
                if part is None:
                    return
                yield self._whole(part)

    @contextlib.contextmanager
    def _refusing_ragged(self) -> Iterator[None]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header
                yield
        except (pd.errors.ParserError, pd.errors.ParserWarning):
            _refuse_ragged(self.path, self.dialect, len(self.names))
            raise

    def _options(self) -> dict[str, Any]:
        keys: Sequence[Any] = self.names if self.dialect.header else range(len(self.names))
        is_text = {key: name in self.text for key, name in zip(keys, self.names, strict=True)}
        return {
            "sep": self.dialect.separator,
            "decimal": self.dialect.decimal,
            "encoding": self.dialect.encoding,
            "skiprows": self.dialect.skip,
            "header": 0 if self.dialect.header else None,
            "index_col": False,
            "dtype": {key: str for key, text in is_text.items() if text},
            "keep_default_na": False,
            "na_values": {key: list(MISSING) for key, text in is_text.items() if not text},
        }

    def _whole(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Rows under the names of the columns; short ones, which are filled up, are refused."""
        frame.columns = pd.Index(self.names, dtype=object)
        last = frame.iloc[:, -1]
        if (last.isna() | (last == "")).any():
            _refuse_ragged(self.path, self.dialect, len(self.names))
        return frame


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
