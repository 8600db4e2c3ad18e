"""Samples of several images: groups of one kind, stacked one above the other, for scores of a batch of images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adlightning.data.sources.base import LazyImages, Samples

Indices = NDArray[np.int64]


def grouped(samples: Samples, kinds: Sequence[Indices], size: int, seed: int) -> tuple[Samples, list[Indices]]:
    """Samples of `size` images each, (C, size H, W), and the rows of each kind's.

    Groups are drawn at random within a kind, without replacement and whatever other kinds there are; images that fill
    no group are left out. A group has the class of its first image, and the names of all.

    Args:
        samples: single images.
        kinds: rows of samples of one kind, for each kind.
        size: images in a group.
        seed: of the draw.

    Raises:
        ValueError: a kind of fewer images than a group has.
    """
    groups, rows, first = [], [], 0
    for kind in kinds:
        n = len(kind) // size
        if len(kind) and not n:
            raise ValueError(f"batch_of={size} needs as many images of a kind, there are {len(kind)} of one")
        rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(15)[14])  # apart from all other streams
        groups.append(rng.permutation(kind)[: n * size].reshape(n, size))
        rows.append(first + np.arange(n))
        first += n
    members = np.concatenate(groups)
    names = tuple(" + ".join(samples.names[row] for row in group) for group in members)
    return Samples(_stacked(samples.x, members), samples.y[members[:, 0]], names), rows


def _stacked(x: Tensor | LazyImages, members: Indices) -> Tensor | LazyImages:
    if not isinstance(x, Tensor):
        return _Stacked(x, members)
    return x[torch.from_numpy(members)].transpose(1, 2).flatten(2, 3)  # (N, C, size, H, W) before its rows are joined


class _Stacked:
    """Groups of lazy images, decoded when asked for."""

    def __init__(self, images: LazyImages, members: Indices) -> None:
        self.images, self.members = images, members

    def __len__(self) -> int:
        return len(self.members)

    def __getitem__(self, index: int) -> Tensor:
        return torch.cat([self.images[int(row)] for row in self.members[index]], dim=1)
