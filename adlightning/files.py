"""What is kept on disk: files written whole or not at all."""

from __future__ import annotations

import errno
import itertools
import os
import re
import shutil
import stat
from pathlib import Path

_NO_LINKS = (errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV, errno.EINVAL)
"""What file systems without hard links answer."""

_LEFT_BEHIND = re.compile(r"\..+\.\d+\.tmp|\.(lr_find|scale_batch_size)_[0-9a-f-]+\.ckpt")
"""Names of our temporary files, and of those of Lightning's tuners."""


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


def write_atomically(path: Path, content: str | bytes | memoryview, before: Path | None = None) -> None:
    """Write a file whole or not at all: what was there before stays when writing fails. Text is UTF-8.

    Args:
        path: the file.
        content: what it is to hold.
        before: a name beside it under which what was there is kept; at every instant there is a file at `path`.
    """
    temporary = _temporary(path)
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())  # or a power cut leaves an empty file of the new name
        if before is not None and path.exists():
            _keep_as(path, before)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _keep_as(path: Path, name: Path) -> None:
    """Give a file a second name, in the place of what has it."""
    second = _temporary(name)
    second.unlink(missing_ok=True)
    try:
        try:
            second.hardlink_to(path)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            shutil.copyfile(path, second)
        second.replace(name)
    finally:
        second.unlink(missing_ok=True)  # renaming to another name of the same file does nothing


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def sweep(folder: Path) -> None:
    """Remove what a killed process left half written in a folder of ours and in those right below it."""
    for file in [*folder.glob(".*"), *folder.glob("*/.*")]:
        inside = file.parent == folder or not file.parent.is_symlink()
        if inside and _LEFT_BEHIND.fullmatch(file.name) and stat.S_ISREG(file.lstat().st_mode):
            file.unlink()
