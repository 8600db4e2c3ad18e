"""Fitted estimators as bytes that run nothing when they are read: skops writes them, and they are built anew."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from adlightning.shallow.rebuilding import RECIPES, Recipe
from adlightning.shallow.stored import read_stored


def require_recipe(kind: type) -> Recipe:
    """What builds estimators of a type from stored values. Raises ValueError where nothing says so."""
    if kind not in RECIPES:
        raise ValueError(
            f"there must be a recipe for a {kind.__name__} in adlightning.shallow.rebuilding.RECIPES: without one no "
            "checkpoint with it can be loaded"
        )
    return RECIPES[kind]


def to_bytes(estimator: Any) -> Tensor:
    """An estimator as a uint8 tensor (N,), which a checkpoint holds without pickling anything."""
    from skops import io as skops  # takes a second: not for detectors without an estimator

    return torch.frombuffer(bytearray(skops.dumps(estimator)), dtype=torch.uint8)


def from_bytes(data: object, expected: type, n_features: int) -> Any:
    """The estimator in a uint8 tensor (N,), of exactly the expected type.

    Args:
        data: from a checkpoint.
        expected: its type.
        n_features: how many features its samples have.

    Raises:
        ValueError: data that hold something else, damaged data, types that no such estimator consists of, or values
            that are not those of one.
    """
    if not isinstance(data, Tensor) or data.dtype != torch.uint8:
        raise ValueError("the checkpoint's estimator must be a tensor of bytes")
    recipe = require_recipe(expected)
    try:
        stored = read_stored(data.cpu().numpy().tobytes(), recipe.kinds)
        if stored.kind != (name := f"{expected.__module__}.{expected.__qualname__}"):
            raise ValueError(f"it must be a {name}, got a {stored.kind}")
        return recipe.build(stored.values, n_features)
    except Exception as error:  # of damaged bytes parsers let through whatever they raise
        raise ValueError(f"the checkpoint's estimator is damaged or refused: {error}") from error
