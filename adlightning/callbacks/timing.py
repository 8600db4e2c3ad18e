"""Seconds and peak memory of a run."""

from __future__ import annotations

import resource
import sys
import time

import pytorch_lightning as pl
import torch

from adlightning.core.between_steps import BetweenSteps


class Timing(BetweenSteps):
    """Wall-clock seconds of training and of testing, and the process's peak memory."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._started: dict[str, float] = {}

    def _start(self, what: str) -> None:
        self._started[what] = time.perf_counter()

    def _stop(self, what: str) -> None:
        if what in self._started:
            self.seconds[what] = round(time.perf_counter() - self._started.pop(what), 3)

    def leave_out(self, what: str, seconds: float) -> None:
        """Seconds since `fit` or `test` began that went into something else."""
        self._started[what] += seconds

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Training begins."""
        self._start("fit")

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Training ends."""
        self._stop("fit")

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Scoring begins."""
        self._start("test")

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Scoring ends; what follows are metrics and reports."""
        self._stop("test")


def peak_memory_mb() -> dict[str, float]:
    """Largest resident set of this process and, with CUDA, largest allocation on the device, in MiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    peaks = {"host": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20}
    if torch.cuda.is_available():
        peaks["cuda"] = torch.cuda.max_memory_allocated() / 2**20
    return {where: round(value, 1) for where, value in peaks.items()}
