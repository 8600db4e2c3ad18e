"""A fit from Python, and what came of it."""

from __future__ import annotations

import contextlib
import html
import inspect
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from pytorch_lightning import Callback, Trainer, seed_everything
from pytorch_lightning.utilities.seed import isolate_rng
from torch.utils.data import DataLoader, Dataset

from adlightning.callbacks.checkpoints import LastCheckpoint
from adlightning.callbacks.curves import CurvesFile
from adlightning.callbacks.description import describe_run, test_frame
from adlightning.callbacks.epochs import EpochsFile
from adlightning.callbacks.pictures import write_fit_pictures, write_test_pictures
from adlightning.callbacks.plots import kept_as_figures
from adlightning.callbacks.run_folder import RunFolder
from adlightning.callbacks.timing import Timing
from adlightning.checkpoints.writing import AtomicCheckpointIO
from adlightning.cli.fitting import SEED, TRAINER_DEFAULTS, monitors_of, selecting, test_selected
from adlightning.cli.noise import silence_noise
from adlightning.cli.run_dirs import RunDirClaim
from adlightning.cli.shorter import DEFAULT_EPOCHS
from adlightning.core.detector import AnomalyDetector
from adlightning.core.faults import TrainingFault
from adlightning.core.messages import nearest
from adlightning.core.phases import untrained
from adlightning.data.data_sets import arrays_of
from adlightning.data.modules import AnomalyDataModule
from adlightning.files.disk import require_new, user_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Run:
    """What came of a fit: the detector, its scores of the test samples, and their metrics.

    Args:
        trainer: that fitted and tested the detector, with a datamodule.
        selection: how the weights were chosen: `none` (the last epoch's) or `val` (by a validation metric).
        seconds: of the fit and the test.

    Raises:
        ValueError: a trainer that has fitted and tested nothing of ours.
    """

    def __init__(self, trainer: Trainer, selection: str = "none", seconds: Mapping[str, float] | None = None) -> None:
        detector = trainer.lightning_module
        if not isinstance(detector, AnomalyDetector):
            raise ValueError("trainer must have fitted or tested an AnomalyDetector, it has none")
        self.trainer = trainer
        self.detector = detector
        self.data = detector.data
        self.report: dict[str, Any] = describe_run(trainer, detector, selection, (), seconds or {})
        """What `metrics.json` of a run folder says."""

    @property
    def metrics(self) -> dict[str, Any]:
        """Ranking metrics of the test set by name, `metrics["auroc"]`; of several test sets a mapping for each.

        Empty where nothing was tested, or where the test samples have labels of one kind only.
        """
        values = {
            name: {key: entry["value"] for key, entry in test["metrics"].items()}
            for name, test in self.report["test_sets"].items()
        }
        return next(iter(values.values())) if len(values) == 1 else values

    @property
    def scores(self) -> pd.DataFrame:
        """A row for each test sample: index, name, label, score, p_value, verdict, test_set; as in `scores.csv`."""
        frame = test_frame(self.detector)
        return pd.DataFrame() if frame is None else frame.reset_index(drop=True)

    def plots(self) -> dict[str, Figure]:
        """Pictures of the test, or of what the threshold was fitted to, as figures by name: `roc`, `scores`, ...

        A notebook shows each. The names are those of the files in a run folder's `plots`.
        """
        with kept_as_figures() as figures:
            if self.detector.results:
                write_test_pictures(Path(), self.detector)
            else:
                write_fit_pictures(Path(), self.detector)
        _let_notebooks_show_figures()
        return figures

    def save(self, path: str | Path) -> Path:
        """Write the detector as a checkpoint, which `load_detector` and the verbs take; the path.

        Args:
            path: a file that does not exist yet.

        Raises:
            ValueError: there is one already, or it cannot be written.
        """
        file = user_path(path)
        require_new(file)
        try:
            self.trainer.save_checkpoint(file, weights_only=True)
        except OSError as error:
            raise ValueError(f"path: {file} cannot be written: {error.strerror}") from error
        return file

    def __repr__(self) -> str:
        head = f"{self.report['detector']} on {self.report['data']}"
        lines = [
            f"{name}: " + ", ".join(f"{key} {entry['value']:.4f}" for key, entry in test["metrics"].items())
            for name, test in self.report["test_sets"].items()
        ]
        return "\n".join([head, *(lines or [f"nothing was tested: {self.report['not_tested']}"])])

    def _repr_html_(self) -> str:
        """A table of the metrics, which a notebook shows."""
        rows = [
            f"<tr><td>{html.escape(name)}</td><td>{html.escape(key)}</td><td>{entry['value']:.4f}</td>"
            f"<td>{entry['interval'][0]:.4f} to {entry['interval'][1]:.4f}</td></tr>"
            for name, test in self.report["test_sets"].items()
            for key, entry in test["metrics"].items()
        ]
        head = html.escape(f"{self.report['detector']} on {self.report['data']}")
        if not rows:
            return f"<p>{head}: no metrics</p>"
        names = "".join(f"<th>{name}</th>" for name in ("test set", "metric", "value", "95 % interval"))
        return f"<table><caption>{head}</caption><tr>{names}</tr>{''.join(rows)}</table>"


def fit(
    detector: AnomalyDetector,
    data: AnomalyDataModule | DataLoader[Any] | Dataset[Any],
    max_epochs: int = 50,
    monitor: str | None = None,
    run_dir: str | Path | None = None,
    seed: int = SEED,
    progress: bool = True,
    **trainer_options: Any,
) -> Run:
    """Train a detector, then test it where the data have a test part.

    The caller's random states, and the data object, are as before after it. Nothing is written to disk unless
    `run_dir` is given. A method with a first phase (`pretraining.epochs`) has its epochs within `max_epochs`, and a
    shorter one, with a warning, where they would leave none; an estimator ends after one epoch.

    Args:
        detector: what is trained; a new one.
        data: a datamodule; or a data set, or a DataLoader of one, whose items are `(x, known)` with known +1 normal, 0
            not labelled, -1 anomaly, or `x` alone.
        max_epochs: passes over the training samples.
        monitor: validation metric that selects the weights to test, `val/auroc`; None takes the last epoch's.
        run_dir: new or empty folder for checkpoints, metrics, scores and plots, as the verb `fit` leaves it.
        seed: of weights, split and batches.
        progress: whether to show a progress bar and Lightning's remarks.
        trainer_options: further arguments of Lightning's `Trainer`: `accelerator`, `devices`, `precision`, `callbacks`.

    Raises:
        ValueError: an argument outside its range, or data that do not suit the detector.
        TrainingFault: training failed, or ended before there was a detector.

    Example:
        >>> import adlightning as ad
        >>> run = ad.fit(ad.NearestNeighbor(), ad.OneVsAll(ad.Digits(), normal_class=3), progress=False)
        >>> run.metrics["auroc"] > 0.9
        True
    """
    _check(detector, max_epochs, monitor, trainer_options)
    silence_noise()
    shorten_first_phase(detector, max_epochs)
    datamodule = (data if isinstance(data, AnomalyDataModule) else arrays_of(data)).with_seed(seed)
    timing = Timing()
    with seeded(seed), _quiet(not progress), _folder(run_dir, monitor) as folder, RunDirClaim() as claim:
        best = selecting(monitor, folder / "checkpoints", type(detector)) if folder is not None else None
        given = trainer_options.pop("callbacks", None) or []
        callbacks: list[Callback] = [timing, *([given] if isinstance(given, Callback) else given)]
        if run_dir is not None and folder is not None:
            claim.take(folder, goes_on=False)
            selection = "val" if monitor else "none"
            callbacks += [RunFolder(folder, None, selection, timing, best=best), CurvesFile(folder), EpochsFile(folder)]
            callbacks.append(LastCheckpoint(folder / "checkpoints"))
        callbacks += [best] if best is not None else []
        options: dict[str, Any] = {
            **TRAINER_DEFAULTS,
            "logger": False,
            "enable_checkpointing": folder is not None,
            "enable_progress_bar": progress,
            "enable_model_summary": False,
            "default_root_dir": folder,
        }
        trainer = Trainer(**options | trainer_options | {"max_epochs": max_epochs, "callbacks": callbacks})
        plain_io = trainer.strategy.checkpoint_io
        if folder is not None:
            trainer.strategy.checkpoint_io = AtomicCheckpointIO(folder)
        try:
            trainer.fit(detector, datamodule=datamodule)
        except SystemExit as ended:  # what Lightning makes of Ctrl-C
            if trainer.interrupted:
                raise KeyboardInterrupt from ended
            raise
        if reason := untrained(detector):
            raise TrainingFault(f"{reason}. Nothing was tested")
        if datamodule.test_names:
            test_selected(trainer, detector, datamodule, best)
        trainer.strategy.checkpoint_io = plain_io  # `Run.save` writes where it is told to
        chosen = best is not None and bool(best.best_model_path)
        return Run(trainer, "val" if chosen else "none", timing.seconds)


def _let_notebooks_show_figures() -> None:
    """As pyplot does when it is imported; these figures are made without it."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None:
        from IPython.core.pylabtools import select_figure_formats

        select_figure_formats(shell, {"png"})  # type: ignore[no-untyped-call]


def _check(detector: AnomalyDetector, max_epochs: int, monitor: str | None, trainer_options: Mapping[str, Any]) -> None:
    if not isinstance(detector, AnomalyDetector):
        raise ValueError(f"detector must be an AnomalyDetector, such as ad.DeepSAD(), got a {type(detector).__name__}")
    if detector.input_spec is not None:
        name = type(detector).__name__
        raise ValueError(f"detector must be a new {name}, this one is trained already; Trainer.fit goes on with it")
    if type(max_epochs) is not int or max_epochs < 1:
        raise ValueError(f"max_epochs must be a whole number and at least 1, got {max_epochs!r}")
    if monitor is not None and monitor not in (known := monitors_of(type(detector))):
        raise ValueError(f"monitor must be one of {', '.join(known)}, got {monitor!r}")
    check_trainer_options(trainer_options)


def check_trainer_options(trainer_options: Mapping[str, Any]) -> None:
    """Refuse what Lightning's Trainer has no argument for. Raises ValueError."""
    known_options = list(inspect.signature(Trainer).parameters)
    for name in trainer_options:
        if name not in known_options:
            near = nearest(name, known_options)
            hint = f"; nearest: {', '.join(near)}" if near else ""
            raise ValueError(f"fit and Lightning's Trainer have no argument {name}{hint}")


def shorten_first_phase(detector: AnomalyDetector, max_epochs: int, planned: int = DEFAULT_EPOCHS) -> None:
    """Let a fit be shorter than its first phase, which then has its share of the epochs, as on the command line.

    Args:
        detector: changed in place, with a warning.
        max_epochs: of the fit.
        planned: epochs of the fit that the first phase is meant for.
    """
    phase = detector.first_phase()
    if phase is None or not 0 < max_epochs <= phase.epochs:
        return
    share = phase.epochs / max(planned, phase.epochs + 1)
    epochs = min(max(1, round(share * max_epochs)), max_epochs - 1)
    name, _, inner = phase.argument.partition(".")
    value = replace(getattr(detector, name), **{inner: epochs}) if inner else epochs
    setattr(detector, name, value)
    detector.arguments[name] = value
    warnings.warn(
        f"max_epochs={max_epochs} is no longer than {phase.argument}={phase.epochs}: {phase.argument} is {epochs} here",
        stacklevel=3,
    )


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Everything within draws by this seed; after it the caller's own draws go on as if nothing had been drawn."""
    before = os.environ.get("PL_GLOBAL_SEED")
    with isolate_rng():
        seed_everything(seed, verbose=False)
        try:
            yield
        finally:
            os.environ.pop("PL_GLOBAL_SEED", None)
            if before is not None:
                os.environ["PL_GLOBAL_SEED"] = before


@contextlib.contextmanager
def _quiet(quiet: bool) -> Iterator[None]:
    """Without Lightning's remarks on devices and checkpoints; its warnings stay."""
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.WARNING if quiet else level)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def _folder(run_dir: str | Path | None, monitor: str | None) -> Iterator[Path | None]:
    """The run folder; without one a temporary folder where selected weights have to be kept somewhere."""
    if run_dir is not None:
        yield user_path(run_dir)
    elif monitor is None:
        yield None
    else:
        with tempfile.TemporaryDirectory(prefix="adlightning-") as folder:
            yield Path(folder)
