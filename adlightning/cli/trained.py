"""A run that begins with a checkpoint: what is the checkpoint's, and what is not as in training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jsonargparse import Namespace
from pytorch_lightning.utilities import rank_zero_warn

from adlightning.checkpoints.loading import read_checkpoint
from adlightning.files.plain_yaml import read_yaml

_NO_OTHER_DATA = {"batch_size", "eval_batch_size", "drop_last", "num_workers", "device_budget_mb", "seed"}
_NO_OTHER_DATA |= {"root", "path", "test_path", "cache", "download"}
"""Arguments that say where data are or how they pass, or that the split itself is checked for."""


def keep_trained_hyperparameters(options: Any, refuse: bool) -> None:
    """A trained detector's arguments are the checkpoint's: others are ignored with a warning, or refused by a fit."""
    saved = read_checkpoint(options.ckpt_path)["adlightning"]
    given = options.model.init_args
    name = options.model.class_path.rpartition(".")[2]
    if name != saved["class"]:
        raise ValueError(f"ckpt_path: {options.ckpt_path} holds a {saved['class']}, not a {name}")
    for key, value in saved["hyperparameters"].items():
        if (list(given[key]) if isinstance(given[key], (list, tuple)) else given[key]) == value:
            continue
        if refuse:
            raise ValueError(f"model.{key}={given[key]}: a fit goes on with what it began with, {value}")
        rank_zero_warn(f"model.{key}={given[key]} is ignored: the checkpoint was trained with {value}")
        given[key] = value


def notes_on_data(options: Any) -> list[str]:
    """What a stored configuration says otherwise of the data than the options do: class, source, who is normal."""
    stored = read_checkpoint(options.ckpt_path)["adlightning"]["config"]
    config = read_yaml(stored, f"ckpt_path: the configuration in {options.ckpt_path}") if stored else {}
    then = _settings("data", config.get("data") if isinstance(config, Mapping) else None)
    now = _settings("data", options.data)
    different = [name for name in now if name in then and now[name] != then[name]]
    return [f"{name}={now[name]}, the checkpoint was trained with {then[name]}" for name in different]


def _settings(place: str, part: Any) -> dict[str, str]:
    """Names of arguments, at any depth, with their values as text."""
    if isinstance(part, Namespace):
        part = part.as_dict()
    if not isinstance(part, Mapping):
        return {place: str(list(part) if isinstance(part, (list, tuple)) else part)}
    arguments = part.get("init_args") or {} if "class_path" in part else part
    found = {place: str(part["class_path"]).rpartition(".")[2]} if "class_path" in part else {}
    for name, value in arguments.items():
        if name not in _NO_OTHER_DATA:
            found |= _settings(f"{place}.{name}", value)
    return found
