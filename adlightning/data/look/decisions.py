"""What each column of a table is, and what is to be decided of it before it can be a feature."""

from __future__ import annotations

import re
from collections.abc import Sequence

from adlightning.core.messages import nearest, quoted
from adlightning.data.label_words import Meanings, plain_label
from adlightning.data.look.columns import MOST_VALUES, Column, looks_grouped, looks_true_or_false
from adlightning.data.look.findings import Look, Said
from adlightning.files.dialects import MISSING
from adlightning.labels import ANOMALY, NO_LABEL, NORMAL

_LABEL = ("label", "labels")
_LIKE_LABELS = ("anomaly", "is_anomaly", "outlier", "is_outlier", "attack", "class", "target", "ground_truth")
_NAMES_ROWS = re.compile(r"(^|.*[\s_\-.])(id|ids|name|names|file|files|filename|path|key|uuid|guid|serial|nr|no)$")
_ROWS = 10  # fewer may count the rows by chance
_CATEGORIES = 20
_MOSTLY = 0.9
_MOST_LABELS = 64
_INDEX = "__index_level_"


def plain_name(name: str) -> str:
    """A name without what is not seen: spaces of any kind around it, byte order marks, upper case."""
    return re.sub(r"^[\s\u200b\u2060\ufeff]+|[\s\u200b\u2060\ufeff]+$", "", name).casefold()


def is_unnamed(name: str) -> bool:
    """Whether a column had no name, as the row numbers that pandas writes have none."""
    return name.startswith(("Unnamed: ", _INDEX)) or not plain_name(name)


# ---- the label -------------------------------------------------------------------------------------------------------


def decide_label(look: Look, columns: Sequence[Column], said: Said, trains: bool = True) -> Column | None:
    """The label column, given or found; what is to be said of its words. One that is not there is passed over."""
    must = True
    if said.label_column is None:
        label, must = _label_candidate(look, columns, said)
        if label is None:
            return None
    else:
        label = next((column for column in columns if column.name == said.label_column), None)
        if label is None:
            return None
    _decide_words(look, label, said, trains, must)
    return label


def _label_candidate(look: Look, columns: Sequence[Column], said: Said) -> tuple[Column | None, bool]:
    """The column that is the label most likely, and whether it cannot be a feature."""
    free = [column for column in columns if column.name not in (*said.drop_columns, said.name_column)]
    by_name = [column for column in free if plain_name(column.name) in _LABEL]
    like = [column for column in free if plain_name(column.name) in _LIKE_LABELS and _few_labels(column)]
    by_words = [column for column in free if _is_pair(column)]
    found = list({column.name: column for column in (*by_name, *by_words, *like)}.values())
    if not found:
        return None, False
    must = False
    label = next((column for column in found if _few_labels(column)), None)
    if label is not None:
        must = label in by_name or label.kind == "text"
        look.decide(
            f"{label.name!r} looks like the labels ({_counted(label)}): taken as label_column.",
            must,
            label_column=label.name,
        )
    for column in found:
        if column is not label:
            beside = f" beside {label.name!r}" if label is not None else ", but has too many values"
            look.decide(
                f"{column.name!r} looks like a label{beside}: left out, since it may tell the answer.",
                column in by_name or column.kind == "text",
                drop_columns=[column.name],
            )
    return label, must


def _few_labels(column: Column) -> bool:
    labels = _labels(column)
    if len(labels) > _MOST_LABELS:
        return False
    return 1 <= len(labels) <= 2 or any(
        Meanings(column.name).of(value) is not None for value in labels if column.kind == "text"
    )


def _is_pair(column: Column) -> bool:
    """Whether a column of text holds two words of which one means normal and the other an anomaly."""
    labels = _labels(column)
    if (
        column.kind != "text"
        or len({plain_label(value) for value in labels}) != 2
        or looks_true_or_false(column.values)
    ):
        return False
    return {Meanings(column.name).of(value) for value in labels} == {NORMAL, ANOMALY}


def find_label_alike(look: Look, columns: Sequence[Column], given: str) -> Column | None:
    """The column that a label column that is not there may mean, as a finding; a fault where there is none."""
    names = [column.name for column in columns]
    alike = [column for column in columns if plain_name(column.name) == plain_name(given)]
    if alike:
        look.decide(f"label_column: the file calls it {alike[0].name!r}, not {given!r}.", label_column=alike[0].name)
        return alike[0]
    if near := nearest(given, names):
        found = next(column for column in columns if column.name == near[0])
        look.decide(f"label_column: there is no column {given!r}. Taken: {near[0]!r}.", label_column=near[0])
        return found
    look.faults.append(f"label_column: there is no column {given!r}: there are {quoted(names)}.")
    return None


def _decide_words(look: Look, label: Column, said: Said, trains: bool, must: bool) -> None:
    meanings = Meanings(label.name, said.normal_label, said.anomaly_label)
    if label.values is None or len(label.values) > _MOST_LABELS:
        look.faults.append(f"label_column: {label.name!r} has more than {_MOST_LABELS} values, which are no labels.")
        return
    labels = _labels(label)
    unknown = [value for value in labels if meanings.of(value) is None]
    if unknown:
        if said.normal_label is not None and said.anomaly_label is not None:
            look.faults.append(f"{label.name!r} holds {quoted(unknown, 6)} beside normal_label and anomaly_label.")
            return
        by_word = [value for value in labels if meanings.of(value) == NORMAL]
        normal = max(by_word or labels, key=lambda value: (label.values or {})[value])
        why = "by its word" if by_word else "which most rows have"
        look.decide(
            f"{label.name!r} holds {_counted(label)}: which is normal? Taken: {normal.strip()!r}, {why}; every other "
            f"is an anomaly then. Say another normal_label if that is wrong.",
            must,
            normal_label=normal.strip(),
        )
        meanings = Meanings(label.name, normal.strip(), None)
    elif meanings.in_words(labels):
        said_so = [f"{value!r} is {'normal' if meanings.of(value) == NORMAL else 'an anomaly'}" for value in labels]
        look.notes.append(f"labels in {label.name!r}: {', '.join(said_so)}. normal_label says it otherwise.")
    codes = {meanings.of(value) for value in labels}
    if must and trains and labels and codes == {ANOMALY} and not _unlabelled(label):
        look.faults.append(f"All rows are anomalies by {label.name!r}: nothing normal is left to train on.")


def _labels(column: Column) -> list[str]:
    """The different labels, the most frequent first; not those that stand for none."""
    values = column.values or {}
    return sorted((v for v in values if Meanings().of(v) != NO_LABEL), key=lambda v: -values[v])


def _unlabelled(column: Column) -> int:
    return column.rows - sum((column.values or {})[value] for value in _labels(column))


def _counted(column: Column, most: int = 4) -> str:
    labels = _labels(column)
    shown = [f"{value!r} in {(column.values or {})[value]} rows" for value in labels[:most]]
    return ", ".join(shown) + (f" and {len(labels) - most} more" if len(labels) > most else "")


# ---- features --------------------------------------------------------------------------------------------------------


def decide_columns(
    look: Look, columns: Sequence[Column], label: Column | None, said: Said, trains: bool = True
) -> None:
    """What is to be decided of every column that is not the label, a name or left out already."""
    named = said.name_column
    gone = {*said.drop_columns, *look.options.get("drop_columns", ())}
    kept: list[Column] = []
    for column in columns:
        if column is label or column.name == named or column.name in gone:
            continue
        if named is None and trains and _names_rows(column):
            named = column.name
            look.decide(f"{column.name!r} is text that names the rows: taken as name_column.", name_column=named)
        elif not _left_out(look, column, said, trains):
            kept.append(column)
    _decide_missing(look, kept, said)
    if not trains:
        return
    kept = _decide_constant(look, kept, said)
    twins = _twins(kept)
    if twins:
        shown = ", ".join(f"{later!r} of {first!r}" for later, first in list(twins.items())[:6])
        shown += f" and {len(twins) - 6} more" if len(twins) > 6 else ""
        look.decide(f"Columns are copies of others: {shown}. The copies are left out.", False, drop_columns=[*twins])
    if not kept and not look.faults:
        look.faults.append("No column is left that could be a feature.")


def _names_rows(column: Column) -> bool:
    different = column.values is None or len(column.values) == column.rows
    is_text = column.kind == "text" and different and column.texts > column.numbers
    return is_text and not column.dates and _NAMES_ROWS.fullmatch(plain_name(column.name)) is not None


def _left_out(look: Look, column: Column, said: Said, trains: bool) -> bool:
    """Whether a column cannot be a feature, or is none most likely; then that is a finding."""
    name, rows = repr(column.name), column.rows
    text, must = None, True
    if is_unnamed(column.name):
        what = "numbers the rows" if column.counts_rows else "has no name"
        text = f"{name} {what}: left out."
    elif column.kind not in ("number", "text", "date"):
        text = f"{name} is of type {column.kind}, which is no number: left out."
    elif column.missing == rows and rows:
        text = f"{name} has no value in any row: left out."
    elif column.kind == "date" or (column.texts and column.dates >= _MOSTLY * column.texts):
        is_plain = column.plain_dates == column.texts
        if is_plain and said.dates == "seconds":
            return False
        first = f" (the first is {column.first_text[1]!r})" if column.first_text else ""
        keep = "Say dates=seconds to keep it." if is_plain else "Write it as seconds since a day to keep it."
        text = f"{name} holds dates or times{first}: left out. {keep}"
    elif column.texts and not looks_true_or_false(column.values):
        text = _about_text(look, column, said)
    elif column.first_wild:
        row, value = column.first_wild
        text = f"{name} has {value} in row {row} ({column.wild} such cells): left out. Empty these cells to keep it."
    elif column.first_inexact:
        row, value = column.first_inexact
        text = f"{name} has whole numbers that float64 does not keep, such as {value} in row {row}: an id? Left out."
    elif trains and rows >= _ROWS and column.counts_rows:
        text, must = f"{name} numbers the rows from {column.low:.0f} to {column.high:.0f}: left out.", False
    if text is None:
        return False
    look.decide(text, must, drop_columns=[column.name])
    return True


def _about_text(look: Look, column: Column, said: Said) -> str | None:
    """Why a column of text is left out; None where it is kept, as one of categories."""
    name = repr(column.name)
    row, value = column.first_text or (0, "")
    if column.numbers > column.texts:
        hint = "Write numbers without separators of thousands" if looks_grouped(value) else "Empty these cells"
        cells = f"text in {column.texts} cells ({value!r} in row {row})"
        return f"{name} has numbers, and {cells}: left out. {hint} to keep it."
    values = [each for each in column.values or {} if each not in MISSING]
    once = len(values) > _CATEGORIES and 2 * len(values) > column.rows  # which TableData takes for names
    many = len(values) > min(_CATEGORIES, column.rows / 2) and said.categorical == "refuse"
    if column.values is None or once or many:
        n = f"more than {MOST_VALUES}" if column.values is None else f"{len(values)}"
        return f"{name} is text with {n} different values ({value!r} in row {row}): left out."
    if len(values) == 1 and said.categorical == "refuse":
        return f"{name} holds {value!r} alone: left out."
    if said.categorical == "refuse":
        look.decide(
            f"{name} is text of {len(values)} kinds ({quoted(values, 4)}): each becomes a column of 0 and 1.",
            categorical="one_hot",
        )
    return None


def _decide_missing(look: Look, kept: Sequence[Column], said: Said) -> None:
    holes = [column for column in kept if column.missing]
    if said.missing == "refuse" and holes:
        shown = ", ".join(f"{column.name!r} ({column.missing} of {column.rows})" for column in holes[:6])
        shown += f" and {len(holes) - 6} more columns" if len(holes) > 6 else ""
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
