"""Checkpoints of a run: the last epoch's, and the best by a validation metric where one is monitored."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint

from adlightning.core.detector import AnomalyDetector


class LastCheckpoint(ModelCheckpoint):
    """`last.ckpt` after every epoch, with the one before as `last-before.ckpt`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            dirpath=folder, filename="last", save_top_k=1, save_on_train_epoch_end=True, enable_version_counter=False
        )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save once more where the threshold was only set now, for lack of held-out samples in the last epoch."""
        if isinstance(pl_module, AnomalyDetector) and pl_module.set_threshold() and self.best_model_path:
            trainer.save_checkpoint(self.best_model_path)  # last.ckpt: without a monitor the newest is the best


class BestCheckpoint(ModelCheckpoint):
    """`best.ckpt` by a validation metric, once scores mean something.

    Args:
        folder: where it goes.
        monitor: a logged metric: `val/auroc`, `val/score_mean`.
        mode: whether larger or smaller is better.
    """

    option = "monitor"
    """What sets the metric."""

    def __init__(self, folder: Path, monitor: str, mode: Literal["min", "max"]) -> None:
        super().__init__(
            dirpath=folder,
            filename="best",
            monitor=monitor,
            mode=mode,
            save_top_k=1,
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        )

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Select only among epochs whose scores mean something: a pre-training phase logs no metric."""
        if isinstance(pl_module, AnomalyDetector) and pl_module.ready_to_score():
            pl_module.set_threshold()
            super().on_validation_end(trainer, pl_module)
