"""What stops a run from outside: a full disk, too little memory, a dead worker, a signal; each with its message."""

from __future__ import annotations

import contextlib
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TypeVar

import pytorch_lightning as pl
import torch

from adlightning.core.between_steps import BetweenSteps
from adlightning.core.memory import lacks_memory, memory_is_full
from adlightning.core.stopping import stop, stopped_before
from adlightning.files.disk import NotWritten, disk_is_full, said_of_disk

Result = TypeVar("Result")
READER = "a process that reads images (data.num_workers)"
LESS_MEMORY = (
    "lower data.batch_size or the network's size while training, data.eval_batch_size or a method's chunk_size while "
    "scoring, or give fewer data"
)


class TrainingFault(RuntimeError):
    """A fit or a test that could not go on, for a reason that lies neither in the method nor in the arguments."""


@contextlib.contextmanager
def explained(kept: Callable[[], str]) -> Iterator[None]:
    """Turn a library's error for a fault into a :class:`TrainingFault` that says what can be done.

    Args:
        kept: says, once it has happened, what is kept and how to go on.
    """
    try:
        yield
    except Exception as error:
        if (stopped := stopped_before(error)) is not None:
            raise stopped from None
        text = str(error)
        if isinstance(error, NotWritten) or disk_is_full(error):
            raise TrainingFault(f"{said_of_disk(error)}. {kept()}") from error
        if lacks_memory(error):
            raise TrainingFault(f"{memory_is_full(error)}: {LESS_MEMORY}. {kept()}") from error
        if isinstance(error, RuntimeError) and "unable to write to file </torch_" in text:
            reason = "shared memory is full: give the container more (--shm-size), or data.num_workers=0"
            raise TrainingFault(f"{reason} ({text.splitlines()[0]}). {kept()}") from error
        if isinstance(error, (ConnectionError, EOFError)) or "DataLoader worker (pid" in text:
            reason = f"{READER} died, perhaps killed for lack of memory ({text.partition(chr(10))[0]})"
            raise TrainingFault(f"{reason}. {kept()}") from error
        if isinstance(error, ValueError) and "in DataLoader worker process" in text:  # with the worker's traceback
            reason = text.strip().splitlines()[-1].partition(": ")[2]
            raise ValueError(f"{reason or text}. {kept()}") from error
        raise


class PartSize:
    """How many samples are worked on at a time: as many as there are, half as many after each lack of memory.

    Args:
        argument: the option that sets the number, for the warning.
    """

    def __init__(self, argument: str) -> None:
        self.argument = argument
        self.most: int | None = None

    def run(self, work: Callable[[int], Result], wanted: int) -> Result:
        """`work(n)` with n = `wanted`, or what was found to fit. Raises the library's error where one does not."""
        while True:
            n = min(wanted, self.most or wanted)
            try:
                return work(n)
            except Exception as error:
                if n == 1 or not lacks_memory(error):
                    raise
            torch.cuda.empty_cache()  # after the handler: the error holds what it could not finish
            self.most = n // 2
            warnings.warn(f"memory is full with {n} at a time: {self.argument} is {n // 2} now", stacklevel=2)


class StopOnSigterm(BetweenSteps):
    """End at once on SIGTERM, as on Ctrl-C; the last whole epoch's checkpoint is what a fit goes on from."""

    def _take_over(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the place of Lightning's handler, which waits for the end of the batch and then goes on to the test.

        Lightning puts back what there was before when the fit or the test ends.
        """
        owner = os.getpid()

        def handle(signum: int, frame: FrameType | None) -> None:
            if os.getpid() != owner:  # a worker inherits the handler
                os._exit(128 + signum)
            if trainer.strategy.launcher is not None:
                trainer.strategy.launcher.kill(signal.SIGTERM)
            stop(signum, frame)

        with contextlib.suppress(ValueError):  # not the main thread: who started it has the signals
            signal.signal(signal.SIGTERM, handle)

    on_fit_start = _take_over
    on_validation_start = _take_over
    on_test_start = _take_over
    on_predict_start = _take_over
