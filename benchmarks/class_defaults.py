"""Configurations without the arguments that equal their classes' defaults, or with all of these filled in."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

from pytorch_lightning import Trainer

from adlightning.cli import registry
from adlightning.cli.fitting import TRAINER_DEFAULTS
from adlightning.core.detector import AnomalyDetector
from adlightning.core.parts import Part, class_and_arguments
from adlightning.data.modules import AnomalyDataModule

_NOTHING = object()
_HOMES = ("adlightning", "torch.optim")
"""Packages in which a class is found by its name alone."""


def without_defaults(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration of `fit` that resolves to the same experiment, with as few arguments as possible.

    Raises:
        ValueError: a class that is nowhere, or in several places, or has no argument of this name.
    """
    short = {**config, "trainer": _chosen(Trainer, config["trainer"], TRAINER_DEFAULTS)}
    for key, base in (("model", AnomalyDetector), ("data", AnomalyDataModule)):
        name, given = _described(config[key])
        arguments = _chosen(class_named(name, base), given)
        short[key] = {"class_path": name, **({"init_args": arguments} if arguments else {})}
    return short


def with_defaults(described: dict[str, Any], of: type[Any] = object) -> dict[str, Any]:
    """A class path and arguments, with all other arguments of the class and of its parts at their defaults.

    Raises:
        ValueError: a class that is nowhere, or in several places.
    """
    name, given = _described(described)
    return {"class_path": name, "init_args": _all(class_named(name, of), given)}


def class_named(name: str, of: type[Any] = object) -> type[Any]:
    """A subclass by its path, or by its name alone. Raises ValueError when there is none, or more than one."""
    module, _, last = name.rpartition(".")
    if module:
        found: type[Any] = getattr(importlib.import_module(module), last)
        return found
    classes = [cls for cls in _classes_named(name) if issubclass(cls, of)]
    if len(classes) != 1:
        raise ValueError(f"class_path must name one class, got {name}: {len(classes)} have this name")
    return classes[0]


@functools.cache
def _classes_named(name: str) -> tuple[type[Any], ...]:
    registry.import_all()
    found = [vars(module).get(name) for home, module in sys.modules.items() if home.startswith(_HOMES)]
    return tuple({cls for cls in found if inspect.isclass(cls) and cls.__module__.startswith(_HOMES)})


def defaults_of(cls: type[Any]) -> dict[str, Any]:
    """Arguments of a class in their order, with their defaults; those that `**kwargs` passes on to its bases too."""
    found: dict[str, Any] = {}
    for base in cls.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]
        found |= {p.name: p.default for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)} | found
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return found


# ---- left out -------------------------------------------------------------------------------------------------------


def _chosen(cls: type[Any], given: dict[str, Any], instead: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Arguments of a class that differ from its defaults, in its order; `instead` are defaults that come first."""
    defaults = {**defaults_of(cls), **(instead or {})}
    if unknown := [name for name in given if name not in defaults]:
        raise ValueError(f"{cls.__name__} has no argument {', '.join(unknown)}; it has {', '.join(defaults)}")
    kept = {name: _shortened(given[name], defaults[name]) for name in sorted(given, key=list(defaults).index)}
    return {name: value for name, value in kept.items() if value is not _NOTHING}


def _of_another(cls: type[Any], given: dict[str, Any], own: type[Any], instead: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a class in the place of a part of another class, `own`, that are worth saying.

    The parser takes over what the default's arguments are where the new class has arguments of the same names.
    """
    carried, left = {**defaults_of(own), **instead}, _chosen(cls, given)
    return {
        name: given[name] if name not in left else left[name]
        for name in given
        if name in left or (name in carried and _shortened(given[name], carried[name]) is not _NOTHING)
    }


def _shortened(value: Any, default: Any) -> Any:
    """A value without what its default has too, or `_NOTHING` when that is all of it."""
    if _is_part(default) and isinstance(value, (str, dict)):
        own, instead = _taken_apart(default)
        name, cls, arguments = _named(value, own)
        left = _chosen(cls, arguments, instead) if cls is own else _of_another(cls, arguments, own, instead)
        if not left:
            return _NOTHING if cls is own else name
        return {"class_path": name, "init_args": left} if name else left
    if dataclasses.is_dataclass(default) and isinstance(value, dict):
        return _chosen(type(default), value, vars(default)) or _NOTHING
    if isinstance(value, dict) and "class_path" in value:
        name, cls, arguments = _named(value, object)
        left = _chosen(cls, arguments)
        return {"class_path": name, "init_args": left} if left else name
    if isinstance(value, dict):
        return {key: _shortened(inner, _NOTHING) for key, inner in value.items()}
    plain = list(default) if isinstance(default, tuple) else default
    return _NOTHING if value == plain and isinstance(value, bool) == isinstance(plain, bool) else value


# ---- filled in ------------------------------------------------------------------------------------------------------


def _all(cls: type[Any], given: dict[str, Any], instead: dict[str, Any] | None = None) -> dict[str, Any]:
    """All arguments of a class that are given or have a default."""
    defaults = {**defaults_of(cls), **(instead or {})}
    values = {name: _completed(given.get(name, _NOTHING), default) for name, default in defaults.items()}
    return {name: value for name, value in values.items() if value is not inspect.Parameter.empty}


def _completed(value: Any, default: Any) -> Any:
    """A value, or its default, as plain values; parts have all of their arguments."""
    given: Any = {} if value is _NOTHING else value
    if _is_part(default) and isinstance(given, (str, dict)):
        own, instead = _taken_apart(default)
        name, cls, arguments = _named(given, own)
        carried = {name: kept for name, kept in {**defaults_of(own), **instead}.items() if name in defaults_of(cls)}
        inner = _all(cls, arguments, instead if cls is own else carried)
        return {"class_path": name or own.__name__, "init_args": inner}
    if dataclasses.is_dataclass(default) and isinstance(given, dict):
        return _all(type(default), given, vars(default))
    if isinstance(value, dict) and "class_path" in value:
        return with_defaults(value)
    if value is _NOTHING:
        return list(default) if isinstance(default, tuple) else default
    return value


# ---- parts ----------------------------------------------------------------------------------------------------------


def _is_part(default: Any) -> bool:
    is_class = inspect.isclass(default) and default is not inspect.Parameter.empty
    return is_class or isinstance(default, (partial, Part))


def _taken_apart(default: Any) -> tuple[type[Any], dict[str, Any]]:
    """Class and arguments of a part. The parser adds arguments of the same class to these."""
    if isinstance(default, Part):
        return type(default), dict(vars(default))
    cls, arguments = class_and_arguments(default)
    return cls, arguments


def _named(value: str | dict[str, Any], own: type[Any]) -> tuple[str, type[Any], dict[str, Any]]:
    """Name, class and arguments of a part as it is written; arguments alone are of the default's class."""
    if isinstance(value, str):
        return value, class_named(value), {}
    if "class_path" not in value:
        return "", own, value
    name, arguments = _described(value)
    return name, class_named(name), arguments


def _described(value: Any) -> tuple[str, dict[str, Any]]:
    """Class path and arguments of a class. Raises ValueError where it is not these two."""
    whole = isinstance(value, dict) and isinstance(value.get("class_path"), str)
    if not whole or value.keys() - {"class_path", "init_args"} or not isinstance(value.get("init_args") or {}, dict):
        raise ValueError(f"a class must be class_path and init_args, a mapping, got {value!r:.200}")
    return value["class_path"], value.get("init_args") or {}
