"""What is kept on disk: files written whole or not at all, and run folders that nobody else uses."""

from __future__ import annotations

import contextlib
import itertools
import os
from pathlib import Path


def claim_run_dir(run_dir: Path, goes_on: bool) -> None:
    """Make the run folder, or refuse it: it must be new or empty, unless a fit goes on from a checkpoint in it.

    Raises:
        ValueError: it cannot be made or written, is not empty, or another run took it at this moment.
    """
    parent = next(p for p in (run_dir, *run_dir.absolute().parents) if p.exists())
    if not parent.is_dir():
        raise ValueError(f"run_dir: {run_dir} cannot be made, {parent} is a file")
    if not os.access(parent, os.W_OK):
        raise ValueError(f"run_dir: {run_dir} cannot be written, no permission for {parent}")
    there = run_dir.is_dir()
    if there and any(run_dir.iterdir()) and not goes_on:
        last = run_dir / "checkpoints" / "last.ckpt"
        hint = f", or go on from it with --ckpt_path={last}" if last.exists() else ""
        raise ValueError(f"run_dir: {run_dir} is not empty and nothing is overwritten: give another --run_dir{hint}")
    try:
        run_dir.mkdir(parents=True, exist_ok=there)
    except FileExistsError:
        raise ValueError(f"run_dir: {run_dir} was taken by another run at this moment: give another") from None


def remove_empty(folder: Path) -> None:
    """Remove a folder and those in it that hold no file."""
    for inner in [path for path in folder.glob("*") if path.is_dir()]:
        remove_empty(inner)
    with contextlib.suppress(OSError):  # not empty: it stays
        folder.rmdir()


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
