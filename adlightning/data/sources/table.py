"""A table of your own: CSV or Parquet, with or without a column of labels."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from adlightning.core.cells import find_columns, is_date, is_text
from adlightning.core.contracts import InputSpec, SourceError
from adlightning.core.encoding import Categorical, Columns, Dates, Missing, require_choices
from adlightning.core.features import features_of
from adlightning.core.messages import quoted
from adlightning.data.sources.base import AnomalySource, Part, Samples
from adlightning.data.sources.columns import labels_of, names_of
from adlightning.data.sources.table_file import is_unnamed, plain_name, read_frame
from adlightning.files.dialects import Given
from adlightning.files.disk import user_path
from adlightning.labels import ANOMALY, NO_LABEL, NORMAL

ConstantFeatures = Literal["error", "drop", "keep"]

_LABEL = ("label", "labels")
_LIKE_LABELS = ("anomaly", "is_anomaly", "outlier", "is_outlier", "attack", "class", "target", "ground_truth")

_ROWS = 10  # fewer may look like row numbers, or like labels, by chance


class Table(AnomalySource):
    """Rows of a CSV, TSV (either also gzipped) or Parquet file, float64 (N, D): every column that is not named as
    something else is a feature.

    Names of columns and rows are text, as the file has it. Labels: 0, false or `normal`; 1, true or `anomaly` (in any
    case); an empty cell, NaN or NA is not labelled. Without a label column nothing is. Of two files one may lack the
    label or the name column. Rows count from 0, without the header.

    Args:
        path: the training table.
        test_path: the test table; its columns may be in another order.
        label_column: column of labels; null for none.
        name_column: column of row names for score tables; null numbers the rows.
        drop_columns: columns that are no features.
        constant_features: what to do with features that never vary in the training table: `error`, `drop` or `keep`.
        missing: what to do with values that are missing: `refuse`; `median` of the training rows; or `indicator`, which
            also makes a feature of whether it was missing.
        categorical: what to do with columns of text: `refuse`; `one_hot`, a feature for each category; or `ordinal`,
            its number in the sorted ones. Categories are those of the training rows.
        dates: what to do with columns of dates, 2026-01-31 12:30:00: `refuse`, or `seconds` since 1970.
        separator: what stands between values of a text: `comma`, `semicolon`, `tab`, `bar`, `space` or one character.
        decimal: what stands in numbers: `point` or `comma`.
        encoding: of a text: `utf-8`, `utf-16`, `cp1252`, ...
        header: whether the first row names the columns; without one they are called 0, 1, ... These four are found
            with `auto`.
    """

    def __init__(
        self,
        path: str,
        test_path: str | None = None,
        label_column: str | None = None,
        name_column: str | None = None,
        drop_columns: list[str] | None = None,
        constant_features: ConstantFeatures = "error",
        missing: Missing = "refuse",
        categorical: Categorical = "refuse",
        dates: Dates = "refuse",
        separator: str = "auto",
        decimal: str = "auto",
        encoding: str = "auto",
        header: bool | Literal["auto"] = "auto",
    ) -> None:
        if constant_features not in get_args(ConstantFeatures):
            allowed = ", ".join(get_args(ConstantFeatures))
            raise ValueError(f"constant_features must be one of {allowed}, got {constant_features!r}")
        require_choices(missing=missing, categorical=categorical, dates=dates)
        if label_column is not None and label_column == name_column:
            raise ValueError(f"label_column and name_column must differ, got {label_column!r} for both")
        self.path = user_path(path)
        self.test_path = None if test_path is None else user_path(test_path)
        self.label_column = label_column
        self.name_column = name_column
        self.drop_columns = tuple(drop_columns or ())
        self.constant_features = constant_features
        self.missing, self.categorical, self.dates = missing, categorical, dates
        self.text_options = Given(separator, decimal, encoding, header)
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
            columns=self._encoding,
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
        x = self._train_features if part == "train" else features_of(frame, features, path, self._encoding)
        y = np.full(len(frame), NO_LABEL, dtype=np.int64)
        if self.label_column in frame.columns:
            y = labels_of(frame[self.label_column], path)
        named = self.name_column if self.name_column in frame.columns else None
        names = tuple(map(str, range(len(frame)))) if named is None else names_of(frame[named])
        return Samples(x, y, names)

    @cached_property
    def _frames(self) -> dict[Part, tuple[pd.DataFrame, Path]]:
        text = (self.label_column, self.name_column)
        frames: dict[Part, tuple[pd.DataFrame, Path]] = {
            "train": (read_frame(self.path, text, self.text_options), self.path)
        }
        if self.test_path is not None:
            train, _ = frames["train"]
            texts = [
                name for name in train.columns if self._takes_text and (is_text(train[name]) or is_date(train[name]))
            ]
            frames["test"] = (read_frame(self.test_path, (*text, *texts), self.text_options), self.test_path)
        return frames

    @property
    def _takes_text(self) -> bool:
        return self.categorical != "refuse" or self.dates != "refuse"

    @cached_property
    def _encoding(self) -> Columns | None:
        """What is done with features that are no plain numbers."""
        return self._encoded(self._columns[0])

    def _encoded(self, features: Sequence[str]) -> Columns | None:
        tables = [frame for frame, _ in self._frames.values()]
        return find_columns(tables, features, self.path, self.missing, self.categorical, self.dates)

    @cached_property
    def _train_features(self) -> Tensor:
        return features_of(self._frames["train"][0], self._columns[0], self.path, self._encoding)

    @cached_property
    def _columns(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Features, in order, and the columns that are none."""
        frame, _ = self._frames["train"]
        present = {column for table, _ in self._frames.values() for column in table.columns}
        named = [("label_column", self.label_column), ("name_column", self.name_column)]
        named += [("drop_columns", name) for name in self.drop_columns]
        for argument, name in named:
            if name is not None and name not in present:
                alike = [column for column in frame.columns if plain_name(column) == plain_name(name)]
                hint = f"; say {argument}={alike[0]!r}, with its spaces and capitals" if alike else ""
                raise SourceError(
                    f"{argument}: {self.path} has no column {name!r}; it has {quoted(list(frame.columns))}{hint}"
                )
        ignored = [name for _, name in named if name is not None]
        features = [column for column in frame.columns if column not in ignored]
        self._refuse_other_uses(features)
        if features and self.constant_features != "keep":
            constant = self._constant(features)
            if len(constant) == len(features):
                raise SourceError(
                    f"{self.path}: all {len(frame)} rows are the same in every feature ({quoted(constant)}): there is "
                    f"nothing to tell apart"
                )
            if constant and self.constant_features == "error":
                raise SourceError(
                    f"{self.path}: features never vary: {quoted(constant)}; set constant_features to drop or keep"
                )
            features = [column for column in features if column not in constant]
            ignored += constant
        self._say_what_tells(features)
        if not features:
            raise SourceError(f"{self.path} has no feature columns; it has {quoted(list(frame.columns))}")
        return tuple(features), tuple(dict.fromkeys(ignored))

    def _refuse_other_uses(self, features: Sequence[str]) -> None:
        """Refuse labels, names and numbers of rows among the features; name what may be one."""
        used = {plain_name(name): name for name in (self.name_column, self.label_column) if name is not None}
        for column in features:
            plain = plain_name(column)
            if plain in _LABEL:
                raise SourceError(f"{self.path} has a column {column!r}: name it as label_column or in drop_columns")
            if plain in used:
                raise SourceError(
                    f"{self.path} has a column {column!r} beside {used[plain]!r}: if it is no feature, put it in "
                    f"drop_columns, else give it another name"
                )
            if is_unnamed(column):
                raise SourceError(
                    f"{self.path} has a column without a name (row numbers, an index?): put {column!r} in drop_columns"
                )
        if like := [column for column in features if plain_name(column) in _LIKE_LABELS]:
            warnings.warn(
                f"{self.path}: {quoted(like)} taken as a feature; if it says what is an anomaly, name it as "
                f"label_column or in drop_columns",
                stacklevel=2,
            )

    def _say_what_tells(self, features: list[str]) -> None:
        """Name features that number the rows or that tell the label: copies of it, whatever they are called."""
        frame, path = self._frames["train"]
        columns = self._encoded(features)
        x = features_of(frame, features, path, columns).numpy()
        numbers = [i for i in range(len(features)) if columns is None or not columns.of(i)]
        if numbered := [features[i] for i in numbers if _counts_rows(x[:, i])]:
            warnings.warn(
                f"{path}: {quoted(numbered)} taken as a feature: it numbers the rows; if it is an index, name it as "
                f"name_column or in drop_columns",
                stacklevel=2,
            )
        if self.label_column not in frame.columns:
            return
        y = labels_of(frame[self.label_column], path)
        if told := [name for name, values in zip(features, x.T, strict=True) if _tells_label(values, y)]:
            warnings.warn(
                f"{path}: {quoted(told)} taken as a feature: it has one value for normal rows and another for "
                f"anomalies; if it is a label, put it in drop_columns",
                stacklevel=2,
            )

    def _constant(self, features: list[str]) -> list[str]:
        x = features_of(self._frames["train"][0], features, self.path, self._encoded(features)).numpy()
        return [name for name, values in zip(features, x.T, strict=True) if not self._varies(values)]

    def _varies(self, values: NDArray[np.float64]) -> bool:
        there = values[~np.isnan(values)]
        marked = self.missing == "indicator" and 0 < len(there) < len(values)
        return marked or (len(there) > 0 and bool((there != there[0]).any()))


def _counts_rows(values: NDArray[np.float64]) -> bool:
    """Whether values (N,) are whole numbers one after the other, in any order."""
    sorted_values = np.sort(values)
    return len(values) >= _ROWS and float(sorted_values[0]).is_integer() and bool((np.diff(sorted_values) == 1).all())


def _tells_label(values: NDArray[np.float64], y: NDArray[np.int64]) -> bool:
    """Whether values (N,) are one number where labels are normal and another where they are anomalies."""
    if len(values) < _ROWS:
        return False
    normal, anomalous = np.unique(values[y == NORMAL]), np.unique(values[y == ANOMALY])
    return len(normal) == 1 and len(anomalous) == 1 and bool(normal[0] != anomalous[0])


def _check_same_columns(frame: pd.DataFrame, path: Path, features: Sequence[str], ignored: Sequence[str]) -> None:
    missing = [column for column in features if column not in frame.columns]
    extra = [column for column in frame.columns if column not in features and column not in ignored]
    if missing or extra:
        lacks = f"lacks {quoted(missing)}" if missing else ""
        has = f"has in addition {quoted(extra)}" if extra else ""
        raise SourceError(f"{path} {' and '.join(filter(None, (lacks, has)))}, compared with the training table")
