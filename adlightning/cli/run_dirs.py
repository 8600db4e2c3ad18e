"""A run's own folder: claimed by one process from the first instant to the end of the run, and left as it should be."""

from __future__ import annotations

import contextlib
import os
import warnings
from pathlib import Path
from types import TracebackType

from adlightning.checkpoints.loading import BEFORE_LAST, LAST
from adlightning.files.disk import make_folder, remove_made
from adlightning.files.locks import NoLocks, lock_folder, unlock


class RunDirClaim:
    """One run's hold on its folder, as a context: an error within removes what was made and holds no file."""

    def __init__(self) -> None:
        self._lock: int | None = None
        self._new: Path | None = None
        self._made: list[Path] = []

    def __enter__(self) -> RunDirClaim:
        return self

    def take(self, run_dir: Path, goes_on: bool) -> None:
        """Make the run folder and lock it, or refuse it: it must be new or empty, unless a fit goes on in it.

        Of several processes that ask for a folder, one gets it. Where a fit goes on, the folder must be there.

        Raises:
            ValueError: it cannot be made or written, another run has it, or it is not empty; where a fit goes on, a
                link in it leads to a folder elsewhere, into which the run would write.
        """
        run_dir = run_dir.absolute()
        if goes_on:
            with contextlib.suppress(
                FileNotFoundError, NotADirectoryError
            ):  # that there is no checkpoint is said later
                self._hold(run_dir)
                _refuse_ways_out(run_dir)
            return
        _check_parent(run_dir)
        while True:
            self._made = _make(run_dir)
            try:
                self._hold(run_dir)
                break
            except FileNotFoundError:  # its maker failed, and removed it at this moment
                continue
        if any(run_dir.iterdir()):
            self._release()
            checkpoints = [run_dir / "checkpoints" / name for name in (LAST, BEFORE_LAST)]
            last = next((path for path in checkpoints if path.exists()), None)
            hint = f", or go on from it with --ckpt_path={last}" if last else ""
            raise ValueError(
                f"run_dir: {run_dir} is not empty and nothing is overwritten: give another --run_dir{hint}"
            )
        self._new = run_dir

    def _hold(self, run_dir: Path) -> None:
        try:
            self._lock = lock_folder(run_dir)
        except BlockingIOError:
            self._made = []  # whoever has it needs them
            raise ValueError(
                f"run_dir: {run_dir} is in use by another run: wait for its end, or give another --run_dir"
            ) from None
        except NoLocks as error:
            warnings.warn(
                f"run_dir: the file system of {run_dir} has no locks ({error.strerror}): take care that no other run "
                "is given the same folder",
                stacklevel=2,
            )
        except PermissionError as error:
            raise ValueError(f"run_dir: {run_dir} cannot be read: {error.strerror}") from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None and self._new is not None:
            _remove_empty_in(self._new)
            remove_made(self._made)
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            unlock(self._lock)
            self._lock = None


def _check_parent(run_dir: Path) -> None:
    parent = next(path for path in (run_dir, *run_dir.parents) if path.exists())
    if not parent.is_dir():
        raise ValueError(f"run_dir: {run_dir} cannot be made, {parent} is a file")
    if not os.access(parent, os.W_OK):
        raise ValueError(f"run_dir: {run_dir} cannot be written, no permission for {parent}")


def _make(run_dir: Path) -> list[Path]:
    try:
        return make_folder(run_dir)
    except FileExistsError as error:
        raise ValueError(f"run_dir: {run_dir} cannot be made, {error.filename} is no folder") from None
    except OSError as error:
        raise ValueError(f"run_dir: {run_dir} cannot be made: {error.strerror}") from error


def _refuse_ways_out(run_dir: Path) -> None:
    """A run folder may come from anyone, with `plots` a link to the pictures of another folder."""
    below = (path for name in ("plots", "logs") for path in (run_dir / name).rglob("*"))
    for path in (*(path for path in run_dir.iterdir() if path.is_dir() or not path.exists()), *below):
        if path.is_symlink() and not path.resolve().is_relative_to(run_dir.resolve()):
            raise ValueError(f"run_dir: {path} is a link that leads out of it, to {path.resolve()}: remove it first")


def _remove_empty_in(folder: Path) -> None:
    """Remove the folders in a folder that hold no file."""
    for inner in folder.iterdir():
        if inner.is_dir() and not inner.is_symlink():
            _remove_empty_in(inner)
            remove_made([inner])
