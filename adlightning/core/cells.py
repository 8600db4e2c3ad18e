"""Cells of a table that are no plain numbers: categories as their numbers, dates as seconds."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from adlightning.core.contracts import SourceError
from adlightning.core.encoding import OTHER, Categorical, Columns, Dates, Missing
from adlightning.core.messages import quoted
from adlightning.files.dialects import MISSING

MOST_CATEGORIES = 1000
"""Of a column: with more, it is an identifier, or text to be read by other means."""

DATE = re.compile(
    r"\s*\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}([.,]\d{1,9})?)?\s*(Z|[+-]\d{2}:?\d{2})?)?\s*|\s*\d{4}/\d{2}/\d{2}\s*"
)
"""A day, or a time of a day, with the year first: days and months in other orders may be taken for each other."""

_FEW = 20  # categories that need not come twice


def is_text(column: pd.Series[Any]) -> bool:
    """Whether a column holds text that is no number: categories, dates, names."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return True
    if not (pd.api.types.is_object_dtype(column) or pd.api.types.is_string_dtype(column)):
        return False
    present = column[column.notna()].map(lambda cell: isinstance(cell, (str, bytes)))
    if not present.any():
        return False
    return bool(pd.to_numeric(_without_missing(column), errors="coerce").isna().any())


def is_date(column: pd.Series[Any]) -> bool:
    """Whether every cell of a column that is not missing is a date."""
    if pd.api.types.is_datetime64_any_dtype(column):
        return True
    if not (pd.api.types.is_object_dtype(column) or pd.api.types.is_string_dtype(column)):
        return False
    present = _without_missing(column)
    return len(present) > 0 and all(DATE.fullmatch(str(value)) for value in present)


def categories_in(columns: Sequence[pd.Series[Any]], path: Path | str) -> tuple[str, ...]:
    """The categories of a column, sorted, of several tables; a missing one has an empty name.

    Raises:
        SourceError: there are more than :data:`MOST_CATEGORIES`, or nearly as many as rows.
    """
    try:
        names = sorted({name for column in columns for name in map(category_of, pd.unique(column))})
    except TypeError as error:  # Parquet has columns of lists
        raise SourceError(f"{path}: column {columns[0].name!r} must hold text or numbers: {error}") from None
    n, column = sum(map(len, columns)), columns[0].name
    if len(names) > MOST_CATEGORIES or (len(names) > _FEW and 2 * len(names) > n):
        raise SourceError(
            f"{path}: column {column!r} has {len(names)} different texts in {n} rows: if it names the rows, say "
            f"name_column={column!r}, else put it in drop_columns; categories must be at most {MOST_CATEGORIES}, and "
            f"come twice on average"
        )
    return tuple(names)


def find_columns(
    tables: Sequence[pd.DataFrame],
    names: Sequence[str],
    path: Path | str,
    missing: Missing,
    categorical: Categorical,
    dates: Dates,
) -> Columns | None:
    """What is done with columns of these names, by what they hold; None where they are to be numbers alone.

    Args:
        tables: the training table, by which categories and dates are told, and others of the same columns.
        names: of the features.
        path: of the training table, for messages.
        missing, categorical, dates: what is asked for.

    Raises:
        SourceError: a column of text that is no category.
    """
    if (categorical, dates) == ("refuse", "refuse"):
        return None if missing == "refuse" else Columns(missing)
    categories, times = [], []
    for name in names:
        column, found = tables[0][name], tuple[str, ...]()
        if is_date(column):
            times += [name] if dates == "seconds" else []
        elif categorical != "refuse" and is_text(column):
            found = categories_in([table[name] for table in tables if name in table.columns], path)
        categories.append(found)
    known = tuple(categories) if any(categories) else ()
    columns = Columns(missing, categorical if known else "refuse", tuple(times), known)
    return None if columns == Columns() else columns


def category_of(value: object) -> str:
    """A cell as the name of a category; a missing one has an empty name."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    if isinstance(value, str):
        return "" if value.strip() in MISSING else value.strip()
    missing = pd.api.types.is_scalar(value) and bool(pd.isna(value))  # type: ignore[call-overload]  # of any type
    return "" if missing else str(value)


def codes_of(column: pd.Series[Any], categories: Sequence[str], path: Path | str) -> NDArray[np.float64]:
    """Numbers (N,) of the categories; :data:`OTHER`, with a warning, for others."""
    try:
        codes, values = pd.factorize(column, use_na_sentinel=False)
    except TypeError as error:
        raise SourceError(f"{path}: column {column.name!r} must hold text or numbers: {error}") from None
    number = {name: i for i, name in enumerate(categories)}
    names = [category_of(value) for value in values]
    if others := sorted({name for name in names if name not in number}):
        warnings.warn(
            f"{path}: column {column.name!r} has categories that were in no training row: {quoted(others)}; they count "
            f"as none of those that were",
            stacklevel=2,
        )
    found: NDArray[np.float64] = np.array([number.get(name, OTHER) for name in names], dtype=np.float64)[codes]
    return found


def seconds_of(column: pd.Series[Any], path: Path | str) -> NDArray[np.float64]:
    """Dates (N,) as seconds since 1970, in UTC where they name no zone; NaN for a missing one.

    Raises:
        SourceError: a cell that is no date, naming its row.
    """
    if pd.api.types.is_numeric_dtype(column):  # seconds already
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    if not pd.api.types.is_datetime64_any_dtype(column):
        missing = column.map(category_of) == ""
        wrong = ~missing & ~column.map(lambda cell: bool(DATE.fullmatch(str(cell))))
        times = pd.to_datetime(column.where(~(missing | wrong)), errors="coerce", format="ISO8601", utc=True)
        slashes = pd.to_datetime(column.where(~(missing | wrong)), errors="coerce", format="%Y/%m/%d", utc=True)
        times = times.fillna(slashes)
        wrong |= times.isna() & ~missing
        if wrong.any():
            row = int(np.argmax(wrong.to_numpy()))
            raise SourceError(
                f"{path}: column {column.name!r} holds {str(column.iloc[row])!r} in row {row}; a date is written "
                f"2026-01-31 or 2026-01-31 12:30:00"
            )
        column = times
    elif column.dt.tz is None:
        column = column.dt.tz_localize("UTC")
    since = column - pd.Timestamp(0, tz="UTC")
    return np.asarray(since.dt.total_seconds(), dtype=np.float64)


def _without_missing(column: pd.Series[Any]) -> pd.Series[Any]:
    present = column[column.notna()]
    kept: pd.Series[Any] = present[~present.astype(str).str.strip().isin(MISSING)]
    return kept
