"""A run that begins with a checkpoint: what is the checkpoint's, and what is not as in training."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from jsonargparse import Namespace
from pytorch_lightning.utilities import rank_zero_warn

from adlightning.checkpoints.loading import read_checkpoint
from adlightning.cli.types_in_words import class_at
from adlightning.core.messages import IGNORED
from adlightning.core.parts import class_path, described
from adlightning.core.rescoring import arguments_of_scores
from adlightning.files.plain_yaml import read_yaml

_NO_OTHER_DATA = {"batch_size", "eval_batch_size", "drop_last", "num_workers", "device_budget_mb", "seed"}
_NO_OTHER_DATA |= {"root", "path", "test_path", "cache", "download", "train_transforms", "synthetic_anomalies"}
"""Arguments that say where data are or how they pass, or that the split itself is checked for."""


def keep_trained_hyperparameters(options: Any, refuse: bool) -> list[str]:
    """A trained detector's arguments are the checkpoint's: others are ignored with a warning, or refused by a fit.

    Arguments that only scores depend on may be others where nothing is trained. Returns what is ignored, in words.
    """
    saved = read_checkpoint(options.ckpt_path)["adlightning"]
    given = options.model.init_args
    now, then = class_path(class_at(options.model.class_path)), saved["class"]
    if now != then:
        names = (then, now) if _name(then) == _name(now) else (_name(then), _name(now))
        raise ValueError(f"ckpt_path: {options.ckpt_path} holds a {names[0]}, not a {names[1]}")
    ignored = []
    of_scores = () if refuse else arguments_of_scores(class_at(options.model.class_path))
    for key, value in saved["hyperparameters"].items():
        for place, now, then in _different(f"model.{key}", canonical(given[key]), canonical(value)):
            if refuse:
                raise ValueError(f"{place}={now}: a fit goes on with what it began with, {then}")
            if key not in of_scores:
                ignored.append(f"{place}={now} {IGNORED} {then}")
                rank_zero_warn(ignored[-1])
                given[key] = as_parsed(value)
    return sorted(ignored)


def canonical(value: Any) -> Any:
    """An argument, parsed or from a checkpoint, in plain values: parts with their class's own path and all arguments.

    A part of a fixed class has no `class_path` where it is parsed, and one in a checkpoint: it is left out here.
    """
    if isinstance(value, Namespace):
        value = value.as_dict()
    if isinstance(value, (list, tuple)):
        return [canonical(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    if not isinstance(value.get("class_path"), str):
        return {str(key): canonical(item) for key, item in value.items()}
    cls, arguments = class_at(value["class_path"]), value.get("init_args") or {}
    own = {
        name: parameter.default
        for name, parameter in inspect.signature(cls).parameters.items()
        if parameter.default is not parameter.empty
    }
    filled = {name: canonical(described(item)) for name, item in {**own, **arguments}.items()}
    return filled if dataclasses.is_dataclass(cls) and not _has_family(cls) else {"class": class_path(cls), **filled}


def as_parsed(value: Any) -> Any:
    """An argument from a checkpoint as the parser has it."""
    if not isinstance(value, Mapping):
        return [as_parsed(item) for item in value] if isinstance(value, list) else value
    inner = {key: as_parsed(item) for key, item in value.items()}
    if isinstance(path := value.get("class_path"), str):
        cls = class_at(path)
        if dataclasses.is_dataclass(cls) and not _has_family(cls):
            return inner["init_args"]
    return Namespace(inner)  # type: ignore[no-untyped-call]  # of jsonargparse


def _has_family(cls: type) -> bool:
    """Whether a class is one of several that an argument may be."""
    return any(inspect.isabstract(base) for base in cls.__mro__[1:])


def _different(place: str, now: Any, then: Any) -> Iterator[tuple[str, Any, Any]]:
    """Where two canonical values differ, with what they are there."""
    if isinstance(now, dict) and isinstance(then, dict) and now.get("class") == then.get("class"):
        for key in now.keys() | then.keys():
            yield from _different(f"{place}.{key}", now.get(key), then.get(key))
    elif now != then:
        yield place, _short(now), _short(then)


def _name(path: str) -> str:
    return path.rpartition(".")[2]


def _short(value: Any) -> Any:
    """A part by its class alone."""
    return _name(str(value["class"])) if isinstance(value, dict) and "class" in value else value


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
