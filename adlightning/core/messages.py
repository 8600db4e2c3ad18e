"""Errors as a user reads them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

MOST = 2000
"""Characters of a message: names, columns and values of hostile data may have any length."""

IGNORED = "is ignored: the checkpoint was trained with"
"""What is said of an argument that a trained detector is given otherwise."""


def printable(text: str) -> str:
    """Text without control characters, which a terminal would obey, and on one line."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def quoted(names: Sequence[str], most: int = 12) -> str:
    """Names in quotes, so that a space is seen, the first `most` of them: `'a', ' b' and 3 more`."""
    shown = ", ".join(repr(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def for_terminal(text: str) -> str:
    """Text of at most :data:`MOST` characters in which what would command a terminal is escaped; lines stay lines."""
    shown = escaped(text[:MOST])
    return shown if len(text) <= MOST else f"{shown}... ({len(text) - MOST} more characters)"


def escaped(text: str) -> str:
    """Text in which what would command a terminal is escaped; lines stay lines."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """The names, at most three, that someone may have meant; best first, capitals aside."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.6)
    return [by_lower[candidate] for candidate in close]


def plain_message(message: str) -> str:
    """An error for the terminal; of jsonargparse's the reasons, without the types that were tried and the value."""
    return for_terminal(_reasons(message))


def _reasons(message: str) -> str:
    head, found, reasons = message.partition("Errors:\n")
    if not found:
        return message
    lines = [line.strip() for line in reasons.partition("Given value type:")[0].splitlines()]
    kept = [line.removeprefix("- ") for line in lines if line and "NoneType" not in line]
    key = head.partition('Parser key "')[2].partition('"')[0]
    return (f"{key}: " if key else "") + " ".join(kept)
