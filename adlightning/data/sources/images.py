"""Image files: whether they are all alike, and decoding to uint8 tensors."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from adlightning.core.contracts import SourceError
from adlightning.core.pictures import AS_EVER, LEVELS, SIXTEEN_BITS, ImageReading, ResizeMode
from adlightning.data.image_headers import Shape, Size, depth_of, has_alpha, is_grey, opened_image, read_size

_THREADS = min(16, os.cpu_count() or 1)

_LARGE = 2**23  # pixels of images that are decoded one after the other, whatever the number of threads
_one_large = threading.Lock()


def checked_size(resize: Size | int | None) -> Size | None:
    """(H, W) of `[H, W]`, or of one side for both. Raises ValueError for anything else."""
    size = (resize, resize) if isinstance(resize, int) else resize
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise ValueError(f"resize must be one or two positive numbers, got {resize}")
    return None if size is None else (size[0], size[1])


def decode(
    path: Path,
    resize: tuple[int, int] | None = None,
    channels: int | None = None,
    reading: ImageReading = AS_EVER,
) -> Tensor:
    """One image as uint8 (C, H, W), turned upright by its EXIF orientation.

    Bilevel and grey images have 1 channel; colour, palette and CMYK images become RGB, 3. Of 16-bit grey values 65535
    becomes 255, or `reading.white` does; of 16-bit colour the high 8 bits are taken. Of an animation the first frame is
    taken.

    Args:
        path: the file.
        resize: (H, W), bilinear with antialiasing; None keeps the size.
        channels: 1 or 3 converts; None keeps what the image has.
        reading: how the aspect ratio, transparency and values of more than 8 bits are taken.

    Raises:
        SourceError: the file is missing, truncated, no image, too large, of several pages, or of floats or 32-bit
            numbers without a white.
    """
    with (
        opened_image(path, reading) as (image, turn),
        _one_large if math.prod(image.size) > _LARGE else nullcontext(),
    ):
        grey, depth = channels == 1 or (channels is None and is_grey(image)), depth_of(image)
        image = image if turn is None else image.transpose(turn)
        if depth in ("16 grey", "float"):
            image = _eight_bits(path, image, SIXTEEN_BITS if reading.white is None else reading.white)
        elif reading.background is not None and has_alpha(image):
            image = _over(image, LEVELS[reading.background])
        if image.mode == "P" and not grey:
            image = image.convert("RGBA")  # palettes with transparency have no direct way to RGB
        image = image.convert("L" if grey else "RGB")
        if resize is not None:
            image = _sized(image, (resize[1], resize[0]), reading.resize_mode)
        pixels = np.array(image)
    return torch.from_numpy(pixels[None] if grey else np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def _eight_bits(path: Path, image: Image.Image, white: float) -> Image.Image:
    """Grey values to 0..255, of which `white` becomes 255, rounded; values beyond are cut."""
    values = np.asarray(image).astype(np.float32)
    if np.isnan(values).any():
        raise SourceError(f"{path} has pixels that are no numbers (NaN); give them a value first")
    values *= np.float32(255 / white)
    return Image.fromarray(np.rint(values.clip(0, 255, out=values), out=values).astype(np.uint8))


def _over(image: Image.Image, level: int) -> Image.Image:
    """An image with transparency, over one grey level."""
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, (level, level, level, 255)), image).convert("RGB")


def _sized(image: Image.Image, size: tuple[int, int], mode: ResizeMode) -> Image.Image:
    """An image of this width and height; `pad` and `crop` keep its aspect ratio, and its middle in the middle."""
    if mode == "pad":
        return ImageOps.pad(image, size, Image.Resampling.BILINEAR)
    if mode == "crop":
        return ImageOps.fit(image, size, Image.Resampling.BILINEAR)
    return image.resize(size, Image.Resampling.BILINEAR)


def how_decoded(shape: Sequence[int], resize: Size | None, reading: ImageReading | None = None) -> dict[str, Any]:
    """What :func:`decode` does to files of images of a shape (C, H, W), in plain values, for readers without it."""
    reading = reading or AS_EVER
    ratios = {
        "squash": "not kept: height and width are resized each",
        "pad": "kept: PIL.ImageOps.pad, black around",
        "crop": "kept: PIL.ImageOps.fit, what stands out is cut off",
    }
    return {
        "orientation": "upright, by the EXIF orientation",
        "mode": "L" if shape[0] == 1 else "RGB",
        "palette": "through RGBA to RGB" if shape[0] == 3 else "to L",
        "transparency": "dropped" if reading.background is None else f"over {reading.background}",
        "background": None if reading.background is None else LEVELS[reading.background],
        "white": SIXTEEN_BITS if reading.white is None else reading.white,
        "resize": None if resize is None else list(resize),
        "resize_mode": reading.resize_mode,
        "filter": None if resize is None else "PIL.Image.Resampling.BILINEAR",
        "aspect_ratio": "as it is" if resize is None else ratios[reading.resize_mode],
        "dtype": "uint8",
        "layout": "BCHW",
    }


def read_sizes(paths: Sequence[Path], reading: ImageReading = AS_EVER) -> list[Shape]:
    """Shapes (C, H, W) of files as they are, by their headers. Raises SourceError for one that is none."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(partial(read_size, reading=reading), paths))


def undecodable(paths: Sequence[Path], reading: ImageReading = AS_EVER) -> dict[int, str]:
    """Why files cannot be decoded, by their places; each is decoded once to know it."""

    def reason(path: Path) -> str | None:
        try:
            decode(path, reading=reading)
        except SourceError as error:
            return str(error).removeprefix(f"{path} ")
        return None

    with ThreadPoolExecutor(_THREADS) as pool:
        return {place: why for place, why in enumerate(pool.map(reason, paths)) if why is not None}


def check_uniform(
    paths: Sequence[Path],
    resize: tuple[int, int] | None = None,
    channels: int | None = None,
    reading: ImageReading = AS_EVER,
) -> Shape:
    """The one shape (C, H, W) that `decode` gives for all of these files with these arguments, by headers alone.

    Raises:
        SourceError: a file is no readable image, sizes differ and `resize` is None, or grey and colour are mixed and
            `channels` is None; the message names two files.
        ValueError: `paths` is empty.
    """
    if not paths:
        raise ValueError("paths must name at least one image, got none")
    shapes = read_sizes(paths, reading)
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

    def __init__(
        self,
        paths: Sequence[Path],
        resize: tuple[int, int] | None,
        channels: int | None,
        reading: ImageReading = AS_EVER,
    ) -> None:
        self.paths = list(paths)
        self.resize = resize
        self.channels = channels
        self.reading = reading

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        return decode(self.paths[index], self.resize, self.channels, self.reading)


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
