"""A look at a folder of images: sizes, channels, damaged files, classes, at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from adlightning.data.look.folder import layout_of, look_at_folder
from adlightning.data.sources import NormalAnomalyFolder


def images(
    folder: Path, n: int = 3, size: tuple[int, int] = (16, 12), colour: bool = False, suffix: str = ".png"
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    start = len(list(folder.iterdir()))
    rng = np.random.default_rng(start)
    for i in range(start, start + n):
        pixels = rng.integers(0, 255, (*size, 3) if colour else size, dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}{suffix}")


def test_a_folder_as_it_should_be_needs_no_decision(tmp_path: Path) -> None:
    images(tmp_path / "train/normal")
    images(tmp_path / "test/anomaly")
    look = look_at_folder(tmp_path)
    assert not look.blocks
    assert look.facts == "6 images (train/normal 3, test/anomaly 3), 16x12, grey"


def test_everything_is_said_at_once(tmp_path: Path) -> None:
    images(tmp_path / "train/normal", 4)
    images(tmp_path / "train/normal", 2, (20, 30), colour=True, suffix=".jpg")
    whole = (tmp_path / "train/normal/0.png").read_bytes()
    (tmp_path / "train/normal/cut.png").write_bytes(whole[:-60])
    (tmp_path / "train/normal/none.png").write_bytes(b"no image")
    (tmp_path / "train/normal/read.me").write_bytes(b"text")
    (tmp_path / "beside").mkdir()
    look = look_at_folder(tmp_path, "labels")
    assert look.options == {"resize": [16, 12], "channels": 3, "on_bad": "skip"}
    assert "4 are 16x12, train/normal/4.jpg is 20x30; from 16x12 to 20x30 in all" in look.findings[0].text
    assert "resize_mode=pad" in look.findings[0].text
    assert "4 grey and 2 colour" in look.findings[1].text
    assert look.findings[2].text.startswith("2 images cannot be read: train/normal/cut.png (cannot be read as an ")
    assert [finding.must for finding in look.findings] == [False, False, True]
    assert look.faults == []
    assert look.notes == [
        "left out: other formats than BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP: 1 (1 .me); "
        "empty or beside train and test: 1 (beside)."
    ]
    with pytest.warns(UserWarning, match="skipped 2 of 8 images"):  # what the command says is enough to train on
        train = NormalAnomalyFolder(str(tmp_path), **look.options).load("train")
    assert train is not None
    assert torch.stack([train.x[i] for i in range(6)]).shape == (6, 3, 16, 12)
    said = {"resize": 16, "channels": 1, "on_bad": "skip"}
    assert look_at_folder(tmp_path, "labels", said).findings == []


def test_large_images_are_worth_a_look(tmp_path: Path) -> None:
    images(tmp_path / "train/normal", 2, (200, 300))
    look = look_at_folder(tmp_path)
    assert not look.blocks
    assert look.options == {"resize": [171, 256]}


def test_conversions_and_copies_are_noted(tmp_path: Path) -> None:
    folder = tmp_path / "train/normal"
    images(folder, 2, colour=True)
    Image.new("RGBA", (12, 16)).save(folder / "alpha.png")
    Image.new("CMYK", (12, 16)).save(folder / "print.jpg")
    frames = [Image.new("RGB", (12, 16), (level, 0, 0)) for level in (0, 200)]
    frames[0].save(folder / "moves.webp", save_all=True, append_images=frames[1:])
    (tmp_path / "test/normal").mkdir(parents=True)
    (tmp_path / "test/normal/again.png").write_bytes((folder / "0.png").read_bytes())
    look = look_at_folder(tmp_path)
    assert not look.findings
    assert look.notes == [
        "Transparent pixels are possible: what is under transparent pixels becomes white (background): "
        "train/normal/alpha.png.",
        "Of several frames the first is taken: train/normal/moves.webp.",
        "CMYK becomes RGB, whatever the colour profile: train/normal/print.jpg.",
        "Copies of others, byte by byte: 1, train/normal/0.png is test/normal/again.png; some lie in train and test, "
        "whose results are then too good.",
    ]


@pytest.mark.parametrize(
    ("pixels", "suffix", "white"),
    [
        (np.full((9, 9), 4000, np.uint16), ".png", 4095),
        (np.full((9, 9), 200, np.uint16), ".tif", 255),
        (np.full((9, 9), 0.7, np.float32), ".tif", 1),
        (np.full((9, 9), -180, np.float32), ".tif", 1),
        (np.full((9, 9), 70_000, np.int32), ".tif", 131_071),
        (np.full((9, 9), 60_000, np.uint16), ".png", None),
    ],
)
def test_what_is_white_must_be_said_where_files_do_not(
    tmp_path: Path, pixels: np.ndarray[Any, Any], suffix: str, white: int | None
) -> None:
    (tmp_path / "train/normal").mkdir(parents=True)
    Image.fromarray(pixels).save(tmp_path / f"train/normal/a{suffix}")
    look = look_at_folder(tmp_path)
    assert look.options == ({} if white is None else {"white": white})
    assert look.blocks == (white is not None)
    assert white is None or not look_at_folder(tmp_path, said={"white": white}).blocks


def test_folders_of_other_names_are_classes(tmp_path: Path) -> None:
    for part in ("train", "test"):
        images(tmp_path / part / "dent", 5)
        images(tmp_path / part / "good", 2)
    assert layout_of(tmp_path) == "classes"
    look = look_at_folder(tmp_path, "classes")
    assert look.options == {"normal_class": "good"}
    (tmp_path / "train/good").rename(tmp_path / "train/hole")
    assert look_at_folder(tmp_path, "classes").options == {"normal_class": "dent"}
    assert "rename them to normal, anomaly, unlabelled" in look_at_folder(tmp_path, "labels").faults[0]


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("train/anomaly", "no images to train on in train/normal or train/unlabelled"),
        ("Train/normal", "Train is not read: rename it to train"),
        ("train", "3 images lie in train itself (0.png): each needs a folder"),
        (
            "good",
            "There are no images in mine/train/normal or mine/train/<class>; mine has the folders 'good'. Move most",
        ),
        ("scratched", "no images in mine/train/normal or mine/train/<class>; mine has the folders 'scratched'."),
    ],
)
def test_images_in_the_wrong_place(tmp_path: Path, folder: str, message: str) -> None:
    images(tmp_path / "mine" / folder)
    assert message in " ".join(look_at_folder(tmp_path / "mine", "labels").faults)


def test_a_layout_of_defects_is_named(tmp_path: Path) -> None:
    for name in ("train/good", "test/good", "test/dent"):
        images(tmp_path / name)
    assert "This is MVTec AD's layout, which patch_knn/mvtec" in look_at_folder(tmp_path, "labels").faults[0]


def test_folders_of_good_and_bad_images_are_to_be_moved(tmp_path: Path) -> None:
    for name in ("good", "scratched"):
        images(tmp_path / "mine" / name)
    said = "Move most of 'good' to mine/train/normal and the others to mine/test/normal, and 'scratched' to"
    assert f"{said} mine/test/anomaly." in look_at_folder(tmp_path / "mine").faults[0]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no folder"):
        look_at_folder(tmp_path / "nowhere")
