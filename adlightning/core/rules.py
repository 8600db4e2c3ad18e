"""Rules for arguments: declared once by a class, checked in one place, when an object is made.

    class Mine(AnomalyDetector):
        argument_rules = {"nu": between(0, 1), "widths": each(at_least(1))}

A `Literal` needs no rule: its values are the rule. Rules that hold between several arguments stay in the constructor.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable, Mapping
from functools import cache, wraps
from types import UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch


class Rule(NamedTuple):
    """What an argument must be: a predicate, and the words that follow `must`."""

    holds: Callable[[Any], bool]
    words: str


def at_least(least: float) -> Rule:
    """Not less than a bound, and finite."""
    return Rule(lambda value: least <= value < math.inf, "not be negative" if least == 0 else f"be at least {least}")


def between(low: float, high: float, closed: Literal["neither", "left", "right", "both"] = "neither") -> Rule:
    """In an interval, which holds neither of its ends unless it is closed there."""

    def holds(value: Any) -> bool:
        above = low <= value if closed in ("left", "both") else low < value
        below = value <= high if closed in ("right", "both") else value < high
        return bool(above and below)

    opening, closing = "[" if closed in ("left", "both") else "(", "]" if closed in ("right", "both") else ")"
    return Rule(holds, f"lie in {opening}{low:g}, {high:g}{closing}")


positive = Rule(lambda value: 0 < value < math.inf, "be positive and finite")
finite = Rule(lambda value: math.isfinite(value), "be finite")
not_negative = at_least(0)
seed = Rule(lambda value: 0 <= value < 2**63, "lie in [0, 2^63)")


def each(rule: Rule, least: int = 0, length: int | None = None) -> Rule:
    """A sequence whose values all obey a rule: of at least `least` values, or of exactly `length`."""
    how_many = f"hold {length} values" if length is not None else f"hold at least {least}"
    counted = f"{how_many}, and each {rule.words}" if length is not None or least else rule.words

    def holds(values: Any) -> bool:
        n = len(values)
        return (n == length if length is not None else n >= least) and all(rule.holds(value) for value in values)

    return Rule(holds, counted)


def or_none(rule: Rule, meaning: str) -> Rule:
    """A rule, or null, with what that stands for."""
    return Rule(lambda value: value is None or rule.holds(value), f"{rule.words}, or null for {meaning}")


def check_arguments(rules: Mapping[str, Rule], hints: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Refuse the first argument that breaks its rule, or is none of the values or parts that its type allows.

    Raises:
        ValueError: naming the argument, the rule and the value.
    """
    for name, value in given.items():
        allowed = literals(hints.get(name))
        if allowed is not None and not any(type(value) is type(one) and value == one for one in allowed):
            shown = ", ".join("null" if one is None else str(one) for one in allowed)
            raise ValueError(f"{name} must be one of {shown}, got {value!r}")
        kind: Any = hints.get(name)
        if is_part(kind) and not isinstance(value, kind):
            raise ValueError(f"{name} must be made by {kind.__name__}(...) or one of its kinds, got {value!r}")
        if (rule := rules.get(name)) is None:
            continue
        try:
            holds = rule.holds(value)
        except TypeError:
            holds = False
        if not holds:
            raise ValueError(f"{name} must {rule.words}, got {list(value) if isinstance(value, tuple) else value!r}")


def as_plain(name: str, value: Any) -> Any:
    """A number of NumPy's as Python's, anything else as it is. Raises ValueError for an array or a tensor."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (np.ndarray, torch.Tensor)):
        raise ValueError(f"{name} must be a plain value (a number, text, a list), got a {type(value).__name__}")
    return value


def is_part(hint: Any) -> bool:
    """Whether a type is that of parts given as objects: a dataclass, or what several of them have in common."""
    return inspect.isclass(hint) and (dataclasses.is_dataclass(hint) or inspect.isabstract(hint))


def literals(hint: Any) -> tuple[Any, ...] | None:
    """The values that a type allows, where it is a Literal, or one or None; None for other types."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        parts = get_args(hint)
        inner = [literals(part) if part is not type(None) else (None,) for part in parts]
        return tuple(value for own in inner for value in own or ()) if all(own is not None for own in inner) else None
    return None


def checks_arguments(cls: type) -> None:
    """Make a class's own constructor check its arguments first, by `argument_rules` and the types of its signature.

    The outermost constructor keeps what it was given, defaults included, as `arguments`; what `**kwargs` takes is among
    them by its own names. Arguments that have no names cannot be kept, so they are refused.
    """
    if "__init__" not in vars(cls):
        return
    written = cls.__init__  # type: ignore[misc]
    signature = inspect.signature(written)

    @cache
    def hints() -> dict[str, Any]:
        return get_type_hints(written)

    @wraps(written)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        given: dict[str, Any] = {}
        for name, value in list(bound.arguments.items())[1:]:
            kind = signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_POSITIONAL and value:
                raise ValueError(f"arguments of {cls.__name__} must be given by name, got {value!r} as *{name}")
            if kind is inspect.Parameter.VAR_KEYWORD:
                bound.arguments[name] = {inner: as_plain(inner, own) for inner, own in value.items()}
                given |= bound.arguments[name]
            elif kind is not inspect.Parameter.VAR_POSITIONAL:
                given[name] = bound.arguments[name] = as_plain(name, value)
        check_arguments(getattr(cls, "argument_rules", {}), hints(), given)
        if "arguments" not in self.__dict__:  # a constructor may be inherited
            self.__dict__["arguments"] = given
        written(*bound.args, **bound.kwargs)

    cls.__init__ = init  # type: ignore[misc]
