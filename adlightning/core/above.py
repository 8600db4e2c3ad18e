"""What a detector offers to its user and lies above the core: files to score, its own checkpoint."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def from_above(module: str, name: str) -> Any:
    """A function of a module that imports this package, which therefore cannot import it in turn.

    Only what a user calls on a detector comes here. Nothing that trains or scores may.

    Args:
        module: below `adlightning`: `data.own_samples`.
        name: of the function.
    """
    return getattr(import_module(f"adlightning.{module}"), name)
