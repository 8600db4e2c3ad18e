"""Samples in memory as the raw input that a detector was trained on; the same checks in Python and for the verbs."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from adlightning.core.above import from_above
from adlightning.core.contracts import InputSpec
from adlightning.core.features import as_features, features_of, refuse_twins
from adlightning.core.messages import quoted
from adlightning.files.disk import user_path

ChannelOrder = Literal["first", "last"]

_CHANNELS = (1, 3, 4)
_IMAGES = "uint8 in 0..255 or floats in [0, 1] are needed"


def raw_batches(x: object, spec: InputSpec, batch_size: int) -> Iterator[Tensor]:
    """Samples as :func:`raw_input` takes them, or those at a path, batch by batch; none where there is no sample.

    Args:
        x: the samples, or the path of a folder of images, an image, a table, an .npy or .npz.
        spec: what the detector was trained on.
        batch_size: samples at a time.

    Raises:
        ValueError: as :func:`raw_input`, or a path at which nothing lies that the detector could score.
    """
    if isinstance(x, (str, Path)):
        batches: Iterator[Tensor] = from_above("data.own_samples", "sample_batches")(user_path(x), spec, batch_size)
        return batches
    raw = raw_input(x, spec)
    return iter(raw.split(batch_size) if len(raw) else ())


def raw_input(x: object, spec: InputSpec) -> Tensor:
    """Samples (N, ...) on the host, as `spec` has them: uint8 images (N, C, H, W), float32 or float64
    features or series.

    Images may be floats in [0, 1], which are rounded to 256 values, and may have their channels last.

    Args:
        x: a NumPy array, a tensor or, for a table, a pandas frame, whose columns are matched by name.
        spec: what the detector was trained on.

    Raises:
        ValueError: of another type, kind, dtype, shape or columns, or values that are not finite.
    """
    if isinstance(x, pd.DataFrame):
        return frame_input(x, spec, "x")
    return array_input(as_array(x, "x"), spec, "x")


def as_array(x: object, what: str) -> NDArray[Any]:
    """A NumPy array, or a tensor as one.

    Args:
        x: an array or a tensor, on any device.
        what: the samples in words, for messages.

    Raises:
        ValueError: of another type, sparse, without values, or with masked ones.
    """
    if isinstance(x, Tensor):
        if x.layout != torch.strided or x.is_quantized or x.is_meta:
            raise ValueError(
                f"{what} must be a dense tensor with values, got one of {x.layout}, {x.dtype} on {x.device}"
            )
        x = x.detach().cpu()
        x = (x.float() if x.dtype == torch.bfloat16 else x).numpy()  # which NumPy does not have
    if not isinstance(x, np.ndarray):
        raise ValueError(f"{what} must be a NumPy array, a tensor or a pandas frame, got a {type(x).__name__}")
    if np.ma.is_masked(x):
        raise ValueError(f"{what} must hold every value, got an array with {np.ma.count_masked(x)} masked ones")  # type: ignore[no-untyped-call]
    return x


def order_of_channels(array: NDArray[Any], what: str, given: ChannelOrder | None = None) -> ChannelOrder:
    """Where images (N, C, H, W) or (N, H, W, C) have their channels; (N, H, W) has one.

    Raises:
        ValueError: both or neither can be meant, and nobody says which.
    """
    if given is not None or array.ndim == 3:
        return given or "first"
    first, last = array.shape[1] in _CHANNELS, array.shape[3] in _CHANNELS
    if first == last:
        raise ValueError(
            f"{what} holds images of shape {array.shape[1:]}, whose channels may come first or last: say "
            "channels='first' or channels='last'"
        )
    return "first" if first else "last"


def image_bytes(array: NDArray[Any], what: str, order: ChannelOrder) -> Tensor:
    """Images as uint8 (N, C, H, W); floats in [0, 1] are rounded to 256 values.

    Raises:
        ValueError: of another type, or values outside [0, 1].
    """
    if array.dtype.kind == "f":
        outside = ~((array >= 0) & (array <= 1))
        if outside.any():
            raise ValueError(f"{what} holds images with the value {array[outside][0]}: {_IMAGES}")
        array = np.rint(array.astype(np.float64) * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise ValueError(f"{what} holds {array.dtype} images: {_IMAGES}")
    array = array[:, None] if array.ndim == 3 else array.transpose(0, 3, 1, 2) if order == "last" else array
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


def array_input(array: NDArray[Any], spec: InputSpec, where: str) -> Tensor:
    """An array (N, ...) as raw samples; images are (N, C, H, W), (N, H, W, C), or (N, H, W) of one channel.

    Args:
        array: the samples.
        spec: what the detector was trained on.
        where: the array in words, for messages.

    Raises:
        ValueError: of another dtype or shape, or values that are not finite.
    """
    if array.dtype.kind not in "buif" or array.ndim == 0:
        raise ValueError(f"{where} holds {array.dtype} of {array.ndim} dimensions, numbers are needed")
    shape = array.shape[1:]
    if spec.kind == "image" and array.ndim in (3, 4):
        is_last = array.ndim == 4 and shape == (*spec.shape[1:], spec.shape[0]) != spec.shape
        if is_last or spec.shape in (shape, (1, *shape)):
            return image_bytes(array, where, "last" if is_last else "first")
    if spec.kind == "image" or shape != spec.shape:
        shown = "x".join(map(str, shape)) or "one number"
        raise ValueError(f"{where} holds samples of {shown}; the detector was trained on {spec}")
    may_miss = spec.columns is not None and spec.columns.missing != "refuse"
    return as_features(array, where, may_miss).to(getattr(torch, spec.dtype))


def columns_that_differ(frame: pd.DataFrame, spec: InputSpec, others: Collection[str | None] = ()) -> list[str]:
    """Which columns of a table are missing and which are unknown, in words, a sentence each; their order is free.

    Args:
        frame: the table, with text for names.
        spec: what the detector was trained on.
        others: columns that may be there beside those that training ignored.
    """
    columns = spec.features or tuple(frame.columns)
    missing = [column for column in columns if column not in frame.columns]
    known = {*columns, *spec.ignored, spec.name_column, *others}
    extra = [column for column in frame.columns if column not in known]
    alike = {name: other for name in missing for other in extra if other.strip().casefold() == name.strip().casefold()}
    meant = ", ".join(f"{other!r} is {name!r}?" for name, other in alike.items())
    words = []
    if missing:
        words.append(f"lacks the columns {quoted(missing)} of {quoted(columns)}" + (f" ({meant})" if meant else ""))
    if extra:
        words.append(f"has columns the detector was not trained on: {quoted(extra)}: leave them out (drop_columns)")
    return words


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
    names, columns = trained_columns(frame, spec, where)
    x = features_of(names, columns, where, spec.columns, scoring=True)
    if tuple(x.shape[1:]) != spec.shape:
        raise ValueError(f"{where} has {x.shape[1]} features; the detector was trained on {spec}")
    return x.to(getattr(torch, spec.dtype))


def trained_columns(
    frame: pd.DataFrame, spec: InputSpec, where: str | Path, others: Collection[str | None] = ()
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """A frame with its columns' names as text, and those that are features, in the detector's order.

    Args:
        frame: the table.
        spec: what the detector was trained on.
        where: the table in words, for messages.
        others: columns that may be there beside those that training ignored.

    Raises:
        ValueError: columns are missing or unknown, or two have one name.
    """
    names = frame.rename(columns=str)
    refuse_twins(where, list(names.columns))
    columns = spec.features or tuple(names.columns)
    if wrong := columns_that_differ(names, spec, others):
        raise ValueError(f"{where} {'; and '.join(wrong)}; the detector was trained on {spec}")
    return names, columns
