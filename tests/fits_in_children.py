"""Fits in processes of their own, forked from a server that has imported everything: killed, stopped, short of room."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["adlightning.cli.trainer_verbs", "adlightning.__main__"])


def run_in_child(
    arguments: list[str],
    log: Path,
    *,
    at_batch: int | None = None,
    then: Callable[[], None] | None = None,
    first: Callable[[], None] | None = None,
) -> int:
    """The exit code of `adlightning ARGUMENTS` in a child, negative for a signal; its output goes to `log`.

    Args:
        arguments: of the command.
        log: a file for stdout and stderr.
        at_batch: training batch, counted from 0 in this process, after which `then` is called.
        then: called in the child, `kill` for one.
        first: called in the child before anything else.
    """
    child = CONTEXT.Process(target=_run, args=(arguments, log, at_batch, then, first))
    child.start()
    child.join(300)
    if child.exitcode is None:
        child.kill()
        raise TimeoutError(f"no end after five minutes: {arguments}\n{log.read_text()[-3000:]}")
    return child.exitcode


def _run(
    arguments: list[str],
    log: Path,
    at_batch: int | None,
    then: Callable[[], None] | None,
    first: Callable[[], None] | None,
) -> None:
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in a shell's background
    multiprocessing.set_start_method("fork", force=True)  # of a DataLoader's workers, as on the command line
    from adlightning.__main__ import main
    from adlightning.callbacks.timing import Timing

    if first is not None:
        first()
    if at_batch is not None and then is not None:
        seen = 0

        def count(self: Timing, *_: object) -> None:
            nonlocal seen
            seen += 1
            if seen > at_batch:
                then()

        Timing.on_train_batch_end = count  # type: ignore[assignment]  # a callback of every run
    sys.exit(main(arguments))


def kill() -> None:
    """As a node's failure does: no handler runs."""
    os.kill(os.getpid(), signal.SIGKILL)


def terminate() -> None:
    """As a cluster does before it takes a node away."""
    os.kill(os.getpid(), signal.SIGTERM)


def interrupt() -> None:
    """As Ctrl-C does."""
    os.kill(os.getpid(), signal.SIGINT)


def fill_the_disk() -> None:
    """No file may grow beyond what it has: to the writer, a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
