"""What stops a fit from outside: a full disk, too little memory, a dead worker, SIGTERM; each with its message."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TypeVar

import pytorch_lightning as pl
import torch

Result = TypeVar("Result")
READER = "a process that reads images (data.num_workers)"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
SIGTERM_EXIT = 128 + signal.SIGTERM
"""Exit code after a SIGTERM: the run can go on."""


class TrainingFault(RuntimeError):
    """A fit or a test that could not go on, for a reason that lies neither in the method nor in the arguments."""


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turn a library's error for a fault into a :class:`TrainingFault` that says what can be done."""
    kept = "What the run folder holds is whole: from its checkpoints/last.ckpt a fit goes on with --ckpt_path last"
    try:
        yield
    except torch.OutOfMemoryError as error:
        what = "lower data.batch_size while training, data.eval_batch_size or a method's chunk_size while scoring"
        raise TrainingFault(f"the device's memory is full: {what}. {kept}") from error
    except (ConnectionError, EOFError) as error:
        raise TrainingFault(f"{READER} died, perhaps killed for lack of memory ({error}). {kept}") from error
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise TrainingFault(f"the disk is full ({error}): make room. {kept}") from error
    except (ValueError, RuntimeError) as error:
        text = str(error)
        if "DataLoader worker (pid" in text:
            raise TrainingFault(
                f"{READER} died, perhaps killed for lack of memory ({text.splitlines()[0]}). {kept}"
            ) from error
        if isinstance(error, ValueError) and "in DataLoader worker process" in text:  # with the worker's traceback
            reason = text.strip().splitlines()[-1].partition(": ")[2]
            raise ValueError(f"{reason or text}. {kept}") from error
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
        """`work(n)` with n = `wanted`, or what was found to fit. Raises OutOfMemoryError where one alone does not."""
        while True:
            n = min(wanted, self.most or wanted)
            try:
                return work(n)
            except torch.OutOfMemoryError:
                if n == 1:
                    raise
            torch.cuda.empty_cache()  # after the handler: the error holds what it could not finish
            self.most = n // 2
            warnings.warn(
                f"the device's memory is full with {n} at a time: {self.argument} is {n // 2} now", stacklevel=2
            )


class StopOnSigterm(pl.Callback):
    """End at once on SIGTERM, with exit code 143; the last whole epoch's checkpoint is what a fit goes on from."""

    def _take_over(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the place of Lightning's handler, which waits for the end of the batch and then goes on to the test.

        Lightning puts back what there was before when the fit or the test ends.
        """
        owner = os.getpid()

        def stop(signum: int, frame: FrameType | None) -> None:
            if os.getpid() != owner:  # a worker inherits the handler
                os._exit(SIGTERM_EXIT)
            if trainer.strategy.launcher is not None:
                trainer.strategy.launcher.kill(signal.SIGTERM)
            where = f"in epoch {trainer.current_epoch}" if trainer.training else "while scoring"
            last = os.path.join(trainer.default_root_dir, "checkpoints", "last.ckpt")
            hint = "a fit goes on from its last whole epoch with --ckpt_path last" if os.path.exists(last) else ""
            print(f"stopped by SIGTERM {where}: {hint or 'there is no whole epoch yet'}", file=sys.stderr)
            sys.exit(SIGTERM_EXIT)

        with contextlib.suppress(ValueError):  # not the main thread: who started it has the signals
            signal.signal(signal.SIGTERM, stop)

    on_fit_start = _take_over
    on_validation_start = _take_over
    on_test_start = _take_over
    on_predict_start = _take_over
