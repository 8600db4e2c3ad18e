"""The folder that a run leaves: config.yaml, checkpoints/, scores.csv, metrics.json, plots/*.png."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
import yaml
from numpy.typing import NDArray
from pytorch_lightning.utilities import rank_zero_only

import adlightning
from adlightning.callbacks.boundary import boundary_axes, write_boundary
from adlightning.callbacks.checkpoints import BestCheckpoint
from adlightning.callbacks.densities import write_densities
from adlightning.callbacks.generated import write_generated
from adlightning.callbacks.negatives import write_negatives
from adlightning.callbacks.plots import write_plots
from adlightning.callbacks.timing import Timing, peak_memory_mb
from adlightning.core.detector import AnomalyDetector
from adlightning.core.metrics import NoRanking, ScoredSamples, bootstrap_intervals, ranking_metrics
from adlightning.core.phases import untrained
from adlightning.files.disk import NotWritten, keep_older, write_atomically


class RunFolder(pl.Callback):
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
    ) -> None:
        self.notes = list(notes)
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
            logger.log_hyperparams(yaml.safe_load(self.config or "{}"))

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
        """What can be said before any test, and where there is none, pictures of what the threshold was fitted to."""
        assert isinstance(pl_module, AnomalyDetector)
        if self.best is not None and not self.best.best_model_path:
            self.notes.append(f"monitor={self.best.monitor} selected nothing: the trained detector was not validated")
        self._write_report(trainer, pl_module)
        data, scored = pl_module.data, pl_module.threshold_samples
        if not self.draw or data.test_names or scored is None:
            return
        which = "held-out" if np.isin(scored.index, data.split.validation).all() else "training"
        self.plots += write_plots(
            self.folder / "plots",
            scored,
            images=None if data.input_spec.kind != "image" else data.train_images,
            threshold=_finite(pl_module.threshold.item()),
            names=data.train_samples.names,
            title_prefix=f"{type(pl_module).__name__} on {data.input_spec.description}, {which} samples",
        )

    def _write_report(self, trainer: pl.Trainer, detector: AnomalyDetector) -> None:
        self.report = self._describe(trainer, detector)
        write_atomically(self.folder / "metrics.json", json.dumps(self.report, indent=2, allow_nan=False) + "\n")

    @rank_zero_only
    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Scores, metrics and plots of every test set; of a trial that trained no detector nothing."""
        assert isinstance(pl_module, AnomalyDetector)
        if untrained(pl_module):
            return
        self._write_scores(pl_module)
        self._write_report(trainer, pl_module)
        if not self.draw:
            return
        several = len(pl_module.results) > 1
        title = f"{type(pl_module).__name__} on {pl_module.data.input_spec.description}"
        axes = boundary_axes(pl_module.data.input_spec, self.boundary_features)
        for name, scored in pl_module.results.items():
            folder = self.folder / "plots" / name if several else self.folder / "plots"
            folder.mkdir(parents=True, exist_ok=True)
            words = f"{title}, test set {name}" if several else title
            self.plots += write_plots(
                folder,
                scored,
                images=_image_reader(pl_module, name),
                threshold=_finite(pl_module.threshold.item()),
                names=pl_module.data.sample_names(name),
                title_prefix=words,
            )
            if (read := _image_reader(pl_module, name)) is not None:
                self.plots += write_generated(folder, pl_module, scored, read, words)
            if axes is not None:
                self.plots.append(write_boundary(folder / "boundary.png", pl_module, scored, axes, words))
        self.plots += write_negatives(self.folder / "plots" / "negatives.png", pl_module, axes, title)
        readers = {name: _image_reader(pl_module, name) for name in pl_module.results}
        self.plots += write_densities(self.folder / "plots" / "densities.png", pl_module, pl_module.results, readers)

    @rank_zero_only
    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Scores of every test set."""
        assert isinstance(pl_module, AnomalyDetector)
        self._write_scores(pl_module)

    def _write_scores(self, detector: AnomalyDetector) -> None:
        parts = [
            score_frame(scored, detector.data.sample_names(name), detector.threshold.item()).assign(test_set=name)
            for name, scored in detector.results.items()
        ]
        if parts:
            write_atomically(self.folder / "scores.csv", pd.concat(parts).to_csv(index=False, float_format="%.9g"))

    def _describe(self, trainer: pl.Trainer, detector: AnomalyDetector) -> dict[str, Any]:
        data = detector.data
        threshold = _finite(detector.threshold.item())
        return {
            "detector": type(detector).__name__,
            "data": data.input_spec.description,
            "input": str(data.input_spec),
            "protocol": data.protocol,
            "notes": [*self.notes, *_scored_with(detector), *_left_out(trainer, detector), *detector.remarks()],
            "selection": "oracle" if detector.selection == "oracle" else self.selection,
            "not_tested": untrained(detector) or _not_tested(detector),
            "test_sets": {name: describe_scores(scored, threshold) for name, scored in detector.results.items()},
            "threshold": {
                "rule": type(detector.threshold_rule).__name__,
                **vars(detector.threshold_rule),
                "score": threshold,
                "fitted_on": detector.training_record.get("threshold_from"),
            },
            "samples": data.counts(),
            "seed": data.effective_seed(),
            "epochs": detector.training_record.get("epochs", trainer.current_epoch),
            "precision": str(trainer.precision),
            "device": str(detector.device),
            "devices": trainer.world_size,
            "seconds": self.timing.seconds,
            "peak_memory_mb": peak_memory_mb(),
            "versions": {
                "adlightning": adlightning.__version__,
                "torch": torch.__version__,
                "pytorch_lightning": version("pytorch-lightning"),
                "python": platform.python_version(),
            },
        }


def _scored_with(detector: AnomalyDetector) -> list[str]:
    """What its scores take otherwise than training did."""
    return [f"scored with {difference}" for difference in detector.rescored]


def _left_out(trainer: pl.Trainer, detector: AnomalyDetector) -> list[str]:
    """That a limit of the Trainer kept samples from the training, or from the test."""
    notes = []
    if batches := detector.training_record.get("batches"):
        notes.append(f"trained on {batches[0]} of an epoch's {batches[1]} batches (trainer.limit_train_batches)")
    if not detector.results:
        return notes
    loaders = trainer.test_dataloaders
    there = sum(len(loader) for loader in loaders) if isinstance(loaders, list) else len(loaders or ())
    taken = sum(trainer.num_test_batches)
    if taken >= there:
        return notes
    limit = f"trainer.limit_test_batches={trainer.limit_test_batches}"
    return [*notes, f"tested on {taken:g} of {there} batches ({limit})"]


def describe_scores(scored: ScoredSamples, threshold: float | None) -> dict[str, Any]:
    """Ranking metrics with 95 % bootstrap intervals, and rates at the threshold; a note where something is missing."""
    labels, scores = scored.labels, scored.scores
    described: dict[str, Any] = {"normal": int((labels == 0).sum()), "anomalies": int((labels == 1).sum())}
    try:
        values = ranking_metrics(scores, labels)
        intervals = bootstrap_intervals(scores, labels)
        described["metrics"] = {k: {"value": v, "interval": list(intervals[k])} for k, v in values.items()}
    except NoRanking as error:
        described["metrics"] = {}
        described["note"] = f"no ranking metrics: {error}"
    if threshold is not None:
        flagged = scores > threshold
        rates = {"false_positive_rate": labels == 0, "recall": labels == 1}
        described["at_threshold"] = {k: float(flagged[of].mean()) for k, of in rates.items() if of.any()}
        described["at_threshold"]["flagged"] = int(flagged.sum())
    return described


def score_frame(scored: ScoredSamples, names: tuple[str, ...], threshold: float) -> pd.DataFrame:
    """One row a sample: index, name, label (empty where unknown), score, verdict (empty without a threshold)."""
    verdict = np.where(scored.scores > threshold, "anomaly", "normal") if math.isfinite(threshold) else ""
    return pd.DataFrame(
        {
            "index": scored.index,
            "name": [names[i] for i in scored.index],
            "label": pd.Series(scored.labels).where(lambda y: y >= 0).astype("Int64"),
            "score": scored.scores,
            "verdict": verdict,
        }
    )


def _image_reader(detector: AnomalyDetector, name: str) -> Callable[[NDArray[np.int64]], torch.Tensor] | None:
    if detector.data.input_spec.kind != "image":
        return None

    def read(index: NDArray[np.int64]) -> torch.Tensor:
        images = detector.data.test_images(name, index)
        assert images is not None
        return images

    return read


def _not_tested(detector: AnomalyDetector) -> str | None:
    """Why a trained detector has no test results; None when it has."""
    if detector.results:
        return None
    return "no test was run" if detector.data.test_names else "the data have no test samples"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
