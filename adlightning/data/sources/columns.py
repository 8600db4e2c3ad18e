"""Columns of a table as features, labels and names of rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from adlightning.core.contracts import SourceError
from adlightning.data.label_words import ALLOWED_LABELS, Meanings
from adlightning.labels import ANOMALY, NO_LABEL, NORMAL

_ROWS = 10  # fewer may look like row numbers, or like labels, by chance


def labels_of(column: pd.Series[Any], path: Path | str, meanings: Meanings | None = None) -> NDArray[np.int64]:
    """Labels (N,): 0 normal, 1 anomaly, -1 not labelled. Raises SourceError naming an unknown value and its row."""
    meanings = meanings or Meanings(str(column.name))
    codes, values = _distinct(column, path)
    labels = [NO_LABEL]
    for code, value in enumerate(values):
        label = meanings.of(value)
        if label is None:
            row = int(np.argmax(codes == code))
            raise SourceError(
                f"{path}: label column {column.name!r} holds {value!r} in row {row}; allowed are {ALLOWED_LABELS}; "
                f"or {meanings.what_to_say(values)}"
            )
        labels.append(label)
    return np.array(labels, dtype=np.int64)[codes + 1]


def distinct_labels(column: pd.Series[Any], path: Path | str) -> list[str]:
    """The labels that a column has, as text, each once. Raises SourceError where it holds lists."""
    return _distinct(column, path)[1]


def _distinct(column: pd.Series[Any], path: Path | str) -> tuple[NDArray[np.int64], list[str]]:
    try:
        codes, values = pd.factorize(column)  # code -1 is a missing value
    except TypeError as error:  # Parquet has columns of lists
        raise SourceError(f"{path}: label column {column.name!r} must hold numbers or text: {error}") from None
    return codes, [text_of(value) for value in values]


def names_of(column: pd.Series[Any]) -> tuple[str, ...]:
    """A column as names of rows, (N,): text as it is, other values as they are written; nothing is an empty name."""
    return tuple(map(text_of, column.tolist()))


def text_of(value: object) -> str:
    """A cell as text."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value.hex()
    missing = pd.api.types.is_scalar(value) and bool(pd.isna(value))  # type: ignore[call-overload]  # of any type
    return "" if missing else str(value)


def counts_rows(values: NDArray[np.float64]) -> bool:
    """Whether values (N,) are whole numbers one after the other, in any order."""
    sorted_values = np.sort(values)
    return len(values) >= _ROWS and float(sorted_values[0]).is_integer() and bool((np.diff(sorted_values) == 1).all())


def tells_label(values: NDArray[np.float64], y: NDArray[np.int64]) -> bool:
    """Whether values (N,) are one number where labels are normal and another where they are anomalies."""
    if len(values) < _ROWS:
        return False
    normal, anomalous = np.unique(values[y == NORMAL]), np.unique(values[y == ANOMALY])
    return len(normal) == 1 and len(anomalous) == 1 and bool(normal[0] != anomalous[0])
