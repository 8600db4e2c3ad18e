"""The one size and number of channels of images that differ, chosen from what there is; pure functions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from adlightning.core.pictures import ResizeMode
from adlightning.data.image_headers import Shape, Size

LARGEST = 256
"""Pixels a side that images keep where nobody says another size."""

ALIKE = 1.1
"""Aspect ratios that differ by less than this factor are taken for one."""


@dataclass(frozen=True)
class Chosen:
    """What images are brought to.

    Args:
        resize: (H, W); None where all have one size, of at most :data:`LARGEST` pixels a side.
        channels: 1 or 3; None where all are grey, or all colour.
        why_resize: the first in words; empty for None.
        why_channels: the second.
    """

    resize: Size | None
    channels: Literal[1, 3] | None
    why_resize: str = ""
    why_channels: str = ""


def choose(training: Sequence[Shape], others: Sequence[Shape] = (), resize_mode: ResizeMode = "squash") -> Chosen:
    """The size and the channels of images of these shapes (C, H, W), by those to train on alone.

    The size is the median height and the median width, shrunk to :data:`LARGEST`; grey and colour become colour.

    Args:
        training: of the images to train on, at least one.
        others: of images that are tested: they become as those are.
        resize_mode: how images come to a size, for the words.

    Raises:
        ValueError: there is no image to train on.
    """
    if not training:
        raise ValueError("training must name the shape of an image, got none")
    every = [*training, *others]
    resize, why_resize = _size(training, every, resize_mode)
    depths, trained = {shape[0] for shape in every}, {shape[0] for shape in training}
    channels: Literal[1, 3] | None = None
    why_channels = ""
    if len(depths) > 1:
        n_grey = sum(shape[0] == 1 for shape in every)
        channels = 1 if trained == {1} else 3
        become = "grey, as those to train on are" if channels == 1 else "colour"
        why_channels = f"of {len(every):,} images {n_grey:,} are grey, others colour: all become {become} (channels)"
    return Chosen(resize, channels, why_resize, why_channels)


def _size(training: Sequence[Shape], every: Sequence[Shape], mode: ResizeMode) -> tuple[Size | None, str]:
    sizes = Counter((height, width) for _, height, width in every)
    (height, width), *_ = sizes
    if len(sizes) == 1 and max(height, width) <= LARGEST:
        return None, ""
    wanted = (_median(h for _, h, _ in training), _median(w for _, _, w in training))
    target = within(wanted, LARGEST)
    what = f"images are {height}x{width}" if len(sizes) == 1 else f"images have {len(sizes)} sizes, {_span(sizes)}"
    words = f"{what} (height x width): each is brought to {target[0]}x{target[1]} (resize)"
    if differ_in_ratio([*sizes, target]):
        squash = ", whatever its aspect ratio; resize_mode=pad or crop keeps it"
        words += squash if mode == "squash" else f", its aspect ratio kept (resize_mode={mode})"
    return target, words


def within(size: Size, largest: int) -> Size:
    """A size (H, W) shrunk so that no side has more pixels than this, the aspect ratio kept."""
    scale = min(1.0, largest / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def differ_in_ratio(sizes: Iterable[Size]) -> bool:
    """Whether aspect ratios differ by a tenth or more."""
    ratios = [math.log(height / width) for height, width in sizes]
    return max(ratios) - min(ratios) >= math.log(ALIKE)


def _median(sides: Iterable[int]) -> int:
    ordered = sorted(sides)
    return ordered[(len(ordered) - 1) // 2]


def _span(sizes: Iterable[Size]) -> str:
    ordered = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    return f"{ordered[0][0]}x{ordered[0][1]} to {ordered[-1][0]}x{ordered[-1][1]}"
