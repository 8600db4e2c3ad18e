"""Rules for plain values in a checkpoint: what takes the place of a value is of its type, shape and range."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

MOST = 2**40
"""No counter of a fit comes so far; what is computed from one stays a whole number everywhere."""

LONGEST_TEXT = 4096
_SHOWN = 60


def require(holds: bool, where: str, rule: str, value: Any = None) -> None:
    """Raise ValueError naming the part, the rule and the value, unless the rule holds."""
    if not holds:
        got = "" if value is None else f", got {shown(value)}"
        raise ValueError(f"{where} must {rule}{got}")


def shown(value: Any) -> str:
    """A value in one short line, whatever it is."""
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)} of {value.dtype}"
    text = repr(value) if isinstance(value, (bool, int, float, str, type(None))) else f"a {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def count(value: Any, where: str, most: int = MOST) -> int:
    """A whole number from 0 to `most`."""
    require(type(value) is int and 0 <= value <= most, where, f"be a whole number from 0 to {most}", value)
    return int(value)


def number(value: Any, where: str, infinite: bool = False) -> float:
    """A number, finite unless `infinite` ones are allowed; never NaN."""
    fits = (type(value) is int and abs(value) <= MOST) or (type(value) is float and not math.isnan(value))
    require(fits and (infinite or math.isfinite(value)), where, "be a finite number", value)
    return value  # type: ignore[no-any-return]  # as it is: 1 stays 1


def text(value: Any, where: str) -> str:
    """Text of no more than `LONGEST_TEXT` characters."""
    require(isinstance(value, str) and len(value) <= LONGEST_TEXT, where, "be a short text", value)
    return str(value)


def mapping(value: Any, where: str, keys: Any = None) -> Mapping[Any, Any]:
    """A dict with exactly these keys, where they are given."""
    require(isinstance(value, dict), where, "be a mapping", value)
    if keys is not None:
        if unknown := [key for key in value if key not in keys]:
            require(False, where, f"hold nothing but {', '.join(map(str, keys)) or 'nothing'}", unknown[0])
        for key in keys:
            require(key in value, where, f"hold {key}")
    return value  # type: ignore[no-any-return]


def tensor(value: Any, like: Tensor, where: str, finite: bool = True) -> Tensor:
    """A tensor of the shape and type of another, without NaN, in memory of its own."""
    require(
        isinstance(value, Tensor) and value.shape == like.shape and value.dtype == like.dtype,
        where,
        f"be {shown(like)}",
        value,
    )
    bad = not torch.isfinite(value).all() if finite else torch.isnan(value).any()
    require(not bad, where, "hold finite numbers")
    return value.detach().clone()  # type: ignore[no-any-return]


def scalar(value: Any, where: str, infinite: bool = False) -> Tensor:
    """A tensor () of real numbers, as metrics are; infinite where nothing was measured yet."""
    real = isinstance(value, Tensor) and value.shape == () and value.dtype in (torch.float32, torch.float64)
    require(real, where, "be one number in a tensor", value)
    return tensor(value, value, where, finite=not infinite)


def alike(value: Any, fresh: Any, where: str) -> Any:
    """A copy of a state, which must have the form of the fresh one: keys, lengths and types at any depth.

    Numbers are finite, unless the fresh one is not; whole numbers are not negative, unless the fresh one is; text and
    what is none are as in the fresh one.

    Raises:
        ValueError: it has another form.
    """
    if isinstance(fresh, dict):
        given = mapping(value, where, list(fresh))
        require(type(value) is type(fresh), where, f"be a {type(fresh).__name__}", value)
        copied = {key: alike(given[key], inner, f"{where}.{key}") for key, inner in fresh.items()}
        return copied if type(fresh) is dict else type(fresh)(copied)
    if isinstance(fresh, (list, tuple)):
        require(type(value) is type(fresh) and len(value) == len(fresh), where, f"be {len(fresh)} values", value)
        pairs = enumerate(zip(value, fresh, strict=True))
        return type(fresh)([alike(given, inner, f"{where}[{i}]") for i, (given, inner) in pairs])
    if isinstance(fresh, Tensor):
        return tensor(value, fresh, where, finite=bool(torch.isfinite(fresh).all()))
    if isinstance(fresh, bool):
        require(type(value) is bool, where, "be true or false", value)
        return value
    if isinstance(fresh, int):
        require(type(value) is int and min(fresh, 0) <= value <= MOST, where, "be a whole number in its range", value)
        return value
    if isinstance(fresh, float):
        return number(value, where, infinite=not math.isfinite(fresh))
    require(type(value) is type(fresh) and value == fresh, where, f"be {shown(fresh)}", value)
    return value
