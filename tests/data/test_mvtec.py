"""MVTec AD's layout: who trains and is tested, kinds of defects, masks that fit or do not, pixel metrics, tiles."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import adlightning as ad
from adlightning.core.contracts import SourceError
from adlightning.core.pixel_metrics import pixel_metrics
from adlightning.data.masks import read_mask

SIDE = 16


def save(x: NDArray[Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(x.astype(np.uint8)).save(path)


def draw(root: Path, side: int = SIDE, n_train: int = 20, suffix: str = "_mask.png") -> Path:
    """Noise on a slope; dents are bright squares, scratches bright lines."""
    rng = np.random.default_rng(0)

    def good() -> NDArray[np.float64]:
        return 80 + 40 * np.arange(side) / side + rng.normal(0, 5, (side, side))

    for i in range(n_train):
        save(good(), root / f"train/good/{i:03}.png")
    for i in range(4):
        save(good(), root / f"test/good/{i:03}.png")
        for kind in ("dent", "scratch"):
            where = np.zeros((side, side), dtype=bool)
            at = rng.integers(2, side - 7)
            where[at : at + 3, at : at + (3 if kind == "dent" else 5)] = True
            save(np.where(where, 200, good()), root / f"test/{kind}/{i:03}.png")
            save(where * 255, root / f"ground_truth/{kind}/{i:03}{suffix}")
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("mvtec") / "part")


def patches() -> ad.PatchKNN:
    return ad.PatchKNN(features=partial(ad.RawPatches, size=3, stride=1), coreset=0.2)


def test_good_images_train_and_each_kind_of_defect_is_tested(folder: Path) -> None:
    data = ad.MVTecLayout(str(folder), validation_fraction=0.25, seed=0)
    data.setup("fit")
    assert data.counts() == {
        "train": 15,
        "train_known_anomalies": 0,
        "train_known_normals": 15,
        "validation": 5,
        "test": 12,
        "test_anomalies": 8,
    }
    assert data.sample_columns("test")["defect"] == ["dent"] * 4 + [""] * 4 + ["scratch"] * 4
    assert data.sample_names("test")[0] == "test/dent/000.png"
    assert str(data.input_spec) == "1x16x16 images (part)"


def test_a_fit_reports_pixels_regions_and_kinds(folder: Path, tmp_path: Path) -> None:
    data = ad.MVTecLayout(str(folder), validation_fraction=0.25)
    run = ad.fit(patches(), data, 1, seed=0, progress=False, run_dir=tmp_path / "run")
    report = json.loads((tmp_path / "run" / "metrics.json").read_text())["test_sets"]["test"]
    assert report == run.report["test_sets"]["test"]
    paths = sorted(folder.glob("test/*/*.png"))
    images = np.stack([np.asarray(Image.open(path)) for path in paths])
    masks = np.zeros(images.shape, dtype=bool)
    for i, path in enumerate(paths):
        if path.parent.name != "good":
            masks[i] = read_mask(folder / "ground_truth" / path.parent.name / f"{path.stem}_mask.png")
    wanted = pixel_metrics(run.detector.heatmaps(images), masks)
    assert report["pixel_metrics"] == {**{k: pytest.approx(v, abs=1e-6) for k, v in wanted.items()}, "regions": 8}
    assert wanted["pixel_auroc"] > 0.95
    assert set(report["defects"]) == {"dent", "scratch"}
    assert report["defects"]["dent"]["images"] == 4
    assert report["defects"]["dent"]["auroc"] == 1.0
    both = [report["defects"][kind]["aupro"] for kind in ("dent", "scratch")]
    assert np.mean(both) == pytest.approx(wanted["aupro"])  # as many regions of each
    assert run.trainer.callback_metrics["test/aupro"] == pytest.approx(wanted["aupro"])
    scores = run.scores.set_index("name")
    assert scores.loc["test/dent/000.png", "defect"] == "dent"
    assert scores["aupro"].isna().sum() == 4  # of good ones
    assert scores["aupro"].mean() == pytest.approx(wanted["aupro"])


def test_maps_that_are_made_again_and_images_that_are_decoded_again_give_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def metrics(**arguments: Any) -> dict[str, Any]:
        data = ad.MVTecLayout(str(folder), num_workers=0, **arguments)
        found: dict[str, Any] = ad.fit(patches(), data, 1, seed=0, progress=False).report["test_sets"]["test"]
        return found

    wanted = metrics()
    monkeypatch.setattr("adlightning.data.mvtec._KEPT", 3 * SIDE * SIDE)
    assert metrics(memory_budget_mb=0, eval_batch_size=5) == wanted


def test_a_map_of_resized_images_is_measured_at_the_size_of_the_masks(folder: Path) -> None:
    data = ad.MVTecLayout(str(folder), resize=8)
    run = ad.fit(patches(), data, 1, seed=0, progress=False)
    assert run.detector.heatmaps(np.zeros((1, 8, 8), dtype=np.uint8)).shape == (1, 8, 8)
    assert run.report["test_sets"]["test"]["pixel_metrics"]["regions"] == 8
    assert sum(run.detector.located["test"].pixels) == 4 * 9 + 4 * 15  # those of the files


def test_without_masks_or_maps_kinds_are_told_apart_all_the_same(folder: Path) -> None:
    for detector, masks in ((patches(), False), (ad.KDE(), True)):
        report = ad.fit(detector, ad.MVTecLayout(str(folder), masks=masks), 1, seed=0, progress=False).report
        assert "pixel_metrics" not in report["test_sets"]["test"]
        assert set(report["test_sets"]["test"]["defects"]["scratch"]) == {"images", "auroc", "recall"}


def test_btad_has_other_names(tmp_path: Path) -> None:
    draw(tmp_path, n_train=4, suffix=".png")
    for part in ("train", "test"):
        (tmp_path / part / "good").rename(tmp_path / part / "ok")
    (tmp_path / "ground_truth" / "dent" / "000.png").rename(tmp_path / "x.png")
    Image.open(tmp_path / "x.png").save(tmp_path / "ground_truth" / "dent" / "000.bmp")
    (tmp_path / "x.png").unlink()
    source = ad.DefectFolder(str(tmp_path))
    test = source.load("test")
    assert test is not None
    assert test.y.tolist() == [1] * 4 + [0] * 4 + [1] * 4
    assert [source.mask(i) is not None for i in range(12)] == [True] * 4 + [False] * 4 + [True] * 4


def mask(root: Path, name: str, x: NDArray[Any]) -> None:
    save(x, root / "ground_truth" / name)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (
        lambda root: (root / "ground_truth/dent/001_mask.png").unlink(),
        "1 problem with masks: test/dent/001.png has no mask, ground_truth/dent/001_mask.png or 001.png",
    ),
    "size": (
        lambda root: mask(root, "dent/001_mask.png", np.ones((8, 16))),
        "ground_truth/dent/001_mask.png is 8x16 (height x width), test/dent/001.png is 16x16",
    ),
    "of a good image": (
        lambda root: mask(root, "good/001_mask.png", np.ones((16, 16))),
        "ground_truth/good/001_mask.png is of a good image, which has no defect",
    ),
    "without an image": (
        lambda root: mask(root, "dent/9_mask.png", np.ones((16, 16))),
        "ground_truth/dent/9_mask.png has no image in test",
    ),
    "all zero": (
        lambda root: mask(root, "dent/001_mask.png", np.zeros((16, 16))),
        "ground_truth/dent/001_mask.png is 0 everywhere and shows no defect",
    ),
    "lossy": (
        lambda root: mask(root, "dent/001_mask.jpg", np.ones((16, 16))),
        "ground_truth/dent/001_mask.jpg is no mask: masks are .png, .bmp, .tif, .tiff, which keep every pixel",
    ),
    "damaged": (
        lambda root: (root / "ground_truth/dent/001_mask.png").write_bytes(b"no image"),
        "ground_truth/dent/001_mask.png is no image of the formats",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_masks_that_do_not_fit_are_refused_before_training(what: str, tmp_path: Path) -> None:
    root = draw(tmp_path / "part", n_train=10)
    break_it, words = BROKEN[what]
    break_it(root)
    with pytest.raises(SourceError) as refusal:
        ad.MVTecLayout(str(root)).setup("fit")
    assert words in str(refusal.value)
    assert str(refusal.value).endswith("masks=false leaves ground_truth unread")
    ad.MVTecLayout(str(root), masks=False).setup("fit")


def test_masks_of_any_depth_and_of_colours_are_read(tmp_path: Path) -> None:
    where = np.zeros((4, 5), dtype=np.uint8)
    where[1, 2] = 1
    wanted = where.astype(bool).tolist()
    save(where, tmp_path / "ids.png")
    Image.fromarray(where * 255).convert("1").save(tmp_path / "bits.png")
    Image.fromarray(np.stack([where * 0, where * 9, where * 0], axis=2)).save(tmp_path / "colour.png")
    palette = Image.fromarray(where).convert("P")
    palette.putpalette([0, 0, 0, 200, 0, 0])
    palette.save(tmp_path / "palette.png")
    for name in ("ids", "bits", "colour", "palette"):
        assert read_mask(tmp_path / f"{name}.png").tolist() == wanted


def test_folders_that_are_not_as_they_must_be_are_refused(tmp_path: Path) -> None:
    root = draw(tmp_path / "part", n_train=10)
    (root / "ground_truth").rename(root / "Ground_Truth")
    with pytest.raises(SourceError, match="Ground_Truth is not read: rename it to ground_truth"):
        ad.MVTecLayout(str(root)).setup("fit")
    (root / "Ground_Truth").rename(root / "ground_truth")
    save(np.zeros((16, 16)), root / "train/bent/0.png")
    with pytest.raises(SourceError, match="train has the folders bent: only good images are trained on, in good or ok"):
        ad.MVTecLayout(str(root)).setup("fit")
    with pytest.raises(SourceError, match=r"train has no images; .*; good ones lie in .*train/good"):
        ad.MVTecLayout(str(root / "test")).setup("fit")
    with pytest.raises(ValueError, match="overlap is of tiles: give tile with it, got overlap=4 alone"):
        ad.MVTecLayout(str(root), overlap=4)
    with pytest.raises(ValueError, match=r"overlap must be a whole number in \[0, tile\), got 8 with tile=8"):
        ad.MVTecLayout(str(root), tile=8, overlap=8)
