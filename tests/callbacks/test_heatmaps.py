"""Heat maps over images, and `explain` of a folder of images."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import adlightning as ad
from adlightning.callbacks.heatmaps import Scale, colour_scale, overlaid, write_heatmaps
from adlightning.cli.explain import explain
from adlightning.cli.score import score
from adlightning.core.metrics import ScoredSamples


def plates(n: int, holes: bool = False, channels: int = 1) -> np.ndarray:
    """Grey plates (n, channels, 20, 20) with noise; with holes a dark spot around row 5 and column 12."""
    x = np.random.default_rng(n + holes).normal(150, 5, (n, channels, 20, 20))
    if holes:
        x[:, :, 4:7, 11:14] = 20
    return x.round().astype(np.uint8)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    made = ad.fit(ad.PatchKNN(), ad.Arrays(plates(40), validation_fraction=0.3), progress=False)
    made.save(folder / "best.ckpt")
    return folder / "best.ckpt"


@pytest.fixture
def new(tmp_path: Path) -> Path:
    folder = tmp_path / "new images"
    folder.mkdir()
    for name, x in (("good", plates(3)), ("hole", plates(2, True))):
        for i, image in enumerate(x):
            Image.fromarray(image[0]).save(folder / f"{name} $ {i}.png")
    return folder


def test_one_scale_for_all_that_a_far_image_does_not_set() -> None:
    maps = np.zeros((3, 2, 2))
    maps[:, 0, 0] = [1, 2, 1000]
    assert colour_scale(maps) == Scale(0, 2)
    assert colour_scale(np.ones((2, 2, 2))) == Scale(1, 2)


def test_cold_places_are_the_image_itself() -> None:
    images, maps = np.full((1, 1, 2, 2), 100, dtype=np.uint8), np.array([[[0, 1], [0.5, -3]]], dtype=np.float32)
    over = overlaid(images, maps, Scale(0, 1))
    assert over.shape == (1, 3, 2, 2)
    assert (over[0, :, 0, 0] == 100).all()
    assert (over[0, :, 1, 1] == 100).all()
    assert over[0, 0, 0, 1] > 200  # the hottest colour is a light yellow


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_most_anomalous_of_each_kind(channels: int, tmp_path: Path) -> None:
    x = np.concatenate([plates(6, channels=channels), plates(2, True, channels)])
    detector = ad.fit(ad.PCA(components=1), ad.Arrays(plates(20, channels=channels)), progress=False).detector
    scored = ScoredSamples(np.arange(8.0), np.array([0] * 6 + [1] * 2), np.arange(8))
    paths = write_heatmaps(
        tmp_path / "h.png", detector, scored, lambda index: torch.from_numpy(x[index]), "abcdefgh", "title"
    )
    assert paths == [tmp_path / "h.png"]
    assert Image.open(paths[0]).size[0] > 300


def test_a_method_without_maps_draws_none(tmp_path: Path) -> None:
    detector = ad.fit(ad.KDE(), ad.Arrays(plates(20)), progress=False).detector
    scored = ScoredSamples(np.arange(2.0), np.zeros(2, dtype=np.int64), np.arange(2))
    assert write_heatmaps(tmp_path / "h.png", detector, scored, lambda i: torch.from_numpy(plates(2)), "ab", "t") == []


def test_explain_writes_pictures_a_table_and_a_page(
    run: Path, new: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    explain(str(run), str(new), str(tmp_path / "why"))
    with (tmp_path / "why/reasons.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["name"] for row in rows} == {"hole $ 0.png", "hole $ 1.png"}
    places = {(int(row["row"]), int(row["column"])) for row in rows}
    assert all(2 <= row <= 8 and 9 <= column <= 15 for row, column in places), places
    assert {row["verdict"] for row in rows} == {"anomaly"}
    assert all(0 < float(row["p_value"]) < 0.1 for row in rows)
    assert all((tmp_path / "why" / row["picture"]).read_bytes()[:4] == b"\x89PNG" for row in rows)
    page = (tmp_path / "why/index.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert "hole $ 1.png" in page
    assert "the map of PatchKNN itself" in capsys.readouterr().out.replace("\n", " ")


def test_explain_takes_so_many_as_are_asked_for(run: Path, new: Path, tmp_path: Path) -> None:
    explain(str(run), str(new), str(tmp_path / "why"), top=4)
    assert len(list((tmp_path / "why").glob("*.png"))) == 4


def test_pictures_do_not_go_among_the_images(run: Path, new: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="out must not lie in data, whose images its pictures would be next time"):
        explain(str(run), str(new), str(new / "why"))
    with pytest.raises(ValueError, match="plots must not lie in data"):
        score(str(run), str(new), str(tmp_path / "s.csv"), plots=str(new / "s_plots"))
    assert len(list(new.iterdir())) == 5


def test_nothing_above_the_threshold_shows_the_highest(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "x.npy", np.full((3, 1, 20, 20), 150, dtype=np.uint8))
    explain(str(run), str(tmp_path / "x.npy"), str(tmp_path / "why"))
    assert "none is above the threshold" in capsys.readouterr().out.replace("\n", " ")
    assert len(list((tmp_path / "why").glob("*.png"))) == 3


def test_a_damaged_image_is_skipped_or_ends_it(
    run: Path, new: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (new / "broken.png").write_bytes((new / "good $ 0.png").read_bytes()[:60])
    with pytest.raises(ValueError, match=r"broken\.png"):
        explain(str(run), str(new), str(tmp_path / "why"))
    assert not (tmp_path / "why").exists()
    explain(str(run), str(new), str(tmp_path / "why"), on_bad="skip", top=10)
    assert len(list((tmp_path / "why").glob("*.png"))) == 5
    assert "1 of 6 are skipped" in capsys.readouterr().out.replace("\n", " ")


def test_nothing_is_overwritten(run: Path, new: Path, tmp_path: Path) -> None:
    (tmp_path / "why").mkdir()
    (tmp_path / "why/mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="why exists already"):
        explain(str(run), str(new), str(tmp_path / "why"))
    with pytest.raises(ValueError, match="plots must be left out for images"):
        explain(str(run), str(new), str(tmp_path / "other"), plots=str(tmp_path / "plots"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new images", "why"]


def test_score_draws_heat_maps(run: Path, new: Path, tmp_path: Path) -> None:
    score(str(run), str(new), str(tmp_path / "s.csv"), plots=str(tmp_path / "plots"))
    assert (tmp_path / "plots/heatmaps.png").exists()


def test_where_an_occlusion_makes_an_image_more_anomalous_nothing_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ad.fit(ad.NearestNeighbor(), ad.Arrays(plates(20)), progress=False).save(tmp_path / "n.ckpt")
    np.save(tmp_path / "x.npy", plates(20)[:2])  # of training: any change makes them more anomalous
    scales: list[Scale] = []

    def kept(file: Path, shown: object, scale: Scale, words: str) -> None:
        scales.append(scale)
        file.write_bytes(b"")

    monkeypatch.setattr("adlightning.cli.explain_images.write_map", kept)
    explain(str(path), str(tmp_path / "x.npy"), str(tmp_path / "why"))
    assert scales[0].low == 0
