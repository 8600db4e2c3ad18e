"""Image files: whether they are all alike, and decoding to uint8 tensors."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from adlightning.core.contracts import SourceError
from adlightning.data.image_headers import GREY, Shape, Size, opened_image, read_size

_THREADS = min(16, os.cpu_count() or 1)

_LARGE = 2**23  # pixels of images that are decoded one after the other, whatever the number of threads
_one_large = threading.Lock()


def checked_size(resize: Size | int | None) -> Size | None:
    """(H, W) of `[H, W]`, or of one side for both. Raises ValueError for anything else."""
    size = (resize, resize) if isinstance(resize, int) else resize
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise ValueError(f"resize must be one or two positive numbers, got {resize}")
    return None if size is None else (size[0], size[1])


def decode(path: Path, resize: tuple[int, int] | None = None, channels: int | None = None) -> Tensor:
    """One image as uint8 (C, H, W), turned upright by its EXIF orientation.

    Bilevel and grey images have 1 channel; colour, palette and CMYK images become RGB, 3. Transparency is dropped.

    Args:
        path: the file.
        resize: (H, W), bilinear with antialiasing; None keeps the size.
        channels: 1 or 3 converts; None keeps what the image has.

    Raises:
        SourceError: the file is missing, truncated, no image, too large, of several frames, or of more than 8 bits a
            value.
    """
    with opened_image(path) as (image, turn), _one_large if math.prod(image.size) > _LARGE else nullcontext():
        image = image if turn is None else image.transpose(turn)
        grey = channels == 1 or (channels is None and image.mode in GREY)
        if image.mode == "P" and not grey:
            image = image.convert("RGBA")  # palettes with transparency have no direct way to RGB
        image = image.convert("L" if grey else "RGB")
        if resize is not None:
            image = image.resize((resize[1], resize[0]), Image.Resampling.BILINEAR)
        pixels = np.array(image)
    return torch.from_numpy(pixels[None] if grey else np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def how_decoded(shape: Sequence[int], resize: Size | None) -> dict[str, Any]:
    """What :func:`decode` does to files of images of a shape (C, H, W), in plain values, for readers without it."""
    return {
        "orientation": "upright, by the EXIF orientation",
        "mode": "L" if shape[0] == 1 else "RGB",
        "palette": "through RGBA to RGB" if shape[0] == 3 else "to L",
        "transparency": "dropped",
        "resize": None if resize is None else list(resize),
        "filter": None if resize is None else "PIL.Image.Resampling.BILINEAR",
        "aspect_ratio": "as it is" if resize is None else "not kept: height and width are resized each",
        "dtype": "uint8",
        "layout": "BCHW",
    }


def check_uniform(paths: Sequence[Path], resize: tuple[int, int] | None = None, channels: int | None = None) -> Shape:
    """The one shape (C, H, W) that `decode(path, resize, channels)` gives for all of these files, by headers alone.

    Raises:
        SourceError: a file is no readable image, sizes differ and `resize` is None, or grey and colour are mixed and
            `channels` is None; the message names two files.
        ValueError: `paths` is empty.
    """
    if not paths:
        raise ValueError("paths must name at least one image, got none")
    with ThreadPoolExecutor(_THREADS) as pool:
        shapes = list(pool.map(read_size, paths))
    first_channels, *first_size = shapes[0]
    for path, (c, *size) in zip(paths, shapes, strict=True):
        if resize is None and size != first_size:
            raise SourceError(
                f"images differ in size (height x width): {paths[0]} is {first_size[0]}x{first_size[1]}, "
                f"{path} is {size[0]}x{size[1]}; set resize, for instance to [{first_size[0]}, {first_size[1]}]"
            )
        if channels is None and c != first_channels:
            words = {1: "grey", 3: "colour"}
            raise SourceError(
                f"grey and colour images are mixed: {paths[0]} is {words[first_channels]}, {path} is {words[c]}; "
                f"set channels to 1 or 3"
            )
    height, width = resize or first_size
    return channels or first_channels, height, width


class ImageFiles:
    """Image files that are decoded when asked for; see :func:`decode` for the arguments."""

    def __init__(self, paths: Sequence[Path], resize: tuple[int, int] | None, channels: int | None) -> None:
        self.paths = list(paths)
        self.resize = resize
        self.channels = channels

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        return decode(self.paths[index], self.resize, self.channels)


def within_budget(files: ImageFiles, shape: Shape, memory_budget_mb: int) -> Tensor | ImageFiles:
    """All images of this shape in memory where they fit in so many MiB, else the files. Raises SourceError."""
    return load_all(files) if len(files) * math.prod(shape) <= memory_budget_mb * 2**20 else files


def load_all(files: ImageFiles) -> Tensor:
    """All images, at least one, as uint8 (N, C, H, W).

    Raises:
        SourceError: an image cannot be decoded (see :func:`decode`), or its shape is not that of the first.
    """
    shape = files[0].shape
    images = torch.empty(len(files), *shape, dtype=torch.uint8)

    def fill(index: int) -> None:
        image = files[index]
        if image.shape != shape:
            shapes = f"{tuple(image.shape)}, {files.paths[0]} {tuple(shape)}"
            raise SourceError(f"images differ in shape: {files.paths[index]} is {shapes}")
        images[index] = image

    with ThreadPoolExecutor(_THREADS) as pool:  # decoding lets other threads run
        for _ in pool.map(fill, range(len(files))):
            pass
    return images
