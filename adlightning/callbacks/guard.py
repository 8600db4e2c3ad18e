"""The loss guard: a training loss that is NaN or infinite ends the run before anything is saved over."""

from __future__ import annotations

import math

import pytorch_lightning as pl

from adlightning.detector import TrainingCollapse


class LossGuard(pl.Callback):
    """Look at each epoch's mean loss, once, and stop with an error that names the epoch and the likely cause.

    Runs before the epoch's checkpoint is written, so the last good one stays. Scores are guarded by the detector.
    """

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Raise :class:`TrainingCollapse` when the epoch's mean loss is not finite."""
        loss = trainer.callback_metrics.get("train/loss")
        if loss is not None and not math.isfinite(loss.item()):
            raise TrainingCollapse(
                f"epoch {trainer.current_epoch}: the training loss is {loss.item()}. Likely cause: a learning rate "
                "that is too high, or raw features on very different scales without `standardize`. The "
                "checkpoint of the last good epoch is kept."
            )
