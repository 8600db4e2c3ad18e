"""Rows of results as one pandas table, checked, one row a run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

PLACE = ("paper", "table", "dataset", "setting", "normal", "method", "variant")
"""What a run shares with its published value."""

_TEXT = (
    *PLACE,
    "title",
    "labelled",
    "test_set",
    "status",
    "error",
    "selection",
    "protocol",
    "code",
    "device",
    "finished",
    "scores",
)
_REQUIRED = ("status", "paper", "table", "dataset", "method", "seed")
# Two rows that agree in all of these are the same run, done twice; so one run is never counted as two.
_IDENTITY = [*PLACE, "labelled", "seed"]
_DONE_IDENTITY = [*_IDENTITY, "selection", "protocol"]  # a failed row does not say these
_LARGEST = 1e100  # of a number: sums and squares of such are numbers still
# What would command a terminal, turn the direction of text around, or not be encodable; an error message may hold it.
_UNPRINTABLE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def runs_frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows as a table: texts as text, with a space for control characters other than newline and tab, numbers as float
    with NaN where there is none, nested ones as `metrics.auroc`.

    Of a run that is there several times (a repeated failure, another version of the code) the finished one is kept, and
    of several the latest; `older` counts the other finished (or failed) ones.

    Raises:
        ValueError: a row without what names it, with a status other than done or failed, or with text for a number.
    """
    import pandas as pd

    frame = pd.DataFrame([_flat(number, row) for number, row in enumerate(rows)])
    for name in (*_TEXT, "seed", "older"):
        if name not in frame:
            frame[name] = "" if name in _TEXT else 0
    frame[list(_TEXT)] = frame[list(_TEXT)].fillna("").astype(str)
    if frame.empty:
        return frame
    frame["_done"] = frame["status"] == "done"
    frame = frame[frame["_done"] | ~frame.groupby(_IDENTITY)["_done"].transform("any")]
    frame = frame.sort_values("finished", kind="stable")
    frame["older"] = frame.groupby(_DONE_IDENTITY)["seed"].transform("size") - 1
    frame = frame.drop_duplicates(_DONE_IDENTITY, keep="last").sort_values(_DONE_IDENTITY, kind="stable")
    return frame.drop(columns="_done").reset_index(drop=True)


def one_a_fit(runs: pd.DataFrame) -> pd.DataFrame:
    """The rows with one for each fit: of a fit with several test sets the first."""
    of_fit = [name for name in (*_IDENTITY, "code", "finished", "seconds.total") if name != "setting" and name in runs]
    return runs[(runs["test_set"] == "") | ~runs.duplicated(of_fit)]


def setting_values(setting: str) -> dict[str, float]:
    """The numbers of a setting, `gamma_l=0.01;k_l=1` as {gamma_l: 0.01, k_l: 1.0}; parts that are none are left out."""
    values = {}
    for part in setting.split(";"):
        key, _, text = part.partition("=")
        try:
            values[key] = float(text)
        except ValueError:
            continue  # `ood=svhn`, `augmented`
    return values


def _flat(number: int, row: Mapping[str, Any]) -> dict[str, Any]:
    if missing := [name for name in _REQUIRED if row.get(name) in (None, "")]:
        raise ValueError(f"row {number} of the results must have {', '.join(_REQUIRED)}, it lacks {', '.join(missing)}")
    if row["status"] not in ("done", "failed"):
        raise ValueError(f"row {number} of the results must have status done or failed, got {row['status']!r}")
    flat: dict[str, Any] = {name: _UNPRINTABLE.sub(" ", str(row[name])) for name in _TEXT if row.get(name) is not None}
    numbers = {"seed": row["seed"], "peak_memory_mb": row.get("peak_memory_mb")}
    for group in ("metrics", "seconds"):
        values = row.get(group) or {}
        if not isinstance(values, Mapping):
            raise ValueError(f"row {number} of the results: {group} must be numbers by name, got {values!r}")
        numbers |= {f"{group}.{name}": value for name, value in values.items()}
    flat |= {name: _number(number, name, value) for name, value in numbers.items()}
    if not flat["seed"].is_integer():  # NaN too: it would be equal to no other, not even itself
        raise ValueError(f"row {number} of the results: seed must be a whole number, got {row['seed']!r}")
    return flat


def _number(number: int, name: str, value: Any) -> float:
    if value is None or value == "":
        return float("nan")
    try:
        converted = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"row {number} of the results: {name} must be a number, got {value!r}") from None
    if abs(converted) > _LARGEST:
        raise ValueError(f"row {number} of the results: {name} must lie within {_LARGEST:g} of 0, got {value!r}")
    return converted
