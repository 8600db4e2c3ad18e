"""The label column of a table: given or found, and what its words mean."""

from __future__ import annotations

import re
from collections.abc import Sequence

from adlightning.core.messages import nearest, quoted
from adlightning.data.label_words import Meanings, plain_label
from adlightning.data.look.columns import Column, looks_true_or_false
from adlightning.data.look.findings import Look, Said
from adlightning.labels import ANOMALY, NO_LABEL, NORMAL

_LABEL = ("label", "labels")
_LIKE_LABELS = ("anomaly", "is_anomaly", "outlier", "is_outlier", "attack", "class", "target", "ground_truth")
_MOST_LABELS = 64


def plain_name(name: str) -> str:
    """A name without what is not seen: spaces of any kind around it, byte order marks, upper case."""
    return re.sub(r"^[\s\u200b\u2060\ufeff]+|[\s\u200b\u2060\ufeff]+$", "", name).casefold()


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
    if column.kind != "text" or not column.values or len(column.values) > _MOST_LABELS:
        return False
    labels = _labels(column)
    if len({plain_label(value) for value in labels}) != 2 or looks_true_or_false(column.values):
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
