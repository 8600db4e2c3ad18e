"""A look at MVTec AD's layout: what it is, what does not fit, and a command that works."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adlightning.cli.arguments import prepared
from adlightning.cli.before_fit import undecided
from adlightning.cli.check import check
from adlightning.core.contracts import SourceError
from adlightning.data.look.defects import is_defect_layout, look_at_defects
from adlightning.data.sources.defect_folder import DefectFolder


def save(path: Path, side: int = 16, value: int = 90, mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((side, side), value, dtype=np.uint8)).convert(mode).save(path)


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    root = tmp_path / "my parts"
    for i in range(4):
        save(root / f"train/good/{i}.png")
    for i in range(2):
        save(root / f"test/good/{i}.png")
        save(root / f"test/dent/{i}.png")
        save(root / f"ground_truth/dent/{i}_mask.png", value=255)
    return root


def test_it_is_named_counted_and_gets_its_command(parts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert is_defect_layout(parts)
    assert not check(str(parts))
    text = " ".join(capsys.readouterr().out.replace("\\\n", " ").split())
    assert "layout of MVTec AD, 8 images (train/good 4, test/dent 2, test/good 2), 2 masks, 16x16, grey" in text
    assert f"adlightning fit --config patch_knn/mvtec --data.root={shlex.quote(str(parts))}" in text


def test_other_layouts_are_none(tmp_path: Path) -> None:
    for name in ("train/normal", "test/normal", "test/anomaly"):
        save(tmp_path / "labels" / name / "0.png")
    for name in ("train/good", "train/dent", "test/good", "test/dent"):
        save(tmp_path / "classes" / name / "0.png")
    for name in ("train/normal", "test/normal", "test/dent"):
        save(tmp_path / "kinds" / name / "0.png")
    found = {name: is_defect_layout(tmp_path / name) for name in ("labels", "classes", "kinds", "none")}
    assert found == {"labels": False, "classes": False, "kinds": True, "none": False}


def test_good_images_alone_are_enough(tmp_path: Path) -> None:
    save(tmp_path / "train/good/0.png")
    assert is_defect_layout(tmp_path)
    assert not look_at_defects(tmp_path, {}).faults


def test_good_in_other_letters_is_no_defect(parts: Path) -> None:
    save(parts / "test/GOOD/0.png")
    assert look_at_defects(parts, {}).faults == ["test/GOOD is not read: rename it to good, in small letters."]
    with pytest.raises(SourceError, match="test/GOOD is not read: rename it to good"):
        DefectFolder(str(parts)).load("test")


def test_all_that_does_not_fit_is_listed_at_once(parts: Path) -> None:
    (parts / "ground_truth/dent/0_mask.png").unlink()
    save(parts / "ground_truth/dent/1_mask.png", side=8)
    save(parts / "ground_truth/good/0_mask.png")
    save(parts / "train/bent/0.png")
    save(parts / "loose.png")
    save(parts / "test/5.png")
    (parts / "test/dent/1.jpg").write_bytes(b"no image")
    (parts / "TRAIN").mkdir()
    look = look_at_defects(parts, {})
    text = "\n".join(look.faults)
    for said in (
        "TRAIN is not read: rename it to train",
        "1 images lie in test itself (5.png)",
        "train has the folders 'bent'",
        "test/dent/0.png has no mask, ground_truth/dent/0_mask.png or 0.png",
        "ground_truth/dent/1_mask.png is 8x8 (height x width), test/dent/1.png is 16x16",
        "ground_truth/good/0_mask.png is of a good image, which has no defect",
        "test/dent/1.jpg (is no image",
    ):
        assert said in text
    assert "loose.png" in look.notes[-1]
    assert "Masks" not in "\n".join(look_at_defects(parts, {"masks": False}).faults)


def test_sizes_and_channels_are_decided(parts: Path) -> None:
    save(parts / "train/good/rgb.png", mode="RGB")
    assert look_at_defects(parts, {}).options == {"channels": 3}
    for file in parts.rglob("*.png"):
        save(file, side=300, value=200)
    look = look_at_defects(parts, {})
    assert (look.options, look.blocks) == ({"resize": [256, 256]}, False)
    assert "--data.tile=256" in look.findings[0].text
    assert not look_at_defects(parts, {"tile": 256}).findings
    save(parts / "train/good/small.png", side=40)
    assert look_at_defects(parts, {"resize": None}).blocks
    look = look_at_defects(parts, {})
    assert not look.blocks
    assert "train/good/small.png is 40x40. Each is brought to 256x256" in look.findings[0].text


def test_a_fit_looks_first(parts: Path) -> None:
    words = ["--config", "patch_knn/mvtec", f"--data.root={parts}"]

    def said(*more: str) -> str | None:
        return undecided([*words, *more], prepared("fit", [*words, *more]))

    assert said() is None
    (parts / "ground_truth/dent/0_mask.png").unlink()
    assert "test/dent/0.png has no mask" in str(said())
    assert said("--data.masks=false") is None
