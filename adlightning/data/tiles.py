"""Tiles of images as samples. A detector sees tiles alone: an image's score is the highest of its tiles', and its map
is stitched from theirs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adlightning.core.contracts import SourceError
from adlightning.core.tiles import Places, TileSpec, stitched
from adlightning.data.image_headers import read_size
from adlightning.data.sources.images import _THREADS, ImageFiles

if TYPE_CHECKING:
    from pathlib import Path

    from adlightning.data.sources.base import LazyImages


class Tiles:
    """Tiles (C, size, size) of images, image after image, cut when asked for.

    Args:
        images: uint8 (C, H, W) each, of any size that holds a tile.
        sizes: (H, W) of each image.
        spec: how they are cut.

    Raises:
        ValueError: an image is smaller than a tile.
    """

    def __init__(self, images: Tensor | LazyImages, sizes: Sequence[tuple[int, int]], spec: TileSpec) -> None:
        self.images, self.sizes, self.spec = images, list(sizes), spec
        known = {size: spec.corners(*size) for size in dict.fromkeys(self.sizes)}
        corners = [known[size] for size in self.sizes]
        self.counts = np.array([len(of_image) for of_image in corners], dtype=np.int64)
        self.image: Places = np.repeat(np.arange(len(corners)), self.counts)
        self.corners: Places = np.concatenate(corners) if corners else np.empty((0, 2), dtype=np.int64)
        self._held: tuple[int, Tensor] | None = None  # the image last asked for: its tiles come one after the other

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, index: int) -> Tensor:
        place = int(self.image[index])
        held = self._held
        if held is None or held[0] != place:
            self._held = held = place, self.images[place]
        row, column = self.corners[index]
        return held[1][:, row : row + self.spec.size, column : column + self.spec.size]

    def of(self, images: NDArray[np.int64]) -> Places:
        """The tiles of images at these places, image after image."""
        first = np.cumsum(self.counts) - self.counts
        parts = [np.arange(first[i], first[i] + self.counts[i]) for i in images]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)

    def at(self) -> list[str]:
        """Where each tile lies in its image, `row,column` of its upper left pixel."""
        return [f"{row},{column}" for row, column in self.corners.tolist()]

    def in_memory(self, memory_budget_mb: int) -> Tensor | Tiles:
        """All tiles, (N, C, size, size), where they take no more than so many MiB. Raises SourceError."""
        first = self.images[0]
        if len(self) * first.shape[0] * math.prod((self.spec.size,) * 2) > memory_budget_mb * 2**20:
            return self
        tiles = torch.empty(len(self), first.shape[0], self.spec.size, self.spec.size, dtype=torch.uint8)

        def fill(place: int) -> None:
            image = self.images[place]
            for index in self.of(np.array([place])):
                row, column = self.corners[index]
                tiles[index] = image[:, row : row + self.spec.size, column : column + self.spec.size]

        with ThreadPoolExecutor(_THREADS) as pool:
            for _ in pool.map(fill, range(len(self.sizes))):
                pass
        return tiles

    def maps(self, of_tiles: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """Maps (H, W) of the images, one after the other, from those of all tiles in order."""
        pairs = zip(self.image.tolist(), self.corners, of_tiles, strict=True)
        for place, of_image in groupby(pairs, key=lambda pair: pair[0]):
            _, corners, parts = zip(*of_image, strict=True)
            yield stitched(parts, np.array(corners), self.sizes[place])


def tiles_of_files(files: ImageFiles, spec: TileSpec) -> Tiles:
    """Tiles of image files, by their headers. Raises SourceError for one that is smaller than a tile, or unreadable."""
    with ThreadPoolExecutor(_THREADS) as pool:
        sizes = list(pool.map(lambda path: size_for_tiles(path, files.resize, spec), files.paths))
    return Tiles(files, sizes, spec)


def size_for_tiles(path: Path, resize: tuple[int, int] | None, spec: TileSpec) -> tuple[int, int]:
    """Size (H, W) of an image that is cut into tiles. Raises SourceError for one that is smaller than a tile."""
    _, height, width = read_size(path)
    size = resize or (height, width)
    if min(size) < spec.size:
        raise SourceError(
            f"{path} has {size[0]}x{size[1]} pixels (height x width), less than a tile: tile={spec.size} must be at "
            f"most {min(size)}"
        )
    return size
