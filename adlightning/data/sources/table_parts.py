"""Tables as they lie in memory: a frame, or, of a large file, its features alone, read a part at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from adlightning.core.cells import is_date, is_text
from adlightning.core.contracts import SourceError
from adlightning.core.encoding import Columns
from adlightning.core.features import features_of
from adlightning.data.sources.table_file import FrameFile
from adlightning.files.dialects import Given

LARGE = 2**28
"""Bytes of a table in float64 from which on it is read in parts."""

FAR = 2.0**8
"""Deviations from zero up to which float32 holds a feature beyond doubt (see `data.scales`)."""

_CELLS = 2**18  # of a part of a file, at a time
_LOOKED_AT = 2**16  # rows, evenly spread, at most


class TablePart(Protocol):
    """A table whose columns have names."""

    path: Path

    @property
    def names(self) -> Sequence[str]:
        """Names of all columns, in order."""
        ...

    def __len__(self) -> int:
        """Number of rows."""
        ...

    def features(self, names: Sequence[str], columns: Columns | None) -> Tensor:
        """Columns as features (N, D). Raises SourceError as `features_of`."""
        ...

    def cells(self, name: str) -> pd.Series[Any]:
        """A column that is no feature."""
        ...


class FramePart:
    """A table as a frame.

    Args:
        frame: all of it.
        path: its file.
    """

    def __init__(self, frame: pd.DataFrame, path: Path) -> None:
        self.frame, self.path = frame, path
        self.names = list(frame.columns)

    def __len__(self) -> int:
        return len(self.frame)

    def features(self, names: Sequence[str], columns: Columns | None) -> Tensor:
        """Columns as float64 (N, D)."""
        return features_of(self.frame, names, self.path, columns)

    def cells(self, name: str) -> pd.Series[Any]:
        """A column."""
        return self.frame[name]


class LargePart:
    """A table whose features are one array already.

    Args:
        path: its file.
        names: of all columns, in order.
        x: (N, D) float32 where that holds all features, else float64.
        features: names of the D columns.
        rest: the columns of text.
    """

    def __init__(
        self, path: Path, names: Sequence[str], x: NDArray[Any], features: Sequence[str], rest: pd.DataFrame
    ) -> None:
        self.path, self.names = path, names
        self._x, self._features, self._rest = x, list(features), rest

    def __len__(self) -> int:
        return len(self._x)

    def features(self, names: Sequence[str], columns: Columns | None) -> Tensor:
        """Columns as features (N, D); all of them without a copy."""
        if list(names) == self._features:
            return torch.from_numpy(self._x)
        if unknown := [name for name in names if name not in self._features]:
            raise SourceError(f"{self.path} has no column {unknown[0]!r}")
        return torch.from_numpy(self._x[:, [self._features.index(name) for name in names]])

    def cells(self, name: str) -> pd.Series[Any]:
        """A column of text."""
        return self._rest[name]


def read_part(
    path: Path, text: Collection[str], others: Collection[str], given: Given, columns: Columns | None = None
) -> TablePart:
    """A table: in parts where it is large and its features are numbers, else as a frame.

    Args:
        path: the file.
        text: columns that are read as text.
        others: columns that are no features.
        given: how a text is written.
        columns: what may be missing, and whether text and dates are features.

    Raises:
        SourceError: as `read_frame`, and as `features_of` where it is read in parts.
    """
    file = FrameFile(path, text, given)
    width = len(file.names)
    if file.most_rows() * width * 8 <= LARGE or not _of_numbers(file, text, others, columns):
        return FramePart(file.read(), path)
    found = _read_large(file, text, others, columns, np.float32)
    if found is None:
        found = _read_large(file, text, others, columns, np.float64)
    return found or FramePart(file.read(), path)


def _of_numbers(file: FrameFile, text: Collection[str], others: Collection[str], columns: Columns | None) -> bool:
    """Whether no feature of the first part becomes a category or a date."""
    if columns is None or (columns.categorical == "refuse" and not columns.dates):
        return True
    first = next(file.parts(_CELLS), None)
    if first is None:
        return False
    features = [name for name in first.columns if name not in text and name not in others]
    return not any(is_text(first[name]) or is_date(first[name]) for name in features)


def _read_large(
    file: FrameFile, text: Collection[str], others: Collection[str], columns: Columns | None, dtype: type[Any]
) -> LargePart | None:
    """The table with features of this type; None where float32 does not hold them."""
    features = [name for name in file.names if name not in text and name not in others]
    kept = [name for name in file.names if name in text]
    missing = Columns(columns.missing) if columns is not None else None
    x = np.empty((file.most_rows(), len(features)), dtype=dtype)  # takes memory as it is filled
    rest: list[pd.DataFrame] = []
    exact, n = np.ones(len(features), dtype=bool), 0
    for part in file.parts(_CELLS):
        values = features_of(part, features, file.path, missing, first_row=n).numpy()
        stored = x[n : n + len(part)]
        stored[...] = values
        exact &= ((stored == values) | np.isnan(values)).all(axis=0)
        rest.append(part[kept])
        n += len(part)
    if n == 0:
        raise SourceError(f"{file.path} has no rows")
    if dtype is np.float32 and not all(_differ_enough(x[:n, i]) for i in np.flatnonzero(~exact)):
        return None
    pa.default_memory_pool().release_unused()  # what the parts took
    return LargePart(file.path, file.names, x[:n], features, pd.concat(rest, ignore_index=True))


def _differ_enough(column: NDArray[np.float32]) -> bool:
    """Whether values (N,) differ by enough, for how far from zero they lie, that rounding them does not matter."""
    there = column[:: -(-len(column) // _LOOKED_AT)].astype(np.float64)
    there = there[~np.isnan(there)]
    if not len(there):
        return True
    low, middle, high = np.quantile(there, [0.16, 0.5, 0.84])
    return bool(abs(middle) <= FAR * min((high - low) / 2, float(there.std())))


class RowNumbers(Sequence[str]):
    """Numbers of rows as names, made when they are asked for.

    Args:
        n: number of rows.
    """

    def __init__(self, n: int) -> None:
        self._range = range(n)

    def __len__(self) -> int:
        return len(self._range)

    def __getitem__(self, index: Any) -> Any:
        found = self._range[index]
        return tuple(map(str, found)) if isinstance(index, slice) else str(found)

    def __iter__(self) -> Iterator[str]:
        return map(str, self._range)
