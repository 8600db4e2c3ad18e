"""A line an epoch in a log, where no progress bar shows how far a fit is."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar
from pytorch_lightning.utilities import rank_zero_only

from adlightning.callbacks.epochs import EpochsFile
from adlightning.core.between_steps import BetweenSteps


class EpochLines(BetweenSteps):
    """`epoch 3/50: train/loss 0.0123, val/auroc 0.97, 1.2 s` on standard output, as soon as an epoch is over.

    Args:
        epochs: what the epochs gave; among a trainer's callbacks it comes before this one.
    """

    def __init__(self, epochs: EpochsFile) -> None:
        self.epochs = epochs
        self._said, self._since = -1, 0.0

    @rank_zero_only
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin where the fit begins, or goes on."""
        self._said, self._since = trainer.current_epoch - 1, time.perf_counter()

    @rank_zero_only
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say what the epoch before gave."""
        self._say(trainer)

    @rank_zero_only
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say what the last epoch gave."""
        self._say(trainer)

    def _say(self, trainer: pl.Trainer) -> None:
        if not self.epochs.rows or (epoch := int(self.epochs.rows[-1]["epoch"])) <= self._said:
            return
        now = time.perf_counter()
        values = [f"{name} {value:.6g}" for name, value in self.epochs.rows[-1].items() if name != "epoch"]
        n_epochs = trainer.max_epochs
        of = f"/{n_epochs}" if n_epochs is not None and 0 < n_epochs < math.inf else ""
        print(f"epoch {epoch + 1}{of}: {', '.join(values)}, {now - self._since:.1f} s", flush=True)
        self._said, self._since = epoch, now


def shows_bar(enabled: bool | None, callbacks: Iterable[object] | object) -> bool:
    """Whether a fit shows a progress bar: where it was asked for, or nothing was said and a terminal would show it.

    Args:
        enabled: `trainer.enable_progress_bar`.
        callbacks: `trainer.callbacks`, one or several, of which one may be a bar.
    """
    given = callbacks if isinstance(callbacks, (list, tuple)) else [callbacks]
    if enabled is None:
        return sys.stdout.isatty() or any(isinstance(callback, ProgressBar) for callback in given)
    return enabled
