"""The Trainer's verbs (fit, validate, test, predict) on LightningCLI; nothing else knows about argument parsing."""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import set_parsing_settings
from omegaconf import OmegaConf
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger
from pytorch_lightning.utilities import rank_zero_info, rank_zero_only, rank_zero_warn

from adlightning.callbacks.checkpoints import BestCheckpoint, LastCheckpoint
from adlightning.callbacks.guard import LossGuard
from adlightning.callbacks.run_folder import RunFolder
from adlightning.callbacks.timing import Timing
from adlightning.checkpoint import checkpoint_file, read_checkpoint
from adlightning.data import own  # noqa: F401  # makes the datamodules known
from adlightning.data.modules import AnomalyDataModule
from adlightning.detector import AnomalyDetector
from adlightning.report import print_report

DEFAULT_RUN_DIR = "runs/${now:%Y%m%d-%H%M%S}"


class AnomalyCLI(LightningCLI):
    """LightningCLI with a run folder, checkpoints that carry their configuration, and a test after every fit."""

    model: AnomalyDetector
    datamodule: AnomalyDataModule
    trainer: Trainer

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The Trainer's verbs; `weights_only` is not an option: pickled objects are never loaded."""
        common = {"model", "datamodule", "weights_only"}
        loaders = {"dataloaders"}
        return {
            "fit": common | {"train_dataloaders", "val_dataloaders"},
            "validate": common | loaders,
            "test": common | loaders | {"verbose"},
            "predict": common | loaders | {"return_predictions"},
        }

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Options beside trainer, model and data."""
        parser.add_argument(
            "--run_dir",
            type=str,
            default=DEFAULT_RUN_DIR,
            help="The run's own folder: new or empty, unless a fit goes on from a checkpoint in it.",
        )
        parser.add_argument("--test_after_fit", type=bool, default=True, help="Test once training has ended.")
        parser.add_argument(
            "--monitor",
            type=str | None,
            default=None,
            help="Validation metric that selects the checkpoint to test, such as val/auroc (needs "
            "data.validation_anomalies) or val/score_mean; null takes the last epoch.",
        )
        parser.add_argument(
            "--monitor_mode", type=Literal["min", "max"], default="max", help="Whether a larger metric is better."
        )

    # ---- before training ------------------------------------------------------------------------------------------

    @property
    def options(self) -> Any:
        """The chosen verb's part of the configuration."""
        return self.config[self.subcommand]

    def before_instantiate_classes(self) -> None:
        """Check the run folder, and put loggers and checkpoints into it."""
        options = self.options
        self.run_dir = Path(options.run_dir)
        if getattr(rank_zero_only, "rank", 0) == 0:  # other ranks start when the first one has begun to write
            check_run_dir(self.run_dir, options.ckpt_path if self.subcommand == "fit" else None)
        options.trainer.default_root_dir = str(self.run_dir)
        _log_into(self.run_dir, options.trainer.logger)
        if self.subcommand != "fit" and options.ckpt_path:
            _keep_trained_hyperparameters(options)
        if not os.environ.get("WANDB_MODE") and not _has_wandb_account():
            os.environ["WANDB_MODE"] = "offline"  # a logger without an account would stop and ask

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The Trainer, with this run's callbacks and loggers."""
        options = self.options
        self._dump_config()
        config = yaml.safe_dump(self.config_dump, sort_keys=False)
        self.model.run_config = config
        timing = Timing()
        selected = options.monitor and (self.subcommand == "fit" or Path(options.ckpt_path or "").name == "best.ckpt")
        self.run_folder = RunFolder(self.run_dir, config, "val" if selected else "none", timing)
        callbacks: list[Callback] = [timing, LossGuard(), self.run_folder]
        loggers = _loggers(self.config_init[self.subcommand].trainer.logger, self.run_dir)
        if any(isinstance(logger, WandbLogger) for logger in loggers):
            from adlightning.callbacks.wandb_report import WandbReport

            callbacks.append(WandbReport(self.run_folder))
        self.best: BestCheckpoint | None = None
        if self.subcommand == "fit" and options.trainer.enable_checkpointing is not False:
            callbacks.append(LastCheckpoint(self.run_dir / "checkpoints"))
            if options.monitor:
                self.best = BestCheckpoint(self.run_dir / "checkpoints", options.monitor, options.monitor_mode)
                callbacks.append(self.best)
        self._extra_callbacks = callbacks
        return super().instantiate_trainer(logger=loggers, **kwargs)

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        return super()._instantiate_trainer(config, [*callbacks, *self._extra_callbacks])

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        kwargs = super()._prepare_subcommand_kwargs(subcommand)
        for logger in self.trainer.loggers:
            logger.log_hyperparams(self.config_dump)
        if subcommand == "test":
            kwargs["verbose"] = False  # the report has the metrics, with their intervals
        return {**kwargs, "weights_only": True}

    # ---- the verbs' endings ---------------------------------------------------------------------------------------

    def after_fit(self) -> None:
        """Test what was trained, unless told not to or nothing is there to test."""
        if self.trainer.interrupted or not self.options.test_after_fit:
            return
        if not self.datamodule.test_names:
            rank_zero_info("Nothing to test: the data have no test part.")
            print_report(self.run_folder)
            return
        best = self.best.best_model_path if self.best else ""
        self.trainer.test(
            self.model, datamodule=self.datamodule, ckpt_path=best or None, weights_only=True, verbose=False
        )
        print_report(self.run_folder)

    def after_test(self) -> None:
        """Print the metrics."""
        print_report(self.run_folder)

    def after_predict(self) -> None:
        """Say where the scores are."""
        print_report(self.run_folder)


def run(verb: str, arguments: list[str]) -> AnomalyCLI:
    """Parse and run one of the Trainer's verbs; a checkpoint's own configuration comes first, arguments override it."""
    _silence_noise()
    set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
    OmegaConf.register_resolver("now", _now, replace=True, use_cache=True)
    with tempfile.TemporaryDirectory() as folder, _finished_wandb_run():
        if verb != "fit":
            arguments = _with_checkpoint_config(verb, arguments, Path(folder))
        return AnomalyCLI(
            AnomalyDetector,
            AnomalyDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            save_config_callback=None,
            seed_everything_default=0,
            parser_kwargs={
                "prog": "adlightning",
                "parser_mode": "omegaconf+",
                verb: {"usage": f"adlightning {verb} --config FILE [options]"},  # not the hundred options at every typo
            },
            trainer_defaults={"num_sanity_val_steps": 0, "use_distributed_sampler": False, "callbacks": []},
            args=[verb, *arguments],
        )


@contextlib.contextmanager
def _finished_wandb_run() -> Iterator[None]:
    """End the W&B run that a logger began, if any, so that all of it is written and the next one is its own."""
    failed = True
    try:
        yield
        failed = False
    finally:
        if "wandb" in sys.modules:
            sys.modules["wandb"].finish(exit_code=int(failed))


def _silence_noise() -> None:
    """Messages that say nothing about a run: advertisements, the libraries' own deprecations, what is meant so here."""
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(
        lambda record: "Tip:" not in record.getMessage()
    )
    for message in (
        ".*args parameter is intended to run from within Python.*",
        ".*isinstance\\(treespec, LeafSpec\\).*",
        ".*is smaller than the logging interval.*",
        ".*does not have many workers.*",
        ".*callbacks used to create the checkpoint need to be provided.*",
    ):
        warnings.filterwarnings("ignore", message=message)


def check_run_dir(run_dir: Path, ckpt_path: str | None = None) -> None:
    """Raise ValueError when the run folder cannot be made, or holds something that this run does not go on from."""
    parent = next(p for p in (run_dir, *run_dir.absolute().parents) if p.exists())
    if not parent.is_dir():
        raise ValueError(f"run_dir: {run_dir} cannot be made, {parent} is a file")
    if not os.access(parent, os.W_OK):
        raise ValueError(f"run_dir: {run_dir} cannot be written, no permission for {parent}")
    resumes = ckpt_path is not None and (
        ckpt_path in ("last", "hpc") or run_dir.absolute() in Path(ckpt_path).absolute().parents
    )
    if run_dir.is_dir() and any(run_dir.iterdir()) and not resumes:
        raise ValueError(
            f"run_dir: {run_dir} is not empty and nothing is overwritten: give another --run_dir, or go on from it "
            f"with --ckpt_path={run_dir}/checkpoints/last.ckpt"
        )


def _now(form: str) -> str:
    return datetime.datetime.now().strftime(form)


def _has_wandb_account() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    netrc = Path(os.environ.get("NETRC", Path.home() / ".netrc"))
    return netrc.is_file() and "wandb" in netrc.read_text(errors="replace")


def _log_into(run_dir: Path, loggers: Any) -> None:
    """Let loggers that name no folder of their own write into the run folder."""
    for logger in loggers if isinstance(loggers, list) else [loggers]:
        arguments = getattr(logger, "init_args", {})
        if arguments and arguments.get("save_dir", run_dir) in (None, "."):
            arguments["save_dir"] = str(run_dir)


def _loggers(given: Any, run_dir: Path) -> list[Logger]:
    """The loggers that were asked for and, always, a CSV one in the run folder."""
    loggers = given if isinstance(given, list) else [given]
    chosen = [logger for logger in loggers if isinstance(logger, Logger)]
    if any(isinstance(logger, CSVLogger) for logger in chosen):
        return chosen
    return [*chosen, CSVLogger(run_dir, name="logs")]


def _argument(arguments: list[str], name: str) -> str | None:
    """The last value of `--name VALUE` or `--name=VALUE`."""
    value = None
    for position, argument in enumerate(arguments):
        if argument == name and position + 1 < len(arguments):
            value = arguments[position + 1]
        elif argument.startswith(f"{name}="):
            value = argument.partition("=")[2]
    return value


def _with_checkpoint_config(verb: str, arguments: list[str], folder: Path) -> list[str]:
    """Put the checkpoint's own configuration first, so that a checkpoint alone is enough."""
    path = _argument(arguments, "--ckpt_path")
    if path is None:
        if {"-h", "--help", "--print_config"} & {argument.partition("=")[0] for argument in arguments}:
            return arguments
        raise ValueError(f"ckpt_path is needed: {verb} scores with a trained detector (a .ckpt file or a run folder)")
    file = checkpoint_file(path)
    config = read_checkpoint(file)["adlightning"]["config"]
    extra = [f"--ckpt_path={file}"]
    if _argument(arguments, "--run_dir") is None:
        run = file.parent.parent if file.parent.name == "checkpoints" else file.parent
        extra.append(f"--run_dir={run}/{verb}-{_now('%Y%m%d-%H%M%S')}")
    if config is not None:
        keys = ("seed_everything", "monitor", "monitor_mode", "trainer", "model", "data")
        stored = {key: value for key, value in yaml.safe_load(config).items() if key in keys}
        stored["trainer"] = {k: v for k, v in stored.get("trainer", {}).items() if k in ("precision",)}
        (folder / "checkpoint.yaml").write_text(yaml.safe_dump(stored), encoding="utf-8")
        arguments = ["--config", str(folder / "checkpoint.yaml"), *arguments]
    elif _argument(arguments, "--config") is None and _argument(arguments, "-c") is None:
        raise ValueError(f"ckpt_path: {file} was not made by the command line and names no data: give a --config")
    return [*arguments, *extra]


def _keep_trained_hyperparameters(options: Any) -> None:
    """A trained detector's arguments are the checkpoint's; warn where the command line says otherwise."""
    saved = read_checkpoint(options.ckpt_path)["adlightning"]
    given = options.model.init_args
    name = options.model.class_path.rpartition(".")[2]
    if name != saved["class"]:
        raise ValueError(f"ckpt_path: {options.ckpt_path} holds a {saved['class']}, not a {name}")
    for key, value in saved["hyperparameters"].items():
        if (list(given[key]) if isinstance(given[key], (list, tuple)) else given[key]) != value:
            rank_zero_warn(f"model.{key}={given[key]} is ignored: the checkpoint was trained with {value}")
            given[key] = value
