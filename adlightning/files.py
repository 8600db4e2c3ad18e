"""What is kept on disk: files written whole or not at all."""

from __future__ import annotations

import itertools
import os
from pathlib import Path


def keep_older(path: Path) -> None:
    """Move a file out of the way, `metrics.json` to `metrics-1.json`, the next number that is free."""
    if path.exists():
        numbers = (path.with_name(f"{path.stem}-{n}{path.suffix}") for n in itertools.count(1))
        path.rename(next(older for older in numbers if not older.exists()))


def require_new(out: Path) -> None:
    """Refuse a file to write that is there already, or whose folder is not. Raises ValueError."""
    if out.exists():
        raise ValueError(f"out: {out} exists already and is not overwritten")
    if not out.absolute().parent.is_dir():
        raise ValueError(f"out: there is no folder {out.absolute().parent}")


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all: what was there before stays when writing fails. Text is UTF-8."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())  # or a power cut leaves an empty file of the new name
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
