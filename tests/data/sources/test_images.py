from __future__ import annotations

import errno
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from PIL import ExifTags, Image

from adlightning.data.image_headers import read_size
from adlightning.data.image_search import find_images
from adlightning.data.sources import SourceError
from adlightning.data.sources.images import ImageFiles, check_uniform, decode, load_all

GREY = np.arange(6 * 9, dtype=np.uint8).reshape(6, 9)
COLOUR = np.arange(6 * 9 * 3, dtype=np.uint8).reshape(6, 9, 3)


def save(path: Path, pixels: np.ndarray[Any, Any] | None = None, mode: str | None = None, turn: int = 1) -> Path:
    image = Image.fromarray(COLOUR if pixels is None else pixels)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = turn
    path.parent.mkdir(parents=True, exist_ok=True)
    (image if mode is None else image.convert(mode)).save(path, exif=exif)
    return path


def png_of_16_bits(path: Path) -> Path:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 4, 3, 16, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes(4 * 3 * 2)) * 3)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    return path


# ---- finding --------------------------------------------------------------------------------------------------------


def test_images_are_found_below_sorted_without_hidden_and_other_files(tmp_path: Path) -> None:
    for name in ("b/2.PNG", "a/x/1.jpeg", "c.bmp", ".hidden.png", ".cache/1.png", "a/notes.txt", "a/.x.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)] == [
        "a/x/1.jpeg",
        "b/2.PNG",
        "c.bmp",
    ]


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    save(tmp_path / "elsewhere" / "1.png")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "up").symlink_to(folder)
    assert find_images(folder) == [folder / "link" / "1.png"]


def test_a_folder_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "kinds" / "a" / "1.png")
    save(tmp_path / "kinds" / "b" / "2.png")
    scandir = os.scandir

    def deny(path: str) -> Any:  # root may read everything
        if Path(path).name == "b":
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", deny)
    with pytest.raises(SourceError, match=r"kinds/b cannot be read: Permission denied"):
        find_images(tmp_path)


# ---- decoding -------------------------------------------------------------------------------------------------------


def test_grey_pixels_are_kept(tmp_path: Path) -> None:
    x = decode(save(tmp_path / "a.png", GREY))
    assert x.dtype == torch.uint8
    np.testing.assert_array_equal(x.numpy(), GREY[None])


def test_colour_pixels_are_kept_channels_first(tmp_path: Path) -> None:
    x = decode(save(tmp_path / "a.png"))
    assert x.is_contiguous()
    np.testing.assert_array_equal(x.numpy(), COLOUR.transpose(2, 0, 1))


def test_bilevel_becomes_black_and_white(tmp_path: Path) -> None:
    x = decode(save(tmp_path / "a.png", np.array([[False, True]])))
    assert x.tolist() == [[[0, 255]]]


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([1, 0])
    image.save(tmp_path / "a.png", transparency=b"\x00\xff")
    assert decode(tmp_path / "a.png").tolist() == [[[40, 10]], [[50, 20]], [[60, 30]]]


def test_transparency_is_dropped(tmp_path: Path) -> None:
    pixels = np.array([[[1, 2, 3, 0], [4, 5, 6, 255]]], dtype=np.uint8)
    assert decode(save(tmp_path / "a.png", pixels)).tolist() == [[[1, 4]], [[2, 5]], [[3, 6]]]


def test_channels_are_converted(tmp_path: Path) -> None:
    grey = save(tmp_path / "grey.png", GREY)
    np.testing.assert_array_equal(decode(grey, channels=3).numpy(), np.stack([GREY] * 3))
    red = save(tmp_path / "red.png", np.full((1, 1, 3), [255, 0, 0], dtype=np.uint8))
    assert decode(red, channels=1).tolist() == [[[76]]]  # 0.299 * 255, ITU-R 601


def test_resize_is_height_then_width_and_averages(tmp_path: Path) -> None:
    stripes = np.zeros((8, 40), np.uint8)
    stripes[:, ::2] = 200
    x = decode(save(tmp_path / "a.png", stripes), resize=(2, 4))
    assert x.shape == (1, 2, 4)
    assert (x.int() - 100).abs().max() <= 6  # without antialiasing values would be 0 or 200


@pytest.mark.parametrize("suffix", ["png", "tif"])  # Pillow turns TIFFs itself
@pytest.mark.parametrize(
    ("turn", "upright"),
    [
        (1, GREY),
        (2, GREY[:, ::-1]),
        (3, GREY[::-1, ::-1]),
        (4, GREY[::-1]),
        (5, GREY.T),
        (6, np.rot90(GREY, -1)),
        (7, GREY[::-1, ::-1].T),
        (8, np.rot90(GREY)),
    ],
)
def test_exif_orientation_is_undone(tmp_path: Path, suffix: str, turn: int, upright: np.ndarray[Any, Any]) -> None:
    path = save(tmp_path / f"a.{suffix}", GREY, turn=turn)
    np.testing.assert_array_equal(decode(path).numpy(), upright[None])
    assert read_size(path) == (1, *upright.shape)


@settings(max_examples=60, deadline=None)
@given(
    mode=st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"]),
    suffix=st.sampled_from(["png", "jpg", "tif", "webp", "bmp", "ppm"]),
    turn=st.integers(1, 8),
    resize=st.sampled_from([None, (5, 7)]),
    channels=st.sampled_from([None, 1, 3]),
)
def test_headers_promise_what_decoding_gives(
    tmp_path_factory: pytest.TempPathFactory,
    mode: str,
    suffix: str,
    turn: int,
    resize: tuple[int, int] | None,
    channels: int | None,
) -> None:
    path = tmp_path_factory.getbasetemp() / f"promise.{suffix}"
    try:
        save(path, mode=mode, turn=turn)
    except OSError:
        return  # a mode that the format does not have
    assert check_uniform([path], resize, channels) == tuple(decode(path, resize, channels).shape)


# ---- refusals -------------------------------------------------------------------------------------------------------


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    # PostScript too, whatever its name: it would be run
    for name, data in {
        "a.png": b"",
        "b.png": b"text",
        "c.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    }.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(SourceError, match=rf"{name} is no image"):
            decode(tmp_path / name)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "webp"])
def test_truncated_images_are_refused(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = save(tmp_path / f"a.{suffix}", noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(SourceError, match=rf"a\.{suffix} "):
        decode(path)


def test_a_decompression_bomb_is_refused(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 60000, 60000, 1, 0, 0, 0, 0)
    chunk = b"IHDR" + header
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    idat = b"IDAT" + zlib.compress(b"\0")
    data += struct.pack(">I", len(idat) - 4) + idat + struct.pack(">I", zlib.crc32(idat))
    (tmp_path / "bomb.png").write_bytes(data)
    for read in (decode, read_size):
        with pytest.raises(SourceError, match=r"bomb\.png .*decompression bomb"):
            read(tmp_path / "bomb.png")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"none\.png"):
        decode(tmp_path / "none.png")


# ---- several --------------------------------------------------------------------------------------------------------


def test_mixed_sizes_need_resize(tmp_path: Path) -> None:
    paths = [save(tmp_path / "a.png"), save(tmp_path / "b.png"), save(tmp_path / "c.png", COLOUR[:, :5])]
    with pytest.raises(SourceError, match=r"a\.png is 6x9, .*c\.png is 6x5; set resize, for instance to \[6, 9\]"):
        check_uniform(paths)
    assert check_uniform(paths, resize=(4, 3)) == (3, 4, 3)


def test_images_turned_differently_are_of_mixed_sizes(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"a\.jpg is 6x9, .*b\.jpg is 9x6"):
        check_uniform([save(tmp_path / "a.jpg"), save(tmp_path / "b.jpg", turn=6)])


def test_mixed_grey_and_colour_need_channels(tmp_path: Path) -> None:
    paths = [save(tmp_path / "a.png"), save(tmp_path / "b.png", GREY)]
    with pytest.raises(SourceError, match=r"a\.png is colour, .*b\.png is grey; set channels"):
        check_uniform(paths)
    assert check_uniform(paths, channels=1) == (1, 6, 9)


def test_all_are_loaded_in_order(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{i}.png", np.full((2, 3), i, np.uint8)) for i in range(20)]
    files = ImageFiles(paths, None, None)
    assert len(files) == 20
    x = load_all(files)
    assert x.shape == (20, 1, 2, 3)
    assert x[:, 0, 0, 0].tolist() == list(range(20))
    assert torch.equal(files[7], x[7])


def test_loading_stops_at_a_damaged_file(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{i}.png", GREY) for i in range(5)]
    paths[3].write_bytes(paths[3].read_bytes()[:60])
    with pytest.raises(SourceError, match=r"3\.png"):
        load_all(ImageFiles(paths, None, None))


def test_loading_never_stretches_a_channel(tmp_path: Path) -> None:
    paths = [save(tmp_path / "a.png"), save(tmp_path / "b.png", GREY)]
    with pytest.raises(SourceError, match=r"b\.png is \(1, 6, 9\), .*a\.png \(3, 6, 9\)"):
        load_all(ImageFiles(paths, None, None))
