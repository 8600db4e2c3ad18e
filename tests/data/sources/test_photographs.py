"""Photographs as they come: bits, colours, transparency, frames, aspect ratios, damage, and folders of all of it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_images import png_of_16_bits

from adlightning.core.contracts import InputSpec, SourceError
from adlightning.core.pictures import ImageReading
from adlightning.data.image_headers import read_header, read_size
from adlightning.data.image_sizes import choose
from adlightning.data.own_samples import read_samples
from adlightning.data.sources import ImageFolder, NormalAnomalyFolder
from adlightning.data.sources.images import decode, how_decoded

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
DEEP = np.array([[0, 257, 65535], [128 * 257, 4095, 32768]], dtype=np.uint16)


def png(path: Path, pixels: np.ndarray[Any, Any] | None = None, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 6), 9, np.uint8) if pixels is None else pixels).save(path, **options)
    return path


# ---- more than 8 bits -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_65535_of_16_bits_becomes_255(tmp_path: Path, suffix: str) -> None:
    path = png(tmp_path / f"a.{suffix}", DEEP)
    assert decode(path).tolist() == [[[0, 1, 255], [128, 16, 128]]]  # 4095 / 257 = 15.9, 32768 / 257 = 127.5
    assert read_header(path).depth == "16 grey"
    assert read_size(path) == (1, 2, 3)


def test_another_value_may_be_white(tmp_path: Path) -> None:
    path = png(tmp_path / "a.png", np.array([[0, 2047, 4095, 65535]], dtype=np.uint16))
    assert decode(path, reading=ImageReading(white=4095)).tolist() == [[[0, 127, 255, 255]]]
    assert decode(path, channels=3, reading=ImageReading(white=4095)).shape == (3, 1, 4)


def test_floats_need_a_white(tmp_path: Path) -> None:
    path = png(tmp_path / "a.tif", np.array([[-1, 0, 0.5, 1, 7]], dtype=np.float32))
    for read in (decode, read_size):
        with pytest.raises(SourceError, match=r"a\.tif has more than 16 bits a value .*set white"):
            read(path)
    assert decode(path, reading=ImageReading(white=1)).tolist() == [[[0, 0, 128, 255, 255]]]
    png(path, np.array([[np.nan]], dtype=np.float32))
    with pytest.raises(SourceError, match=r"a\.tif has pixels that are no numbers"):
        decode(path, reading=ImageReading(white=1))


def test_of_16_bits_and_colour_the_high_ones_are_taken(tmp_path: Path) -> None:
    path = png_of_16_bits(tmp_path / "a.png")
    assert decode(path).shape == (3, 3, 4)
    assert read_header(path).depth == "16 colour"
    with pytest.raises(SourceError, match="white=4095 is for grey images"):
        decode(path, reading=ImageReading(white=4095))


# ---- transparency, colours, frames ----------------------------------------------------------------------------------


def test_transparent_pixels_lie_over_a_background(tmp_path: Path) -> None:
    rgba = png(tmp_path / "a.png", np.array([[[10, 20, 30, 0], [10, 20, 30, 255], [0, 0, 0, 51]]], dtype=np.uint8))
    white = ImageReading(background="white")
    assert decode(rgba, reading=white)[:, 0].T.tolist() == [[255, 255, 255], [10, 20, 30], [204, 204, 204]]
    assert decode(rgba, reading=ImageReading(background="black"))[:, 0, 0].tolist() == [0, 0, 0]
    assert decode(rgba)[:, 0, 0].tolist() == [10, 20, 30]  # dropped, as ever
    Image.new("LA", (1, 1), (7, 0)).save(tmp_path / "la.png")
    assert decode(tmp_path / "la.png", reading=white).tolist() == [[[255]]]
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putdata([1, 0])
    palette.save(tmp_path / "p.png", transparency=b"\xff\x00")
    assert decode(tmp_path / "p.png", reading=white)[:, 0].T.tolist() == [[255, 255, 255], [10, 20, 30]]
    assert decode(tmp_path / "p.png", channels=1, reading=white)[0, 0, 0].item() == 255


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB", "L"])
def test_a_background_changes_nothing_opaque(tmp_path: Path, mode: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(tmp_path / "a.png")
    for channels in (None, 1, 3):
        over = decode(tmp_path / "a.png", channels=channels, reading=ImageReading(background="grey"))
        assert torch.equal(over, decode(tmp_path / "a.png", channels=channels))


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_the_first_frame_is_taken(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (8, 8), (level, 0, 0)) for level in (200, 0, 90)]
    path = tmp_path / f"a.{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert read_header(path).frames
    assert decode(path, channels=3)[0].float().mean() == pytest.approx(200, abs=4)


def test_pages_are_refused(tmp_path: Path) -> None:
    pages = [Image.new("L", (8, 8), level) for level in (1, 2)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(SourceError, match=r"a\.tif has 2 frames or pages"):
        decode(tmp_path / "a.tif")


def test_progressive_and_cmyk_jpegs_are_read(tmp_path: Path) -> None:
    red = Image.new("RGB", (16, 16), (250, 10, 10))
    red.save(tmp_path / "a.jpg", progressive=True)
    red.convert("CMYK").save(tmp_path / "b.jpg")
    for name in ("a.jpg", "b.jpg"):
        assert (decode(tmp_path / name)[:, 0, 0].int() - torch.tensor([250, 10, 10])).abs().max() < 12
    assert read_header(tmp_path / "b.jpg").space == "CMYK"


def test_heic_says_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.HEIC").write_bytes(HEIC)
    monkeypatch.setattr("adlightning.data.image_headers.find_spec", lambda _: None)
    with pytest.raises(
        SourceError, match=r"a\.HEIC is HEIC, which needs pillow-heif: pip install 'adlightning\[heic\]'"
    ):
        read_size(tmp_path / "a.HEIC")


def test_heic_is_read(tmp_path: Path) -> None:
    heif: Any = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    Image.new("RGB", (32, 16), (200, 20, 20)).save(tmp_path / "a.heic", quality=90)
    assert read_size(tmp_path / "a.heic") == (3, 16, 32)
    assert (decode(tmp_path / "a.heic")[:, 8, 16].int() - torch.tensor([200, 20, 20])).abs().max() < 12


# ---- sizes ----------------------------------------------------------------------------------------------------------


def test_the_aspect_ratio_may_be_kept(tmp_path: Path) -> None:
    path = png(tmp_path / "a.png", np.repeat([[10, 20, 30, 40]], 2, axis=0).astype(np.uint8).repeat(4, 0).repeat(4, 1))
    assert decode(path, (8, 8)).shape == decode(path, (8, 8), reading=ImageReading("pad")).shape == (1, 8, 8)
    padded = decode(path, (8, 8), reading=ImageReading("pad"))[0]  # 8x16 to 4x8, two rows of black on either side
    assert padded[[0, 1, 6, 7]].eq(0).all()
    assert padded[2:6].ge(10).all()
    cropped = decode(path, (8, 8), reading=ImageReading("crop"))[0]  # the middle 8x8
    assert cropped.unique().tolist() == [20, 30]


@pytest.mark.parametrize(
    ("training", "others", "resize", "channels"),
    [
        ([(1, 64, 48)] * 3, [(1, 64, 48)], None, None),
        ([(3, 300, 600)], [], (128, 256), None),
        ([(3, 64, 64), (3, 64, 60), (3, 50, 60)], [(3, 9, 9)], (64, 60), None),
        ([(1, 64, 64)], [(1, 32, 32), (3, 64, 64)], (64, 64), 1),
        ([(1, 8, 8), (3, 8, 8)], [], None, 3),
        ([(3, 8, 8)], [(1, 8, 8)], None, 3),
    ],
)
def test_size_and_channels_are_those_of_the_training_images(
    training: list[Any], others: list[Any], resize: tuple[int, int] | None, channels: int | None
) -> None:
    chosen = choose(training, others)
    assert (chosen.resize, chosen.channels) == (resize, channels)
    assert bool(chosen.why_resize) == (resize is not None)
    assert bool(chosen.why_channels) == (channels is not None)


def test_a_folder_of_different_images_is_brought_to_one_shape_and_says_so(tmp_path: Path) -> None:
    for i in range(3):
        png(tmp_path / f"train/normal/{i}.png", np.full((8, 16), i, np.uint8))
    png(tmp_path / "train/normal/b.png", np.zeros((20, 16, 3), np.uint8))
    source = NormalAnomalyFolder(str(tmp_path), resize_mode="pad")
    with pytest.warns(UserWarning, match=r"2 sizes, 8x16 to 20x16 .*: each is brought to 8x16 \(resize\), .*kept"):
        spec = source.input_spec()
    assert (spec.shape, spec.resize, spec.channels) == ((3, 8, 16), (8, 16), 3)
    assert spec.reading == ImageReading("pad", "white")
    assert InputSpec.from_dict(spec.as_dict()) == spec
    assert how_decoded(spec.shape, spec.resize, spec.reading)["aspect_ratio"].startswith("kept")
    train = source.load("train")
    assert train is not None
    assert torch.equal(train.x[3], decode(tmp_path / "train/normal/b.png", (8, 16), 3, spec.reading))
    assert read_samples(tmp_path, spec).x[3].equal(train.x[3])  # files to score are read in the same way


def test_images_of_one_size_are_taken_as_they_are(tmp_path: Path) -> None:
    png(tmp_path / "train/a/1.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ImageFolder(str(tmp_path)).input_spec().resize is None


def test_damaged_files_may_be_skipped(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    for i in range(3):
        png(tmp_path / f"train/normal/{i}.png", noise)
    whole = (tmp_path / "train/normal/1.png").read_bytes()
    (tmp_path / "train/normal/1.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "train/normal/zero.jpg").touch()
    with pytest.raises(SourceError, match=r"zero\.jpg is no image"):
        NormalAnomalyFolder(str(tmp_path)).load("train")
    source = NormalAnomalyFolder(str(tmp_path), on_bad="skip")
    with pytest.warns(UserWarning, match=r"skipped 2 of 4 images, .*: train/normal/1\.png .*; train/normal/zero\.jpg"):
        train = source.load("train")
    assert train is not None
    assert train.names == ("train/normal/0.png", "train/normal/2.png")
    for i in (0, 2):
        (tmp_path / f"train/normal/{i}.png").unlink()
    with pytest.raises(SourceError, match="none of 2 images can be read"):
        NormalAnomalyFolder(str(tmp_path), on_bad="skip").load("train")


def test_one_bad_file_to_score_does_not_cost_the_others(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    for name in ("a b.PNG", "cut.png", "größe/1.png"):
        png(tmp_path / name, noise)
    whole = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "none.jpg").touch()
    (tmp_path / "notes.txt").write_text("text")
    png(tmp_path / "small.png")
    spec = InputSpec("image", (1, 64, 64))
    with pytest.warns(UserWarning, match=r"left out: other formats .*1 \.txt"):
        samples = read_samples(tmp_path, spec, on_bad="skip")
    batches = list(samples.batches(samples.spans(2)))
    assert sum(map(len, batches)) == 2
    assert [samples.names[row] for row in samples.scored_rows] == ["a b.PNG", "größe/1.png"]
    assert sorted(samples.names[row] for row in samples.skipped) == ["cut.png", "none.jpg", "small.png"]
    with (
        pytest.warns(UserWarning, match="left out"),
        pytest.raises(ValueError, match=r"2 of 5 images .* none\.jpg: is no image .*small\.png: .*on_bad=skip scores"),
    ):
        read_samples(tmp_path, spec)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resize_mode": "stretch"}, "resize_mode must be one of squash, pad, crop, got 'stretch'"),
        ({"background": "red"}, "background must be one of black, grey, white or null, got 'red'"),
        ({"white": 0}, "white must be a positive number or null, got 0"),
        ({"on_bad": "stop"}, "on_bad must be one of refuse, skip, got 'stop'"),
    ],
)
@pytest.mark.parametrize("kind", [ImageFolder, NormalAnomalyFolder])
def test_arguments_are_checked(kind: Callable[..., object], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind("anywhere", **arguments)
