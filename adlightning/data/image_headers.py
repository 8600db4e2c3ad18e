"""Image files by their headers alone: what is one, its size and channels, and what is refused. Needs no torch."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO, Literal

from PIL import ExifTags, Image, UnidentifiedImageError

from adlightning.core.contracts import SourceError
from adlightning.core.pictures import AS_EVER, ImageReading

# Pillow goes by content, not suffix: without this list a file named .png could reach Ghostscript
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
GREY = ("1", "L", "LA")
_COLOUR = ("P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr")
_FIRST_FRAME = ("GIF", "HEIF", "MPO", "PNG", "WEBP")  # the first of several is the picture that programs show
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
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
Depth = Literal["8", "16 grey", "16 colour", "float"]


@dataclass(frozen=True)
class Header:
    """What a file says of its image.

    Args:
        shape: (C, H, W) of the decoded image, upright.
        depth: bits a value; `float` stands for 32-bit whole numbers, too.
        has_alpha: whether pixels may be transparent.
        frames: whether there are several.
        space: CMYK or YCbCr where it is one of them, else empty.
    """

    shape: Shape
    depth: Depth
    has_alpha: bool
    frames: bool
    space: str


def is_image(path: Path) -> bool:
    """Whether a file begins as an image of :data:`FORMATS` or as HEIC; what cannot be read, or is no file, does not."""
    try:
        if path.is_file():
            with path.open("rb") as file:
                if _is_heif(file):
                    return True
                with Image.open(file, formats=FORMATS):
                    return True
    except Exception:  # whatever a parser makes of what is no image
        return False
    return False


def image_name(path: Path, root: Path) -> str:
    """A file's path below `root` as a name for tables and pictures; bytes that are no UTF-8 become `\\xff`."""
    return os.fsencode(path.relative_to(root).as_posix()).decode("utf-8", "backslashreplace")


def read_size(path: Path, reading: ImageReading = AS_EVER) -> Shape:
    """The shape (C, H, W) of `decode(path)`, from the file's header alone. Raises SourceError as it does."""
    with opened_image(path, reading) as (image, turn):
        return _shape(image, turn)


def read_header(path: Path, reading: ImageReading = AS_EVER) -> Header:
    """All that a look wants to know, without decoding. Raises SourceError as `decode(path)` does."""
    with opened_image(path, reading) as (image, turn):
        shape, depth, alpha = _shape(image, turn), depth_of(image), has_alpha(image)
        space = image.mode if image.mode in ("CMYK", "YCbCr") else ""
        frames = False
        with suppress(Exception):  # a second frame may be cut off, and the first alone is taken
            frames = bool(getattr(image, "is_animated", False))
        return Header(shape, depth, alpha, frames, space)


def _shape(image: Image.Image, turn: Image.Transpose | None) -> Shape:
    width, height = image.size
    sideways = turn in (_TURNS[5], _TURNS[6], _TURNS[7], _TURNS[8])
    channels = 1 if is_grey(image) else 3
    return (channels, width, height) if sideways else (channels, height, width)


@contextmanager
def opened_image(path: Path, reading: ImageReading = AS_EVER) -> Iterator[tuple[Image.Image, Image.Transpose | None]]:
    """An image whose header has been read, and how to turn it upright; any failure within becomes a SourceError."""
    try:
        if not path.is_file():  # a pipe, for instance, from which reading would never end
            raise SourceError(f"{path} is no file")
        # by file object: given a path, Pillow memory-maps plain TIFFs and then garbles those it has to turn
        with path.open("rb") as file, Image.open(file, formats=_formats(path, file)) as image:
            if math.prod(image.size) > MAX_PIXELS:
                size = "x".join(map(str, image.size))
                raise SourceError(f"{path} has {size} pixels; images may have {MAX_PIXELS}: shrink it first")
            _refuse_pages(path, image)
            _refuse_other_modes(path, image, reading)
            yield image, _turn(image)
    except SourceError:
        raise
    except UnidentifiedImageError as error:
        raise SourceError(f"{path} is no image of the formats {', '.join(FORMATS)}") from error
    except Exception as error:  # a damaged file raises whatever its parser trips over
        raise SourceError(f"{path} cannot be read as an image: {error}") from error


def _is_heif(file: BinaryIO) -> bool:
    start = file.read(12)
    file.seek(0)
    return start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS


def _formats(path: Path, file: BinaryIO) -> tuple[str, ...]:
    """What a file may be. Raises SourceError for HEIC where nothing is installed that reads it."""
    if not _is_heif(file):
        return FORMATS
    if find_spec("pillow_heif") is None:
        raise SourceError(f"{path} is HEIC, which needs pillow-heif: pip install 'adlightning[heic]'")
    import_module("pillow_heif").register_heif_opener()
    return ("HEIF",)


def is_grey(image: Image.Image) -> bool:
    """Whether an opened image decodes to one channel."""
    return image.mode in GREY or depth_of(image) in ("16 grey", "float")


def has_alpha(image: Image.Image) -> bool:
    """Whether pixels of an opened image may be transparent: by a channel, a palette or a colour that means it."""
    return image.has_transparency_data


def depth_of(image: Image.Image) -> Depth:
    """Bits a value of an opened image, before or after decoding."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return "16 grey"  # Pillow scales a PPM's values to 16 bits
    if image.mode in ("I", "F"):
        return "float"
    arguments = image.tile[0].args if getattr(image, "tile", None) else ()  # type: ignore[attr-defined]
    arguments = arguments if isinstance(arguments, tuple) else (arguments,)
    deep = image.format in ("PNG", "TIFF") and any(isinstance(value, str) and ";16" in value for value in arguments)
    if image.format == "PPM":
        deep = len(arguments) == 2 and int(arguments[1]) > 255
    return "16 colour" if deep else "8"


def _turn(image: Image.Image) -> Image.Transpose | None:
    if image.format == "TIFF":
        return None  # Pillow turns these itself, and gives their upright size before decoding
    # the base class's method: PNG's own would decode the image in search of EXIF data after the pixels
    return _TURNS.get(Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1))


def _refuse_pages(path: Path, image: Image.Image) -> None:
    """Files of several pages, each of which is a picture."""
    if image.format not in _FIRST_FRAME and getattr(image, "is_animated", False):
        frames = getattr(image, "n_frames", "several")
        raise SourceError(f"{path} has {frames} frames or pages; save each as an image of its own")


def _refuse_other_modes(path: Path, image: Image.Image, reading: ImageReading) -> None:
    """What has no white of its own; Pillow would clip it."""
    depth = depth_of(image)
    if depth == "float" and reading.white is None:
        raise SourceError(
            f"{path} has more than 16 bits a value (Pillow's mode {image.mode}), and nothing says which value is "
            "white: set white, for instance to 1 or 255, or convert it to 8 bits first"
        )
    if depth == "16 colour" and reading.white not in (None, 65535):
        raise SourceError(
            f"{path} has 16 bits a value and colour, of which the high 8 are taken: white={reading.white:g} is for "
            "grey images; convert it to 8 bits first"
        )
    if depth not in ("16 grey", "float") and image.mode not in GREY + _COLOUR:
        raise SourceError(f"{path} has the colour mode {image.mode}; convert it to RGB or grey first")
