"""A table of sensors over time: rows of each group one after the other, in the order of time."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from adlightning.core.contracts import SourceError
from adlightning.core.features import features_of
from adlightning.core.messages import quoted
from adlightning.core.windows import Rows
from adlightning.data.sources.columns import labels_of, names_of
from adlightning.labels import ANOMALY, NO_LABEL, NORMAL

LONG_STEP = 2.0
"""A step of time is a gap when it is longer than this times the median one."""


class Stretch(NamedTuple):
    """Rows of one group that follow one another in time: `start` to `stop` of a :class:`SensorTable`."""

    group: str
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class SensorTable:
    """The rows of a table over time, group after group; `rows` has their numbers in the file.

    Args:
        values: float64 (R, D).
        labels: (R,): 0 normal, 1 anomaly, -1 not labelled.
        rows: (R,) numbers of the rows in the file, from 0, without the header.
        groups: the groups in the order in which they first come, and where each lies.
        columns: what an output has beside each row, in the order of the file: `group` and `time`, as they are given.
        times: float64 (R,), seconds where the column holds dates; row numbers of the file without a time column.
        dates: whether the time column holds dates.
    """

    values: Tensor
    labels: NDArray[np.int64]
    rows: Rows
    groups: tuple[Stretch, ...]
    columns: Mapping[str, tuple[str, ...]]
    times: NDArray[np.float64]
    dates: bool = False

    def place_in_order(self) -> Rows:
        """Where each row of the file is in this table, (R,)."""
        place = np.empty(len(self.rows), dtype=np.int64)
        place[self.rows] = np.arange(len(place))
        return place

    def windows(self, length: int) -> Tensor:
        """The window that begins at each row, (R - length + 1, length, D): a view, those over two groups too."""
        return self.values.unfold(0, length, 1).transpose(1, 2)

    def window_labels(self, length: int) -> NDArray[np.int64]:
        """Labels of these windows: anomalous with one anomalous row, normal when all rows are, else not labelled."""
        anomalous, normal = (_sums(self.labels == kind, length) for kind in (ANOMALY, NORMAL))
        return np.select([anomalous > 0, normal == length], [ANOMALY, NORMAL], NO_LABEL).astype(np.int64)


def sensor_table(
    frame: pd.DataFrame,
    where: Path | str,
    features: Sequence[str],
    time_column: str | None,
    group_column: str | None,
    label_column: str | None,
) -> SensorTable:
    """The rows of a frame, group after group. Columns that are not there count as not given.

    Raises:
        SourceError: features that are no finite numbers, labels that are none, times that cannot be read, or that do
            not go up within a group; the message names file, column and row.
    """
    values = features_of(frame, features, where)
    labels = np.full(len(frame), NO_LABEL, dtype=np.int64)
    if label_column in frame.columns:
        labels = labels_of(frame[label_column], where)
    columns: dict[str, tuple[str, ...]] = {}
    codes, names = np.zeros(len(frame), dtype=np.int64), [""]
    if group_column in frame.columns:
        columns["group"] = names_of(frame[group_column])
        codes, names = _codes_of(columns["group"])
    times, dates = np.arange(len(frame), dtype=np.float64), False
    if time_column in frame.columns:
        columns["time"] = names_of(frame[time_column])
        times, dates = _times_of(frame[time_column], where)
    order = np.argsort(codes, kind="stable")
    bounds = np.searchsorted(codes[order], np.arange(len(names) + 1))
    groups = tuple(Stretch(name, int(bounds[i]), int(bounds[i + 1])) for i, name in enumerate(names))
    if time_column in frame.columns:
        _require_order(times[order], order, groups, frame[time_column], where, group_column)
    if len(groups) > 1:  # else in order already
        values = values[torch.from_numpy(order)]
    return SensorTable(values, labels[order], order, groups, columns, times[order], dates)


def _sums(marks: NDArray[np.bool_], length: int) -> NDArray[np.int64]:
    """Sums of each `length` marks that follow one another."""
    total = np.concatenate([[0], np.cumsum(marks)])
    sums: NDArray[np.int64] = total[length:] - total[:-length]
    return sums


def _codes_of(names: Sequence[str]) -> tuple[NDArray[np.int64], list[str]]:
    codes, found = pd.factorize(np.asarray(names, dtype=object))
    return codes.astype(np.int64), [str(name) for name in found]


def _times_of(column: pd.Series[Any], where: Path | str) -> tuple[NDArray[np.float64], bool]:
    """Times as numbers, and whether they were dates. Raises SourceError."""
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        times, dates = column.to_numpy(dtype=np.float64, na_value=np.nan), False
    else:
        moments = pd.to_datetime(column, format="ISO8601", utc=True, errors="coerce")
        times = (moments - pd.Timestamp(0, tz="UTC")).dt.total_seconds().to_numpy(dtype=np.float64)
        dates = True
    if len(wrong := np.flatnonzero(~np.isfinite(times))):
        row = int(wrong[0])
        raise SourceError(
            f"{where}: time_column {column.name!r} holds {column.iloc[row]!r} in row {row}; times must be numbers, or "
            f"dates as 2026-01-31 or 2026-01-31T23:59:00"
        )
    return times, dates


def _require_order(
    times: NDArray[np.float64],
    order: Rows,
    groups: Sequence[Stretch],
    column: pd.Series[Any],
    where: Path | str,
    group_column: str | None,
) -> None:
    """Refuse times that do not go up within a group; say where there are gaps."""
    steps: list[NDArray[np.float64]] = []
    for group, start, stop in groups:
        step = np.diff(times[start:stop])
        if len(wrong := np.flatnonzero(step <= 0)):
            row, before = int(order[start + wrong[0] + 1]), int(order[start + wrong[0]])
            same = column.iloc[row] == column.iloc[before]
            within = f" of group {group!r}" if group_column is not None else ""
            several = " (rows of several machines? then name their column as group_column)" if group == "" else ""
            raise SourceError(
                f"{where}: time_column {column.name!r} must go up from row to row{within}; {str(column.iloc[row])!r} "
                f"in row {row} comes {'again' if same else 'after'} "
                f"{'' if same else repr(str(column.iloc[before])) + ' '}{'after row' if same else 'in row'} {before}: "
                f"sort the rows by it{', and leave out those that come twice' if same else ''}{several}"
            )
        steps.append(step)
    every = np.concatenate(steps)
    if not len(every):
        return
    usual = float(np.median(every))
    if n_gaps := int(np.sum(every > LONG_STEP * usual)):
        warnings.warn(
            f"{where}: {n_gaps} of {len(every)} steps of {column.name!r} are longer than {LONG_STEP:g} times the usual "
            f"one ({usual:g}): windows go over these gaps; to keep them apart name each stretch in a group_column",
            stacklevel=2,
        )


def refuse_missing_columns(frame: pd.DataFrame, where: Path | str, named: Mapping[str, Sequence[str]]) -> None:
    """Raise SourceError for a column that an argument names and the table lacks.

    Args:
        frame: the table.
        where: the table in words.
        named: columns by the argument that names them.
    """
    for argument, names in named.items():
        if absent := [name for name in names if name not in frame.columns]:
            raise SourceError(
                f"{argument}: {where} has no column {quoted(absent)}; it has {quoted(list(map(str, frame.columns)))}"
            )
