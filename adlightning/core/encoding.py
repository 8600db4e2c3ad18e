"""What becomes of a table's columns that are no plain numbers: missing values, categories, dates."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

Missing = Literal["refuse", "median", "indicator"]
Categorical = Literal["refuse", "one_hot", "ordinal"]
Dates = Literal["refuse", "seconds"]

_CHOICES = {"missing": get_args(Missing), "categorical": get_args(Categorical), "dates": get_args(Dates)}

OTHER = -1
"""The code of a category that was in no training row."""


@dataclass(frozen=True)
class Columns:
    """How columns become features; fitted on training rows, and a part of the input that a checkpoint describes.

    Raw input holds NaN for a missing value, the number of a category in its column's `categories` (:data:`OTHER` for
    others), and seconds since 1970 for a date.

    Args:
        missing: `median` fills a missing value with the column's training median, `indicator` also makes a feature of
            whether it was missing. A missing category is a category of its own, without a name.
        categorical: `one_hot` makes a feature of each category, `ordinal` keeps its number.
        dates: names of the columns of dates.
        categories: one tuple a column, sorted; empty for a column of numbers. Empty where no column has any.
        fills: one a column, in raw values. Empty before they are fitted, and where nothing may be missing.
        indicators: numbers of the columns that had missing values in training.
    """

    missing: Missing = "refuse"
    categorical: Categorical = "refuse"
    dates: tuple[str, ...] = ()
    categories: tuple[tuple[str, ...], ...] = ()
    fills: tuple[float, ...] = ()
    indicators: tuple[int, ...] = ()

    def of(self, column: int) -> tuple[str, ...]:
        """The categories of a column; none for numbers."""
        return self.categories[column] if self.categories else ()

    @property
    def jump(self) -> bool:
        """Whether raw input has values between which there are none: categories, and what is missing."""
        return bool(self.categories) or self.missing != "refuse"

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return plain | {"categories": [list(names) for names in self.categories]}

    @classmethod
    def from_dict(cls, values: object, n_columns: int) -> Columns:
        """The inverse of :meth:`as_dict`, for so many columns. Raises ValueError for values that it does not give."""
        if not isinstance(values, dict) or values.keys() != {own.name for own in fields(cls)}:
            raise ValueError("columns of an input is none")
        rules: dict[str, Callable[[Any], bool]] = {
            "missing": lambda v: isinstance(v, str) and v in get_args(Missing),
            "categorical": lambda v: isinstance(v, str) and v in get_args(Categorical),
            "dates": lambda v: _is_list_of(str, v),
            "categories": lambda v: (
                type(v) is list and len(v) in (0, n_columns) and all(_is_list_of(str, names) for names in v)
            ),
            "fills": lambda v: _is_list_of(float, v) and len(v) in (0, n_columns) and all(map(math.isfinite, v)),
            "indicators": lambda v: (
                _is_list_of(int, v) and len(set(v)) == len(v) and all(0 <= column < n_columns for column in v)
            ),
        }
        for name, holds in rules.items():
            if not holds(values[name]):
                raise ValueError(f"columns of an input: {name} is none")
        plain = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        return cls(**plain | {"categories": tuple(tuple(names) for names in values["categories"])})

    def same_raw_input(self, other: Columns | None) -> bool:
        """Whether raw input means the same: numbers of the same categories, and the same dates."""
        return other is not None and (self.dates, self.categories) == (other.dates, other.categories)


def require_choices(**given: str) -> None:
    """Raise ValueError for a value of `missing`, `categorical` or `dates` that there is not."""
    for name, value in given.items():
        if value not in _CHOICES[name]:
            raise ValueError(f"{name} must be one of {', '.join(_CHOICES[name])}, got {value!r}")


def _is_list_of(kind: type, value: object) -> bool:
    return type(value) is list and all(type(item) is kind for item in value)
