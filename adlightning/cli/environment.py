"""What a shell, a notebook or a service hands to the command, made so that it cannot change or end a run."""

from __future__ import annotations

import io
import os
import sys


def settle() -> None:
    """Make the process's environment and streams safe, before a library looks at them.

    Raises:
        ValueError: the current folder is gone.
    """
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # of what Lightning calls: errors for some
    os.environ["MPLBACKEND"] = "agg"  # a notebook's is not there in a process of its own, and nothing is shown
    _fill_standard_streams()
    try:
        os.getcwd()
    except OSError as error:
        raise ValueError(f"the current folder cannot be used ({error.strerror}): change to another") from error
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is getattr(sys, f"__{name}__"):  # not somebody's own, as in a test
            setattr(sys, name, _tolerant(getattr(sys, name)))


def _fill_standard_streams() -> None:
    """A closed stream's number would be that of the next file opened, which would then be printed into."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        if getattr(sys, name) is None:
            stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115  # as long as the process
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


def _tolerant(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """The stream with what its encoding lacks escaped, and without an end when its reader has gone."""
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_UntilReaderLeaves(stream.fileno(), "w", closefd=False)),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
    )


class _UntilReaderLeaves(io.FileIO):
    """A file that takes everything and keeps nothing once its reader has gone: `| head` ends no run."""

    def write(self, data: object) -> int:
        """Bytes taken."""
        try:
            return super().write(data)  # type: ignore[arg-type]
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return memoryview(data).nbytes  # type: ignore[arg-type]
