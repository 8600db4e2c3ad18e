"""Columns of a table as features, labels and names of rows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from adlightning.core.contracts import SourceError
from adlightning.labels import ANOMALY, NO_LABEL, NORMAL

ALLOWED_LABELS = "0, normal, false; 1, anomaly, true; and an empty cell, NaN or NA for no label"
_MEANINGS = {
    **dict.fromkeys(("0", "normal", "false"), NORMAL),
    **dict.fromkeys(("1", "anomaly", "true"), ANOMALY),
    **dict.fromkeys(("", "nan", "na", "<na>"), NO_LABEL),
}


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
