"""What each epoch gave, as a table and as a picture: the training loss phase by phase, and validation metrics."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only

from adlightning.callbacks.curves import COLOURS, LOG_RANGE, earlier_rows
from adlightning.callbacks.plots import titled_figure
from adlightning.callbacks.rows import WAIT_S, GrowingFile
from adlightning.core.between_steps import BetweenSteps
from adlightning.core.detector import AnomalyDetector

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LOSS = "train/loss"
_RANKING = {"val/auroc": "AUROC", "val/average_precision": "average precision"}
_MEAN = {"val/score_mean": "mean score of normals"}  # all there is without held-out anomalies


class EpochsFile(BetweenSteps):
    """`epochs.csv`, a row each epoch, and `plots/loss.png` when training ends, however it does.

    The file is written at most once a second, and before each checkpoint, so that a fit that goes on has the rows up to
    where it begins. Only for detectors that have a training loss.

    Args:
        folder: the run's own folder.
        draw: whether to draw.
    """

    def __init__(self, folder: Path, draw: bool = True) -> None:
        self.file, self.picture, self.draw = folder / "epochs.csv", folder / "plots" / "loss.png", draw
        self.rows: list[dict[str, float]] = []
        """What each epoch gave, by name: `epoch` counts from 0."""
        self.wait = WAIT_S
        """Seconds between one time that the file is written and the next."""
        self._validated: dict[str, float] = {}
        self._growing = GrowingFile(self.file)

    @rank_zero_only
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Read the rows of the fit that goes on."""
        self._growing, self.rows = GrowingFile(self.file), []
        if trainer.current_epoch and self.file.exists():
            earlier = earlier_rows(self.file, "epoch", trainer.current_epoch)
            self.rows = [{str(k): float(v) for k, v in row.dropna().items()} for _, row in earlier.iterrows()]

    @rank_zero_only
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note what was logged of held-out samples: in later epochs without validation it would still stand there."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            logged = trainer.callback_metrics.items()
            self._validated = {name: float(value) for name, value in logged if name.startswith("val/")}

    @rank_zero_only
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note the row of the epoch before: at its end the detector's own hook comes last."""
        self._end_epoch(trainer, pl_module)
        self._growing.write(self.rows, self.wait)

    @rank_zero_only
    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Write the rows that come before a checkpoint."""
        if trainer.state.fn == "fit":
            self._end_epoch(trainer, pl_module)
            self._growing.write(self.rows)

    @rank_zero_only
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write all rows, and draw them."""
        assert isinstance(pl_module, AnomalyDetector)
        self._end_epoch(trainer, pl_module)
        self._growing.write(self.rows)
        self._picture(pl_module)

    @rank_zero_only
    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """A fit that broke off is just what one wants to see the loss of."""
        if isinstance(pl_module, AnomalyDetector):
            self._growing.write(self.rows)
            self._picture(pl_module)

    def _end_epoch(self, trainer: pl.Trainer, detector: pl.LightningModule) -> None:
        """Note the row of the last epoch that has its loss."""
        assert isinstance(detector, AnomalyDetector)
        epoch = detector.logged_epoch
        n_ended = trainer.fit_loop.epoch_progress.current.processed  # type: ignore[attr-defined]  # it is there all the same
        # a search of a rate or a batch size in the middle of a fit has epochs of its own
        if not 0 <= epoch < n_ended or (self.rows and self.rows[-1]["epoch"] >= epoch):
            return
        self.rows.append({"epoch": epoch, _LOSS: float(trainer.callback_metrics[_LOSS]), **self._validated})
        self._validated = {}

    def _picture(self, detector: AnomalyDetector) -> None:
        if self.draw and self.rows:
            title = f"{type(detector).__name__} on {detector.data.input_spec.description}: loss"
            self.picture.parent.mkdir(parents=True, exist_ok=True)
            phase = detector.first_phase()
            first = 0 if phase is None else phase.epochs
            loss_plot(self.picture, pd.DataFrame(self.rows), first, title)


def loss_plot(path: Path, epochs: pd.DataFrame, first_epochs: int, title: str) -> Path:
    """The training loss by epoch, that of pre-training on axes of its own, and held-out samples' metrics below.

    Args:
        path: the PNG to write.
        epochs: columns `epoch` (from 0), `train/loss` and what there is of `val/...`, empty where none was logged.
        first_epochs: epochs of a first phase, whose loss is another one.
        title: above it.
    """
    first = epochs["epoch"] < first_epochs
    parts = {"pre-training loss": epochs[first], "training loss": epochs[~first]}
    phases = {name: part for name, part in parts.items() if len(part)}
    metrics = _RANKING if any(name in epochs for name in _RANKING) else _MEAN
    drawn = {name: label for name, label in metrics.items() if name in epochs}
    with titled_figure(path, (6.4, 4.4 if not drawn else 6.4), title) as figure:
        grid = figure.add_gridspec(2 if drawn else 1, len(phases))
        for column, (name, part) in enumerate(phases.items()):
            axes = figure.add_subplot(grid[0, column])
            _draw(axes, part["epoch"], part[_LOSS], COLOURS[0], name)
            axes.set_ylabel(name)
            axes.set_xlabel("epoch" + _not_finite(part[_LOSS]))
        if drawn:
            axes = figure.add_subplot(grid[1, :])
            for i, (name, label) in enumerate(drawn.items()):
                there = epochs[epochs[name].notna()]
                _draw(axes, there["epoch"], there[name], COLOURS[1 + i], label)
            axes.set(xlabel="epoch", ylabel="held-out samples", xlim=(-0.5, max(epochs["epoch"].max(), 0) + 0.5))
            axes.legend()
    return path


def _draw(axes: Axes, epoch: pd.Series[int], values: pd.Series[float], colour: str, label: str) -> None:
    """A line, with a mark on each epoch where they are few; logarithmic where positive values span three decades."""
    shown = values.where(np.isfinite(values))
    few = {"marker": "o", "markersize": 4} if len(values) <= 20 else {}
    axes.plot(epoch, shown, color=colour, linewidth=1.6, label=label, **few)  # type: ignore[arg-type]
    axes.locator_params(axis="x", integer=True)
    if shown.min() > 0 and shown.max() > LOG_RANGE * shown.min():
        axes.set_yscale("log")


def _not_finite(values: pd.Series[float]) -> str:
    n_wrong = int(np.sum(~np.isfinite(values)))
    return f"\nnot finite, not shown: {n_wrong:,} of {len(values):,}" if n_wrong else ""
