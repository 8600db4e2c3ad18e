"""Checkpoints of a run: the last epoch's, and the best by a validation metric where one is monitored."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning.callbacks import Callback, ModelCheckpoint, OnExceptionCheckpoint

from adlightning.checkpoints.loading import BEFORE_LAST, BEST, LAST, read_checkpoint
from adlightning.core.detector import AnomalyDetector
from adlightning.files.disk import write_atomically

SUFFIX = ".ckpt"


class AtomicCheckpointIO(TorchCheckpointIO):
    """A run's checkpoints: written whole or not at all, read without running code, removed in the run's folder only.

    Lightning's own way writes through the system's folder for temporary files, from where a copy to another file system
    can be cut off, and removes whatever a path of any protocol names, folders too.

    Args:
        run_dir: the run's own folder.
    """

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write to a file beside `path`, to the disk itself, and only then give it its name; the last one stays.

        Raises:
            ValueError: the path leads out of the run's folder.
            OSError: it cannot be written; what was there is as it was.
        """
        file = own_checkpoint(path, self.run_dir)
        file.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        torch.save(checkpoint, content)  # straight to the file, a full disk would be an error of torch's own
        before = file.with_name(BEFORE_LAST) if file.name == LAST else None
        write_atomically(file, content.getbuffer(), before)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """What :func:`read_checkpoint` finds good, and nothing that was read another time."""
        return read_checkpoint(path)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a plain file of this run. Raises ValueError for anything else."""
        file = own_checkpoint(path, self.run_dir)
        try:
            mode = file.lstat().st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISREG(mode):
            raise ValueError(f"{path} is not removed: it is no plain file")
        file.unlink()


def own_checkpoint(path: str | Path, run_dir: Path) -> Path:
    """The checkpoint of a run that a path names: in its folder, or in `checkpoints` or below.

    Raises:
        ValueError: the path leads elsewhere (`..`, a link, a protocol), or to something that is no .ckpt.
    """
    name, file = os.fspath(path), Path(path)
    plain = "://" not in name and "::" not in name and "\0" not in name and ".." not in file.parts
    if plain and file.suffix == SUFFIX:
        run, folder = run_dir.resolve(), file.parent.resolve()
        if folder == run or folder.is_relative_to(run / "checkpoints"):
            return file
    raise ValueError(f"a run writes and removes {SUFFIX} files in {run_dir}/checkpoints only, not {name}")


def place_checkpoints(callbacks: Iterable[Callback], run_dir: Path) -> None:
    """Callbacks that save checkpoints do so in the run's folder, beside its own.

    Raises:
        ValueError: one that was told to do so elsewhere, or under a name that is the run's own.
    """
    folder = run_dir / "checkpoints"
    own_checkpoint(folder / LAST, run_dir)
    for callback in callbacks:
        name = f"trainer.callbacks: {type(callback).__name__}"
        if isinstance(callback, OnExceptionCheckpoint):
            files = [Path(callback.ckpt_path)]
        elif isinstance(callback, ModelCheckpoint) and not isinstance(callback, (LastCheckpoint, BestCheckpoint)):
            if callback.save_last:
                raise ValueError(f"{name}: save_last must be null, since every run keeps checkpoints/{LAST}")
            callback.dirpath = callback.dirpath or str(folder.resolve())
            files = [Path(callback.dirpath) / f"{callback.filename or 'x'}{SUFFIX}"]
        else:
            continue
        for file in files:
            if file.name in (LAST, BEFORE_LAST, BEST):
                raise ValueError(f"{name}: filename must not be {file.stem}, which is the run's own")
            try:
                own_checkpoint(file, run_dir)
            except ValueError as error:
                raise ValueError(f"{name}: dirpath must be {folder} or below: {error}") from None


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
