"""The experiments that come with the package, and one's own config files, from Python."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from adlightning.benchmark.configuration import override
from adlightning.cli import registry
from adlightning.cli.arguments import config_text
from adlightning.cli.fitting import SEED
from adlightning.cli.parsing import PARSER_MODE, PartsParser, keep_names_as_written
from adlightning.cli.shorter import DEFAULT_EPOCHS
from adlightning.core.detector import AnomalyDetector
from adlightning.data.modules import AnomalyDataModule
from adlightning.files.experiments import find_config
from adlightning.files.plain_yaml import read_yaml
from adlightning.run import check_trainer_options, seeded, shorten_first_phase

_PARTS = ("model", "data", "trainer", "seed_everything", "monitor")


class Experiment(NamedTuple):
    """An experiment, made but not run: `fit(e.detector, e.data, **e.trainer)` runs it.

    Args:
        detector: the model of the config.
        data: its datamodule.
        trainer: its arguments of the Trainer, with `seed`, and `monitor` where it selects by one.
    """

    detector: AnomalyDetector
    data: AnomalyDataModule
    trainer: dict[str, Any]


def experiment(name: str, overrides: Mapping[str, Any] | None = None) -> Experiment:
    """The detector and data of an experiment.

    Args:
        name: `deep_sad/digits`, of the package, or a config file of your own; `adlightning configs` lists names.
        overrides: options as on the command line, `{"model.eta": 2, "data.normal_class": 3}`.

    Raises:
        ValueError: there is no such experiment or option, or a value that is not as it must be.

    Example:
        >>> import adlightning as ad
        >>> e = ad.experiment("deep_sad/digits", {"data.normal_class": 3, "trainer.max_epochs": 2})
        >>> type(e.detector).__name__, e.trainer["max_epochs"]
        ('DeepSAD', 2)
    """
    file = find_config(name)
    config = read_yaml(config_text(name), f"config: {file}")
    if not isinstance(config, dict) or not {"model", "data"} <= config.keys():
        raise ValueError(f"config: {file} must be an experiment, with model and data")
    for key in overrides or {}:
        if str(key).partition(".")[0] not in _PARTS:
            raise ValueError(f"overrides: {key} must begin with model, data or trainer")
    planned = (config.get("trainer") or {}).get("max_epochs", DEFAULT_EPOCHS)
    override(config, overrides)
    check_trainer_options(config.get("trainer") or {})
    registry.import_all()
    keep_names_as_written()
    seed = config.get("seed_everything", SEED)
    seed = SEED if seed is True or seed is None else seed
    parser = PartsParser(parser_mode=PARSER_MODE, exit_on_error=False)
    parser.add_subclass_arguments(AnomalyDetector, "model", required=True)
    parser.add_subclass_arguments(AnomalyDataModule, "data", required=True)
    try:
        parsed = parser.parse_object({"model": config["model"], "data": config["data"]})
    except Exception as error:
        raise ValueError(f"config: {file}: {error}") from error
    with seeded(seed):  # networks that are given ready-made are drawn here
        made = parser.instantiate_classes(parsed)
    trainer = {"max_epochs": DEFAULT_EPOCHS, **(config.get("trainer") or {}), "seed": seed}
    phase = made.model.first_phase()
    if "trainer.max_epochs" in (overrides or {}) and phase and f"model.{phase.argument}" not in (overrides or {}):
        shorten_first_phase(made.model, trainer["max_epochs"], planned)
    if config.get("monitor"):
        trainer["monitor"] = config["monitor"]
    return Experiment(made.model, made.data, trainer)
