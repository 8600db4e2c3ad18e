"""A table of your own: CSV or Parquet, with or without a column of labels."""

from __future__ import annotations

import csv
import gzip
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from adlightning.contracts import ANOMALY, NO_LABEL, NORMAL, InputSpec
from adlightning.data.sources.base import AnomalySource, Part, Samples, SourceError
from adlightning.data.sources.parquet_size import require_unpacked_parquet
from adlightning.unpacking import require_unpacked_gzip
from adlightning.files import user_path

SEPARATORS = {".csv": ",", ".csv.gz": ",", ".tsv": "\t", ".tsv.gz": "\t"}
ConstantFeatures = Literal["error", "drop", "keep"]


class Table(AnomalySource):
    """Rows of a CSV, TSV (either also gzipped) or Parquet file, float32 (N, D): every column that is not named as
    something else is a feature.

    Labels: 0, false or `normal`; 1, true or `anomaly` (in any case); an empty cell is not labelled. Without a label
    column nothing is. Of two files one may lack the label or the name column. Rows count from 0, without the header.

    Args:
        path: the training table.
        test_path: the test table; its columns may be in another order.
        label_column: column of labels; null for none.
        name_column: column of row names for score tables; null numbers the rows.
        drop_columns: columns that are no features.
        constant_features: what to do with features that never vary in the training table: `error`, `drop` or `keep`.
    """

    def __init__(
        self,
        path: str,
        test_path: str | None = None,
        label_column: str | None = None,
        name_column: str | None = None,
        drop_columns: list[str] | None = None,
        constant_features: ConstantFeatures = "error",
    ) -> None:
        if constant_features not in get_args(ConstantFeatures):
            allowed = ", ".join(get_args(ConstantFeatures))
            raise ValueError(f"constant_features must be one of {allowed}, got {constant_features!r}")
        if label_column is not None and label_column == name_column:
            raise ValueError(f"label_column and name_column must differ, got {label_column!r} for both")
        self.path = user_path(path)
        self.test_path = None if test_path is None else user_path(test_path)
        self.label_column = label_column
        self.name_column = name_column
        self.drop_columns = tuple(drop_columns or ())
        self.constant_features = constant_features
        self.name = self.path.name

    def input_spec(self) -> InputSpec:
        """The columns that are features, and those that are not. Reads the table."""
        features, ignored = self._columns
        return InputSpec(
            "table",
            (len(features),),
            self.name,
            features=features,
            ignored=ignored,
            name_column=self.name_column,
        )

    def load(self, part: Part) -> Samples | None:
        """One part, None for a test part without `test_path`; names are row numbers or the name column.

        Raises:
            SourceError: a file is missing, unreadable, ragged or empty; a column is missing, differs between the
                files, or holds text, NaN, infinite or (in training, see `constant_features`) constant values; a label
                is none of those above. Messages name file, column and row.
        """
        if part not in self._frames:
            return None
        frame, path = self._frames[part]
        features, ignored = self._columns
        if part == "test":
            _check_same_columns(frame, path, features, ignored)
        x = features_of(frame, features, path)
        y = np.full(len(frame), NO_LABEL, dtype=np.int64)
        if self.label_column in frame.columns:
            y = labels_of(frame[self.label_column], path)
        named = self.name_column if self.name_column in frame.columns else None
        names = range(len(frame)) if named is None else frame[named].tolist()
        return Samples(x, y, tuple(str(name) for name in names))

    @cached_property
    def _frames(self) -> dict[Part, tuple[pd.DataFrame, Path]]:
        frames: dict[Part, tuple[pd.DataFrame, Path]] = {"train": (read_frame(self.path), self.path)}
        if self.test_path is not None:
            frames["test"] = (read_frame(self.test_path), self.test_path)
        return frames

    @cached_property
    def _columns(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Features, in order, and the columns that are none."""
        frame, _ = self._frames["train"]
        present = {column for table, _ in self._frames.values() for column in table.columns}
        named = [("label_column", self.label_column), ("name_column", self.name_column)]
        named += [("drop_columns", name) for name in self.drop_columns]
        for argument, name in named:
            if name is not None and name not in present:
                columns = ", ".join(frame.columns)
                raise SourceError(f"{argument}: {self.path} has no column {name!r}; it has {columns}")
        ignored = [name for _, name in named if name is not None]
        features = [column for column in frame.columns if column not in ignored]
        for column in features:
            if column.lower() == "label":
                raise SourceError(f"{self.path} has a column {column!r}: name it as label_column or in drop_columns")
            if column.startswith("Unnamed: "):
                raise SourceError(
                    f"{self.path} has a column without a name (row numbers?): put {column!r} in drop_columns"
                )
        if features and self.constant_features != "keep":
            constant = self._constant(features)
            if constant and self.constant_features == "error":
                raise SourceError(
                    f"{self.path}: features never vary: {', '.join(constant)}; set constant_features to drop or keep"
                )
            features = [column for column in features if column not in constant]
            ignored += constant
        if not features:
            raise SourceError(f"{self.path} has no feature columns; it has {', '.join(frame.columns)}")
        return tuple(features), tuple(dict.fromkeys(ignored))

    def _constant(self, features: list[str]) -> list[str]:
        x = features_of(self._frames["train"][0], features, self.path)
        varies = (x != x[:1]).any(dim=0).tolist()
        return [column for column, does in zip(features, varies, strict=True) if not does]


def _check_same_columns(frame: pd.DataFrame, path: Path, features: Sequence[str], ignored: Sequence[str]) -> None:
    missing = [column for column in features if column not in frame.columns]
    extra = [column for column in frame.columns if column not in features and column not in ignored]
    if missing or extra:
        lacks = f"lacks {', '.join(missing)}" if missing else ""
        has = f"has in addition {', '.join(extra)}" if extra else ""
        raise SourceError(f"{path} {' and '.join(filter(None, (lacks, has)))}, compared with the training table")


def features_of(frame: pd.DataFrame, columns: Sequence[str], path: Path | str) -> Tensor:
    """The given columns, in that order, as float32 (N, D); true and false become 1 and 0.

    Raises:
        SourceError: a column is missing or holds text, NaN, infinite values or values too large for float32; the
            message names file, column and row.
    """
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise SourceError(f"{path} has no column {', '.join(missing)}; it has {', '.join(map(str, frame.columns))}")
    x = np.empty((len(frame), len(columns)), dtype=np.float32)
    for i, column in enumerate(columns):
        values = _numbers(frame[column], path)
        with np.errstate(over="ignore"):  # an overflow becomes inf and is reported below
            x[:, i] = values
        if not np.isfinite(x[:, i]).all():
            row = int(np.argmin(np.isfinite(x[:, i])))
            value = values[row]
            what = "no value (or NaN)" if np.isnan(value) else f"{value}"
            what += ", too large for float32," if np.isfinite(value) else ""
            raise SourceError(f"{path}: column {column!r} has {what} in row {row}; features must be finite numbers")
    return torch.from_numpy(x)


def _numbers(column: pd.Series[Any], path: Path | str) -> NDArray[np.float64]:
    if pd.api.types.is_bool_dtype(column) or pd.api.types.is_numeric_dtype(column):
        if pd.api.types.is_complex_dtype(column):
            raise SourceError(f"{path}: column {column.name!r} holds complex numbers; features must be real")
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    if not (pd.api.types.is_object_dtype(column) or pd.api.types.is_string_dtype(column)):
        raise SourceError(f"{path}: column {column.name!r} is of type {column.dtype}; features must be numbers")
    # booleans with gaps, and columns without any value, come as objects; a cell of text makes strings of a column
    numbers = pd.to_numeric(column.map(_number_or_text), errors="coerce")
    is_text = (column.notna() & numbers.isna()).to_numpy()
    if is_text.any():
        row = int(np.argmax(is_text))
        raise SourceError(
            f"{path}: column {column.name!r} is not numeric, it holds {column.iloc[row]!r} in row {row}; encode it as "
            f"numbers, or put it in drop_columns"
        )
    return numbers.to_numpy(dtype=np.float64, na_value=np.nan)


def _number_or_text(value: object) -> object:
    """None for what cannot become a number: lists, and whole numbers of hundreds of digits."""
    too_large = isinstance(value, int) and abs(value) > sys.float_info.max
    return None if too_large or not pd.api.types.is_scalar(value) else value


def labels_of(column: pd.Series[Any], path: Path) -> NDArray[np.int64]:
    """Labels (N,): 0 normal, 1 anomaly, -1 not labelled. Raises SourceError naming an unknown value and its row."""
    meanings = {"0": NORMAL, "normal": NORMAL, "1": ANOMALY, "anomaly": ANOMALY, "": NO_LABEL}
    try:
        codes, values = pd.factorize(column)  # code -1 is a missing value
    except TypeError as error:  # Parquet has columns of lists
        raise SourceError(f"{path}: label column {column.name!r} must hold numbers or text: {error}") from None
    labels = [NO_LABEL]
    for code, value in enumerate(values):
        text = value.strip().lower() if isinstance(value, str) else None
        label = {0: NORMAL, 1: ANOMALY}.get(value) if text is None else meanings.get(text)
        if label is None:
            row = int(np.argmax(codes == code))
            raise SourceError(
                f"{path}: label column {column.name!r} holds {value} in row {row}; allowed are 0, normal, 1, anomaly, "
                f"true, false and empty"
            )
        labels.append(label)
    return np.array(labels, dtype=np.int64)[codes + 1]


def read_frame(path: Path) -> pd.DataFrame:
    """A table by its suffix: .csv, .tsv (also .gz), .parquet.

    Raises:
        SourceError: the file is missing, of another suffix, unreadable, ragged, without rows, has two columns of one
            name, or unpacks to more than it may (see :mod:`adlightning.unpacking`).
    """
    if not path.is_file():
        raise SourceError(f"there is no file {path}")
    separator = next((s for suffix, s in SEPARATORS.items() if path.name.lower().endswith(suffix)), None)
    if separator is None and path.suffix.lower() != ".parquet":
        raise SourceError(f"{path} must end in one of {', '.join(SEPARATORS)}, .parquet")
    try:
        if separator is None:
            require_unpacked_parquet(path)
        elif path.suffix.lower() == ".gz":
            require_unpacked_gzip(path)
        frame = pd.read_parquet(path) if separator is None else _read_text(path, separator)
    except SourceError:
        raise
    except Exception as error:  # parsers raise many types, of which pandas documents few
        raise SourceError(f"{path} cannot be read as a table: {error}") from error
    frame.columns = frame.columns.map(str)
    if len(frame) == 0:
        raise SourceError(f"{path} has no rows")
    refuse_twins(path, list(frame.columns))
    return frame


def _read_text(path: Path, separator: str) -> pd.DataFrame:
    header = next(_rows(path, separator), [])
    refuse_twins(path, [name for name in header if name])  # pandas would rename them
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header
        frame = pd.read_csv(path, sep=separator, index_col=False, low_memory=False)
    if len(frame) and frame.iloc[:, -1].isna().any():  # pandas fills short rows up
        for row, fields in enumerate(_rows(path, separator)):
            if len(fields) < len(header):
                raise SourceError(f"{path}: row {row - 1} has {len(fields)} fields, the header has {len(header)}")
    return frame


def _rows(path: Path, separator: str) -> Iterator[list[str]]:
    opener = gzip.open if path.suffix.lower() == ".gz" else open
    with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
        yield from (fields for fields in csv.reader(file, delimiter=separator) if fields)


def refuse_twins(path: Path | str, names: list[str]) -> None:
    """Raise SourceError when two columns have one name."""
    twins = [name for name, count in Counter(names).items() if count > 1]
    if twins:
        raise SourceError(f"{path} has several columns of the name {', '.join(twins)}")
