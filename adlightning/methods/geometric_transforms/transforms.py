"""The 72 geometric transforms of GEOM (Golan and El-Yaniv, 2018) as one gather of pixels.

Each is, in this order: a horizontal flip or none; a translation by 0 or +-a quarter of the side along the rows and the
columns, the gap filled by reflection; a rotation by a multiple of 90 degrees. All of them only move pixels, so a
transform is a list of the pixels that it takes, and uint8 images stay uint8.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Literal, NamedTuple

import torch
from torch import Tensor


class Transform(NamedTuple):
    """A flip, then a translation, then a rotation.

    The translated image takes its pixel (i, j) from (i + rows, j + columns) quarters of a side, so that a positive
    number moves it up or to the left; GEOM's code calls the two tx and ty.
    """

    flip: bool
    rows: int
    columns: int
    quarter_turns: int
    """Counter-clockwise."""


TRANSFORMS: tuple[Transform, ...] = tuple(
    Transform(*parts) for parts in product((False, True), (0, -1, 1), (0, -1, 1), range(4))
)
"""By their index, which is also the class that a network tells them apart by; the first leaves an image as it is."""


Group = Literal["flip", "translation", "rotation"]
GROUPS: tuple[Group, ...] = ("flip", "translation", "rotation")


def of_groups(groups: Sequence[Group]) -> tuple[Transform, ...]:
    """Those of :data:`TRANSFORMS`, in their order, that do only what is named: a flip alone gives two of them."""

    def does(transform: Transform) -> set[Group]:
        done = transform.flip, bool(transform.rows or transform.columns), bool(transform.quarter_turns)
        return {group for group, it in zip(GROUPS, done, strict=True) if it}

    return tuple(transform for transform in TRANSFORMS if does(transform) <= set(groups))


def source_pixels(height: int, width: int, transforms: Sequence[Transform] = TRANSFORMS) -> Tensor:
    """Where each of T transforms takes each pixel from: (T, H * W), indices into the image's flattened pixels.

    Raises:
        ValueError: images that are not square, or smaller than 4x4, where a quarter of the side is no pixel.
    """
    if height != width or height < 4:
        raise ValueError(f"images must be square and at least 4x4 for geometric transforms, got {height}x{width}")
    pixels = torch.arange(height * width).view(height, width)
    return torch.stack([_apply(transform, pixels).flatten() for transform in transforms])


def transform_all(images: Tensor, sources: Tensor) -> Tensor:
    """Every image under every transform: (B, T, C, H, W) of images (B, C, H, W), of their type.

    Args:
        images: of any type.
        sources: :func:`source_pixels` of their size, on their device.

    Raises:
        ValueError: images of another size.
    """
    _check(images, sources)
    batch, channels, height, width = images.shape
    n_transforms, n_pixels = sources.shape
    pixels = images.flatten(2)[:, None].expand(-1, n_transforms, -1, -1)
    taken = sources[None, :, None].expand(batch, -1, channels, n_pixels)
    return pixels.gather(3, taken).view(batch, n_transforms, channels, height, width)


def transform_each(images: Tensor, which: Tensor, sources: Tensor) -> Tensor:
    """Each image under a transform of its own: (B, C, H, W) of images (B, C, H, W), of their type.

    Args:
        images: of any type.
        which: index (B,) of each image's transform among those of `sources`.
        sources: :func:`source_pixels` of their size, on their device.

    Raises:
        ValueError: images of another size.
    """
    _check(images, sources)
    taken = sources[which][:, None].expand(-1, images.shape[1], -1)
    return images.flatten(2).gather(2, taken).view(images.shape)


def _apply(transform: Transform, image: Tensor) -> Tensor:
    side = image.shape[0]
    if transform.flip:
        image = image.flip(1)
    rows = _reflected(side, transform.rows * (side // 4))
    columns = _reflected(side, transform.columns * (side // 4))
    return image[rows][:, columns].rot90(transform.quarter_turns)


def _reflected(side: int, shift: int) -> Tensor:
    """Positions 0 to side - 1, shifted; those beyond a border are mirrored at it, with the border's pixel repeated."""
    positions = torch.arange(side) + shift
    positions = torch.where(positions < 0, -1 - positions, positions)
    return torch.where(positions >= side, 2 * side - 1 - positions, positions)


def _check(images: Tensor, sources: Tensor) -> None:
    side = images.shape[-1]
    if images.dim() != 4 or images.shape[-2] != side or side**2 != sources.shape[1]:
        raise ValueError(
            f"images must be (B, C, H, W) with H = W and {sources.shape[1]} pixels, as the transforms were made for, "
            f"got the shape {tuple(images.shape)}"
        )
