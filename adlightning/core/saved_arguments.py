"""Constructor arguments that a checkpoint gives: of the types that the detector's constructors declare."""

from __future__ import annotations

import inspect
import math
import types
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from adlightning.core.detector import AnomalyDetector

_LARGEST = 2**63
_SHOWN = 60


def is_plain(value: Any) -> bool:
    """Whether a value consists of mappings, sequences, text and finite numbers alone, whole ones of 64 bits."""
    if isinstance(value, dict):
        return all(is_plain(inner) for pair in value.items() for inner in pair)
    if isinstance(value, (list, tuple)):
        return all(is_plain(inner) for inner in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, (str, bool)) or (isinstance(value, int) and abs(value) < _LARGEST)


def require_types(cls: type[AnomalyDetector], given: Mapping[str, Any]) -> None:
    """Refuse arguments of other types than declared: a constructor checks ranges, and takes types for granted.

    Raises:
        ValueError: naming the argument.
    """
    hints: dict[str, Any] = {}
    for base in cls.__mro__:
        constructor = vars(base).get("__init__")
        if inspect.isfunction(constructor):
            hints = {**get_type_hints(constructor), **hints}
    for name, value in given.items():
        if name in hints and not _fits(value, hints[name]):
            shown = repr(value)
            shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
            words = hints[name].__name__ if isinstance(hints[name], type) else str(hints[name])
            raise ValueError(f"its arguments do not fit a {cls.__name__}: {name} must be {words}, got {shown}")


def _fits(value: Any, hint: Any) -> bool:
    """Whether a plain value is of a declared type; where that is no plain type, the constructor sees to it."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return any(type(value) is type(allowed) and value == allowed for allowed in inner)
    if origin in (Union, types.UnionType):
        return any(_fits(value, option) for option in inner)
    if origin is tuple and inner[-1:] != (...,):
        same_length = isinstance(value, (list, tuple)) and len(value) == len(inner)
        return same_length and all(_fits(item, own) for item, own in zip(value, inner, strict=True))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        fits = isinstance(value, dict)
        return fits and all(_fits(k, inner[0]) and _fits(v, inner[1]) for k, v in value.items())
    if isinstance(origin, type) and issubclass(origin, Collection):
        return isinstance(value, (list, tuple)) and all(_fits(item, inner[0]) for item in value)
    if hint is float:
        return type(value) in (int, float)
    if hint in (int, str, bool, type(None)):
        return type(value) is hint
    return True
