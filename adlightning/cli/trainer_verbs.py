"""The Trainer's verbs (fit, validate, test, predict) on LightningCLI; nothing else knows about argument parsing."""

from __future__ import annotations

import copy
import datetime
from pathlib import Path
from typing import Any

from jsonargparse import set_parsing_settings
from lightning_fabric.plugins import TorchCheckpointIO
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.plugins.environments import SLURMEnvironment  # type: ignore[attr-defined]  # public all the same
from pytorch_lightning.utilities import rank_zero_only

from adlightning.benchmark.code import code_version
from adlightning.benchmark.packed_fit import pack_callbacks
from adlightning.callbacks.checkpoint_places import place_checkpoints
from adlightning.callbacks.checkpoints import LastCheckpoint
from adlightning.callbacks.curves import CurvesFile
from adlightning.callbacks.epoch_lines import EpochLines, shows_bar
from adlightning.callbacks.epochs import EpochsFile
from adlightning.callbacks.latent_entropy import LatentEntropy  # noqa: F401  # found by name on the command line
from adlightning.callbacks.networks import CompileNetworks, MemoryFormat  # noqa: F401  # found by name on the command line
from adlightning.callbacks.run_folder import RunFolder
from adlightning.callbacks.timing import Timing
from adlightning.checkpoints.loading import BEST, LAST, checkpoint_file, load_detector, was_killed_while_saving
from adlightning.checkpoints.stored_config import with_stored_config
from adlightning.checkpoints.writing import AtomicCheckpointIO
from adlightning.cli import registry
from adlightning.cli.arguments import require_class_first
from adlightning.cli.endings import what_is_kept, where_it_stood
from adlightning.cli.fitting import SEED, TRAINER_DEFAULTS, monitors_of, selecting, test_selected
from adlightning.cli.imports import HELP, OPTION
from adlightning.cli.loggers import finished_wandb_run, log_into, loggers_of, stay_offline_without_account
from adlightning.cli.noise import silence_noise
from adlightning.cli.options import check_options, classes_explained, trainer_explained
from adlightning.cli.parsed_once import ParsedBefore, parsed_before
from adlightning.cli.parser import AnomalyParser
from adlightning.cli.parser_messages import explain_interpolation
from adlightning.cli.parsing import PARSER_MODE, keep_names_as_written
from adlightning.cli.run_dirs import RunDirClaim
from adlightning.cli.shorter import shorten_first_phase
from adlightning.cli.summary import print_report
from adlightning.cli.trained import keep_trained_hyperparameters, notes_on_data
from adlightning.core.detector import AnomalyDetector
from adlightning.core.faults import StopOnSigterm, TrainingFault, explained
from adlightning.core.parts import described
from adlightning.core.phases import untrained
from adlightning.core.rescoring import differences
from adlightning.core.stopping import Stopped
from adlightning.core.training_state.callbacks import callbacks_of
from adlightning.core.watchers import LOSS, RANKINGS
from adlightning.data.modules import AnomalyDataModule
from adlightning.files.disk import sweep, user_path
from adlightning.files.written_names import arguments_as_written, dump_yaml, load_dumped

DEFAULT_RUN_DIR = "runs/${now:%Y%m%d-%H%M%S}"


class AnomalyCLI(LightningCLI):
    """LightningCLI with a run folder, checkpoints that carry their configuration, and a test after every fit."""

    model: AnomalyDetector
    datamodule: AnomalyDataModule
    trainer: Trainer

    def __init__(self, verb: str, claim: RunDirClaim, **kwargs: Any) -> None:
        self._verb = verb
        self._claim = claim
        try:
            with explained(self._kept):
                super().__init__(AnomalyDetector, AnomalyDataModule, **kwargs)
        except Stopped as stopped:
            place = where_it_stood(verb, getattr(self, "trainer", None))
            stopped.note = f" {place}. {self._kept()}" if getattr(rank_zero_only, "rank", 0) == 0 else None
            raise

    def _kept(self) -> str:
        return what_is_kept(self._verb, getattr(self, "run_dir", None), getattr(self, "trainer", None))

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # Lightning's is static
        """The verb that was asked for, since a parser for each takes a while, and what is no option of it.

        `weights_only` is not: pickled objects are never loaded.
        """
        ours = {
            "fit": {"train_dataloaders", "val_dataloaders"},
            "validate": {"dataloaders"},
            "test": {"dataloaders", "verbose"},
            "predict": {"dataloaders", "return_predictions"},
        }
        return {self._verb: {"model", "datamodule", "weights_only"} | ours[self._verb]}

    def setup_parser(
        self, add_subcommands: bool, main_kwargs: dict[str, Any], subparser_kwargs: dict[str, Any]
    ) -> None:
        """The verb's parser, made once where it is remembered."""
        before = parsed_before() or ParsedBefore()
        if self._verb not in before.verbs:
            super().setup_parser(add_subcommands, main_kwargs, subparser_kwargs)
            before.verbs[self._verb] = self.parser, self._subcommand_parsers, self._subcommand_method_arguments
        self.parser, self._subcommand_parsers, self._subcommand_method_arguments = before.verbs[self._verb]

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Options beside trainer, model and data."""
        parser.add_argument(
            "--run_dir",
            type=str,
            default=DEFAULT_RUN_DIR,
            help="The run's own folder: new or empty, unless a fit goes on from a checkpoint in it.",
        )
        parser.add_argument("--test_after_fit", type=bool, default=True, help="Test once training has ended.")
        parser.add_argument("--plots", type=bool, default=True, help="Draw plots of the test scores.")
        parser.add_argument(
            "--boundary_features",
            type=list[str | int] | None,
            default=None,
            help="Two features of a table, by name or index, over which the decision boundary is drawn; null draws it "
            "for a table of two features.",
        )
        parser.add_argument(
            "--monitor",
            type=str | None,
            default=None,
            help="Validation metric that selects the checkpoint to test: val/score_mean, or with "
            "data.validation_anomalies a ranking metric such as val/auroc; null takes the last epoch.",
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, and refuse what the parser lets through."""
        super().parse_arguments(parser, args)
        self._arguments: list[str] = args
        require_class_first(args)
        check_options(self.config[self._verb], self._verb == "fit")

    # ---- before training ------------------------------------------------------------------------------------------

    @property
    def options(self) -> Any:
        """The chosen verb's part of the configuration."""
        return self.config[self.subcommand]

    def before_instantiate_classes(self) -> None:
        """Check what needs no data, and claim the run folder."""
        options, fits = self.options, self.subcommand == "fit"
        self.run_dir = run_dir = user_path(options.run_dir)
        if fits and not options.ckpt_path and was_killed_while_saving(run_dir):
            options.ckpt_path = "last"  # a job script that looks for last.ckpt, which older versions took away first
        goes_on = by_name = fits and options.ckpt_path == "last"
        if by_name and not run_dir.is_dir():
            raise ValueError(
                f"run_dir must be given with ckpt_path=last, the run that goes on: --run_dir=RUN; there is no {run_dir}"
            )
        if options.ckpt_path and not by_name:
            options.ckpt_path = str(checkpoint_file(options.ckpt_path, prefer="last" if fits else "best"))
            goes_on = fits and Path(options.ckpt_path).absolute().parent == run_dir.absolute() / "checkpoints"
        if getattr(rank_zero_only, "rank", 0) == 0:  # other ranks start when the first one has begun to write
            self._claim.take(run_dir, goes_on)  # before any checkpoint in it is read
            sweep(run_dir)
        if by_name:
            options.ckpt_path = str(checkpoint_file(run_dir, prefer="last"))
        if fits:
            shorten_first_phase(options, self._arguments)
        self._ignored = keep_trained_hyperparameters(options, refuse=fits) if options.ckpt_path else []
        options.trainer.default_root_dir = str(run_dir)
        log_into(run_dir, options.trainer.logger)
        stay_offline_without_account(options.trainer.logger)

    def instantiate_classes(self) -> None:
        """Data, detector and Trainer; what cannot be made is said in a message."""
        with classes_explained():
            super().instantiate_classes()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The Trainer, with this run's callbacks and loggers."""
        options, fits = self.options, self.subcommand == "fit"
        if not fits and options.ckpt_path:
            trained = load_detector(options.ckpt_path)  # or a message, before anything is written
            self.model.configure_for(trained.built_for)  # other data are then refused by what it was trained on
            self.model.rescored = sorted(differences(described(trained.arguments), described(self.model.arguments)))
        self._dump_config()
        if fits:
            self.config_dump["ckpt_path"] = None  # where a run went on from is no part of what it trained
        config = dump_yaml(self.config_dump)
        self.model.run_config = config
        timing = Timing()
        loggers, to_wandb = loggers_of(self.config_init[self.subcommand].trainer.logger, self.run_dir)
        selected = options.monitor and (fits or Path(options.ckpt_path or "").name == BEST)
        selection = self._selection(options.monitor) if selected else "none"
        self.best = selecting(options.monitor, self.run_dir / "checkpoints", type(self.model)) if fits else None
        self.run_folder = RunFolder(
            self.run_dir,
            config,
            selection,
            timing,
            options.plots,
            options.boundary_features,
            [*self._ignored, *notes_on_data(options)] if options.ckpt_path and not fits else (),
            self.best,
            code_version(self.config_dump) if to_wandb else None,
        )
        callbacks: list[Callback] = [StopOnSigterm(), timing, self.run_folder]
        epochs = EpochsFile(self.run_dir, options.plots)
        callbacks += [CurvesFile(self.run_dir, options.plots), epochs]
        kwargs["enable_progress_bar"] = shows_bar(options.trainer.enable_progress_bar, options.trainer.callbacks)
        if not kwargs["enable_progress_bar"]:
            callbacks.append(EpochLines(epochs))
        if to_wandb:
            from adlightning.callbacks.wandb_report import WandbReport

            goals = {LOSS: "min", **monitors_of(type(self.model))}
            callbacks.append(WandbReport(to_wandb, self.run_folder, goals, fits and options.test_after_fit))
        if fits and options.trainer.enable_checkpointing is not False:
            callbacks += [LastCheckpoint(self.run_dir / "checkpoints"), *filter(None, [self.best])]
        self._extra_callbacks = [*callbacks, *pack_callbacks()]
        if not options.trainer.plugins and SLURMEnvironment.detect():
            with trainer_explained(options.trainer):  # of a job whose variables do not fit
                # a requeued job would leave a checkpoint of its own, which Lightning then tests instead of the last one
                kwargs["plugins"] = [SLURMEnvironment(auto_requeue=False)]
        trainer = super().instantiate_trainer(logger=loggers, **kwargs)
        place_checkpoints(callbacks_of(trainer), self.run_dir)
        if type(trainer.strategy.checkpoint_io) is not TorchCheckpointIO:
            raise ValueError("trainer.plugins must leave how checkpoints are written to adlightning")
        trainer.strategy.checkpoint_io = AtomicCheckpointIO(self.run_dir)
        return trainer

    def _dump_config(self) -> None:
        """As Lightning's, without a second check of what was parsed, which takes longer than the rest."""
        if not hasattr(self, "config_dump"):
            options = {"skip_unset": False, "skip_link_targets": False, "skip_validation": True}
            text = self.parser.dump(self.config, "yaml", **options)
            self.config_dump = load_dumped(text)[self.subcommand]

    def _parse_ckpt_path(self) -> None:
        """Not Lightning's way: a checkpoint is read, checked and compared in `before_instantiate_classes`."""

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        with trainer_explained(self.options.trainer):
            return super()._instantiate_trainer(config, [*callbacks, *self._extra_callbacks])

    def _selection(self, monitor: str) -> str:
        """What a row says of a checkpoint that this metric chose; by anomalies of a tested kind it is an oracle's."""
        by_oracle = monitor in RANKINGS and self.datamodule.validates_on_tested_kinds
        return "oracle-ood" if by_oracle else "val"

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        kwargs = super()._prepare_subcommand_kwargs(subcommand)
        if subcommand == "test":
            kwargs["verbose"] = False  # the report has the metrics, with their intervals
        return {**kwargs, "weights_only": True}

    # ---- the verbs' endings ---------------------------------------------------------------------------------------

    def after_fit(self) -> None:
        """Test what was trained, unless told not to or nothing is there to test; say what came of it."""
        if self.trainer.interrupted:
            return
        reason = untrained(self.model)
        if reason and not self.model.is_trial:
            there = (self.run_dir / "checkpoints" / LAST).exists()
            how = f": go on with --run_dir {self.run_dir} --ckpt_path last, and let it train longer" if there else ""
            raise TrainingFault(f"{reason}. Nothing was tested; {self.run_dir} says so{how}")
        if self.options.test_after_fit and self.datamodule.test_names:
            test_selected(self.trainer, self.model, self.datamodule, self.best)
        print_report(self.run_folder)

    def after_test(self) -> None:
        """Print the metrics."""
        print_report(self.run_folder)

    def after_predict(self) -> None:
        """Say where the scores are."""
        print_report(self.run_folder)


def run(verb: str, arguments: list[str]) -> AnomalyCLI:
    """Parse and run one of the Trainer's verbs; a checkpoint's own configuration comes first, arguments override it.

    Args:
        verb: the verb.
        arguments: as :func:`adlightning.cli.arguments.prepared` leaves them.
    """
    silence_noise()
    registry.import_all()
    keep_names_as_written()
    set_parsing_settings(config_read_mode_fsspec_enabled=False)  # Lightning lets a name fetch from anywhere
    OmegaConf.register_resolver("now", _now, replace=True, use_cache=True)
    with RunDirClaim() as claim, finished_wandb_run():
        if verb != "fit":
            arguments = with_stored_config(verb, arguments, _now("%Y%m%d-%H%M%S"))
        return _cli(verb, arguments, claim)


def _cli(verb: str, arguments: list[str], claim: RunDirClaim) -> AnomalyCLI:
    try:
        return AnomalyCLI(
            verb,
            claim,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            save_config_callback=None,
            seed_everything_default=SEED,
            parser_class=AnomalyParser,
            parser_kwargs={
                "prog": "adlightning",
                "parser_mode": PARSER_MODE,
                verb: {
                    "usage": f"adlightning {verb} --config FILE [options]",  # not the hundred options at every typo
                    "epilog": f"{OPTION} MODULE: {HELP}",
                },
            },
            trainer_defaults=copy.deepcopy(TRAINER_DEFAULTS),
            args=[verb, *arguments_as_written(arguments)],
        )
    except OmegaConfBaseException as error:
        raise ValueError(explain_interpolation(error, verb)) from error


def _now(form: str) -> str:
    return datetime.datetime.now().strftime(form)
