"""MVTec AD's layout: who trains and is tested, kinds of defects, masks that fit or do not, pixel metrics, tiles."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import adlightning as ad
from adlightning.benchmark.worker import describe as row_of
from adlightning.checkpoints.loading import load_detector
from adlightning.cli.explain import explain
from adlightning.cli.export import describe
from adlightning.cli.score import score
from adlightning.cli.summary import print_report
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


def test_a_fit_reports_pixels_regions_and_kinds(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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
    print_report(SimpleNamespace(report=run.report, plots=[], notes=[], folder="run"))  # type: ignore[arg-type]
    printed = capsys.readouterr().out
    assert "AUPRO, to 30 % FPR" in printed
    assert "scratch" in printed
    assert run.trainer.callback_metrics["test/aupro"] == pytest.approx(wanted["aupro"])
    assert row_of(run.report)["metrics"]["aupro"] == pytest.approx(wanted["aupro"])  # which `report --metric` shows
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
    (tmp_path / "test" / "dent" / "001.png").rename(tmp_path / "x.png")
    Image.open(tmp_path / "x.png").save(tmp_path / "test" / "dent" / "001.JPG")  # as VisA has images
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


# ---- tiles ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of 20 pixels a side, and some of another size."""
    root = draw(tmp_path_factory.mktemp("large") / "part", side=20)
    for i in range(3):
        save(np.full((16, 24), 90) + np.random.default_rng(i).normal(0, 5, (16, 24)), root / f"train/good/other{i}.png")
    return root


def test_tiles_train_and_images_are_held_out_tested_and_reported(large: Path) -> None:
    data = ad.MVTecLayout(str(large), tile=8, overlap=2, validation_fraction=0.2, seed=0)
    data.setup("fit")
    assert str(data.input_spec) == "1x8x8 tiles of images, 2 pixels shared (part)"
    images = data.train_samples.names
    train, held_out = ({images[row] for row in rows} for rows in (data.split.train, data.split.validation))
    assert not train & held_out
    assert (len(train), len(held_out)) == (19, 4)
    counts = data.counts()
    assert (counts["train"], counts["validation"], counts["test"], counts["test_anomalies"]) == (19, 4, 12, 8)
    assert counts["train_tiles"] == len(data.split.train) > 9 * 16  # 3 x 3 of 20 x 20, 3 x 4 of 16 x 24


def test_an_image_has_the_score_of_its_highest_tile_and_a_stitched_map(large: Path) -> None:
    data = ad.MVTecLayout(str(large), tile=8, overlap=2, validation_fraction=0.2)
    run = ad.fit(patches(), data, 1, seed=0, progress=False)
    detector, scores = run.detector, run.scores
    assert len(detector.held_out_scores) == 4
    assert len(scores) == 12
    assert run.metrics["auroc"] == 1.0
    images = np.stack([np.asarray(Image.open(large / name)) for name in scores["name"]])
    corners = [(row, column) for row in (0, 6, 12) for column in (0, 6, 12)]
    cut = np.stack([images[:, r : r + 8, c : c + 8] for r, c in corners], axis=1)
    of_tiles = detector.score(cut.reshape(-1, 8, 8)).reshape(12, 9)  # each an image of one tile
    np.testing.assert_allclose(scores["score"], of_tiles.max(axis=1), rtol=1e-6)
    assert scores["tile"].tolist() == [f"{corners[i][0]},{corners[i][1]}" for i in of_tiles.argmax(axis=1)]
    np.testing.assert_allclose(detector.score(images), scores["score"], rtol=1e-6)
    maps, counts = np.zeros((12, 20, 20)), np.zeros((20, 20))
    for i, (r, c) in enumerate(corners):
        maps[:, r : r + 8, c : c + 8] += detector.heatmaps(cut[:, i])
        counts[r : r + 8, c : c + 8] += 1
    np.testing.assert_allclose(detector.heatmaps(images), maps / counts, rtol=1e-5, atol=1e-6)
    masks = np.zeros(images.shape, dtype=bool)
    for i, name in enumerate(scores["name"]):
        if "good" not in name:
            masks[i] = read_mask(large / name.replace("test", "ground_truth").replace(".png", "_mask.png"))
    wanted = pixel_metrics(detector.heatmaps(images), masks)
    found = run.report["test_sets"]["test"]["pixel_metrics"]
    assert found == {**{k: pytest.approx(v, abs=1e-6) for k, v in wanted.items()}, "regions": 8}


def test_tiles_that_are_cut_when_asked_for_give_the_same(large: Path) -> None:
    def fitted(**arguments: Any) -> ad.Run:
        data = ad.MVTecLayout(str(large), tile=8, overlap=2, num_workers=0, **arguments)
        return ad.fit(patches(), data, 1, seed=0, progress=False)

    held, cut = fitted(), fitted(memory_budget_mb=0)
    assert isinstance(held.data.test_samples.x, torch.Tensor)
    assert not isinstance(cut.data.test_samples.x, torch.Tensor)
    assert held.report["test_sets"] == cut.report["test_sets"]


def test_the_verbs_score_and_explain_take_folders_of_large_images(large: Path, tmp_path: Path) -> None:
    data = ad.MVTecLayout(str(large), tile=8, overlap=2, validation_fraction=0.2)
    run = ad.fit(patches(), data, 1, seed=0, progress=False)
    file = str(run.save(tmp_path / "parts.ckpt"))
    assert describe(load_detector(file))["tiles"] == {"size": 8, "overlap": 2}  # for who runs an exported graph
    new = tmp_path / "new"
    shutil.copytree(large / "test", new)
    save(np.zeros((6, 30)), new / "small.png")
    (new / "torn.png").write_bytes((new / "good/000.png").read_bytes()[:120])
    out = tmp_path / "scores.csv"
    with pytest.raises(ValueError, match=r"small.png: it is 1x6x30, the detector was trained on 1x8x8 tiles of images"):
        score(file, str(new), str(out))
    score(file, str(new), str(out), on_bad="skip", plots=str(tmp_path / "plots"), batch_size=7)
    frame = pd.read_csv(out, index_col="name")
    assert frame["score"].isna().sum() == 2
    wanted = run.scores.set_index("name")
    for name in wanted.index:
        assert frame.loc[name.removeprefix("test/"), "score"] == pytest.approx(wanted.loc[name, "score"], rel=1e-6)
        assert frame.loc[name.removeprefix("test/"), "tile"] == wanted.loc[name, "tile"]
    assert (tmp_path / "plots" / "heatmaps.png").exists()
    explain(file, str(large / "test"), str(tmp_path / "why"), top=2)
    reasons = pd.read_csv(tmp_path / "why" / "reasons.csv", index_col="name")
    assert len(reasons) == 2
    for name, row in reasons.iterrows():  # places are of the image, and not of its tile
        assert read_mask(large / "ground_truth" / str(name).replace(".png", "_mask.png"))[row["row"], row["column"]]
    at = reasons["tile"].iloc[0].split(",")
    assert f"tile at ({at[1]}, {at[0]})" in (tmp_path / "why" / "index.html").read_text()


def test_images_that_hold_no_tile_and_maps_of_several_sizes_are_refused(large: Path) -> None:
    with pytest.raises(SourceError, match=r"other0.png has 16x24 pixels \(height x width\), less than a tile: tile=18"):
        ad.MVTecLayout(str(large), tile=18).setup("fit")
    run = ad.fit(patches(), ad.MVTecLayout(str(large), tile=8), 1, seed=0, progress=False)
    with pytest.raises(ValueError, match="x must hold images of one size, to give maps in one array, got 16x24 and 20"):
        run.detector.heatmaps(str(large / "train/good"))
    with pytest.raises(ValueError, match="x holds samples of 7x9; the detector was trained on 1x8x8 tiles of images"):
        run.detector.score(np.zeros((2, 7, 9), dtype=np.uint8))
