"""Arrays and columns of tables as features: finite numbers that are the same once they are floating-point."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from adlightning.core.contracts import SourceError
from adlightning.core.messages import quoted

FLOAT32_MAX = float(np.finfo(np.float32).max)
EXACT = 2**53
"""Whole numbers up to here are float64 numbers; beyond, neighbours become one."""

_HINTS = {
    r"[+-]?\d+,\d+": "write numbers with a decimal point, not a comma",
    r"[+-]?\d{1,3}([,.' \u00a0\u2009\u202f]\d{3})+([.,]\d+)?": "write numbers without separators of thousands",
    r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T].*)?": "a date is no number, seconds since a day are",
    r"\d{1,2}:\d{2}(:\d{2}.*)?": "a time of day is no number, seconds are",
}


def as_features(array: NDArray[Any], what: str) -> Tensor:
    """Numbers (N, ...) as float32 where that is exact whatever they are, else as float64.

    Raises:
        SourceError: one is NaN, infinite, too large for float32, or a whole number that float64 does not keep; the
            message names the first, by row and feature.
    """
    exact = np.can_cast(array.dtype, np.float32)
    values = array.astype(np.float32 if exact else np.float64)
    with np.errstate(invalid="ignore"):  # NaN is reported below
        usable = np.abs(values) <= np.finfo(np.float32).max
    rule = "features must be finite numbers within float32"
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8:
        large = np.abs(values) >= EXACT
        usable[large] = [int(number) == int(value) for number, value in zip(array[large], values[large], strict=True)]
        rule = f"whole numbers must be such that float64 keeps, as all up to {EXACT} are"
    if not usable.all():
        position = np.unravel_index(int(np.argmin(usable)), usable.shape)
        places = ["row", "column"] if usable.ndim == 2 else ["row", "step", "feature"]
        where = ", ".join(f"{place} {i}" for place, i in zip(places, position, strict=False))
        raise SourceError(f"{what} holds {array[position]} at {where}; {rule}")
    return torch.from_numpy(np.ascontiguousarray(values))


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


def refuse_twins(path: Path | str, names: Sequence[str]) -> None:
    """Raise SourceError when two columns have one name."""
    twins = [name for name, count in Counter(names).items() if count > 1]
    if twins:
        raise SourceError(f"{path} has several columns of the name {quoted(twins)}")
