from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from adlightning.callbacks import plots
from adlightning.callbacks.plots import histogram_plot, image_grid, roc_plot, write_plots
from adlightning.core.metrics import NoRanking, ScoredSamples

BLUE, ORANGE, GREY = (0, 114, 178), (213, 94, 0), (127, 127, 127)


def pixels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def count(path: Path, colour: tuple[int, int, int]) -> int:
    return int(np.sum(np.all(pixels(path) == colour, axis=-1)))


def test_the_module_itself_needs_no_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ["matplotlib", *(m for m in sys.modules if m.startswith("matplotlib."))]:
        monkeypatch.setitem(sys.modules, name, None)
    assert "roc_plot" in runpy.run_path(plots.__file__)


def test_roc_plot(tmp_path: Path) -> None:
    path = roc_plot(tmp_path / "roc.png", [1, 2, 30, np.nan], [0, 1, 1, -1], "a title")
    assert path == tmp_path / "roc.png"
    assert count(path, ORANGE) > 0  # the mark at 5 % false positives
    with pytest.raises(NoRanking):
        roc_plot(tmp_path / "none.png", [1, 2], [0, 0], "a title")
    assert not (tmp_path / "none.png").exists()


@pytest.mark.parametrize(
    ("scores", "threshold"),
    [
        (np.linspace(-3, 5, 40), 2.0),
        (np.geomspace(1e-9, 1e9, 40), 1e-3),
        (np.geomspace(1e-9, 1e9, 40), -1.0),
        (np.concatenate([np.linspace(0, 1, 500), [1e30]]), 1e12),
        (np.zeros(6), 0.0),
        (np.array([3.0]), None),
        (np.array([1.0, np.nan, np.inf, 2.0]), None),
    ],
)
def test_histogram_copes_with_any_scores(tmp_path: Path, scores: NDArray[np.float64], threshold: float | None) -> None:
    path = histogram_plot(tmp_path / "h.png", scores, np.zeros(len(scores), dtype=int), threshold, "a title")
    assert count(path, BLUE) > 0


def test_histogram_has_a_colour_for_each_kind_that_is_there(tmp_path: Path) -> None:
    scores = np.arange(90) % 30
    all_kinds = histogram_plot(tmp_path / "3.png", scores, np.repeat([0, 1, -1], 30), 7.0, "three kinds")
    unlabelled = histogram_plot(tmp_path / "1.png", scores, np.full(90, -1), None, "one kind")
    assert count(all_kinds, GREY) > 0
    assert count(unlabelled, GREY) > 0
    assert count(unlabelled, BLUE) == count(unlabelled, ORANGE) == 0


def test_histogram_without_a_finite_score_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs a finite score, there is none among 2"):
        histogram_plot(tmp_path / "h.png", [np.nan, np.inf], [0, 0], None, "a title")


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (3, 20, 80)])
def test_image_grid_frames_images_in_the_colour_of_their_label(tmp_path: Path, shape: tuple[int, ...]) -> None:
    images = torch.full((3, *shape), 255, dtype=torch.uint8)
    captions = ["$1", "cost $2$ \\frac", "3"]  # not to be read as formulas
    path = image_grid(tmp_path / "g.png", images, captions, [0, 0, 1], "a title")
    assert count(path, BLUE) > 1.2 * count(path, ORANGE) > 0


def test_small_images_are_not_smoothed(tmp_path: Path) -> None:
    image = np.zeros((1, 3, 2, 2), dtype=np.uint8)
    image[0, 0, 0, 0] = 255
    path = image_grid(tmp_path / "g.png", image, ["red"], [1], "a title")
    shown = pixels(path).astype(int)
    red = (shown[..., 0] > 0) & (shown[..., 1] == 0) & (shown[..., 2] == 0)
    assert count(path, (255, 0, 0)) > 1000
    assert count(path, (255, 0, 0)) == red.sum()


@pytest.mark.parametrize(
    ("images", "n_captions", "labels", "message"),
    [
        (np.zeros((2, 2, 4, 4), np.uint8), 2, [0, 1], "images must have 1 or 3 channels to be shown, got 2"),
        (np.zeros((2, 1, 4, 4), np.float32), 2, [0, 1], "images must be uint8 of shape .* got float32"),
        (np.zeros((1, 4, 4), np.uint8), 1, [0], r"images must be uint8 .* of shape \(1, 4, 4\)"),
        (np.zeros((0, 1, 4, 4), np.uint8), 0, [], "images must be 1 to 40, got 0"),
        (np.zeros((41, 1, 4, 4), np.uint8), 41, [0] * 41, "images must be 1 to 40, got 41"),
        (np.zeros((2, 1, 4, 4), np.uint8), 1, [0, 1], "differ in length: 2, 1, 2"),
        (np.zeros((2, 1, 4, 4), np.uint8), 2, [0, 5], r"labels must be 0, 1 or -1, got \[5\]"),
    ],
)
def test_image_grid_refuses(tmp_path: Path, images: Any, n_captions: int, labels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        image_grid(tmp_path / "g.png", images, ["a"] * n_captions, labels, "a title")


def scored(labels: list[int], scores: list[float] | None = None) -> ScoredSamples:
    n = len(labels)
    return ScoredSamples(
        np.arange(n, dtype=np.float64) if scores is None else np.array(scores), np.array(labels), np.arange(n)[::-1] + 1
    )


def test_write_plots_shows_the_most_and_the_least_anomalous_images(tmp_path: Path) -> None:
    asked: list[list[int]] = []

    def images(indices: NDArray[np.int64]) -> Tensor:
        asked.append(indices.tolist())
        return torch.zeros(len(indices), 1, 8, 8, dtype=torch.uint8)

    names = [f"a/long/path/of/some/image/{i}.png" for i in range(101)]
    paths = write_plots(tmp_path / "new" / "plots", scored([0, 1] * 50), images, 3.0, names, "a run")
    assert [p.name for p in paths] == ["roc.png", "scores.png", "most_anomalous.png", "least_anomalous.png"]
    assert all(p.stat().st_size > 0 for p in paths)
    assert asked == [list(range(1, 37)), list(range(100, 64, -1))]  # score i belongs to index 100 - i


@pytest.mark.parametrize(
    ("n", "most", "least"),
    [(1, [1], None), (2, [1], [2]), (5, [1, 2, 3], [5, 4]), (71, range(1, 37), range(71, 36, -1))],
)
def test_no_image_is_both_most_and_least_anomalous(tmp_path: Path, n: int, most: Any, least: Any) -> None:
    asked: list[list[int]] = []

    def images(indices: NDArray[np.int64]) -> Tensor:
        asked.append(indices.tolist())
        return torch.zeros(len(indices), 1, 8, 8, dtype=torch.uint8)

    write_plots(tmp_path, scored([0] * n), images, None, ["?"] * (n + 1), "a run")
    assert asked == [list(part) for part in (most, least) if part is not None]


def test_each_image_has_its_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captions: list[str] = []

    def keep(path: Path, images: Tensor, words: list[str], labels: Any, title: str) -> Path:
        captions.extend(words)
        return path

    monkeypatch.setattr(plots, "image_grid", keep)

    def images(indices: NDArray[np.int64]) -> Tensor:
        return torch.zeros(len(indices), 1, 8, 8, dtype=torch.uint8)

    for threshold in (2.0, None):
        write_plots(tmp_path, scored([0] * 4), images, threshold, ["?", "a", "b", "c", "d"], "a run")
    assert captions[:4] == ["a\n3\ncalled anomaly", "b\n2\ncalled normal", "d\n0\ncalled normal", "c\n1\ncalled normal"]
    assert captions[4:] == ["a\n3", "b\n2", "d\n0", "c\n1"]


@pytest.mark.parametrize(("labels", "scores"), [([0, 0], None), ([-1, -1], None), ([0, 1, 0], [1.0, np.nan, 3.0])])
def test_write_plots_leaves_out_the_roc_curve_that_cannot_be(
    tmp_path: Path, labels: list[int], scores: list[float] | None
) -> None:
    paths = write_plots(tmp_path, scored(labels, scores), None, None, ["?"] * 4, "a run")
    assert [p.name for p in paths] == ["scores.png"]


def test_write_plots_leaves_out_images_of_other_channel_counts(tmp_path: Path) -> None:
    def images(indices: NDArray[np.int64]) -> Tensor:
        return torch.zeros(len(indices), 4, 8, 8, dtype=torch.uint8)

    paths = write_plots(tmp_path, scored([-1, -1]), images, None, ["a", "b", "c"], "a run")
    assert [p.name for p in paths] == ["scores.png"]
