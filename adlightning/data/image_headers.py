"""Image files by their headers alone: what is one, its size and channels, and what is refused. Needs no torch."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import ExifTags, Image, UnidentifiedImageError

from adlightning.core.contracts import SourceError

# Pillow goes by content, not suffix: without this list a file named .png could reach Ghostscript
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
GREY = ("1", "L", "LA")
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

MAX_PIXELS = 2**26
"""Of an image, 8192 x 8192: a file of some kilobytes may claim to have as many as it likes."""

Shape = tuple[int, int, int]
Size = tuple[int, int]


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


def read_size(path: Path) -> Shape:
    """The shape (C, H, W) of `decode(path)`, from the file's header alone. Raises SourceError as it does."""
    with opened_image(path) as (image, turn):
        width, height = image.size
        sideways = turn in (_TURNS[5], _TURNS[6], _TURNS[7], _TURNS[8])
        channels = 1 if image.mode in GREY else 3
        return (channels, width, height) if sideways else (channels, height, width)


@contextmanager
def opened_image(path: Path) -> Iterator[tuple[Image.Image, Image.Transpose | None]]:
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
    if image.mode not in GREY + _COLOUR:
        raise SourceError(f"{path} has the colour mode {image.mode}; convert it to RGB or grey first")
