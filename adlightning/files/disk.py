"""What is kept on disk: files written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import shutil
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

_NO_LINKS = (errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV, errno.EINVAL)
"""What file systems without hard links answer."""

_LEFT_BEHIND = re.compile(r"\..+\.\d+\.tmp|\.(lr_find|scale_batch_size)_[0-9a-f-]+\.ckpt")
"""Names of our temporary files, and of those of Lightning's tuners."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NAME_LENGTH = 50  # characters of a name that a temporary one takes over: with more, it may be too long


def keep_older(path: Path) -> None:
    """Move a file out of the way, `metrics.json` to `metrics-1.json`, the next number that is free."""
    if path.exists():
        numbers = (path.with_name(f"{path.stem}-{n}{path.suffix}") for n in itertools.count(1))
        path.rename(next(older for older in numbers if not older.exists()))


def user_path(path: str | os.PathLike[str]) -> Path:
    """A path that someone wrote, in which a leading ~ is the home folder; it stays where there is none."""
    return Path(os.path.expanduser(path))


def require_new(out: Path) -> None:
    """Refuse a file to write that is there already, or whose folder is not, or cannot be written. Raises ValueError."""
    if os.path.lexists(out):
        raise ValueError(f"out: {out} exists already and is not overwritten")
    folder = out.absolute().parent
    if not folder.is_dir():
        raise ValueError(f"out: there is no folder {folder}")
    if not os.access(folder, os.W_OK):
        raise ValueError(f"out: {out} cannot be written, no permission for {folder}")


class NotWritten(OSError):
    """A file that could not be written: nothing of it is kept, and one that was there is as it was."""

    def __str__(self) -> str:
        return f"{self.filename} cannot be written, {self.strerror}: nothing of it is kept"


def disk_is_full(error: BaseException) -> bool:
    """Whether an error means that the disk, or what may be used of it, is full."""
    return isinstance(error, OSError) and error.errno in _FULL


def said_of_disk(error: BaseException) -> str:
    """An error of writing, in words, with what helps."""
    return f"the disk is full, make room: {error}" if disk_is_full(error) else str(error)


def write_atomically(path: Path, content: str | bytes | memoryview, before: Path | None = None) -> None:
    """Write a file whole or not at all: what was there before stays when writing fails. Text is UTF-8.

    Args:
        path: the file.
        content: what it is to hold.
        before: a name beside it under which what was there is kept; at every instant there is a file at `path`.

    Raises:
        NotWritten: the disk is full, it may not be written, or it is a folder by now.
    """
    with _written_beside(path, content) as temporary:
        if before is not None and path.exists():
            _keep_as(path, before)
        temporary.replace(path)


def write_new(path: Path, content: str | bytes) -> None:
    """As :func:`write_atomically`, but never in the place of another file, not even of one that came meanwhile.

    Raises:
        NotWritten: it cannot be written, or something of its name is there by now.
    """
    with _written_beside(path, content) as temporary:
        try:
            os.link(temporary, path)
        except OSError as error:
            if error.errno not in _NO_LINKS or os.path.lexists(path):
                raise
            temporary.replace(path)


@contextlib.contextmanager
def _written_beside(path: Path, content: str | bytes | memoryview) -> Iterator[Path]:
    """A temporary file beside `path` with the content, on the disk itself; gone at the end."""
    temporary = _temporary(path)
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())  # or a power cut leaves an empty file of the new name
        yield temporary
    except OSError as error:
        raise NotWritten(error.errno, error.strerror, str(path)) from error
    finally:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            temporary.unlink()


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
    return path.with_name(f".{path.name[-_NAME_LENGTH:]}.{os.getpid()}.tmp")


def sweep(folder: Path) -> None:
    """Remove what a killed process left half written in a folder of ours and in those right below it."""
    for file in [*folder.glob(".*"), *folder.glob("*/.*")]:
        inside = file.parent == folder or not file.parent.is_symlink()
        if inside and _LEFT_BEHIND.fullmatch(file.name) and stat.S_ISREG(file.lstat().st_mode):
            file.unlink()


def make_folder(folder: Path) -> list[Path]:
    """Make a folder and those above it that are missing; returns what was made, outermost first.

    Raises:
        OSError: it cannot be made; what was made on the way is removed.
    """
    made: list[Path] = []
    for path in reversed((folder.absolute(), *folder.absolute().parents)):
        try:
            if not path.is_dir():
                path.mkdir()
                made.append(path)
        except FileExistsError:
            if not path.is_dir():  # else another process made it at this moment
                remove_made(made)
                raise
        except FileNotFoundError:  # another process failed, and removed what it had made above this one
            remove_made(made)
            return make_folder(folder)
        except OSError:
            remove_made(made)
            raise
    return made


def remove_made(made: Sequence[Path]) -> None:
    """Remove folders that :func:`make_folder` made, but for those that hold something by now."""
    for path in reversed(made):
        with contextlib.suppress(OSError):
            path.rmdir()
