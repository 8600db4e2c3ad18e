"""What each column of a table is, and what is to be decided of it before it can be a feature."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace

from adlightning.core.messages import quoted
from adlightning.data.look.columns import MOST_VALUES, Column, looks_grouped, looks_true_or_false
from adlightning.data.look.findings import Look, Said
from adlightning.data.look.labels import plain_name
from adlightning.files.dialects import MISSING

_NAMES_ROWS = re.compile(r"(^|.*[\s_\-.])(id|ids|name|names|file|files|filename|path|key|uuid|guid|serial|nr|no)$")
_ROWS = 10  # fewer may count the rows by chance
_CATEGORIES = 20
_MOSTLY = 0.9
_SHOWN = 6
_INDEX = "__index_level_"


@dataclass(frozen=True)
class _Reason:
    """Why a column is left out.

    Args:
        text: of it alone, after its name.
        several: of several of its kind, after their names.
        must: whether it cannot be a feature.
    """

    text: str
    several: str
    must: bool = True


def decide_columns(
    look: Look, columns: Sequence[Column], label: Column | None, said: Said, trains: bool = True
) -> None:
    """What is to be decided of every column that is not the label, a name or left out already."""
    named = said.name_column
    if said.over_time:
        said = _decide_time(look, columns, label, said)
    gone = {*said.drop_columns, *look.options.get("drop_columns", ()), said.time_column, said.group_column}
    kept: list[Column] = []
    left: dict[tuple[str, bool], list[tuple[str, _Reason]]] = {}
    for column in columns:
        if column is label or column.name == named or column.name in gone:
            continue
        if named is None and trains and not said.over_time and _names_rows(column):
            named = column.name
            look.decide(f"{column.name!r} is text that names the rows: taken as name_column.", name_column=named)
        elif (reason := _reason(column, said, trains)) is not None:
            left.setdefault((reason.several, reason.must), []).append((column.name, reason))
        else:
            kept.append(column)
    _leave_out(look, left)
    _decide_kinds(look, kept, said)
    _decide_missing(look, kept, said)
    if not trains:
        return
    kept = _decide_constant(look, kept, said)
    if twins := _twins(kept):
        shown = ", ".join(f"{later!r} of {first!r}" for later, first in list(twins.items())[:_SHOWN])
        shown += f" and {len(twins) - _SHOWN} more" if len(twins) > _SHOWN else ""
        look.decide(f"Columns are copies of others: {shown}. The copies are left out.", False, drop_columns=[*twins])
    if not kept and not look.faults:
        look.faults.append("No column is left that could be a feature.")


def is_unnamed(name: str) -> bool:
    """Whether a column had no name, as the row numbers that pandas writes have none."""
    return name.startswith(("Unnamed: ", _INDEX)) or not plain_name(name)


def _decide_time(look: Look, columns: Sequence[Column], label: Column | None, said: Said) -> Said:
    """The column of the time and that of the groups of a table of sensors, given or found."""
    free = [column for column in columns if column is not label and column.name not in said.drop_columns]
    if said.time_column is None and (times := [column for column in free if _is_time(column)]):
        name = times[0].name
        look.decide(f"{name!r} holds dates or times: taken as time_column.", time_column=name)
        said = replace(said, time_column=name)
    words = [c for c in free if c.name != said.time_column and _could_name_groups(c)]
    if said.group_column is None and words:
        name = words[0].name
        of = f"{len(_kinds(words[0]))} kinds ({quoted(_kinds(words[0]), 4)})"
        look.decide(
            f"{name!r} is text of {of}: taken as group_column, so that no window holds rows of two of them. Where it "
            f"is nothing of the kind, leave it out by drop_columns.",
            group_column=name,
        )
        said = replace(said, group_column=name)
    return said


def _is_time(column: Column) -> bool:
    """Whether a column holds dates that can be read in one way."""
    of_parquet = column.kind == "date"
    return of_parquet or (column.texts > 0 and column.plain_dates == column.texts and not column.missing)


def _could_name_groups(column: Column) -> bool:
    plain = column.kind == "text" and not column.dates and not column.missing and not is_unnamed(column.name)
    return plain and column.values is not None and 2 <= len(column.values) <= column.rows / _ROWS


def note_time(look: Look, columns: Sequence[Column], said: Said) -> None:
    """Say of a table with a column of times that there are windows, where nobody has said how it is meant."""
    times = [column for column in columns if _is_time(column)]
    if said.over_time or not times or said.time_column is not None:
        return
    look.notes.append(
        f"rows with a time in {times[0].name!r}. If they are readings that follow one another, train on windows of "
        f"them: adlightning check {shlex.quote(str(look.path))} --config autoencoder/windows"
    )


def _leave_out(look: Look, left: dict[tuple[str, bool], list[tuple[str, _Reason]]]) -> None:
    """A finding for each column; one for all of a kind where they are many."""
    for (several, must), found in left.items():
        if len(found) > 2:
            names = [name for name, _ in found]
            look.decide(f"{quoted(names, _SHOWN)} {several}: left out.", must, drop_columns=names)
            continue
        for name, reason in found:
            look.decide(f"{name!r} {reason.text}", must, drop_columns=[name])


def _names_rows(column: Column) -> bool:
    different = column.values is None or len(column.values) == column.rows
    is_text = column.kind == "text" and different and column.texts > column.numbers
    return is_text and not column.dates and _NAMES_ROWS.fullmatch(plain_name(column.name)) is not None


def _reason(column: Column, said: Said, trains: bool) -> _Reason | None:
    """Why a column cannot be a feature, or is none most likely; None for one that is kept."""
    if is_unnamed(column.name):
        what = "numbers the rows" if column.counts_rows else "has no name"
        return _Reason(f"{what}: left out.", "have no names")
    if column.kind not in ("number", "text", "date"):
        return _Reason(f"is of type {column.kind}, which is no number: left out.", "are of types that are no numbers")
    if column.missing == column.rows:
        return _Reason("has no value in any row: left out.", "have no value in any row")
    if column.kind == "date" or (column.texts and column.dates >= _MOSTLY * column.texts):
        is_plain = column.plain_dates == column.texts
        if said.over_time:
            return _Reason("holds dates or times, and is not the time_column: left out.", "hold dates or times")
        if is_plain and said.dates == "seconds":
            return None
        first = f" (the first is {column.first_text[1]!r})" if column.first_text else ""
        keep = "Say dates=seconds to keep it." if is_plain else "Write it as seconds since a day to keep it."
        return _Reason(f"holds dates or times{first}: left out. {keep}", "hold dates or times")
    if column.texts and not looks_true_or_false(column.values):
        return _reason_of_text(column, said)
    if column.first_wild:
        row, value = column.first_wild
        cells = f"{value} in row {row} ({_cells(column.wild)} of this kind)"
        return _Reason(f"has {cells}: left out. Empty these cells to keep it.", "have infinite or too large numbers")
    if column.first_inexact:
        row, value = column.first_inexact
        what = "whole numbers that float64 does not keep"
        return _Reason(f"has {what}, such as {value} in row {row}: an id? Left out.", f"have {what}")
    if trains and column.rows >= _ROWS and column.counts_rows:
        what = f"numbers the rows from {column.low:.0f} to {column.high:.0f}"
        return _Reason(f"{what}: left out.", "number the rows", must=False)
    return None


def _reason_of_text(column: Column, said: Said) -> _Reason | None:
    """Why a column of text is left out; None where it is kept, as one of categories."""
    row, value = column.first_text or (0, "")
    values = _kinds(column)
    once = len(values) > _CATEGORIES and 2 * len(values) > column.rows  # which TableData takes for names
    if looks_grouped(value):
        what = f"numbers with separators of thousands ({value!r} in row {row})"
        return _Reason(f"has {what}: left out. Write them without to keep it.", "have separators of thousands")
    if column.numbers > column.texts:
        cells = f"text in {_cells(column.texts)} ({value!r} in row {row})"
        text = f"has numbers, and {cells}: left out. Empty these cells to keep it."
        as_kinds = said.categorical != "refuse" and column.values is not None and not once
        return _Reason(text, "have numbers and text", must=not as_kinds)
    many = len(values) > min(_CATEGORIES, column.rows / 2) and said.categorical == "refuse"
    if column.values is None or once or many:
        n = f"more than {MOST_VALUES}" if column.values is None else f"{len(values)}"
        text = f"is text with {n} different values ({value!r} in row {row}): left out."
        return _Reason(text, "are text with many different values")
    if len(values) == 1 and said.categorical == "refuse":
        return _Reason(f"holds {value!r} alone: left out.", "hold one word each")
    return None


def _cells(n: int) -> str:
    return "1 cell" if n == 1 else f"{n:,} cells"


def _kinds(column: Column) -> list[str]:
    return [value for value in column.values or {} if value not in MISSING]


def _decide_kinds(look: Look, kept: Sequence[Column], said: Said) -> None:
    """Columns of text that are kept become features by `categorical`."""
    text = [c for c in kept if c.kind == "text" and c.dates < c.texts and not looks_true_or_false(c.values)]
    if said.categorical != "refuse" or not text:
        return
    if said.over_time:
        names = quoted([column.name for column in text], _SHOWN)
        what = "is text, and no sensor" if len(text) == 1 else "are text, and no sensors"
        look.decide(f"{names} {what}: left out.", drop_columns=[column.name for column in text])
        return
    if len(text) > 2:
        names = quoted([column.name for column in text], _SHOWN)
        what = f"{names} are text of a few kinds each: every kind"
    else:
        shown = [f"{c.name!r} is text of {len(_kinds(c))} kinds ({quoted(_kinds(c), 4)})" for c in text]
        what = f"{' and '.join(shown)}: each"
    look.decide(f"{what} becomes a column of 0 and 1.", categorical="one_hot")


def _decide_missing(look: Look, kept: Sequence[Column], said: Said) -> None:
    holes = [column for column in kept if column.missing and not (said.over_time and column.kind == "text")]
    if said.missing == "refuse" and holes:
        shown = ", ".join(f"{column.name!r} ({column.missing} of {column.rows})" for column in holes[:_SHOWN])
        shown += f" and {len(holes) - 6} more columns" if len(holes) > 6 else ""
        if said.over_time:
            look.faults.append(f"Values are missing in {shown}: fill them in, or leave the columns out (drop_columns).")
            return
        stands = "the median of the column stands in for them"
        if any(column.kind == "text" for column in holes):
            stands += ", and in text they are a kind of their own"
        look.decide(f"Values are missing in {shown}: {stands}.", missing="median")


def _decide_constant(look: Look, kept: Sequence[Column], said: Said) -> list[Column]:
    constant = [column for column in kept if column.is_constant]
    if not constant or said.constant_features == "keep":
        return list(kept)
    left = [column for column in kept if not column.is_constant]
    if not left:
        look.faults.append(f"Every feature is the same in all rows ({quoted([c.name for c in constant])}).")
        return list(kept)
    if said.constant_features == "error":
        verb = "never varies" if len(constant) == 1 else "never vary"
        names = quoted([column.name for column in constant], 6)
        if said.over_time:
            look.decide(f"{names} {verb}: left out.", drop_columns=[column.name for column in constant])
        else:
            look.decide(f"{names} {verb}: left out.", constant_features="drop")
    return left


def _twins(kept: Sequence[Column]) -> dict[str, str]:
    """Columns with the values of one before them, with the name of that one."""
    first: dict[bytes, str] = {}
    twins = {}
    for column in kept:
        if column.texts and column.values is None:
            continue
        if (earlier := first.setdefault(column.digest, column.name)) != column.name:
            twins[column.name] = earlier
    return twins
