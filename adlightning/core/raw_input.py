"""Samples in memory as the raw input that a detector was trained on; the same checks in Python and for the verbs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from adlightning.core.contracts import InputSpec
from adlightning.core.features import as_features, features_of, refuse_twins
from adlightning.core.messages import quoted


def raw_input(x: object, spec: InputSpec) -> Tensor:
    """Samples (N, ...) on the host, as `spec` has them: uint8 images (N, C, H, W), float32 or float64
    features or series.

    Args:
        x: a NumPy array, a tensor or, for a table, a pandas frame, whose columns are matched by name.
        spec: what the detector was trained on.

    Raises:
        ValueError: of another type, kind, dtype, shape or columns, or values that are not finite.
    """
    if isinstance(x, pd.DataFrame):
        return frame_input(x, spec, "x")
    if isinstance(x, Tensor):
        if x.layout != torch.strided or x.is_quantized or x.is_meta:
            raise ValueError(f"x must be a dense tensor with values, got one of {x.layout}, {x.dtype} on {x.device}")
        x = x.detach().cpu()
        x = (x.float() if x.dtype == torch.bfloat16 else x).numpy()  # which NumPy does not have
    if not isinstance(x, np.ndarray):
        raise ValueError(f"x must be a NumPy array, a tensor or a pandas frame, got a {type(x).__name__}")
    if np.ma.is_masked(x):
        raise ValueError(f"x must hold every value, got an array with {np.ma.count_masked(x)} masked ones")  # type: ignore[no-untyped-call]
    return array_input(x, spec, "x")


def array_input(array: NDArray[Any], spec: InputSpec, where: str) -> Tensor:
    """An array (N, ...) as raw samples; images are (N, C, H, W), or (N, H, W) of one channel.

    Args:
        array: the samples.
        spec: what the detector was trained on.
        where: the array in words, for messages.

    Raises:
        ValueError: of another dtype or shape, or values that are not finite.
    """
    if array.dtype.kind not in "buif" or array.ndim == 0:
        raise ValueError(f"{where} holds {array.dtype} of {array.ndim} dimensions, numbers are needed")
    if spec.kind == "image":
        if array.dtype != np.uint8:
            raise ValueError(f"{where} holds {array.dtype} images, uint8 in 0..255 is needed")
        array = array[:, None] if array.ndim == 3 else array
    if array.shape[1:] != spec.shape:
        shown = "x".join(map(str, array.shape[1:])) or "one number"
        last = spec.kind == "image" and array.shape[1:] == (*spec.shape[1:], spec.shape[0])
        hint = "; channels come first: x.transpose(0, 3, 1, 2)" if last else ""
        raise ValueError(f"{where} holds samples of {shown}; the detector was trained on {spec}{hint}")
    if spec.kind == "image":
        return torch.from_numpy(np.require(array, requirements=["C", "W"]))
    return as_features(array, where).to(getattr(torch, spec.dtype))


def frame_input(frame: pd.DataFrame, spec: InputSpec, where: str | Path) -> Tensor:
    """The features of a table as raw samples (N, D), in the detector's order; what it ignored in training is ignored.

    Args:
        frame: the table.
        spec: what the detector was trained on.
        where: the table in words, for messages.

    Raises:
        ValueError: the detector takes no table, columns are missing or unknown, or values are no finite numbers.
    """
    if spec.kind != "table":
        raise ValueError(f"{where} is a table; the detector was trained on {spec}")
    names = frame.rename(columns=str)
    refuse_twins(where, list(names.columns))
    columns = spec.features or tuple(names.columns)
    missing = [column for column in columns if column not in names.columns]
    if missing:
        raise ValueError(
            f"{where} lacks the columns {quoted(missing)}; the detector was trained on {spec}, "
            f"with columns {quoted(spec.features)}"
        )
    extra = [column for column in names.columns if column not in (*columns, *spec.ignored, spec.name_column)]
    if extra:
        raise ValueError(f"{where} has columns the detector was not trained on: {quoted(extra)}; drop them")
    x = features_of(names, columns, where)
    if tuple(x.shape[1:]) != spec.shape:
        raise ValueError(f"{where} has {x.shape[1]} features; the detector was trained on {spec}")
    return x.to(getattr(torch, spec.dtype))
