"""Where fits keep first epochs that others begin with alike, as what began them says (:mod:`.shared_epochs`)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

TAKEN = "its first epochs are those of an earlier cell with the same data, networks and seed; seconds are without them"
"""What is said of a fit that found them."""


@dataclass(frozen=True)
class Shelf:
    """Where first epochs are kept.

    Args:
        folder: a file each; made when needed.
        version: of the code and of the trainer's options, which decide too.
    """

    folder: Path
    version: str


_CURRENT: ContextVar[Shelf | None] = ContextVar("shared_epochs", default=None)


@contextlib.contextmanager
def first_epochs_shared(shelf: Shelf | None) -> Iterator[None]:
    """Fits that begin within share their first epochs; None for none."""
    token = _CURRENT.set(shelf)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def given_shelf() -> Shelf | None:
    """Where the fit that begins here keeps its first epochs; None for nowhere."""
    return _CURRENT.get()
