"""Constructor arguments that a checkpoint gives: of the types that the detector's constructor declares."""

from __future__ import annotations

import dataclasses
import inspect
import types
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from adlightning.core.parts import Part, from_description, known_class
from adlightning.core.rules import is_part

_SHOWN = 60


def rebuilt_arguments(cls: type[Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments for a class from plain values: parts become classes with their arguments again.

    Args:
        cls: a detector, or a part that is a dataclass.
        given: arguments by name, as :func:`adlightning.core.parts.described` gives them.

    Raises:
        ValueError: naming an argument of another type than declared; a constructor checks ranges, and takes types for
            granted.
    """
    hints = declared(cls)
    return {name: _rebuilt(cls, name, value, hints.get(name, Any)) for name, value in given.items()}


def require_types_of_parts(cls: type[Any], given: Mapping[str, Any]) -> None:
    """Refuse parts whose type a detector's constructor does not say: a checkpoint could not make them again.

    Raises:
        ValueError: naming the argument.
    """
    hints = declared(cls)
    for name, value in given.items():
        made = isinstance(value, partial) or inspect.isclass(value) or dataclasses.is_dataclass(value)
        kind = part_type(hints.get(name, Any)) if made else None
        if (
            kind is not None
            and dataclasses.is_dataclass(value)
            and inspect.isabstract(kind)
            and not issubclass(kind, Part)
        ):
            raise ValueError(
                f"{name}: {kind.__name__} must be a subclass of adlightning.core.parts.Part, so that a checkpoint may "
                f"name its kinds, got {type(value).__name__}"
            )
        if made and kind is None:
            raise ValueError(
                f"{name} must have the type of a part in the constructor of {cls.__name__}, such as "
                f"`{name}: OptimizerFactory` (adlightning.core.parts), got {value!r:.80}: a checkpoint is read by it"
            )


def declared(cls: type[Any]) -> dict[str, Any]:
    """Types of a constructor's arguments by name, those that it passes on included."""
    hints: dict[str, Any] = {}
    for base in cls.__mro__:
        constructor = vars(base).get("__init__")
        if inspect.isfunction(constructor):
            try:
                hints = {**get_type_hints(constructor), **hints}
            except NameError:  # of a name that only type checkers import, in another library
                break
            passes_on = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(constructor).parameters.values())
            if not passes_on:
                break
    hints.pop("return", None)
    return hints


def _rebuilt(cls: type[Any], name: str, value: Any, hint: Any) -> Any:
    if (made_of := part_type(hint)) is not None and isinstance(value, dict):
        factory = get_origin(_without_none(hint)) is not None
        if factory:
            return from_description(name, value, made_of)
        part = from_description(name, value, made_of)
        own = known_class(name, value["class_path"], made_of)
        try:
            return own(**rebuilt_arguments(own, part.keywords))
        except TypeError as error:
            raise ValueError(f"its arguments do not fit a {cls.__name__}: {name}: {error}") from error
    if not _fits(value, hint):
        shown = repr(value)
        shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
        words = hint.__name__ if isinstance(hint, type) else str(hint)
        raise ValueError(f"its arguments do not fit a {cls.__name__}: {name} must be {words}, got {shown}")
    return value


def part_type(hint: Any) -> type[Any] | None:
    """What a part of this type has to be: what a callable returns, or a class of ours; None for plain types."""
    hint = _without_none(hint)
    if get_origin(hint) is not None and issubclass_of_callable(get_origin(hint)):
        returned = get_args(hint)[-1]
        return returned if inspect.isclass(returned) else None
    return hint if is_part(hint) else None


def issubclass_of_callable(origin: Any) -> bool:
    """Whether this is the origin of a `Callable[...]`."""
    return bool(origin is Callable or getattr(origin, "__name__", "") == "Callable")


def _without_none(hint: Any) -> Any:
    """The other one of two types, where one is None."""
    if get_origin(hint) not in (Union, types.UnionType):
        return hint
    others = [part for part in get_args(hint) if part is not type(None)]
    return others[0] if len(others) == 1 else hint


def _fits(value: Any, hint: Any) -> bool:
    """Whether a plain value is of a declared type; where that is no plain type, the constructor sees to it."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return any(type(value) is type(allowed) and value == allowed for allowed in inner)
    if origin in (Union, types.UnionType):
        return any(_fits(value, option) for option in inner)
    if part_type(hint) is not None:
        return False  # a part is a class path and arguments
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
