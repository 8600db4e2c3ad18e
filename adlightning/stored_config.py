"""A checkpoint's own configuration: how it becomes the start of a command line, and what of it is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from adlightning.checkpoint import checkpoint_file, read_checkpoint
from adlightning.data.modules import AnomalyDataModule
from adlightning.data.sources.base import Source
from adlightning.detector import AnomalyDetector

HELP_OPTIONS = {"-h", "--help", "--print_config", "--model.help", "--data.help"}


def with_stored_config(verb: str, arguments: list[str], folder: Path, now: str) -> list[str]:
    """Arguments of validate, test or predict with the checkpoint's own configuration first: it alone is enough.

    Args:
        verb: the verb.
        arguments: as given; what they say of the data beats the stored configuration.
        folder: for the stored configuration as a file.
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
    saved = read_checkpoint(file)["adlightning"]
    extra = [f"--ckpt_path={file}"]
    if argument(arguments, "--run_dir") is None:
        run = file.parent.parent if file.parent.name == "checkpoints" else file.parent
        extra.append(f"--run_dir={run}/{verb}-{now}")
    if saved["config"] is None:
        if argument(arguments, "--config") is None and argument(arguments, "-c") is None:
            raise ValueError(f"ckpt_path: {file} was not made by the command line and names no data: give a --config")
        return [*arguments, *extra]
    stored = trusted_part(yaml.safe_load(saved["config"]), arguments, file)
    (folder / "checkpoint.yaml").write_text(yaml.safe_dump(stored), encoding="utf-8")
    return ["--config", str(folder / "checkpoint.yaml"), *arguments, *extra]


def trusted_part(config: Any, arguments: list[str], file: Path) -> dict[str, Any]:
    """Model, data, seed and precision of a stored configuration; a checkpoint may come from anyone.

    Raises:
        ValueError: it names a class that is not a known detector, datamodule or source (and is not named on the
            command line either), or holds an interpolation.
    """
    if not isinstance(config, dict):
        raise ValueError(f"ckpt_path: the configuration in {file} is not one: refused")
    kept = {key: config[key] for key in ("seed_everything", "monitor", "model", "data") if key in config}
    trainer = config.get("trainer")
    kept["trainer"] = {"precision": trainer.get("precision") if isinstance(trainer, dict) else None}
    _check(kept, arguments, file)
    return kept


def _check(value: Any, arguments: list[str], file: Path) -> None:
    if isinstance(value, str) and "${" in value:
        raise ValueError(f"ckpt_path: the configuration in {file} holds an interpolation, {value!r}: refused")
    if isinstance(value, list):
        for item in value:
            _check(item, arguments, file)
    if isinstance(value, dict):
        name = value.get("class_path")
        if name is not None and not _is_known(name) and not any(given.endswith(f"={name}") for given in arguments):
            raise ValueError(
                f"ckpt_path: {file} names {name}, which is no detector, datamodule or source of adlightning: refused. "
                f"If you trust it, name it yourself: --model={name}"
            )
        if "download" in value:
            value["download"] = False  # nothing is fetched because a checkpoint says so
        for item in value.values():
            _check(item, arguments, file)


def _is_known(name: Any) -> bool:
    module, _, attribute = str(name).rpartition(".")
    found = getattr(sys.modules.get(module), attribute, None)
    return isinstance(found, type) and issubclass(found, (AnomalyDetector, AnomalyDataModule, Source))


def argument(arguments: list[str], name: str) -> str | None:
    """The last value of `--name VALUE` or `--name=VALUE`."""
    value = None
    for position, given in enumerate(arguments):
        if given == name and position + 1 < len(arguments):
            value = arguments[position + 1]
        elif given.startswith(f"{name}="):
            value = given.partition("=")[2]
    return value
