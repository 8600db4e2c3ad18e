"""Parts of sources chosen from, made alike and put one after the other; images that are decoded lazily stay so."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2.functional import rgb_to_grayscale

from adlightning.data.sources.base import LazyImages, Samples
from adlightning.preprocessing.images import resized

_CHUNK = 1000  # images resized at a time: as floats they take four times the memory


def chosen(samples: Samples, rows: NDArray[np.int64]) -> Samples:
    """The samples of these rows, in this order."""
    x = samples.x[torch.from_numpy(rows)] if isinstance(samples.x, Tensor) else _Chosen(samples.x, rows)
    return Samples(x, samples.y[rows], tuple(samples.names[row] for row in rows))


def joined(first: Samples, second: Samples, prefix: str = "") -> Samples:
    """The first part followed by the second one, whose names get `prefix` before them."""
    x: Tensor | LazyImages = _Joined([first.x, second.x])
    if isinstance(first.x, Tensor) and isinstance(second.x, Tensor):
        x = torch.cat([first.x, second.x])
    names = (*first.names, *(f"{prefix}{name}" for name in second.names))
    return Samples(x, np.concatenate([first.y, second.y]), names)


def rows_not_among(samples: Samples, others: Samples, rows: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Rows of samples that equal none of these rows of the others, value by value; None where either is lazy."""
    if not (isinstance(samples.x, Tensor) and isinstance(others.x, Tensor)):
        return None
    coarse = samples.x.dtype if samples.x.dtype.itemsize < others.x.dtype.itemsize else others.x.dtype
    seen = {x.numpy().tobytes() for x in others.x[rows].to(coarse)}
    return np.array([i for i, x in enumerate(samples.x.to(coarse)) if x.numpy().tobytes() not in seen], dtype=np.int64)


def matched(samples: Samples, shape: tuple[int, ...]) -> Samples:
    """Images uint8 with the channels and the size of others, (C, H, W) with C 1 or 3.

    Colour becomes grey by the luma weights of ITU-R 601, as in torchvision, grey becomes colour by repetition; then
    images are resized, bilinear and antialiased. Raises ValueError for other numbers of channels.
    """
    found = tuple(samples.x[0].shape)
    if found == tuple(shape):
        return samples
    if found[0] != shape[0] and {found[0], shape[0]} != {1, 3}:
        raise ValueError(f"images of {found[0]} channels cannot be made images of {shape[0]}, only 1 and 3 convert")
    matching, x = _Matching(shape), samples.x
    alike = _Matched(x, matching) if not isinstance(x, Tensor) else torch.cat([matching(p) for p in x.split(_CHUNK)])
    return Samples(alike, samples.y, samples.names)


def in_memory(samples: Samples) -> Samples:
    """The samples with all their images decoded."""
    x = samples.x
    return Samples(x if isinstance(x, Tensor) else torch.stack([x[i] for i in range(len(x))]), samples.y, samples.names)


class _Matching:
    """Images uint8 (N, C, H, W) to the channels and the size of `shape`."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def __call__(self, x: Tensor) -> Tensor:
        if x.shape[1] == 3 and self.shape[0] == 1:
            x = rgb_to_grayscale(x)
        if x.shape[1] == 1 and self.shape[0] == 3:
            x = x.expand(-1, 3, -1, -1)
        return resized(x, (self.shape[1], self.shape[2])) if tuple(x.shape[2:]) != self.shape[1:] else x.contiguous()


class _Matched:
    """Images that are made alike when asked for."""

    def __init__(self, images: LazyImages, matching: _Matching) -> None:
        self.images, self.matching = images, matching

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.matching(self.images[index][None])[0]


class _Chosen:
    """Those of some lazy images, in this order."""

    def __init__(self, images: LazyImages, rows: NDArray[np.int64]) -> None:
        self.images, self.rows = images, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[int(self.rows[index])]


class _Joined:
    """Images of one kind, some of them lazy, one after the other."""

    def __init__(self, parts: Sequence[Tensor | LazyImages]) -> None:
        self.parts = parts

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def __getitem__(self, index: int) -> Tensor:
        for part in self.parts[:-1]:
            if index < len(part):
                return part[index]
            index -= len(part)
        return self.parts[-1][index]
