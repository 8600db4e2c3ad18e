"""A table of your own: CSV or Parquet, with or without a column of labels."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from adlightning.core.cells import find_columns, is_date, is_text
from adlightning.core.contracts import InputSpec, SourceError
from adlightning.core.encoding import Categorical, Columns, Dates, Missing, require_choices
from adlightning.core.messages import quoted
from adlightning.data.label_words import Meanings, plain_label
from adlightning.data.sources.base import AnomalySource, Part, Samples
from adlightning.data.sources.columns import counts_rows, distinct_labels, labels_of, names_of, tells_label
from adlightning.data.sources.table_file import is_unnamed, plain_name
from adlightning.data.sources.table_parts import FramePart, LargePart, RowNumbers, TablePart, read_part
from adlightning.files.dialects import Given
from adlightning.files.disk import user_path
from adlightning.labels import ANOMALY, NO_LABEL

ConstantFeatures = Literal["error", "drop", "keep"]

_LABEL = ("label", "labels")
_LIKE_LABELS = ("anomaly", "is_anomaly", "outlier", "is_outlier", "attack", "class", "target", "ground_truth")


class Table(AnomalySource):
    """Rows of a CSV, TSV (either also gzipped) or Parquet file, float64 (N, D): every column that is not named as
    something else is a feature.

    Names of columns and rows are text, as the file has it. Labels: 0, false or `normal`; 1, true or `anomaly` (in any
    case); words such as ok and defect (:mod:`adlightning.data.label_words`); an empty cell, NaN or NA is not labelled.
    Without a label column nothing is. Of two files one may lack the label or the name column. Rows count from 0,
    without the header.

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
        normal_label: the label of normal rows where its word does not say so; every other is then an anomaly.
        anomaly_label: that of anomalies, likewise; with both, no other is allowed.
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
        normal_label: str | None = None,
        anomaly_label: str | None = None,
    ) -> None:
        if constant_features not in get_args(ConstantFeatures):
            allowed = ", ".join(get_args(ConstantFeatures))
            raise ValueError(f"constant_features must be one of {allowed}, got {constant_features!r}")
        require_choices(missing=missing, categorical=categorical, dates=dates)
        if label_column is not None and label_column == name_column:
            raise ValueError(f"label_column and name_column must differ, got {label_column!r} for both")
        if label_column is None and (normal_label is not None or anomaly_label is not None):
            raise ValueError("normal_label and anomaly_label are labels of label_column, which must be given")
        self.meanings = Meanings(label_column or "", normal_label, anomaly_label)
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
        if part not in self._parts:
            return None
        table = self._parts[part]
        features, ignored = self._columns
        if part == "test":
            _check_same_columns(table, features, ignored)
        x = self._train_features if part == "train" else table.features(features, self._encoding)
        y = np.full(len(table), NO_LABEL, dtype=np.int64)
        if self.label_column is not None and self.label_column in table.names:
            y = labels_of(table.cells(self.label_column), table.path, self.meanings)
            self._look_at_kinds(y, table, part)
        return Samples(x, y, self._names_of(table))

    def _look_at_kinds(self, y: NDArray[np.int64], table: TablePart, part: Part) -> None:
        """Refuse a training table of anomalies alone; say where what is tested has labels of one kind."""
        found = f"{table.path}: label column {self.label_column!r} calls all"
        if part == "train" and (y == ANOMALY).all():
            raise SourceError(
                f"{found} {len(y)} rows anomalies: rows that are normal or not labelled are needed to train on"
            )
        kinds = set(y.tolist()) - {NO_LABEL}
        if len(kinds) == 1 and (part == "test" or self.test_path is None):
            kind = "anomalies" if kinds == {ANOMALY} else "normal"
            warnings.warn(f"{found} labelled rows {kind}: nothing can be ranked, there are no metrics", stacklevel=2)

    def _names_of(self, table: TablePart) -> Sequence[str]:
        if self.name_column is not None and self.name_column in table.names:
            return names_of(table.cells(self.name_column))
        return RowNumbers(len(table)) if isinstance(table, LargePart) else tuple(map(str, range(len(table))))

    @cached_property
    def _parts(self) -> dict[Part, TablePart]:
        text = [name for name in (self.label_column, self.name_column) if name is not None]
        asked = Columns(self.missing, self.categorical, ("",) if self.dates != "refuse" else ())
        train = read_part(self.path, text, self.drop_columns, self.text_options, asked)
        parts: dict[Part, TablePart] = {"train": train}
        if self.test_path is not None:
            if isinstance(train, FramePart) and (self.categorical, self.dates) != ("refuse", "refuse"):
                frame = train.frame
                text += [name for name in train.names if is_text(frame[name]) or is_date(frame[name])]
            parts["test"] = read_part(self.test_path, text, self.drop_columns, self.text_options, asked)
        return parts

    @cached_property
    def _encoding(self) -> Columns | None:
        """What is done with features that are no plain numbers."""
        return self._encoded(self._columns[0])

    def _encoded(self, features: Sequence[str]) -> Columns | None:
        train = self._parts["train"]
        if not isinstance(train, FramePart):  # it has numbers alone
            return None if self.missing == "refuse" else Columns(self.missing)
        tables = [train.frame, *(p.frame for p in self._parts.values() if isinstance(p, FramePart) and p is not train)]
        return find_columns(tables, features, self.path, self.missing, self.categorical, self.dates)

    @cached_property
    def _train_features(self) -> Tensor:
        return self._parts["train"].features(self._columns[0], self._encoding)

    @cached_property
    def _columns(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Features, in order, and the columns that are none."""
        table = self._parts["train"]
        present = {column for part in self._parts.values() for column in part.names}
        named = [("label_column", self.label_column), ("name_column", self.name_column)]
        named += [("drop_columns", name) for name in self.drop_columns]
        for argument, name in named:
            if name is not None and name not in present:
                alike = [column for column in table.names if plain_name(column) == plain_name(name)]
                hint = f"; say {argument}={alike[0]!r}, with its spaces and capitals" if alike else ""
                raise SourceError(f"{argument}: {self.path} has no column {name!r}; it has {quoted(table.names)}{hint}")
        ignored = [name for _, name in named if name is not None]
        features = [column for column in table.names if column not in ignored]
        self._refuse_other_uses(features)
        if features and self.constant_features != "keep":
            constant = self._constant(features)
            if len(constant) == len(features):
                raise SourceError(
                    f"{self.path}: all {len(table)} rows are the same in every feature ({quoted(constant)}): there is "
                    f"nothing to tell apart"
                )
            if constant and self.constant_features == "error":
                raise SourceError(
                    f"{self.path}: features never vary: {quoted(constant)}; set constant_features to drop or keep"
                )
            features = [column for column in features if column not in constant]
            ignored += constant
        self._say_what_labels_mean()
        self._say_what_tells(features)
        if not features:
            raise SourceError(f"{self.path} has no feature columns; it has {quoted(table.names)}")
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

    def _say_what_labels_mean(self) -> None:
        """Say which words are taken for what; refuse a label that is given and is in no file."""
        labels = [
            label
            for table in self._parts.values()
            if self.label_column is not None and self.label_column in table.names
            for label in distinct_labels(table.cells(self.label_column), table.path)
        ]
        for name, given in (
            ("normal_label", self.meanings.normal_label),
            ("anomaly_label", self.meanings.anomaly_label),
        ):
            if given is not None and plain_label(given) not in map(plain_label, labels):
                held = quoted(list(dict.fromkeys(labels)))
                raise SourceError(f"{name}: {self.path} has no {given!r} in {self.label_column!r}; it holds {held}")
        if words := self.meanings.in_words(labels):
            warnings.warn(
                f"{self.path}: labels in {self.label_column!r} taken by their words: {words}; normal_label and "
                f"anomaly_label say it otherwise",
                stacklevel=2,
            )

    def _say_what_tells(self, features: list[str]) -> None:
        """Name features that number the rows or that tell the label: copies of it, whatever they are called."""
        table, columns = self._parts["train"], self._encoded(features)
        path, x = table.path, table.features(features, columns).numpy()
        numbers = [i for i in range(len(features)) if columns is None or not columns.of(i)]
        if numbered := [features[i] for i in numbers if counts_rows(x[:, i])]:
            warnings.warn(
                f"{path}: {quoted(numbered)} taken as a feature: it numbers the rows; if it is an index, name it as "
                f"name_column or in drop_columns",
                stacklevel=2,
            )
        if self.label_column is None or self.label_column not in table.names:
            return
        y = labels_of(table.cells(self.label_column), path, self.meanings)
        if told := [name for name, values in zip(features, x.T, strict=True) if tells_label(values, y)]:
            warnings.warn(
                f"{path}: {quoted(told)} taken as a feature: it has one value for normal rows and another for "
                f"anomalies; if it is a label, put it in drop_columns",
                stacklevel=2,
            )

    def _constant(self, features: list[str]) -> list[str]:
        x = self._parts["train"].features(features, self._encoded(features)).numpy()
        return [name for name, values in zip(features, x.T, strict=True) if not self._varies(values)]

    def _varies(self, values: NDArray[np.float64]) -> bool:
        there = values[~np.isnan(values)]
        marked = self.missing == "indicator" and 0 < len(there) < len(values)
        return marked or (len(there) > 0 and bool((there != there[0]).any()))


def _check_same_columns(table: TablePart, features: Sequence[str], ignored: Sequence[str]) -> None:
    path = table.path
    missing = [column for column in features if column not in table.names]
    extra = [column for column in table.names if column not in features and column not in ignored]
    if missing or extra:
        lacks = f"lacks {quoted(missing)}" if missing else ""
        has = f"has in addition {quoted(extra)}" if extra else ""
        raise SourceError(f"{path} {' and '.join(filter(None, (lacks, has)))}, compared with the training table")
