"""A detector on trial: one short fit by Lightning's own Trainer, which all checks share."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from adlightning.core.contracts import Kind, TrainBatch
from adlightning.core.detector import AnomalyDetector
from adlightning.core.parts import described
from adlightning.data.modules import AnomalyDataModule
from adlightning.testing.small_data import small_data


class Watch(pl.Callback):
    """Keeps what a fit began with, what its batches said of their samples, and a checkpoint of each epoch.

    Args:
        folder: for the checkpoints, `0.ckpt` and so on.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.begun: dict[str, Tensor] = {}
        self.known: set[int] = set()
        self.gradients: dict[str, float] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the weights that training begins with."""
        self.begun = {name: weight.detach().clone() for name, weight in pl_module.named_parameters()}

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: TrainBatch, batch_idx: int
    ) -> None:
        """Keep which kinds of samples there were."""
        self.known |= {int(kind) for kind in batch.known.unique()}

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Keep the largest gradient of each weight."""
        for name, weight in pl_module.named_parameters():
            if weight.grad is not None:
                self.gradients[name] = max(self.gradients.get(name, 0.0), weight.grad.abs().max().item())

    def cancels(self, name: str) -> bool:
        """Whether a weight had gradients that were zero but for rounding, beside those of others."""
        return self.gradients.get(name, math.inf) <= 1e-5 * max(self.gradients.values(), default=0.0)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save where the fit can be taken up again."""
        file = self.folder / f"{trainer.current_epoch}.ckpt"
        trainer.save_checkpoint(file, weights_only=False)  # Lightning's word for one with optimisers too


class Trial:
    """A detector, data for it, and a short fit of it, made when a check first asks for it.

    Args:
        detector: not trained yet. It is never trained itself: each fit makes another of the same arguments.
        data: the kind of small data to train on, or what makes a datamodule of your own.
        max_epochs: of a fit; more than the epochs of a first phase, of pre-training for one.
        name: in messages and in pytest's list; the detector's class where it is not given.
    """

    def __init__(
        self,
        detector: AnomalyDetector,
        data: Kind | Callable[[], AnomalyDataModule] = "image",
        max_epochs: int = 3,
        name: str = "",
    ) -> None:
        self.given = detector
        self.described = described(detector.arguments)
        self.data = data
        self.max_epochs = max_epochs
        self.name = name or type(detector).__name__
        self._folder = tempfile.TemporaryDirectory(prefix="adlightning-")

    @property
    def folder(self) -> Path:
        """Where its fits write; gone when the trial is."""
        return Path(self._folder.name)

    def make(self) -> AnomalyDetector:
        """Another detector of the same arguments, not trained."""
        pl.seed_everything(0, verbose=False)
        return type(self.given)(**self.given.arguments)

    def make_data(self) -> AnomalyDataModule:
        """The data anew, which a fit then sets up."""
        return small_data(self.data, type(self.given)) if isinstance(self.data, str) else self.data()

    def trainer(self, **options: Any) -> pl.Trainer:
        """A quiet Trainer on the CPU that writes nothing but what it is asked for."""
        quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
        files: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "default_root_dir": self.folder}
        return pl.Trainer(**{"max_epochs": self.max_epochs, "accelerator": "cpu", **quiet, **files, **options})

    def fit(self, ckpt_path: Path | None = None, **options: Any) -> tuple[AnomalyDetector, AnomalyDataModule]:
        """Another detector after a fit, or after the rest of one, and its data."""
        detector, data = self.make(), self.make_data()
        begun: dict[str, Any] = {} if ckpt_path is None else {"ckpt_path": ckpt_path, "weights_only": True}
        self.trainer(**options).fit(detector, datamodule=data, **begun)
        return detector, data

    @cached_property
    def _fitted(self) -> tuple[AnomalyDetector, AnomalyDataModule, Watch]:
        watch = Watch(self.folder)
        try:
            return *self.fit(callbacks=[watch]), watch
        except Exception as fault:
            fault.add_note(f"in the fit of {self.name} that all checks share, not in a check")
            raise

    @property
    def fitted(self) -> AnomalyDetector:
        """The trained detector, in training mode as a Trainer leaves it. A check leaves it as it is."""
        return self._fitted[0]

    @property
    def fitted_data(self) -> AnomalyDataModule:
        """What it was trained on."""
        return self._fitted[1]

    @property
    def watch(self) -> Watch:
        """What was seen of its training."""
        return self._fitted[2]

    def checkpoint(self, epoch: int) -> Path:
        """What was saved at the end of an epoch of its training, counted from 0."""
        return self.watch.folder / f"{epoch}.ckpt"

    def test_input(self, n: int = 40) -> Tensor:
        """About n raw samples (n, ...) of the test set, normal ones and anomalies."""
        data = self.fitted_data
        rows = data.split.test[:: max(1, len(data.split.test) // n)]
        x = data.test_samples.x
        return x[torch.from_numpy(rows)] if isinstance(x, Tensor) else torch.stack([x[int(row)] for row in rows])
