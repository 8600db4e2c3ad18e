"""A fit that the command line makes shorter than its first phase: the phase is shortened in proportion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pytorch_lightning.utilities import rank_zero_only

from adlightning.checkpoints.loading import read_checkpoint
from adlightning.cli.arguments import CONFIG
from adlightning.cli.types_in_words import class_at
from adlightning.core.terminal import say
from adlightning.files.plain_yaml import read_yaml

_EPOCHS = "trainer.max_epochs"
DEFAULT_EPOCHS = 1000
"""Lightning's, where nothing says how long to train."""


def shorten_first_phase(options: Any, arguments: Sequence[str]) -> None:
    """Let `--trainer.max_epochs` be shorter than the first phase that a config or a default gives, and say so.

    A fit that goes on keeps the phase that it began with. Where the phase's epochs are given on the command line too,
    they stay, and the fit is refused.

    Args:
        options: of the fit, parsed; changed in place.
        arguments: as given, each config as its text.
    """
    phase = getattr(class_at(options.model.class_path), "first_phase_argument", None)
    epochs = options.trainer.max_epochs
    if phase is None or not _gives(arguments, _EPOCHS) or _gives(arguments, f"model.{phase}") or not epochs:
        return
    given, before = options.model.init_args, options.model.init_args[phase]
    if options.ckpt_path:
        saved = _saved(read_checkpoint(options.ckpt_path)["adlightning"]["hyperparameters"], phase)
        if type(saved) is int and saved < before:
            given[phase] = saved
            _say(f"model.{phase} is {saved}, not {before}, as in the fit that goes on")
    elif 0 < epochs <= before:
        planned = _planned_epochs(arguments)
        given[phase] = min(max(1, round(before * epochs / planned)), epochs - 1) if planned > before else before
        if given[phase] != before:
            _say(
                f"{_EPOCHS}={epochs} is no longer than model.{phase}={before}: model.{phase} is {given[phase]} here, "
                f"in proportion to {before} of {planned} epochs; --model.{phase}=N says otherwise"
            )


def _gives(arguments: Sequence[str], name: str) -> bool:
    """Whether an option of the command line, beside its configs, gives an argument: by name, or within a mapping."""
    part, _, inner = name.partition(".")
    last = inner.rpartition(".")[2]
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key in (f"--{name}", f"--{part}.init_args.{inner}"):
            return True
        if (name.startswith(f"{key[2:]}.") or key == f"--{part}.init_args") and last in value:
            return True
    return False


def _saved(hyperparameters: Any, name: str) -> Any:
    """An argument that a checkpoint holds, by its name with dots; None where there is none."""
    outer, _, inner = name.partition(".")
    found = hyperparameters.get(outer) if isinstance(hyperparameters, Mapping) else None
    return found if not inner or not isinstance(found, Mapping) else _saved(found.get("init_args"), inner)


def _planned_epochs(arguments: Sequence[str]) -> int:
    """How long the configs would train."""
    epochs: Any = None
    for argument in arguments:
        if argument.startswith(f"{CONFIG}="):
            config = read_yaml(argument.partition("=")[2], "config")
            trainer = config.get("trainer") if isinstance(config, Mapping) else None
            epochs = trainer.get("max_epochs", epochs) if isinstance(trainer, Mapping) else epochs
    return epochs if type(epochs) is int and epochs > 0 else DEFAULT_EPOCHS


@rank_zero_only
def _say(text: str) -> None:
    say(text)
