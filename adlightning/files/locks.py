"""Locks on folders: what one process holds no other gets, and it is given back however the process ends."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)
_held: set[int] = set()


class NoLocks(OSError):
    """The file system has no locks."""


def lock_folder(folder: Path, wait: bool = False) -> int:
    """Lock a folder against every other process of this machine; to be given back with :func:`unlock`.

    The lock is on the folder itself: it needs no file, so none stays behind, and an empty folder stays empty. The
    system gives it back when the process ends, also by SIGKILL.

    Args:
        folder: a folder that is there.
        wait: until another process gives it back.

    Returns:
        What :func:`unlock` takes.

    Raises:
        FileNotFoundError: there is no such folder, or it was removed at this moment.
        BlockingIOError: another process has it.
        NoLocks: the file system has no locks.
        OSError: the folder cannot be read.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        if not os.path.samestat(os.fstat(descriptor), os.stat(folder)):  # one of its name was removed, another made
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
    except OSError as error:
        os.close(descriptor)
        if error.errno in _NO_LOCKS:
            raise NoLocks(error.errno, error.strerror, str(folder)) from error
        raise
    _held.add(descriptor)
    return descriptor


def unlock(lock: int) -> None:
    """Give a lock back."""
    _held.discard(lock)
    os.close(lock)


@contextlib.contextmanager
def folder_locked(folder: Path, wait: bool = True) -> Iterator[None]:
    """Hold a folder's lock; where the file system has no locks, nothing is held.

    Args:
        folder: a folder that is there.
        wait: until another process gives it back; else BlockingIOError is raised.
    """
    try:
        lock = lock_folder(folder, wait)
    except NoLocks:
        yield
        return
    try:
        yield
    finally:
        unlock(lock)


def _forget_in_child() -> None:
    """A forked child, such as one that reads images, must not hold a lock on when its parent is killed."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_forget_in_child)
