"""Hostile images, and files that only claim to be some."""

from __future__ import annotations

import io
import os
import struct
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hostile_cases import damaged, drawn, works_or_is_refused
from hypothesis import given, strategies as st
from PIL import Image

from adlightning.callbacks.plots import image_grid
from adlightning.core.contracts import InputSpec
from adlightning.core.pictures import AS_EVER, ImageReading
from adlightning.data.image_headers import MAX_PIXELS, read_header, read_size
from adlightning.data.image_search import find_images
from adlightning.data.out_of_distribution import OutOfDistribution
from adlightning.data.own_samples import read_samples
from adlightning.data.sources import GTSRB, Digits, ImageFolder, SourceError
from adlightning.data.sources.images import check_uniform, decode
from adlightning.files.disk import write_atomically

GREY = Image.fromarray(np.arange(63, dtype=np.uint8).reshape(9, 7))
COLOUR = Image.fromarray(np.arange(189, dtype=np.uint8).reshape(9, 7, 3))
DEEP = Image.fromarray(np.arange(0, 63_000, 1000, dtype=np.uint16).reshape(9, 7))
TURNED = Image.Exif()
TURNED[0x0112] = 6


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    target = io.BytesIO()
    image.save(target, form, **options)
    return target.getvalue()


FILES = [
    *(encoded(image, form, exif=TURNED) for image in (GREY, COLOUR) for form in ("PNG", "JPEG", "TIFF", "WEBP")),
    *(encoded(image, form) for image in (GREY, COLOUR) for form in ("BMP", "PPM")),
    *(encoded(COLOUR, "TIFF", compression=name) for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits")),
    encoded(COLOUR.convert("P"), "PNG", transparency=b"\x00\xff"),
    encoded(COLOUR.convert("CMYK"), "JPEG"),
    *(encoded(DEEP, form) for form in ("PNG", "TIFF", "PPM")),
    encoded(Image.fromarray(np.arange(63, dtype=np.float32).reshape(9, 7)), "TIFF"),
    *(encoded(COLOUR, form, save_all=True, append_images=[GREY.convert("RGB")]) for form in ("GIF", "WEBP", "PNG")),
    *(encoded(COLOUR.convert(mode), "PNG") for mode in ("LA", "RGBA")),
]
READINGS = (AS_EVER, ImageReading("pad", "white", 4095), ImageReading("crop", "black", 1.0))


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    width: int, height: int, depth: int = 8, colour: int = 0, pixels: bytes = bytes(64), more: bytes = b""
) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + more + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def read_everything(path: Path) -> None:
    """The header and the pixels must say the same, where either says anything, however the file is read."""
    for reading in READINGS:
        read_as(path, reading)
    works_or_is_refused(partial(read_header, path))


def read_as(path: Path, reading: ImageReading) -> None:
    shapes = []
    if works_or_is_refused(lambda: shapes.append(read_size(path, reading))) is None:
        works_or_is_refused(lambda: shapes.append(tuple(decode(path, reading=reading).shape)))  # type: ignore[arg-type]
        assert len(set(shapes)) == 1
    for channels in (1, 3):
        works_or_is_refused(partial(decode, path, (4, 5), channels, reading))


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of damaged tags
@drawn(120)
@given(content=damaged(FILES), suffix=st.sampled_from([".png", ".tif"]))
def test_damaged_images(tmp_path: Path, content: bytes, suffix: str) -> None:
    (tmp_path / f"a{suffix}").write_bytes(content)
    read_everything(tmp_path / f"a{suffix}")


@drawn(60)
@given(
    width=st.sampled_from([0, 1, 7, 9, 2**15]),
    height=st.sampled_from([0, 1, 9]),
    depth=st.sampled_from([1, 2, 4, 8, 16, 3]),
    colour=st.sampled_from([0, 2, 3, 4, 6, 1]),
    kind=st.sampled_from([b"eXIf", b"PLTE", b"tRNS", b"iCCP", b"zTXt", b"acTL", b"sRGB", b"gAMA"]),
    body=st.binary(max_size=40),
)
def test_png_chunks_with_right_checksums(
    tmp_path: Path, width: int, height: int, depth: int, colour: int, kind: bytes, body: bytes
) -> None:
    (tmp_path / "a.png").write_bytes(png(width, height, depth, colour, bytes(2000), chunk(kind, body)))
    read_everything(tmp_path / "a.png")


@pytest.mark.parametrize(
    "content",
    [
        png(2**31 - 1, 2**31 - 1),
        png(20_000, 20_000, depth=1),
        png(MAX_PIXELS + 1, 1),
        b"P5 100000 100000 255\n",
        b"P6 9999999999999 1 255\n",
        b"P5 -1 -1 255\n",
        b"P5 " + b"9" * 5000 + b" 1 255\n",
        encoded(GREY, "BMP").replace(struct.pack("<ii", 7, 9), struct.pack("<ii", 70_000, 90_000)),
    ],
)
def test_sizes_that_are_a_claim_are_refused_by_the_header(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    for read in (lambda: read_size(tmp_path / "a.png"), lambda: decode(tmp_path / "a.png", (8, 8))):
        with pytest.raises(SourceError, match=r"a\.png"):
            read()


def test_text_in_a_png_that_unpacks_to_much_is_no_way_around(tmp_path: Path) -> None:
    text = chunk(b"zTXt", b"key\x00\x00" + zlib.compress(bytes(2**26)))
    (tmp_path / "a.png").write_bytes(png(7, 9, more=text * 20))
    read_everything(tmp_path / "a.png")


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "nowhere"])
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.png"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "device" else tmp_path / "nowhere")
    with pytest.raises(SourceError, match=r"a\.png is no file"):
        check_uniform([path])


def test_formats_that_run_other_programs_are_not_tried(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(was_run) (w) file closefile\n")
    with pytest.raises(SourceError, match="is no image"):
        decode(tmp_path / "a.png")


# ---- names ----------------------------------------------------------------------------------------------------------

NAMES = [
    b"\xff\xfe.png",
    b"new\nline.png",
    b"\x1b[31m.png",
    b"$x_{.png",
    b"=cmd.png",
    "\u202e.png".encode(),
    b"%s{}.png",
]


@pytest.fixture
def oddly_named(tmp_path: Path) -> Path:
    for part in ("train", "test"):
        folder = tmp_path / "root" / part / "cl\nass"
        folder.mkdir(parents=True)
        for name in NAMES:
            with open(os.path.join(os.fsencode(folder), name), "wb") as file:
                file.write(FILES[0])
    return tmp_path / "root"


def test_names_of_any_bytes_can_be_written_and_drawn(oddly_named: Path, tmp_path: Path) -> None:
    samples = ImageFolder(str(oddly_named)).load("train")
    assert len(set(samples.names)) == len(NAMES)
    assert any(r"\xff" in name for name in samples.names)
    write_atomically(tmp_path / "s.csv", pd.DataFrame({"name": samples.names}).to_csv(index=False))
    assert list(pd.read_csv(tmp_path / "s.csv").name) == list(samples.names)
    image_grid(tmp_path / "p.png", np.zeros((7, 1, 8, 8), np.uint8), samples.names, np.zeros(7, int), "odd names")
    shape = read_size(find_images(oddly_named)[0])
    scored = read_samples(oddly_named, InputSpec("image", shape))
    assert all(name.encode() for name in scored.names)


@pytest.mark.parametrize(
    "name", ["..", "../x", "/etc/x", "a/b", "a\\b", "", ".hidden", "a\nb", "a\x00", "x" * 101, "é"]
)
def test_names_of_test_sets_cannot_leave_the_run_folder(name: str) -> None:
    with pytest.raises(ValueError, match="anomaly_sources: names must be of letters, digits"):
        OutOfDistribution(Digits(), {name: Digits()})


@pytest.mark.parametrize("name", ["../../secret.ppm", "/etc/passwd", "a/b.ppm", "", ".."])
def test_a_list_of_files_cannot_leave_its_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "gtsrb").mkdir()
    (tmp_path / "gtsrb/GT-final_test.csv").write_text(f"Filename;Width;ClassId\n{name};19;16\n")
    with pytest.raises(SourceError, match=r"GT-final_test\.csv is not as it should be"):
        GTSRB(root=str(tmp_path)).load("test")


@pytest.mark.parametrize(
    "text", ["Filename;ClassId\n1.ppm\n", "Filename;ClassId\n" + "x" * 200_000, "\x00", "ClassId\n1"]
)
def test_damaged_lists_of_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "gtsrb").mkdir()
    (tmp_path / "gtsrb/GT-final_test.csv").write_text(text)
    with pytest.raises(SourceError, match="GTSRB"):
        GTSRB(root=str(tmp_path)).load("test")
