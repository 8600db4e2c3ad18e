"""Columns of a table as features, labels and names of rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from adlightning.core.contracts import ANOMALY, NO_LABEL, NORMAL
from adlightning.core.messages import quoted
from adlightning.data.sources.base import SourceError

FLOAT32_MAX = float(np.finfo(np.float32).max)
EXACT = 2**53
"""Whole numbers up to here are float64 numbers; beyond, neighbours become one."""

ALLOWED_LABELS = "0, normal, false; 1, anomaly, true; and an empty cell, NaN or NA for no label"
_MEANINGS = {
    **dict.fromkeys(("0", "normal", "false"), NORMAL),
    **dict.fromkeys(("1", "anomaly", "true"), ANOMALY),
    **dict.fromkeys(("", "nan", "na", "<na>"), NO_LABEL),
}

_HINTS = {
    r"[+-]?\d+,\d+": "write numbers with a decimal point, not a comma",
    r"[+-]?\d{1,3}([,.' \u00a0\u2009\u202f]\d{3})+([.,]\d+)?": "write numbers without separators of thousands",
    r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T].*)?": "a date is no number, seconds since a day are",
    r"\d{1,2}:\d{2}(:\d{2}.*)?": "a time of day is no number, seconds are",
}


def features_of(frame: pd.DataFrame, columns: Sequence[str], path: Path | str) -> Tensor:
    """The given columns, in that order, as float64 (N, D); true and false become 1 and 0.

    Raises:
        SourceError: a column is missing or holds text, NaN, infinite values, values too large for float32, or whole
            numbers that float64 does not keep; the message names file, column and row.
    """
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise SourceError(f"{path} has no column {quoted(missing)}; it has {quoted(list(frame.columns))}")
    x = np.empty((len(frame), len(columns)), dtype=np.float64)
    for i, column in enumerate(columns):
        x[:, i] = values = _numbers(frame[column], path)
        usable = np.abs(values) <= FLOAT32_MAX  # False for NaN
        if not usable.all():
            row = int(np.argmin(usable))
            what = "no value (or NaN)" if np.isnan(values[row]) else f"{values[row]}"
            what += ", too large for float32," if np.isfinite(values[row]) else ""
            raise SourceError(f"{path}: column {column!r} has {what} in row {row}; features must be finite numbers")
    return torch.from_numpy(x)


def _numbers(column: pd.Series[Any], path: Path | str) -> NDArray[np.float64]:
    if pd.api.types.is_bool_dtype(column) or pd.api.types.is_numeric_dtype(column):
        if pd.api.types.is_complex_dtype(column):
            raise SourceError(f"{path}: column {column.name!r} holds complex numbers; features must be real")
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
        if pd.api.types.is_integer_dtype(column):
            _require_exact(column, values, path)
        return values
    if not (pd.api.types.is_object_dtype(column) or pd.api.types.is_string_dtype(column)):
        raise SourceError(f"{path}: column {column.name!r} is of type {column.dtype}; features must be numbers")
    # booleans with gaps, and columns without any value, come as objects; a cell of text makes strings of a column
    numbers = pd.to_numeric(column.map(_number_or_text), errors="coerce")
    is_text = (column.notna() & numbers.isna()).to_numpy()
    if is_text.any():
        row = int(np.argmax(is_text))
        value = column.iloc[row]
        hints = (hint for pattern, hint in _HINTS.items() if re.fullmatch(pattern, str(value).strip()))
        remedy = next(hints, "encode it as numbers")
        raise SourceError(
            f"{path}: column {column.name!r} is not numeric, it holds {value!r} in row {row}: {remedy}, or "
            f"leave the column out of training (drop_columns)"
        )
    values = numbers.to_numpy(dtype=np.float64, na_value=np.nan)
    _require_exact(column, values, path)
    return values


def _require_exact(column: pd.Series[Any], values: NDArray[np.float64], path: Path | str) -> None:
    """Refuse whole numbers that become others as float64: ids, and the largest integer as a mark."""
    for row in np.flatnonzero(np.abs(values) >= EXACT):
        value = column.iloc[int(row)]
        if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d+\s*", value):
            value = int(value)
        if isinstance(value, (int, np.integer, Decimal)) and value != int(values[row]):
            raise SourceError(
                f"{path}: column {column.name!r} has the whole number {value} in row {int(row)}; float64 keeps "
                f"{int(values[row])} only: put {column.name!r} in drop_columns if it is an identifier (or "
                f"name it as name_column), else subtract a constant from it"
            )


def _number_or_text(value: object) -> object:
    """None for what cannot become a number: lists, and whole numbers of hundreds of digits."""
    too_large = isinstance(value, int) and abs(value) > float(np.finfo(np.float64).max)
    return None if too_large or not pd.api.types.is_scalar(value) else value


def labels_of(column: pd.Series[Any], path: Path | str) -> NDArray[np.int64]:
    """Labels (N,): 0 normal, 1 anomaly, -1 not labelled. Raises SourceError naming an unknown value and its row."""
    try:
        codes, values = pd.factorize(column)  # code -1 is a missing value
    except TypeError as error:  # Parquet has columns of lists
        raise SourceError(f"{path}: label column {column.name!r} must hold numbers or text: {error}") from None
    labels = [NO_LABEL]
    for code, value in enumerate(values):
        label = _label(value)
        if label is None:
            row = int(np.argmax(codes == code))
            raise SourceError(
                f"{path}: label column {column.name!r} holds {text_of(value)!r} in row {row}; allowed are "
                f"{ALLOWED_LABELS}"
            )
        labels.append(label)
    return np.array(labels, dtype=np.int64)[codes + 1]


def _label(value: object) -> int | None:
    if isinstance(value, (str, bytes)):
        # a column with a gap is written as 0.0 and 1.0
        return _MEANINGS.get(re.sub(r"^([01])\.0*$", r"\1", text_of(value).strip().lower()))
    known: dict[object, int] = {0: NORMAL, 1: ANOMALY}  # also 0.0, False, and decimals
    return known.get(value)


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
