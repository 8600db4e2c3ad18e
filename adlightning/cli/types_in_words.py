"""Arguments against their type hints: what a hint allows in words, and values that no parser looks at."""

from __future__ import annotations

import collections.abc
import importlib
import inspect
import math
import os
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from jsonargparse import Namespace

LARGEST = 2**63 - 1
"""The largest whole number that libraries can hold."""
_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    type(None): "null",
    os.PathLike: "a path",
    dict: "names with values",
}
_PLURALS = {int: "whole numbers", float: "numbers", bool: "true or false", str: "texts"}
_LISTS = (list, tuple, set, collections.abc.Sequence, collections.abc.Iterable)


def hints_of(cls: type) -> dict[str, Any]:
    """Hints of the arguments of a class, those included that constructors of its bases take by keyword."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        constructor = vars(base).get("__init__")
        if inspect.isfunction(constructor):
            try:
                hints = get_type_hints(constructor)
            except NameError:  # of a name that only type checkers import
                continue
            parameters = inspect.signature(constructor).parameters.values()
            named = {p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
            found |= {name: hint for name, hint in hints.items() if name in named}
    return found


def in_words(hint: Any) -> str:
    """What a type hint allows, as the end of `must be ...`."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(in_words(part) for part in inner))
    if origin is Literal:
        return f"one of {', '.join('null' if value is None else str(value) for value in inner)}"
    if origin is typing.Annotated:
        return in_words(inner[0])
    if hint in _LISTS or origin in _LISTS:
        kinds = [part for part in inner if part is not Ellipsis]
        if origin is tuple and Ellipsis not in inner:
            return f"a list of {len(kinds)} {_plural(kinds[0])}"
        return f"a list of {_plural(kinds[0])}" if kinds else "a list"
    for known, words in _WORDS.items():
        if hint is known or origin is known or (known is dict and origin is collections.abc.Mapping):
            return words
    if origin is collections.abc.Callable and isinstance(inner[-1], type):
        return f"a subclass of {inner[-1].__name__}"
    name = getattr(origin or hint, "__name__", str(hint))
    return f"of class {name}"


def _plural(hint: Any) -> str:
    parts = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return " or ".join(dict.fromkeys(_PLURALS.get(part) or _objects(part) for part in parts))


def _objects(hint: Any) -> str:
    return f"{hint.__name__} objects" if inspect.isclass(hint) else "values"


def admits(hint: Any, wanted: type) -> bool:
    """Whether a hint allows values of a plain type, None's included."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any or hint is object or hint is wanted or isinstance(hint, typing.TypeVar):
        return True
    if origin is Literal:
        return any(isinstance(value, wanted) for value in inner)
    return origin in (Union, types.UnionType, typing.Annotated) and any(admits(part, wanted) for part in inner)


def check_values(place: str, cls: type, arguments: Namespace | dict[str, Any]) -> None:
    """Refuse null where a hint has no place for it, and numbers that are none, at any depth.

    Args:
        place: the arguments' name on the command line, `model`.
        cls: the class that they are for.
        arguments: as parsed; of a class within as `class_path` and `init_args`.

    Raises:
        ValueError: names the argument, what it must be, and the value.
    """
    hints = hints_of(cls)
    for name, value in vars(arguments).items() if isinstance(arguments, Namespace) else arguments.items():
        hint = hints.get(name, Any)
        if value is None and not admits(hint, type(None)):
            raise ValueError(f"{place}.{name} must be {in_words(hint)}, got null")
        for inner in _flat(value):
            if isinstance(inner, float) and not math.isfinite(inner):
                raise ValueError(f"{place}.{name} must be {in_words(hint)}, and finite; got {inner}")
            if isinstance(inner, int) and abs(inner) > LARGEST:
                raise ValueError(f"{place}.{name} must be {in_words(hint)} of at most {LARGEST}, got {inner}")
            if isinstance(inner, Namespace) and isinstance(inner.get("class_path"), str):
                check_values(f"{place}.{name}", class_at(inner.class_path), inner.get("init_args") or {})


def class_at(path: str) -> type:
    """The class of an import path that the parser has accepted."""
    module, _, name = path.rpartition(".")
    found = getattr(importlib.import_module(module), name)
    return found if isinstance(found, type) else type(found)


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for inner in value:
            yield from _flat(inner)
    else:
        yield value
