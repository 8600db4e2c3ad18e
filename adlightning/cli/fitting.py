"""What of the command line decides on the result of any fit: its defaults, and which weights are tested.

:mod:`adlightning.benchmark.code` counts this module, and what it imports, for every cell of every table. What only
shows or keeps a result belongs elsewhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pytorch_lightning import Trainer

from adlightning.callbacks.checkpoints import BestCheckpoint
from adlightning.core.detector import AnomalyDetector
from adlightning.core.watchers import MEAN, RANKINGS
from adlightning.data.modules import AnomalyDataModule

SEED = 0
"""Where none is given."""

TRAINER_DEFAULTS: dict[str, Any] = {"num_sanity_val_steps": 0, "use_distributed_sampler": False, "callbacks": []}
"""Of the Trainer's arguments, where they are not Lightning's."""

MONITORS: dict[str, Literal["min", "max"]] = {MEAN: "min"}
"""Metrics that may select a checkpoint of any detector, and which end of them is better."""

MONITORS |= {name: "min" if name.startswith("val/fpr") else "max" for name in RANKINGS}


def monitors_of(cls: type[AnomalyDetector]) -> dict[str, Literal["min", "max"]]:
    """Metrics that may select a checkpoint of a detector, and which end of them is better."""
    return {**MONITORS, **cls.held_out_metrics}


def selecting(monitor: str | None, folder: Path, cls: type[AnomalyDetector]) -> BestCheckpoint | None:
    """What keeps the weights that are best by a metric; None where the last epoch's are tested."""
    return BestCheckpoint(folder, monitor, monitors_of(cls)[monitor]) if monitor else None


def test_selected(
    trainer: Trainer, model: AnomalyDetector, datamodule: AnomalyDataModule, best: BestCheckpoint | None
) -> None:
    """Test the selected weights, or those of the last epoch where none were selected."""
    selected = best.best_model_path if best else ""
    trainer.test(model, datamodule=datamodule, ckpt_path=selected or None, weights_only=True, verbose=False)
