"""Errors as a user reads them."""

from __future__ import annotations


def printable(text: str) -> str:
    """Text without control characters, which a terminal would obey, and on one line."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def plain_message(message: str) -> str:
    """The reasons in a jsonargparse error, without the list of types that were tried and the repeated value."""
    head, found, reasons = message.partition("Errors:\n")
    if not found:
        return message
    lines = [line.strip() for line in reasons.partition("Given value type:")[0].splitlines()]
    kept = [line.removeprefix("- ") for line in lines if line and "NoneType" not in line]
    key = head.partition('Parser key "')[2].partition('"')[0]
    return (f"{key}: " if key else "") + " ".join(kept)
