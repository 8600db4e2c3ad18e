"""Sensors over time: windows of a table, split by time or by group, with a score for each row."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Self, get_args

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from adlightning.core.contracts import InputSpec
from adlightning.core.metrics import ScoredSamples
from adlightning.core.range_metrics import volumes_under_surface
from adlightning.core.windows import RowScore, WindowSpec, rows_of_windows, scores_of_rows
from adlightning.data.composition import Split
from adlightning.data.modules import AnomalyDataModule
from adlightning.data.scales import offsets_of
from adlightning.data.sources.base import Part, Samples, Source
from adlightning.data.sources.sensor_table import SensorTable, Stretch
from adlightning.data.sources.sensors import FRAME, Sensors
from adlightning.data.window_splits import Stretches, WindowSplit, split_by_group, split_by_time, starts_in
from adlightning.labels import ANOMALY, KNOWN_ANOMALY, KNOWN_NORMAL, NO_LABEL, NORMAL, UNLABELLED


class Windows(AnomalyDataModule):
    """Your own sensors over time: windows of a CSV, TSV or Parquet file, or, by :meth:`from_frame`, of a pandas frame.

    A sample is a window, (length, D), of rows that follow one another within a group. Scores, threshold, metrics and
    pictures are of rows: a row's score is that of the windows which hold it. A window is an anomaly when a row of it
    is. No window lies in two of training, validation and test.

    With `test_path` that file is tested; else, with a label column, a share is held out; else nothing is tested.

    Args:
        path: the table.
        test_path: the test table.
        time_column: column of the time, numbers or ISO dates, which must go up within a group; null for none.
        group_column: column that names what a row was recorded of, such as a machine; null for one series.
        label_column: column of labels: 0 / `normal`, 1 / `anomaly`, empty for not labelled; null for none.
        drop_columns: columns that are no features.
        length: rows of a window, at least 2.
        stride: rows from the beginning of a window to that of the next one; null takes a quarter of `length`. The last
            window of a stretch ends with it, so that each row is in one.
        row_score: score of a row: the `mean`, or the largest (`max`), of those of the windows that hold it.
        split: `time` tests the last rows of each group, `group` whole groups.
        test_fraction: share that is tested where there is no `test_path`, in (0, 1).
        batch_size: training samples a step, on each rank.
        validation_fraction: share of the rows of each training group held out, the last ones, in [0, 1); sets the
            threshold, never the weights.
        vus_buffer: rows before and after an event up to which VUS-ROC and VUS-PR look; null takes `length`.
        loading: batch sizes, seed and memory, as in :class:`AnomalyDataModule`.

    Raises:
        ValueError: an argument outside its range, before any data are read.
    """

    def __init__(
        self,
        path: str,
        test_path: str | None = None,
        time_column: str | None = None,
        group_column: str | None = None,
        label_column: str | None = None,
        drop_columns: list[str] | None = None,
        length: int = 32,
        stride: int | None = None,
        row_score: RowScore = "mean",
        split: WindowSplit = "time",
        test_fraction: float = 0.4,
        batch_size: int = 128,
        validation_fraction: float = 0.1,
        vus_buffer: int | None = None,
        **loading: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, validation_fraction=validation_fraction, **loading)
        if length < 2:
            raise ValueError(f"length must be at least 2 rows, got {length}; for single rows there is TableData")
        if split not in get_args(WindowSplit):
            raise ValueError(f"split must be one of {', '.join(get_args(WindowSplit))}, got {split!r}")
        if not 0 < test_fraction < 1:
            raise ValueError(f"test_fraction must lie in (0, 1), got {test_fraction}")
        if split == "group" and group_column is None and test_path is None:
            raise ValueError("split=group needs a group_column, got None")
        if vus_buffer is not None and vus_buffer < 0:
            raise ValueError(f"vus_buffer must not be negative, got {vus_buffer}")
        self.windows = WindowSpec(
            length, max(1, length // 4) if stride is None else stride, row_score, time_column, group_column
        )
        self.source = Sensors(path, test_path, time_column, group_column, label_column, drop_columns or [])
        self.split_kind = split
        self.test_fraction = test_fraction
        self.vus_buffer = length if vus_buffer is None else vus_buffer

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, test_frame: pd.DataFrame | None = None, **arguments: Any) -> Self:
        """Windows of pandas frames.

        Args:
            frame: the training table.
            test_frame: the test table; None holds a share of the other one out where there are labels.
            arguments: those of the class, but for `path` and `test_path`.
        """
        windows = cls(FRAME, None if test_frame is None else FRAME, **arguments)
        windows.source = windows.source.of_frames(frame, test_frame)
        return windows

    @property
    def data_source(self) -> Source:
        """The table."""
        return self.source

    def sample_spec(self) -> InputSpec:
        """Windows of the table's features."""
        return self.source.windows_spec(self.windows)

    def make_split(self) -> tuple[Samples, Samples, Split, str]:
        """Windows of stretches that share no row."""
        table, length = self.source.load("train"), self.windows.length
        assert table is not None
        test = self.source.load("test")
        stretches = self._stretches(table, tested=test is None and bool((table.labels != NO_LABEL).any()))
        tested = stretches.test if test is None else test.groups
        for name, parts, part_of in (
            ("training", stretches.train, table),
            ("held-out", stretches.validation, table),
            ("test", tested, test or table),
        ):
            self._require_windows(name, parts, part_of)
        starts = [starts_in(parts, length, self.windows.stride) for parts in (stretches.train, stretches.validation)]
        starts.append(starts_in(tested, length, self.windows.stride))
        samples = self._samples(table)
        test_samples = samples if test is None else self._samples(test)
        train, validation, tests = starts
        self.tables = {"train": table, "test": test or table}
        known = np.array([KNOWN_NORMAL, KNOWN_ANOMALY, UNLABELLED])[samples.y[train]]  # no label, -1, takes the last
        split = Split(train, known, validation, samples.y[validation], tests, test_samples.y[tests])
        return samples, test_samples, split, self.source.name

    def _stretches(self, table: SensorTable, tested: bool) -> Stretches:
        held_out = self.validation_fraction
        if not tested or self.split_kind == "time":
            return split_by_time(table.groups, self.test_fraction if tested else 0.0, held_out)
        anomalous = [bool((table.labels[group.start : group.stop] == ANOMALY).any()) for group in table.groups]
        return split_by_group(table.groups, anomalous, self.test_fraction, held_out, self.effective_seed())

    def _require_windows(self, name: str, parts: Sequence[Stretch], table: SensorTable) -> None:
        """Refuse a part of which no stretch is as long as a window; say which of them are left out."""
        length = self.windows.length
        short = [part for part in parts if len(part) < length]
        if not parts or not short:
            return
        rows = f"length={length} is more than the {max(map(len, parts))} rows of the longest {name} stretch"
        if len(short) == len(parts):
            raise ValueError(
                f"{self.source.name}: {rows}: give a smaller length, more rows, or another split, "
                f"test_fraction or validation_fraction (0 holds nothing out)"
            )
        warnings.warn(
            f"{self.source.name}: {len(short)} of {len(parts)} {name} stretches are shorter than a window of {length} "
            f"rows and are left out, that of group {short[0].group!r} the first",
            stacklevel=2,
        )

    def _samples(self, table: SensorTable) -> Samples:
        """The windows at all rows, of which a split names those that there are."""
        x = table.windows(self.windows.length)
        return Samples(x, table.window_labels(self.windows.length), tuple(map(str, table.rows[: len(x)])))

    def _find_offsets(self) -> None:
        """Of each column, by the rows that are trained on: the same at each step of a window."""
        table = self.tables["train"]
        rows = rows_of_windows(self._fitted_rows, self.windows.length)
        offsets = offsets_of(table.values[torch.from_numpy(rows)])
        self.input_spec = replace(self.input_spec, offsets=offsets * self.windows.length)

    # ---- from windows to rows -------------------------------------------------------------------------------------

    def as_reported(self, scored: ScoredSamples, part: Part) -> ScoredSamples:
        """Scores of the rows that scored windows hold, with the rows' labels and their numbers in the file."""
        table = self.tables[part]
        scores, rows = scores_of_rows(scored.scores, scored.index, self.windows.length, self.windows.row_score)
        numbers = table.rows[rows]
        order = np.argsort(numbers, kind="stable")
        return ScoredSamples(scores[order], table.labels[rows][order], numbers[order])

    def range_metrics(self, scored: ScoredSamples) -> dict[str, Any]:
        """VUS-ROC and VUS-PR; nothing where a row has no label, or all have the same."""
        if set(np.unique(scored.labels).tolist()) != {NORMAL, ANOMALY} or not np.isfinite(scored.scores).all():
            return {}
        positions, bounds = self.in_order(scored)
        volumes = volumes_under_surface(
            scored.scores[positions], scored.labels[positions], self.vus_buffer, [(a, b) for _, a, b in bounds]
        )
        return {"range_metrics": {**volumes, "buffer": self.vus_buffer}}

    def in_order(self, scored: ScoredSamples) -> tuple[NDArray[np.int64], list[Stretch]]:
        """Places of reported scores of a test set in the order of groups and time, and where stretches begin and end.

        A stretch is of rows that follow one another in the table of one group.
        """
        table = self.tables["test"]
        places = table.place_in_order()[scored.index]
        order = np.argsort(places)
        places = places[order]
        group = np.searchsorted([start for _, start, _ in table.groups], places, side="right") - 1
        breaks = np.flatnonzero((np.diff(places) != 1) | (np.diff(group) != 0)) + 1
        edges = [0, *breaks.tolist(), len(places)]
        stretches = [Stretch(table.groups[group[a]].group, a, b) for a, b in pairwise(edges)]
        return order, stretches

    def held_out_index(self) -> NDArray[np.int64]:
        """Numbers of the rows that are held out of training."""
        return self.tables["train"].rows[rows_of_windows(self.split.validation, self.windows.length)]

    def sample_names(self, test_name: str) -> tuple[str, ...]:
        """Numbers of the rows in the file."""
        return tuple(map(str, range(len(self.tables["test"].rows))))

    def sample_columns(self, test_name: str) -> Mapping[str, tuple[str, ...]]:
        """Group and time of each row of the file."""
        return self.tables["test"].columns
