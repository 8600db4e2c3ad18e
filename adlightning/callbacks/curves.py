"""What a detector records of every training step, as a table and as a picture (the density-ratio paper's Figure 1)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only

from adlightning.callbacks.plots import titled_figure
from adlightning.callbacks.rows import WAIT_S, GrowingFile
from adlightning.core.between_steps import BetweenSteps
from adlightning.core.detector import AnomalyDetector

# From the palette of Okabe and Ito, as those of the other plots.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_SMOOTHED = 50  # windows along the curve, beyond which single steps are drawn pale
LOG_RANGE = 1e3  # ratio of largest to smallest value from which on the axis is logarithmic


class CurvesFile(BetweenSteps):
    """`curves.csv`, a row each step, and `plots/curves.png` when training ends, however it does.

    The file is written at most once a second, and before each checkpoint, so that a fit that goes on has the rows up to
    where it begins. Only for detectors that record something.

    Args:
        folder: the run's own folder.
        draw: whether to draw.
    """

    def __init__(self, folder: Path, draw: bool = True) -> None:
        self.file, self.picture, self.draw = folder / "curves.csv", folder / "plots" / "curves.png", draw
        self._earlier: list[dict[str, float]] = []
        self._growing = GrowingFile(self.file)

    @rank_zero_only
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Read the rows of the fit that goes on."""
        self._growing, self._earlier = GrowingFile(self.file), []
        if trainer.global_step and self.file.exists():
            earlier = earlier_rows(self.file, "step", trainer.global_step)
            self._earlier = [{str(name): value for name, value in row.items()} for row in earlier.to_dict("records")]

    @rank_zero_only
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the rows of the epochs before: at the end of an epoch the detector's own hook comes last."""
        self._write(pl_module, WAIT_S)

    @rank_zero_only
    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Write the rows that come before a checkpoint."""
        if trainer.state.fn == "fit":
            self._write(pl_module)

    @rank_zero_only
    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write all rows, and draw them."""
        assert isinstance(pl_module, AnomalyDetector)
        self._write(pl_module)
        if self.draw and pl_module.curves.rows:
            title = f"{type(pl_module).__name__} on {pl_module.data.input_spec.description}: training"
            self.picture.parent.mkdir(parents=True, exist_ok=True)
            curves_plot(self.picture, pd.read_csv(self.file), title)

    @rank_zero_only
    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """A fit that broke off is just what one wants to see the curves of."""
        if isinstance(pl_module, AnomalyDetector) and pl_module.curves.rows:
            self.on_fit_end(trainer, pl_module)

    def _write(self, detector: pl.LightningModule, wait: float = 0.0) -> None:
        assert isinstance(detector, AnomalyDetector)
        if rows := detector.curves.rows:
            # of a second `fit` of the same detector the file's rows are its own
            earlier = (row for row in self._earlier if row["step"] < rows[0]["step"])
            self._growing.write([*earlier, *rows], wait)


def earlier_rows(file: Path, counter: str, before: int) -> pd.DataFrame:
    """Rows of a table of numbers that an earlier fit wrote, those whose counter comes before this.

    Raises:
        ValueError: the file is damaged; a run folder may come from anyone.
    """
    try:
        frame = pd.read_csv(file).astype(np.float64)
        return frame[frame[counter] < before].astype({counter: np.int64})
    except (ValueError, KeyError, pd.errors.ParserError) as error:
        reason = f"it has no column {error}" if isinstance(error, KeyError) else str(error).strip()
        raise ValueError(f"{file} is damaged, move it away to go on without its rows: {reason}") from error


def curves_plot(path: Path, frame: pd.DataFrame, title: str) -> Path:
    """Every column of `frame` over its column `step`, single steps pale and their running median on top.

    The axis is logarithmic where positive values span more than three decades; values that are not finite are left
    out, and the axis says so.
    """
    names = [name for name in frame.columns if name != "step"]
    values = frame[names].to_numpy(dtype=np.float64)
    finite = values[np.isfinite(values)]
    log = len(finite) > 0 and finite.min() > 0 and finite.max() > LOG_RANGE * finite.min()
    window = max(1, len(frame) // _SMOOTHED)
    with titled_figure(path, (6.4, 4.4), title) as figure:
        axes = figure.add_subplot()
        for i, name in enumerate(names):
            colour, curve = COLOURS[i % len(COLOURS)], frame[name].where(np.isfinite(frame[name]))
            axes.plot(frame["step"], curve, color=colour, alpha=0.25 if window > 1 else 1.0, linewidth=0.8)
            smooth = curve.rolling(window, center=True, min_periods=1).median()
            axes.plot(frame["step"], smooth, color=colour, linewidth=1.8, label=name.replace("_", " "))
        if log:
            axes.set_yscale("log")
        notes = ["step" + (f" (lines: median of {window} steps)" if window > 1 else "")]
        if n_wrong := int(np.sum(~np.isfinite(values))):
            notes.append(f"not finite, not shown: {n_wrong:,} of {values.size:,} values")
        axes.set_xlabel("\n".join(notes))
        figure.legend(loc="outside lower center", ncols=2)
    return path
