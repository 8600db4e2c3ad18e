"""Parts of sources chosen from and put one after the other; images that are decoded lazily stay so."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adlightning.data.sources.base import LazyImages, Samples


def chosen(samples: Samples, rows: NDArray[np.int64]) -> Samples:
    """The samples of these rows, in this order."""
    x = samples.x[torch.from_numpy(rows)] if isinstance(samples.x, Tensor) else _Chosen(samples.x, rows)
    return Samples(x, samples.y[rows], tuple(samples.names[row] for row in rows))


def joined(first: Samples, second: Samples, prefix: str = "") -> Samples:
    """The first part followed by the second one, whose names get `prefix` before them."""
    x: Tensor | LazyImages = _Joined([first.x, second.x])
    if isinstance(first.x, Tensor) and isinstance(second.x, Tensor):
        x = torch.cat([first.x, second.x])
    names = first.names + tuple(f"{prefix}{name}" for name in second.names)
    return Samples(x, np.concatenate([first.y, second.y]), names)


def rows_not_among(samples: Samples, others: Samples, rows: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Rows of samples that equal none of these rows of the others, value by value; None where either is lazy."""
    if not (isinstance(samples.x, Tensor) and isinstance(others.x, Tensor)):
        return None
    seen = {others.x[int(row)].numpy().tobytes() for row in rows}
    return np.array([i for i, x in enumerate(samples.x) if x.numpy().tobytes() not in seen], dtype=np.int64)


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
