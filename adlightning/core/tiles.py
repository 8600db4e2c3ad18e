"""Tiles of large images: where they lie, and what their scores and maps say of the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.int64]


@dataclass(frozen=True)
class TileSpec:
    """How images are cut into tiles, as a checkpoint keeps it.

    Args:
        size: side of a tile in pixels, at least 1.
        overlap: pixels that neighbours share, at least 0 and less than `size`.

    Raises:
        ValueError: a number outside its range.
    """

    size: int
    overlap: int

    def __post_init__(self) -> None:
        if type(self.size) is not int or self.size < 1:
            raise ValueError(f"tile must be a whole number of pixels and at least 1, got {self.size!r}")
        if type(self.overlap) is not int or not 0 <= self.overlap < self.size:
            raise ValueError(f"overlap must be a whole number in [0, tile), got {self.overlap!r} with tile={self.size}")

    def as_dict(self) -> dict[str, Any]:
        """Plain values by name."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TileSpec:
        """The inverse of :meth:`as_dict`. Raises ValueError for values that it does not give."""
        if set(values) != {own.name for own in fields(cls)}:
            raise ValueError("tiles of an input are none")
        return cls(**values)

    def corners(self, height: int, width: int) -> Places:
        """Upper left corners (n, 2) of the tiles of an image, row by row. The last ones end where the image ends.

        Raises:
            ValueError: the image is smaller than a tile.
        """
        if min(height, width) < self.size:
            raise ValueError(f"{height}x{width} (height x width) is less than a tile of {self.size}x{self.size}")
        rows, columns = (
            np.append(np.arange(0, side - self.size, self.size - self.overlap, dtype=np.int64), side - self.size)
            for side in (height, width)
        )
        return np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)


def highest(scores: NDArray[np.float64], image: Places) -> Places:
    """Places, ascending, of the tile that scores highest of each image; the first of several.

    Args:
        scores: of tiles, (N,).
        image: which image each lies in, (N,), not descending.
    """
    order = np.lexsort((np.arange(len(scores)), -scores, image))
    first: Places = order[np.flatnonzero(np.diff(image[order], prepend=-1))]
    return first


def stitched(maps: Sequence[NDArray[np.float32]], corners: Places, size: tuple[int, int]) -> NDArray[np.float32]:
    """The map (H, W) of an image from those of its tiles; where they overlap, their mean.

    Args:
        maps: of the tiles, (h, w) each.
        corners: their upper left corners (n, 2), which cover the image.
        size: of the image, (H, W).
    """
    total, counts = np.zeros(size), np.zeros(size)
    for tile, (row, column) in zip(maps, corners, strict=True):
        at = slice(row, row + tile.shape[0]), slice(column, column + tile.shape[1])
        total[at] += tile
        counts[at] += 1
    return (total / counts).astype(np.float32)
