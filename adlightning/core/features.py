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

from adlightning.core.cells import DATE, category_of, codes_of, seconds_of
from adlightning.core.contracts import SourceError
from adlightning.core.encoding import Columns
from adlightning.core.messages import quoted
from adlightning.files.dialects import MISSING

FLOAT32_MAX = float(np.finfo(np.float32).max)
EXACT = 2**53
"""Whole numbers up to here are float64 numbers; beyond, neighbours become one."""

_WAS_TRAINED = "; the detector was trained without missing values"
_CATEGORIES = ", say categorical=one_hot (or ordinal)"
_DATES = ", say dates=seconds"
_HINTS = {
    r"[+-]?\d+,\d+": "write numbers with a decimal point, not a comma",
    r"[+-]?\d{1,3}([,.' \u00a0\u2009\u202f]\d{3})+([.,]\d+)?": "write numbers without separators of thousands",
    r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T].*)?": "a date is no number, seconds since a day are",
    r"\d{1,2}:\d{2}(:\d{2}.*)?": "a time of day is no number, seconds are",
}


def as_features(array: NDArray[Any], what: str, may_miss: bool = False) -> Tensor:
    """Numbers (N, ...) as float32 where that is exact whatever they are, else as float64.

    Args:
        array: the numbers.
        what: in words, for messages.
        may_miss: whether NaN stands for a missing value.

    Raises:
        SourceError: one is NaN, infinite, too large for float32, or a whole number that float64 does not keep; the
            message names the first, by row and feature.
    """
    exact = np.can_cast(array.dtype, np.float32)
    values = array.astype(np.float32 if exact else np.float64)
    with np.errstate(invalid="ignore"):  # NaN is reported below
        usable = np.abs(values) <= np.finfo(np.float32).max
        if may_miss:
            usable |= np.isnan(values)
    rule = "features must be finite numbers within float32"
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8:
        large = np.abs(values) >= EXACT
        usable[large] = [int(number) == int(value) for number, value in zip(array[large], values[large], strict=True)]
        rule = f"whole numbers must be such that float64 keeps, as all up to {EXACT} are"
    if not usable.all():
        position = np.unravel_index(int(np.argmin(usable)), usable.shape)
        places = ["row", "column"] if usable.ndim == 2 else ["row", "step", "feature"]
        where = ", ".join(f"{place} {i}" for place, i in zip(places, position, strict=False))
        said = (
            "; missing='median' fills NaN in a table" if usable.ndim == 2 and array[position] != array[position] else ""
        )
        raise SourceError(f"{what} holds {array[position]} at {where}; {rule}{said}")
    return torch.from_numpy(np.ascontiguousarray(values))


def features_of(
    frame: pd.DataFrame,
    names: Sequence[str],
    path: Path | str,
    columns: Columns | None = None,
    scoring: bool = False,
    first_row: int = 0,
) -> Tensor:
    """The columns of these names, in that order, as float64 (N, D); true and false become 1 and 0.

    Args:
        frame: the table.
        names: of the columns.
        path: of the table, for messages.
        columns: what is done with values that are missing, categories and dates; None refuses them.
        scoring: whether a detector is there already, so that messages name no options of training.
        first_row: the number of the first row of a frame that is a part of a table.

    Raises:
        SourceError: a column is missing or holds text, infinite values, values too large for float32, or whole numbers
            that float64 does not keep, or NaN where nothing may be missing; the message names file, column and row.
    """
    missing = [name for name in names if name not in frame.columns]
    if missing:
        raise SourceError(f"{path} has no column {quoted(missing)}; it has {quoted(list(frame.columns))}")
    columns = columns or Columns()
    x = np.empty((len(frame), len(names)), dtype=np.float64)
    for i, name in enumerate(names):
        x[:, i] = values = _values(frame[name], path, columns, i, scoring, first_row)
        usable = np.abs(values) <= FLOAT32_MAX  # False for NaN
        if columns.missing != "refuse":
            usable |= np.isnan(values)
        if not usable.all():
            row = int(np.argmin(usable))
            what = "no value (or NaN)" if np.isnan(values[row]) else f"{values[row]}"
            what += ", too large for float32," if np.isfinite(values[row]) else ""
            rule = "features must be finite numbers"
            if np.isnan(values[row]):
                rule += _WAS_TRAINED if scoring else "; missing=median fills such, missing=indicator also marks them"
            raise SourceError(f"{path}: column {name!r} has {what} in row {row + first_row}; {rule}")
    return torch.from_numpy(x)


def unusable_rows(frame: pd.DataFrame, names: Sequence[str], columns: Columns | None = None) -> dict[int, str]:
    """Why rows of a table to score cannot be features, by their places: what :func:`features_of` refuses, of every row.

    Columns of another type than numbers and text have no such rows: they are refused as a whole.

    Args:
        frame: the table.
        names: of the features.
        columns: what is done with values that are missing, categories and dates; None refuses them.
    """
    columns = columns or Columns()
    reasons: dict[int, str] = {}
    for i, name in enumerate(names):
        if name not in frame.columns:
            continue
        column = frame[name]
        wrong, absent = _wrong_cells(column, is_category=bool(columns.of(i)), is_date=name in columns.dates)
        wrong = wrong & ~absent if columns.missing != "refuse" else wrong | absent
        for row in np.flatnonzero(wrong):
            cell = "no value (or NaN)" if absent[row] else repr(_plain(column.iloc[int(row)]))
            reasons.setdefault(int(row), f"column {name!r} has {cell}")
    return reasons


def _wrong_cells(
    column: pd.Series[Any], is_category: bool, is_date: bool
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which cells (N,) are no feature, whatever may be missing, and which are missing."""
    none = np.zeros(len(column), dtype=bool)
    is_number = pd.api.types.is_bool_dtype(column) or pd.api.types.is_numeric_dtype(column)
    if is_number and not is_category:
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
        absent = np.isnan(values)
    elif is_category or is_date or pd.api.types.is_object_dtype(column) or pd.api.types.is_string_dtype(column):
        absent = (column.map(category_of) == "").to_numpy()
        if is_category or pd.api.types.is_datetime64_any_dtype(column):
            return none, absent
        if is_date:
            return ~absent & ~column.map(lambda cell: bool(DATE.fullmatch(str(cell)))).to_numpy(), absent
        values = pd.to_numeric(column.map(_number_or_text), errors="coerce").to_numpy(np.float64, na_value=np.nan)
    else:
        return none, none
    wrong = ~(np.abs(values) <= FLOAT32_MAX)  # NaN is wrong too
    for row in np.flatnonzero((np.abs(values) >= EXACT) & ~wrong):
        number = column.iloc[int(row)]
        wrong[row] = isinstance(number, (int, np.integer)) and int(number) != int(values[row])
    return wrong, absent


def _plain(value: object) -> object:
    """A cell as Python writes it, without the name of NumPy's type."""
    return value.item() if isinstance(value, np.generic) else value


def _values(
    column: pd.Series[Any], path: Path | str, columns: Columns, i: int, scoring: bool, first_row: int
) -> NDArray[np.float64]:
    """A column as raw numbers: values, numbers of categories, or seconds."""
    if names := columns.of(i):
        if columns.missing == "refuse":
            empty = (column.map(category_of) == "").to_numpy()
            if empty.any():
                rule = _WAS_TRAINED if scoring else "; with missing=median nothing is a category of its own"
                raise SourceError(f"{path}: column {column.name!r} has no value in row {int(np.argmax(empty))}{rule}")
        return codes_of(column, names, path)
    return seconds_of(column, path) if column.name in columns.dates else _numbers(column, path, scoring, first_row)


def _numbers(column: pd.Series[Any], path: Path | str, scoring: bool, first_row: int) -> NDArray[np.float64]:
    if pd.api.types.is_bool_dtype(column) or pd.api.types.is_numeric_dtype(column):
        if pd.api.types.is_complex_dtype(column):
            raise SourceError(f"{path}: column {column.name!r} holds complex numbers; features must be real")
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
        if pd.api.types.is_integer_dtype(column):
            _require_exact(column, values, path, first_row)
        return values
    if not (pd.api.types.is_object_dtype(column) or pd.api.types.is_string_dtype(column)):
        remedy = ""
        if not scoring and pd.api.types.is_datetime64_any_dtype(column):
            remedy = _DATES
        if not scoring and isinstance(column.dtype, pd.CategoricalDtype):
            remedy = _CATEGORIES
        raise SourceError(f"{path}: column {column.name!r} is of type {column.dtype}; features must be numbers{remedy}")
    # booleans with gaps, and columns without any value, come as objects; a cell of text makes strings of a column
    numbers = pd.to_numeric(column.map(_number_or_text), errors="coerce")
    is_missing = column.isna() | column.isin(MISSING)
    text = (~is_missing & numbers.isna()).to_numpy()
    if text.any():
        row = int(np.argmax(text))
        value = column.iloc[row]
        hints = (hint for pattern, hint in _HINTS.items() if re.fullmatch(pattern, str(value).strip()))
        remedy = next(hints, "encode it as numbers")
        if scoring:
            leave = "; the detector was trained on numbers there"
        else:
            leave = _DATES if DATE.fullmatch(str(value)) else _CATEGORIES if remedy == "encode it as numbers" else ""
            leave += ", or leave the column out of training (drop_columns)"
        raise SourceError(
            f"{path}: column {column.name!r} is not numeric, it holds {value!r} in row {row + first_row}: "
            f"{remedy}{leave}"
        )
    values = numbers.to_numpy(dtype=np.float64, na_value=np.nan)
    _require_exact(column, values, path, first_row)
    return values


def _require_exact(column: pd.Series[Any], values: NDArray[np.float64], path: Path | str, first_row: int) -> None:
    """Refuse whole numbers that become others as float64: ids, and the largest integer as a mark."""
    for row in np.flatnonzero(np.abs(values) >= EXACT):
        value = column.iloc[int(row)]
        if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d+\s*", value):
            value = int(value)
        if isinstance(value, (int, np.integer, Decimal)) and value != int(values[row]):
            raise SourceError(
                f"{path}: column {column.name!r} has the whole number {value} in row {int(row) + first_row}; "
                f"float64 keeps {int(values[row])} only: put {column.name!r} in drop_columns if it is an identifier "
                f"(or name it as name_column), else subtract a constant from it"
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
