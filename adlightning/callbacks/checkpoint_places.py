"""Where callbacks of the user's save checkpoints: in the run's folder, beside its own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pytorch_lightning.callbacks import Callback, ModelCheckpoint, OnExceptionCheckpoint

from adlightning.callbacks.checkpoints import BestCheckpoint, LastCheckpoint
from adlightning.checkpoints.loading import BEFORE_LAST, BEST, LAST
from adlightning.checkpoints.writing import SUFFIX, own_checkpoint


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
