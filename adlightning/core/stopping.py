"""SIGTERM and Ctrl-C: a command ends at once, in order, with the signal's own exit code, and says how to go on."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(SystemExit):
    """The end of a command by a signal; the exit code is 128 and the signal's number, as a shell has it.

    Args:
        signum: the signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)
        self.signal = "Ctrl-C" if signum == signal.SIGINT else signal.Signals(signum).name
        self.note: str | None = ": what is on disk is whole, and the same command begins anew"
        """Where it stood, what is kept and how to go on; None where another process says so."""


def stop(signum: int, frame: FrameType | None = None) -> None:
    """Handle a signal: raise :class:`Stopped`, once."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # impatience must not interrupt what puts things in order
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's raises when readers end, as they do now
    raise Stopped(signum)


def stopped_before(error: BaseException) -> Stopped | None:
    """The stop in whose course an error came up: workers that the same signal ended, for one."""
    earlier = error.__context__
    while earlier is not None and not isinstance(earlier, Stopped):
        earlier = earlier.__context__
    return earlier


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Let the signals raise :class:`Stopped` within, unless they are ignored; handlers are put back.

    A process that was forked within, such as one that reads images, is ended by its parent: Ctrl-C reaches both.
    """
    owner = os.getpid()

    def handle(signum: int, frame: FrameType | None) -> None:
        if os.getpid() == owner:
            stop(signum, frame)
        elif signum != signal.SIGINT:
            os._exit(128 + signum)

    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, handle)
    except ValueError:  # not the main thread: who started it has the signals
        before = {}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)
