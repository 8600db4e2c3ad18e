"""Image files: checking by their headers alone, and decoding to uint8 tensors."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor

from adlightning.core.contracts import SourceError

# Pillow goes by content, not suffix: without this list a file named .png could reach Ghostscript
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_GREY = ("1", "L", "LA")
_COLOUR = ("P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_THREADS = min(16, os.cpu_count() or 1)

MAX_PIXELS = 2**26
"""Of an image, 8192 x 8192: a file of some kilobytes may claim to have as many as it likes."""

_LARGE = 2**23  # pixels of images that are decoded one after the other, whatever the number of threads
_one_large = threading.Lock()

Shape = tuple[int, int, int]
Size = tuple[int, int]


def checked_size(resize: Size | int | None) -> Size | None:
    """(H, W) of `[H, W]`, or of one side for both. Raises ValueError for anything else."""
    size = (resize, resize) if isinstance(resize, int) else resize
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise ValueError(f"resize must be one or two positive numbers, got {resize}")
    return None if size is None else (size[0], size[1])


def is_image(path: Path) -> bool:
    """Whether a file begins as an image of :data:`FORMATS` does; what cannot be read, or is no file, does not."""
    try:
        if path.is_file():
            with path.open("rb") as file, Image.open(file, formats=FORMATS):
                return True
    except Exception:  # whatever a parser makes of what is no image
        return False
    return False


def image_name(path: Path, root: Path) -> str:
    """A file's path below `root` as a name for tables and pictures; bytes that are no UTF-8 become `\\xff`."""
    return os.fsencode(path.relative_to(root).as_posix()).decode("utf-8", "backslashreplace")


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
    with _opened(path) as (image, turn), _one_large if math.prod(image.size) > _LARGE else nullcontext():
        image = image if turn is None else image.transpose(turn)
        grey = channels == 1 or (channels is None and image.mode in _GREY)
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


def read_size(path: Path) -> Shape:
    """The shape (C, H, W) of `decode(path)`, from the file's header alone. Raises SourceError as it does."""
    with _opened(path) as (image, turn):
        width, height = image.size
        sideways = turn in (_TURNS[5], _TURNS[6], _TURNS[7], _TURNS[8])
        channels = 1 if image.mode in _GREY else 3
        return (channels, width, height) if sideways else (channels, height, width)


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


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Image.Image, Image.Transpose | None]]:
    """An image whose header has been read, and how to turn it upright; any failure within becomes a SourceError."""
    try:
        if not path.is_file():  # a pipe, for instance, from which reading would never end
            raise SourceError(f"{path} is no file")
        # by file object: given a path, Pillow memory-maps plain TIFFs and then garbles those it has to turn
        with path.open("rb") as file, Image.open(file, formats=FORMATS) as image:
            if math.prod(image.size) > MAX_PIXELS:
                size = "x".join(map(str, image.size))
                raise SourceError(f"{path} has {size} pixels; images may have {MAX_PIXELS}: shrink it first")
            _refuse_frames(path, image)
            _refuse_other_modes(path, image)
            yield image, _turn(image)
    except SourceError:
        raise
    except UnidentifiedImageError as error:
        raise SourceError(f"{path} is no image of the formats {', '.join(FORMATS)}") from error
    except Exception as error:  # a damaged file raises whatever its parser trips over
        raise SourceError(f"{path} cannot be read as an image: {error}") from error


def _turn(image: Image.Image) -> Image.Transpose | None:
    if image.format == "TIFF":
        return None  # Pillow turns these itself, and gives their upright size before decoding
    # the base class's method: PNG's own would decode the image in search of EXIF data after the pixels
    return _TURNS.get(Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1))


def _refuse_frames(path: Path, image: Image.Image) -> None:
    """Animations and files of several pages; of a camera's MPO the first is the photograph."""
    if image.format != "MPO" and getattr(image, "is_animated", False):
        frames = getattr(image, "n_frames", "several")
        raise SourceError(f"{path} has {frames} frames or pages; save each as an image of its own")


def _refuse_other_modes(path: Path, image: Image.Image) -> None:
    """Pillow silently cuts 16-bit colour to 8 bits and clips 16-bit grey: neither is what the file holds."""
    arguments = image.tile[0].args if image.tile else ()  # type: ignore[attr-defined]  # every opened file has it
    arguments = arguments if isinstance(arguments, tuple) else (arguments,)
    deep = image.mode.split(";")[0] in ("I", "F")
    if image.format in ("PNG", "TIFF"):
        deep |= any(isinstance(value, str) and ";16" in value for value in arguments)
    if image.format == "PPM":
        deep |= len(arguments) == 2 and int(arguments[1]) > 255
    if deep:
        raise SourceError(f"{path} has more than 8 bits a value; convert it to 8 bits first")
    if image.mode not in _GREY + _COLOUR:
        raise SourceError(f"{path} has the colour mode {image.mode}; convert it to RGB or grey first")
