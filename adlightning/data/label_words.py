"""What the values of a label column mean: words that people use, and what somebody says of others. Needs no torch."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from adlightning.core.messages import quoted
from adlightning.labels import ANOMALY, NO_LABEL, NORMAL

ALLOWED_LABELS = (
    "0, normal, false; 1, anomaly, true; words such as ok and defect, benign and malignant, pass and fail; and an "
    "empty cell, NaN or NA for no label"
)

_NOTHING = ("", "nan", "na", "<na>")
_NORMAL = frozenset(
    [
        "normal",
        "ok",
        "okay",
        "good",
        "benign",
        "healthy",
        "inlier",
        "pass",
        "passed",
        "legit",
        "legitimate",
        "genuine",
        "nominal",
        "intact",
        "non-fraud",
        "i.o.",
        "io",
    ]
)
_ANOMALOUS = frozenset(
    [
        "anomaly",
        "anomalous",
        "abnormal",
        "defect",
        "defective",
        "bad",
        "malignant",
        "malicious",
        "outlier",
        "fail",
        "failed",
        "failure",
        "fault",
        "faulty",
        "fraud",
        "fraudulent",
        "attack",
        "intrusion",
        "nok",
        "broken",
        "damaged",
        "alarm",
        "not ok",
        "ng",
        "n.i.o.",
        "nio",
    ]
)
_FALSE, _TRUE = ("0", "false"), ("1", "true")
_NO, _YES = ("no", "n"), ("yes", "y")
_DOCUMENTED = {*_NOTHING, *_FALSE, *_TRUE, "normal", "anomaly"}
"""What needs no saying."""

_CLEAR = {**dict.fromkeys(_NOTHING, NO_LABEL), **dict.fromkeys(_NORMAL, NORMAL), **dict.fromkeys(_ANOMALOUS, ANOMALY)}


def plain_label(text: str) -> str:
    """A label without spaces around it, in small letters; `1.0` is `1`, as numbers are written beside a gap."""
    return re.sub(r"^[+-]?0\.?0*$", "0", re.sub(r"^([+-]?\d+)\.0*$", r"\1", text.strip().casefold()))


@dataclass(frozen=True)
class Meanings:
    """What labels mean: 0 normal, 1 anomaly, -1 not labelled.

    A column that is called `normal` or `passed` may mean either by 1, and one of yes and no means what its name says:
    where that is not known, somebody has to say it.

    Args:
        column: name of the label column.
        normal_label: the value of normal rows, whatever its capitals and spaces; None goes by the words.
        anomaly_label: that of anomalies; of one alone, every other value is the opposite.
    """

    column: str = ""
    normal_label: str | None = None
    anomaly_label: str | None = None

    def __post_init__(self) -> None:
        given = [plain_label(label) for label in (self.normal_label, self.anomaly_label) if label is not None]
        if len(given) == 2 and given[0] == given[1]:
            raise ValueError(f"normal_label and anomaly_label must differ, got {self.normal_label!r} for both")
        for name, label in (("normal_label", self.normal_label), ("anomaly_label", self.anomaly_label)):
            if label is not None and plain_label(label) in _NOTHING:
                raise ValueError(f"{name} must be a label, got {label!r}, which stands for rows without one")

    @property
    def is_given(self) -> bool:
        """Whether somebody said what the labels mean."""
        return self.normal_label is not None or self.anomaly_label is not None

    def of(self, text: str) -> int | None:
        """What a label means; None where nobody knows."""
        label = plain_label(text)
        if label in _NOTHING:
            return NO_LABEL
        normal, anomalous = (None if x is None else plain_label(x) for x in (self.normal_label, self.anomaly_label))
        if label == normal:
            return NORMAL
        if label == anomalous:
            return ANOMALY
        if self.is_given:
            return ANOMALY if anomalous is None else NORMAL if normal is None else None
        if label not in (*_FALSE, *_TRUE, *_NO, *_YES):
            return _CLEAR.get(label)
        says = _said_by_name(self.column)
        if label in (*_FALSE, *_TRUE) and says != NORMAL:
            return ANOMALY if label in _TRUE else NORMAL
        if label in (*_NO, *_YES) and says == ANOMALY:
            return ANOMALY if label in _YES else NORMAL
        return None

    def what_to_say(self, values: Iterable[str]) -> str:
        """How to say what labels mean where one of these is not known."""
        if self.normal_label is not None and self.anomaly_label is not None:
            return "with normal_label and anomaly_label both given there is no other label: leave one of them out"
        labels = [value for value in dict.fromkeys(values) if plain_label(value) not in _NOTHING]
        known = next((label for label in labels if self.of(label) == NORMAL), None)
        say = f"normal_label={known!r}" if known is not None else "normal_label=..."
        why = f"; the name {self.column!r} may mean that 1 is normal" if _said_by_name(self.column) == NORMAL else ""
        return f"say which is normal, {say}, and every other is an anomaly ({quoted(labels, 6)}{why})"

    def in_words(self, values: Iterable[str]) -> str | None:
        """What is taken for what, where it is found by words that the documentation does not list by name."""
        labels = list(dict.fromkeys(values))
        if self.is_given or any(self.of(label) is None for label in labels):
            return None
        if all(plain_label(label) in _DOCUMENTED for label in labels):
            return None
        words = {NORMAL: "normal", ANOMALY: "anomalies", NO_LABEL: "not labelled"}
        of = {code: [label for label in labels if self.of(label) == code] for code in words}
        return ", ".join(f"{quoted(of[code], 4)} as {word}" for code, word in words.items() if of[code])


def _said_by_name(column: str) -> int | None:
    """Whether a column's name says that yes means normal or an anomaly; None where it says neither."""
    parts = re.split(r"[\s_\-.]+", re.sub(r"([a-z])([A-Z])", r"\1_\2", column.strip()).casefold())
    name = "_".join(part for part in parts if part not in ("is", "has", "was", "flag", "label", "labels"))
    spelled = name.replace("_", " ")
    if spelled in _NORMAL:
        return NORMAL
    anomalous = {*_ANOMALOUS, *(f"{word}s" for word in _ANOMALOUS), "anomalies", "alarm", "alert", "error"}
    return ANOMALY if spelled in anomalous else None
