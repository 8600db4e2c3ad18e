"""What runs are called elsewhere, where what began them knows better than they do: a cell by its table."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunNames:
    """Names of a run in a logger's table.

    Args:
        name: of the run.
        group: what it belongs to.
        kind: what it is one of.
        tags: words to find it by.
        copies: a folder for the logger's copies of files: the run folder is renamed when the run has ended.
    """

    name: str
    group: str
    kind: str
    tags: tuple[str, ...]
    copies: Path


_CURRENT: ContextVar[RunNames | None] = ContextVar("run_names", default=None)


@contextlib.contextmanager
def runs_called(names: RunNames) -> Iterator[None]:
    """Runs that begin within are called so."""
    token = _CURRENT.set(names)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def given_names() -> RunNames | None:
    """What the run that begins here is called; None where it names itself."""
    return _CURRENT.get()
