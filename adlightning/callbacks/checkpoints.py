"""Checkpoints of a run: the last epoch's, and the best by a validation metric where one is monitored."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning.callbacks import ModelCheckpoint

from adlightning.checkpoint import BEFORE_LAST, LAST
from adlightning.detector import AnomalyDetector


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoints written whole or not at all; the one before the last stays beside it.

    Lightning's own way goes through the system's folder for temporary files: from there to another file system it
    copies, and a copy can be cut off.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write to a file beside `path`, to the disk itself, and only then give it its name.

        Raises:
            OSError: it cannot be written; what was there is as it was.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        torch.save(checkpoint, content)  # straight to the file, a full disk would be an error of torch's own
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with temporary.open("wb") as file:
                file.write(content.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            if path.name == LAST and path.exists():
                path.replace(path.with_name(BEFORE_LAST))
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


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
