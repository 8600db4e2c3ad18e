"""Sensors over time: the rows of a CSV or Parquet file, or of a pandas frame."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import pandas as pd

from adlightning.core.contracts import InputSpec, SourceError
from adlightning.core.features import refuse_twins
from adlightning.core.messages import quoted
from adlightning.core.windows import WindowSpec
from adlightning.data.sources.base import Part, Source
from adlightning.data.sources.sensor_table import SensorTable, refuse_missing_columns, sensor_table
from adlightning.data.sources.table_file import is_unnamed, plain_name, read_frame
from adlightning.files.disk import user_path

FRAME = "the frame"
_LABEL = ("label", "labels")


class Sensors(Source):
    """Rows over time, of one or several groups; every column that is not named as something else is a feature.

    Args:
        path: the training table.
        test_path: the test table.
        time_column: column of the time; None for none.
        group_column: column that names what a row was recorded of; None for one series.
        label_column: column of labels, which one of two tables may lack; None for none.
        drop_columns: columns that are no features.

    Raises:
        ValueError: two arguments name one column.
    """

    def __init__(
        self,
        path: str,
        test_path: str | None,
        time_column: str | None,
        group_column: str | None,
        label_column: str | None,
        drop_columns: Sequence[str],
    ) -> None:
        self.time_column, self.group_column, self.label_column = time_column, group_column, label_column
        self.drop_columns = tuple(drop_columns)
        named = [name for name in (time_column, group_column, label_column) if name is not None]
        if len(set(named)) < len(named):
            raise ValueError(f"time_column, group_column and label_column must differ, got {quoted(named)}")
        self.path: Path | pd.DataFrame = user_path(path)
        self.test_path: Path | pd.DataFrame | None = None if test_path is None else user_path(test_path)
        self.name = self.path.name

    def of_frames(self, frame: pd.DataFrame, test_frame: pd.DataFrame | None) -> Sensors:
        """The same of frames in place of files."""
        other = copy.copy(self)
        other.path, other.test_path, other.name = frame, test_frame, FRAME
        return other

    def input_spec(self) -> InputSpec:
        """The columns that are features, and those that are not. Reads the table."""
        features, ignored = self._columns
        return InputSpec("table", (len(features),), self.name, features=features, ignored=ignored)

    def windows_spec(self, windows: WindowSpec) -> InputSpec:
        """Windows of the features."""
        features, ignored = self._columns
        shape = (windows.length, len(features))
        return InputSpec("series", shape, self.name, features=features, ignored=ignored, windows=windows)

    def load(self, part: Part) -> SensorTable | None:
        """The rows of a part; None for a test part that there is not.

        Raises:
            SourceError: a table that cannot be read, a column that it lacks or has in addition, or, by file, column
                and row, a value, a label or a time that is none; times that do not go up within a group.
        """
        given = self.path if part == "train" else self.test_path
        if given is None:
            return None
        frame, where = self._train if part == "train" else self._read(given)
        features, ignored = self._columns
        if part == "test":
            missing = [name for name in features if name not in frame.columns]
            extra = [name for name in frame.columns if name not in (*features, *ignored)]
            if missing or extra:
                raise SourceError(
                    f"{where} must have the columns of the training table: it lacks {quoted(missing) or 'none'} and "
                    f"has in addition {quoted(extra) or 'none'}"
                )
        return sensor_table(frame, where, features, self.time_column, self.group_column, self.label_column)

    @cached_property
    def _train(self) -> tuple[pd.DataFrame, str]:
        return self._read(self.path)

    def _read(self, given: Path | pd.DataFrame) -> tuple[pd.DataFrame, str]:
        if isinstance(given, Path):
            return read_frame(given, (self.group_column, self.label_column)), str(given)
        frame = given.rename(columns=str)
        refuse_twins(FRAME, list(frame.columns))
        if not len(frame):
            raise SourceError(f"{FRAME} has no rows")
        return frame, FRAME

    @cached_property
    def _columns(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Features, in order, and the columns that are none."""
        frame, where = self._train
        named = {"time_column": self.time_column, "group_column": self.group_column}
        refuse_missing_columns(frame, where, {argument: [name] for argument, name in named.items() if name is not None})
        refuse_missing_columns(frame, where, {"drop_columns": self.drop_columns})
        if self.label_column is not None and self.test_path is None:
            refuse_missing_columns(frame, where, {"label_column": [self.label_column]})
        ignored = [name for name in (*named.values(), self.label_column, *self.drop_columns) if name is not None]
        features = [name for name in frame.columns if name not in ignored]
        for name in features:
            if plain_name(name) in _LABEL or is_unnamed(name):
                use = "label_column" if plain_name(name) in _LABEL else "time_column"
                raise SourceError(f"{where} has a column {name!r}: name it as {use} or in drop_columns")
        if not features:
            raise SourceError(f"{where} has no feature columns; it has {quoted(list(frame.columns))}")
        return tuple(features), tuple(dict.fromkeys(ignored))
