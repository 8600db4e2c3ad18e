"""The folder that a run leaves: config.yaml, checkpoints/, scores.csv, metrics.json, plots/*.png."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only

from adlightning.callbacks.boundary import boundary_axes
from adlightning.callbacks.checkpoints import BestCheckpoint
from adlightning.callbacks.description import describe_run, held_out_frame, test_frame
from adlightning.callbacks.pictures import write_fit_pictures, write_test_pictures
from adlightning.callbacks.timing import Timing
from adlightning.core.between_steps import BetweenSteps
from adlightning.core.detector import AnomalyDetector
from adlightning.core.phases import untrained
from adlightning.files.disk import NotWritten, keep_older, write_atomically
from adlightning.files.written_names import load_dumped


class RunFolder(BetweenSteps):
    """Write a run's configuration, scores, metrics and plots; on one process, each file atomically.

    Args:
        folder: the run's own folder.
        config: resolved configuration as YAML, or None outside the command line.
        selection: how the checkpoint is chosen: `none` (last epoch), `val`, or `oracle-ood` (by validation anomalies
            of a kind that is tested); a detector that chose on test data says so itself.
        best: where this run chooses it, what does: as long as it has chosen none, the selection is `none`.
        timing: gives the seconds.
        draw: whether to write plots.
        boundary_features: two features, by name or index, over which the decision boundary is drawn; None draws it for
            a table of two features.
        notes: what a reader of the results has to know, for the report.
        code: version of the code behind the configuration, where somebody asked for it: finding it takes a second.
    """

    def __init__(
        self,
        folder: Path,
        config: str | None,
        selection: str,
        timing: Timing,
        draw: bool = True,
        boundary_features: Sequence[str | int] | None = None,
        notes: Sequence[str] = (),
        best: BestCheckpoint | None = None,
        code: str | None = None,
    ) -> None:
        self.notes, self.code = list(notes), code
        self.folder, self.config, self.timing, self.draw = folder, config, timing, draw
        self._planned, self.best = selection, best
        self.boundary_features = boundary_features
        self.report: dict[str, Any] = {}
        self.plots: list[Path] = []
        self._opened = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse features that there are not, before any training."""
        assert isinstance(pl_module, AnomalyDetector)
        boundary_axes(pl_module.data.input_spec, self.boundary_features)

    @rank_zero_only
    def _open(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the configuration once, after everything was found good; a fit that goes on keeps the older one."""
        if self._opened:
            return
        self._opened = True
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for name in ("config.yaml", "metrics.json", "scores.csv"):
                keep_older(self.folder / name)
            if self.config is not None:
                write_atomically(self.folder / "config.yaml", self.config)
        except NotWritten:
            raise
        except OSError as error:
            raise ValueError(f"run_dir: {self.folder} cannot be written: {error.strerror}") from error
        for logger in trainer.loggers:
            logger.log_hyperparams(load_dumped(self.config or "{}"))

    on_fit_start = _open
    on_validation_start = _open
    on_test_start = _open
    on_predict_start = _open

    @property
    def selection(self) -> str:
        """How the checkpoint was chosen."""
        chose_none = self.best is not None and not self.best.best_model_path
        return "none" if chose_none else self._planned

    @rank_zero_only
    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """What can be said before any test; where there is none, scores and pictures of what was held out."""
        assert isinstance(pl_module, AnomalyDetector)
        if self.best is not None and not self.best.best_model_path:
            self.notes.append(f"monitor={self.best.monitor} selected nothing: the trained detector was not validated")
        self._write_report(trainer, pl_module)
        if pl_module.data.test_names:
            return
        if (held_out := held_out_frame(pl_module)) is not None:
            write_atomically(self.folder / "held_out.csv", held_out.to_csv(index=False, float_format="%.9g"))
        if self.draw:
            self.plots += write_fit_pictures(self.folder / "plots", pl_module)

    def _write_report(self, trainer: pl.Trainer, detector: AnomalyDetector) -> None:
        self.report = self.describe(trainer, detector)
        write_atomically(self.folder / "metrics.json", json.dumps(self.report, indent=2, allow_nan=False) + "\n")

    @rank_zero_only
    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Scores, metrics and plots of every test set; of a trial that trained no detector nothing."""
        assert isinstance(pl_module, AnomalyDetector)
        if untrained(pl_module):
            return
        self._write_scores(pl_module)
        self._write_report(trainer, pl_module)
        if self.draw:
            self.plots += write_test_pictures(self.folder / "plots", pl_module, self.boundary_features)

    @rank_zero_only
    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Scores of every test set."""
        assert isinstance(pl_module, AnomalyDetector)
        self._write_scores(pl_module)

    def _write_scores(self, detector: AnomalyDetector) -> None:
        if (frame := test_frame(detector)) is not None:
            write_atomically(self.folder / "scores.csv", frame.to_csv(index=False, float_format="%.9g"))

    def describe(self, trainer: pl.Trainer, detector: AnomalyDetector) -> dict[str, Any]:
        """What metrics.json says, as far as it is known."""
        return describe_run(trainer, detector, self.selection, self.notes, self.timing.seconds, self.code)
