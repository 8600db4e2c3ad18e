"""Fitted estimators as bytes that run nothing when they are read: skops, with a list of what may be in them."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from io import BytesIO
from typing import Any

import numpy as np
import torch
from sklearn.ensemble import IsolationForest
from torch import Tensor

from adlightning.archives import require_stored

TRUSTED = [
    "adlightning.shallow.kde.GaussianKDE",
    "adlightning.shallow.kernel.KernelExpansion",
    "adlightning.shallow.kernel_ratio.KernelRatio",
    "sklearn.tree._tree.Tree",
]
"""Types beside scikit-learn's estimators and numpy's arrays that our own estimators consist of."""


_SCHEMA = "schema.json"


def to_bytes(estimator: Any) -> Tensor:
    """An estimator as a uint8 tensor (N,), which a checkpoint holds without pickling anything."""
    from skops import io as skops  # takes a second: not for detectors without an estimator

    return torch.frombuffer(bytearray(skops.dumps(estimator)), dtype=torch.uint8)


def from_bytes(data: object, expected: type) -> Any:
    """The estimator in a uint8 tensor (N,), of exactly the expected type.

    Raises:
        ValueError: data that hold something else, damaged data, or types that no estimator of ours consists of.
    """
    from skops import io as skops

    if not isinstance(data, Tensor) or data.dtype != torch.uint8:
        raise ValueError("the checkpoint's estimator must be a tensor of bytes")
    content = data.cpu().numpy().tobytes()
    try:
        try:
            members = require_stored(BytesIO(content))
        except ValueError as error:
            raise ValueError(f"the checkpoint's estimator is damaged or refused: {error}") from None
        if any(member.name != _SCHEMA and not member.name.endswith(".npy") for member in members):
            raise ValueError("the checkpoint's estimator holds what is no array: archives or sparse matrices")
        unknown = sorted(set(skops.get_untrusted_types(data=content)) - set(TRUSTED))
        if unknown:
            raise ValueError(f"the checkpoint's estimator holds types that are never loaded: {', '.join(unknown)}")
        estimator = skops.loads(content, trusted=TRUSTED)
        if type(estimator) is not expected:
            name = type(estimator).__name__
            raise ValueError(f"the checkpoint's estimator must be a {expected.__name__}, got a {name}")
        if isinstance(estimator, IsolationForest):
            _check_trees(estimator)
        if is_dataclass(estimator):
            _check_values(estimator)
    except ValueError:
        raise
    except Exception as error:  # of damaged bytes skops and numpy let through whatever their parsers raise
        raise ValueError(f"the checkpoint's estimator is damaged or refused: {error}") from error
    return estimator


def _check_values(estimator: Any) -> None:
    """Refuse one of our own estimators whose values are not numbers and arrays of numbers that fit together."""
    values = {field.name: getattr(estimator, field.name) for field in fields(estimator)}
    arrays = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
    numbers = all(isinstance(v, (int, float, np.floating)) or v is None for n, v in values.items() if n not in arrays)
    kinds = all(array.dtype == np.float64 and array.ndim in (1, 2) for array in arrays.values())
    if not (arrays and numbers and kinds) or len({len(array) for array in arrays.values()}) > 1:
        raise ValueError("the checkpoint's estimator holds values that do not fit together")


def _check_trees(forest: IsolationForest) -> None:
    """Refuse trees whose indices lead out of their arrays: scikit-learn follows them without looking."""
    for member in forest.estimators_:
        tree = member.tree_
        node = np.arange(tree.node_count)
        inner = tree.children_left != -1
        children = np.stack([tree.children_left, tree.children_right])[:, inner]
        below = (children > node[inner]) & (children < tree.node_count)
        feature = tree.feature[inner]
        known = (feature >= 0) & (feature < tree.n_features)
        if not below.all() or not known.all() or tree.n_features != forest.n_features_in_:
            raise ValueError("the checkpoint's estimator holds a tree that is none: its indices lead nowhere")
