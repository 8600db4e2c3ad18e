"""A Weights & Biases run that says what the run folder says: description, curves, plots, scores, files, checkpoint."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import wandb
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only, rank_zero_warn

from adlightning.callbacks.checkpoints import LastCheckpoint
from adlightning.callbacks.description import score_frame
from adlightning.callbacks.run_folder import RunFolder
from adlightning.callbacks.wandb_mapping import LONGEST_NAME, config_of, group_of, name_of, summary_of, tags_of
from adlightning.core.detector import AnomalyDetector
from adlightning.core.run_names import given_names
from adlightning.core.training_state.callbacks import callbacks_of
from adlightning.files.written_names import load_dumped

_FILES = ("config.yaml", "metrics.json", "scores.csv")
_STEPS = "steps"
"""Before the names of what is recorded of every training step; `steps/step` counts them."""


class WandbReport(pl.Callback):
    """Begin each W&B logger's run once nothing can be refused any more, and send it what the run folder has.

    Until then the loggers are not among the trainer's, which would begin their runs before the data are loaded.

    Args:
        loggers: W&B's.
        run_folder: writes the report, the plots and the scores; it comes before this one among the callbacks.
        goals: which end of a logged metric is better, by the metric's name.
        tests_follow: whether a test comes after a fit where there are test sets.
    """

    def __init__(
        self,
        loggers: Sequence[WandbLogger],
        run_folder: RunFolder,
        goals: Mapping[str, str],
        tests_follow: bool,
    ) -> None:
        self.loggers, self.run_folder, self.goals, self.tests_follow = loggers, run_folder, goals, tests_follow
        self._running: list[WandbLogger] = []  # the loggers, once their runs have begun
        self._given_tags: dict[str, tuple[str, ...]] = {}  # the user's, by a run's id
        self._models: list[WandbLogger] = []  # of whose checkpoints an artifact is wanted
        self._n_rows = 0  # of the curves, sent
        self._sent: set[Path] = set()  # plots

    # ---- before anything is scored ----------------------------------------------------------------------------------

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse what W&B would, and to send a checkpoint where none is kept. Raises ValueError."""
        for logger in self.loggers:
            require_names(logger)
        keeps = any(isinstance(callback, LastCheckpoint) for callback in callbacks_of(trainer))
        if stage == "fit" and not keeps and any(logger._log_model for logger in self.loggers):
            raise ValueError(
                "trainer.logger.log_model needs checkpoints, and none is kept: trainer.enable_checkpointing is false "
                "(a benchmark keeps them with --keep-checkpoints)"
            )

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin; then what the epoch before recorded of its steps, and the learning rates of this one."""
        self._begin(trainer, pl_module)
        self._send_curves(pl_module)
        rates = learning_rates(trainer)
        for logger in self._running if rates else []:
            logger.log_metrics(rates, step=trainer.fit_loop.epoch_loop._batches_that_stepped)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin."""
        if not trainer.sanity_checking:
            self._begin(trainer, pl_module)

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin."""
        self._begin(trainer, pl_module)

    on_predict_epoch_start = on_test_epoch_start

    def _begin(self, trainer: pl.Trainer, detector: pl.LightningModule) -> None:
        """The runs with their names, configurations and metrics. A trial of one batch begins none."""
        assert isinstance(detector, AnomalyDetector)
        if self._running or detector.is_trial:
            return
        self._connect(trainer, detector)
        self._running = list(self.loggers)
        trainer.loggers = [*trainer.loggers, *self._running]

    @rank_zero_only
    def _connect(self, trainer: pl.Trainer, detector: AnomalyDetector) -> None:
        report = self.run_folder.describe(trainer, detector)
        assert trainer.state.fn is not None
        for logger in self.loggers:
            call_by(logger, report, trainer.state.fn.value)
            connect(logger)
            run = logger.experiment
            self._given_tags[run.id] = tuple(run.tags or ())
            logger.log_hyperparams(load_dumped(self.run_folder.config or "{}"))
            self._say(run, report)
            for name, goal in self.goals.items():
                axis: dict[str, Any] = {"step_metric": "trainer/global_step", "step_sync": True}
                run.define_metric(name, summary=f"{goal},last", **axis)
            run.define_metric(f"{_STEPS}/*", step_metric=f"{_STEPS}/step")
            if logger._log_model is True:  # Lightning's artifact knows nothing of the data, nor which one is tested
                logger._log_model = False
                self._models.append(logger)

    # ---- what there is to see ---------------------------------------------------------------------------------------

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """What training left: last steps, plots, report and checkpoint; files as well where no test follows."""
        assert isinstance(pl_module, AnomalyDetector)
        self._begin(trainer, pl_module)  # where no epoch was left to do
        self._send_curves(pl_module)
        self._send_plots()
        self._send_report()
        self._send_checkpoint(trainer)
        if not (self.tests_follow and pl_module.data.test_names):
            self._send_results()

    @rank_zero_only
    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Plots as images, the report as summary, a table of each test set's scores, and the files."""
        assert isinstance(pl_module, AnomalyDetector)
        self._send_plots()
        self._send_report()
        for logger in self._running:
            for name, scored in pl_module.results.items():
                frame = score_frame(scored, pl_module.data.sample_names(name), pl_module)
                with self._staged():
                    logger.log_table(key=f"scores/{name}", dataframe=frame.astype({"label": "float64"}))
        self._send_results()

    @rank_zero_only
    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The files."""
        self._send_results()

    @rank_zero_only
    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """A fit that broke off is just what one wants to see the curves of."""
        self._send_curves(pl_module)
        self._send_plots()

    @rank_zero_only
    def _send_curves(self, detector: pl.LightningModule) -> None:
        """What was recorded of steps, a row each, on an axis of their own."""
        if not self._running or not isinstance(detector, AnomalyDetector):
            return
        rows = detector.curves.rows[self._n_rows :]
        self._n_rows += len(rows)
        for logger in self._running:
            for row in rows:
                logger.experiment.log({f"{_STEPS}/{name}": value for name, value in row.items()})

    @rank_zero_only
    def _send_plots(self) -> None:
        """Every picture that was not sent yet: `plots/roc`."""
        new = sorted(set((self.run_folder.folder / "plots").rglob("*.png")) - self._sent) if self._running else []
        self._sent |= set(new)
        for logger in self._running:
            for path in new:
                key = path.relative_to(self.run_folder.folder).with_suffix("").as_posix()
                logger.log_image(key=key, images=[str(path)])

    @rank_zero_only
    def _send_report(self) -> None:
        """What metrics.json says."""
        for logger in self._running if self.run_folder.report else []:
            logger.experiment.summary.update(summary_of(self.run_folder.report))
            self._say(logger.experiment, self.run_folder.report)

    def _say(self, run: wandb.Run, report: Mapping[str, Any]) -> None:
        """What describes the run; how its checkpoint was selected is known in the end only."""
        run.config.update({"run": config_of(report)}, allow_val_change=True)  # type: ignore[no-untyped-call]
        names = given_names()
        run.tags = (*self._given_tags[run.id], *tags_of(report, names.tags if names else ()))

    @rank_zero_only
    def _send_checkpoint(self, trainer: pl.Trainer) -> None:
        """The one that is tested."""
        best = self.run_folder.best
        last = [callback for callback in callbacks_of(trainer) if isinstance(callback, LastCheckpoint)]
        path = (best.best_model_path if best else "") or next((callback.best_model_path for callback in last), "")
        for logger in self._models if path else []:
            self._send_files(logger, "model", [Path(path)], [Path(path).stem])

    @rank_zero_only
    def _send_results(self) -> None:
        files = [path for name in _FILES if (path := self.run_folder.folder / name).exists()]
        for logger in self._running:
            self._send_files(logger, "results", files)

    def _send_files(self, logger: WandbLogger, kind: str, files: Sequence[Path], aliases: Sequence[str] = ()) -> None:
        """An artifact `KIND-ID` that says which data and which split it comes of."""
        run = logger.experiment
        name = re.sub(r"[^\w.-]", "-", f"{kind}-{run.id}", flags=re.ASCII)[:LONGEST_NAME]  # an id may have spaces
        artifact = wandb.Artifact(name, type=kind, metadata=config_of(self.run_folder.report))
        with self._staged():
            for path in files:
                artifact.add_file(str(path))
            run.log_artifact(artifact, aliases=["latest", *aliases])

    @contextlib.contextmanager
    def _staged(self) -> Iterator[None]:
        """Copies that W&B makes of files lie in the run folder, not in the user's home, unless told otherwise."""
        if os.environ.get("WANDB_DATA_DIR"):
            yield
            return
        names = given_names()
        os.environ["WANDB_DATA_DIR"] = str(names.copies if names else self.run_folder.folder.absolute() / "wandb")
        try:
            yield
        finally:
            del os.environ["WANDB_DATA_DIR"]


_SETTINGS = {"project": "project", "entity": "entity", "id": "run_id", "name": "run_name"}
_SETTINGS |= {"group": "run_group", "job_type": "run_job_type", "tags": "run_tags"}
"""What W&B's settings call the arguments of a logger."""


def require_names(logger: WandbLogger) -> None:
    """Refuse names that W&B would refuse when the run begins. Raises ValueError."""
    for key, setting in _SETTINGS.items():
        given = logger._wandb_init.get(key)
        try:
            wandb.Settings(**({setting: given} if given else {}))
        except (ValueError, wandb.Error) as error:  # pydantic's, or W&B's own
            reasons = [found["msg"] for found in error.errors()] if hasattr(error, "errors") else [str(error)]
            raise ValueError(f"trainer.logger.{key}: W&B refuses {given!r}: {'; '.join(reasons)}") from error


def call_by(logger: WandbLogger, report: Mapping[str, Any], verb: str) -> None:
    """Name the run that the logger will begin, unless the user did, by an argument of the logger or W&B's variables.

    Variables are read here: W&B itself reads them once in a process, whatever the number of its runs.
    """
    names = given_names()
    trial = os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None
    by_default = {
        "name": ("WANDB_NAME", names.name if names else name_of(report, trial)),
        "group": ("WANDB_RUN_GROUP", names.group if names else group_of(report)),
        "job_type": ("WANDB_JOB_TYPE", names.kind if names else "sweep" if trial else verb),
    }
    for key, (variable, ours) in by_default.items():
        logger._wandb_init[key] = logger._wandb_init.get(key) or os.environ.get(variable) or ours[:LONGEST_NAME]


@rank_zero_only
def connect(logger: WandbLogger) -> None:
    """Begin the logger's run: offline, with a warning, where W&B cannot be reached. It tries for a minute or two."""
    try:
        logger.experiment  # noqa: B018  # made when it is first looked at
    except wandb.errors.CommError as error:
        reason = str(error).splitlines()[0]
        rank_zero_warn(
            f"Weights & Biases cannot be reached ({reason}): this run is logged offline. Send it later with "
            "`wandb sync RUN/wandb/offline-run-*`"
        )
        wandb.teardown()  # of the attempt
        os.environ["WANDB_MODE"] = "offline"
        logger.experiment  # noqa: B018


def learning_rates(trainer: pl.Trainer) -> dict[str, float]:
    """The learning rate of each group of weights, by its optimiser: `lr-Adam`, `lr-Adam-1`, `lr-Adam/pg2`.

    Names are those of Lightning's LearningRateMonitor.
    """
    rates: dict[str, float] = {}
    seen: dict[str, int] = {}
    for optimizer in trainer.optimizers:
        kind = type(optimizer).__name__
        number = seen[kind] = seen.get(kind, -1) + 1
        name = f"lr-{kind}" + (f"-{number}" if number else "")
        groups = optimizer.param_groups
        for i, group in enumerate(groups, start=1):
            rates[f"{name}/pg{i}" if len(groups) > 1 else name] = float(group["lr"])
    return rates
