"""A checkpoint's own configuration: how it becomes the start of a command line, and what of it is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from adlightning.checkpoints.loading import checkpoint_file, read_checkpoint
from adlightning.core.detector import AnomalyDetector
from adlightning.core.parts import Part, known_class
from adlightning.core.saved_arguments import declared
from adlightning.data.limited_negatives import CloseNegatives
from adlightning.data.modules import AnomalyDataModule
from adlightning.data.sources.base import Source
from adlightning.files.plain_yaml import read_yaml
from adlightning.files.written_names import dump_yaml

HELP_OPTIONS = {"-h", "--help", "--print_config", "--model.help", "--data.help"}

_DATA = (AnomalyDataModule, Source, CloseNegatives)
_TRUSTED: tuple[type, ...] = (AnomalyDetector, *_DATA, nn.Module, Optimizer, LRScheduler, Part)
"""What a class that is known already may be; nothing is imported to see."""


def with_stored_config(verb: str, arguments: list[str], now: str) -> list[str]:
    """Arguments of validate, test or predict with the checkpoint's own configuration first: it alone is enough.

    Args:
        verb: the verb.
        arguments: as given; what they say of the data beats the stored configuration.
        now: names the run folder, inside the trained run's, where none is given.

    Raises:
        ValueError: no checkpoint, one that is broken or hostile, or one without a configuration and no `--config`.
    """
    path = argument(arguments, "--ckpt_path")
    if path is None:
        if HELP_OPTIONS & {given.partition("=")[0] for given in arguments}:
            return arguments
        raise ValueError(f"ckpt_path is needed: {verb} scores with a trained detector (a .ckpt file or a run folder)")
    file = checkpoint_file(path)
    checkpoint = read_checkpoint(file)
    saved = checkpoint["adlightning"]
    extra = [f"--ckpt_path={file}"]
    if argument(arguments, "--run_dir") is None:
        run = file.parent.parent if file.parent.name == "checkpoints" else file.parent
        extra.append(f"--run_dir={run}/{verb}-{now}")
    if saved["config"] is None:
        if argument(arguments, "--config") is None:
            raise ValueError(f"ckpt_path: {file} was not made by the command line and names no data: give a --config")
        return [*arguments, *extra]
    config = read_yaml(saved["config"], f"ckpt_path: the configuration in {file}")
    stored = trusted_part(config, arguments, file)
    return [f"--config={dump_yaml(stored)}", *arguments, *extra]


def trusted_part(config: Any, arguments: list[str], file: Path) -> dict[str, Any]:
    """Model, data, seed and precision of a stored configuration; a checkpoint may come from anyone.

    Raises:
        ValueError: it names a class that is not a known detector, datamodule or source (and is not named on the
            command line either), has text where a class belongs, or holds an interpolation.
    """
    if not isinstance(config, dict):
        raise ValueError(f"ckpt_path: the configuration in {file} is not one: refused")
    kept = {key: config[key] for key in ("seed_everything", "monitor", "model", "data") if key in config}
    trainer = config.get("trainer")
    _drop_training_only(kept.get("data"))
    kept["trainer"] = {"precision": trainer.get("precision") if isinstance(trainer, dict) else None}
    _check(kept, arguments, file)
    for key in ("model", "data"):
        _refuse_text(kept.get(key), file)
    return kept


def _drop_training_only(data: Any) -> None:
    """What changes training batches may be the user's own classes, and nothing that is scored sees it."""
    if isinstance(data, dict) and isinstance(arguments := data.get("init_args"), dict):
        for name in ("train_transforms", "synthetic_anomalies"):
            arguments.pop(name, None)


def _check(value: Any, arguments: list[str], file: Path) -> None:
    if isinstance(value, str) and "${" in value:
        raise ValueError(f"ckpt_path: the configuration in {file} holds an interpolation, {value!r}: refused")
    if isinstance(value, list):
        for item in value:
            _check(item, arguments, file)
    if isinstance(value, dict):
        if "class_path" in value:
            _check_class(value, arguments, file)
        if "download" in value:
            value["download"] = False  # nothing is fetched because a checkpoint says so
        if value.get("cache") is not None:
            del value["cache"]  # nor is anything written where it says: the source has a folder of its own
        for item in value.values():
            _check(item, arguments, file)


def _check_class(value: dict[Any, Any], arguments: list[str], file: Path) -> None:
    """Refuse a class that is not known, and text where one of its arguments is a class itself."""
    name, unknown = value["class_path"], value.keys() - {"class_path", "init_args"}
    if unknown:
        raise ValueError(f"ckpt_path: {file} gives {name} more than arguments, {sorted(map(str, unknown))}: refused")
    known = _known(name)
    if known is None and not any(given.endswith(f"={name}") for given in arguments):
        raise ValueError(
            f"ckpt_path: {file} names {name}, no detector, datamodule, source or part that is imported: refused. "
            f"If you trust it, import it: --import {str(name).rpartition('.')[0]}"
        )
    given = value.get("init_args") or {}
    if not isinstance(given, dict):
        raise ValueError(f"ckpt_path: {file} has no arguments of {name}, but {given!r}: refused")
    if known is not None:
        _check_arguments(known, given, file)


def _check_arguments(cls: type, given: dict[Any, Any], file: Path) -> None:
    """Refuse text where an argument of a class is a class itself; a part of a fixed class has arguments of its own."""
    for name, value in given.items():
        hint = declared(cls).get(name)
        is_own = dataclasses.is_dataclass(hint) and isinstance(hint, type)
        if is_own and isinstance(value, dict) and "class_path" not in value:  # else it is checked as a class
            assert isinstance(hint, type)
            _check_arguments(hint, value, file)
        elif not _is_plain(hint):
            _refuse_text(value, file)


def _refuse_text(value: Any, file: Path) -> None:
    """The parser takes text for the path of a class, or of a file with one, and imports it to see."""
    if isinstance(value, str):
        raise ValueError(f"ckpt_path: {file} has text in the place of a class, {value!r}: refused")
    if isinstance(value, (list, dict)) and "class_path" not in value:
        for item in value.values() if isinstance(value, dict) else value:
            _refuse_text(item, file)


def _is_plain(hint: Any) -> bool:
    if get_origin(hint) is Literal or hint in (str, int, float, bool, type(None)):
        return True
    inner = get_args(hint)
    return bool(inner) and all(_is_plain(part) for part in inner)


def _known(name: Any) -> type | None:
    try:
        found = known_class("class_path", str(name), object)
    except ValueError:
        return None
    return found if issubclass(found, _TRUSTED) else None


def argument(arguments: list[str], name: str) -> str | None:
    """The last value of `--name VALUE` or `--name=VALUE`."""
    value = None
    for position, given in enumerate(arguments):
        if given == name and position + 1 < len(arguments):
            value = arguments[position + 1]
        elif given.startswith(f"{name}="):
            value = given.partition("=")[2]
    return value
