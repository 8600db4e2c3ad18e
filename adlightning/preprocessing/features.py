"""Preprocessing of tables (B, D) and series (B, T, D)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from torch import Tensor

from adlightning.preprocessing.base import Batches, Preprocessing, or_one, require_samples

FARTHEST = 1e9
"""Deviations from the mean at most: a value further out counts as one so far out. Its fourth power is a float32."""


class Centre(Preprocessing):
    """Samples in float64 minus given values, in float64, then float32: what float32 would round away is kept.

    Args:
        shape: of a sample.
        offsets: one a value of a sample, flat.
    """

    output = "linear"
    offsets: Tensor

    def __init__(self, shape: tuple[int, ...], offsets: Sequence[float]) -> None:
        super().__init__(shape)
        # not in a state_dict: the input that a checkpoint describes has them, in full
        values = torch.tensor(offsets, dtype=torch.float64).view(*shape)
        self.register_buffer("offsets", values, persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move to a device. Raises ValueError where it has no float64."""
        try:
            moved: Self = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # of torch
        except TypeError as error:
            raise ValueError(
                "the device has no float64, which features need that differ by little and lie far from 0: take the CPU "
                "(--trainer.accelerator=cpu to train and test, --device=cpu to score)"
            ) from error
        return moved

    def forward(self, x: Tensor) -> Tensor:
        """What is left, in float32."""
        return (x.double() - self.offsets).float()


class _FeatureScaling(Preprocessing):
    """(x - shift) / scale of samples of one shape; each feature, or each feature at each time, has its own.

    The result lies within :data:`FARTHEST`, so that one absurd value overflows nothing that follows.
    """

    kinds: ClassVar[tuple[str, ...]] = ("table", "series")
    finds_far = True
    shift: Tensor
    scale: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(shape)
        self.register_buffer("shift", torch.zeros(*shape))
        self.register_buffer("scale", torch.ones(*shape))

    def _stream(self, scaler: Any, batches: Batches) -> None:
        """Fit a scikit-learn scaler in float64, batch by batch."""
        n = 0
        for x in batches():
            self._require_shape(x)
            if len(x):
                scaler.partial_fit(x.cpu().double().flatten(1).numpy())
                n += len(x)
        require_samples(n)

    def _set(self, shift: Any, scale: Any) -> None:
        self.shift.copy_(torch.as_tensor(shift).view_as(self.shift))
        self.scale.copy_(or_one(torch.as_tensor(scale).view_as(self.scale).float()))

    def forward(self, x: Tensor) -> Tensor:
        """Scaled samples."""
        if not self.ready:
            self.refuse()
        self._require_shape(x)
        return ((x.float() - self.shift) / self.scale).clamp(-FARTHEST, FARTHEST)

    def is_far(self, x: Tensor) -> Tensor:
        """Whether a value lies :data:`FARTHEST` or more out."""
        far: Tensor = self(x).abs() >= FARTHEST
        return far.flatten(1).any(dim=1)

    def _require_shape(self, x: Tensor) -> None:
        if x.shape[1:] != self.shift.shape:
            raise ValueError(f"x must hold samples of shape {tuple(self.shift.shape)}, got {tuple(x.shape[1:])}")


class StandardizeFeatures(_FeatureScaling):
    """Samples (B, D) or (B, T, D) to mean 0 and population standard deviation 1; a constant feature is divided by 1.

    Args:
        shape: of a sample.
        offset: added to each standard deviation, also to that of a constant feature, which is then divided by it alone:
            1e-4 in DROCC's released code, so that a deviation from a constant is enormous.
    """

    output = "linear"

    def __init__(self, shape: tuple[int, ...], offset: float = 0.0) -> None:
        super().__init__(shape)
        self.offset = offset

    def _fit(self, batches: Batches) -> None:
        scaler = StandardScaler()
        self._stream(scaler, batches)
        self._set(scaler.mean_, scaler.var_**0.5 + self.offset if self.offset else scaler.scale_)


class StandardizeSeries(_FeatureScaling):
    """Series (B, T, D) to mean 0 and standard deviation 1 of each feature over all steps: the same at each step.

    For windows, in which a step has no meaning of its own. A constant feature is divided by 1.

    Args:
        shape: of a sample.
    """

    kinds = ("series",)
    output = "linear"

    def _fit(self, batches: Batches) -> None:
        scaler, n = StandardScaler(), 0
        for x in batches():
            self._require_shape(x)
            if len(x):
                scaler.partial_fit(x.cpu().double().flatten(0, 1).numpy())
                n += len(x)
        require_samples(n)
        steps = self.shift.shape[0]
        self._set(np.tile(scaler.mean_, (steps, 1)), np.tile(scaler.scale_, (steps, 1)))


class StandardizeMinMax(_FeatureScaling):
    """Samples (B, D) or (B, T, D) standardised, then to [0, 1] by the training extremes of each feature; not clipped.

    Deep SAD's released code on tables (docs/methods/deep_sad.md, S3). The second step undoes the first: together they
    are (x - min) / (max - min), and computed so. A constant feature is 0.

    Args:
        shape: of a sample.
    """

    output = "sigmoid"

    def _fit(self, batches: Batches) -> None:
        scaler = MinMaxScaler()
        self._stream(scaler, batches)
        self._set(scaler.data_min_, 1 / scaler.scale_)
