"""The most and the least anomalous of each class: which images, and for which data there is a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from adlightning.callbacks.extremes import extremes, kinds_of, mosaic, write_extremes
from adlightning.core.metrics import ScoredSamples
from adlightning.data.one_vs_all import OneVsAll
from adlightning.data.sources.digits import Digits


def test_extremes_are_apart_and_finite() -> None:
    most, least = extremes(np.array([3.0, np.nan, 1.0, 2.0, np.inf, 5.0]), 8)
    assert most.tolist() == [5, 0]
    assert least.tolist() == [2, 3]
    most, least = extremes(np.arange(10.0), 2)
    assert (most.tolist(), least.tolist()) == ([9, 8], [0, 1])


def test_a_mosaic_has_eight_images_in_a_row() -> None:
    images = torch.arange(9, dtype=torch.uint8)[:, None, None, None].expand(9, 3, 2, 4)
    pixels = mosaic(images)
    assert pixels.shape == (2 * 3, 8 * 5, 3)
    assert pixels[0, ::5, 0].tolist() == list(range(8))
    assert pixels[3, ::5, 2].tolist() == [8] + [255] * 7
    assert set(pixels[2].flatten().tolist()) == {255}


def written(path: Path, scored: ScoredSamples, kinds: list[str], channels: int = 1) -> tuple[list[Path], list[Any]]:
    asked: list[list[int]] = []

    def read(index: NDArray[np.int64]) -> Tensor:
        asked.append(index.tolist())
        return torch.zeros(len(index), channels, 8, 8, dtype=torch.uint8)

    return write_extremes(path, scored, kinds, read, "a title"), asked[1:]


def test_normal_classes_come_first_and_have_more_images(tmp_path: Path) -> None:
    n = 120
    scored = ScoredSamples(np.arange(n, dtype=float), np.repeat([1, 0, 1], n // 3), np.arange(n)[::-1])
    paths, asked = written(tmp_path / "e.png", scored, ["a"] * 40 + ["z"] * 40 + ["b"] * 40)
    with Image.open(paths[0]) as image:
        assert image.format == "PNG"
    index = [list(range(40, 60)), list(range(79, 59, -1))]  # score i belongs to index 119 - i
    assert asked[:2] == index
    assert asked[2:] == [
        *(list(range(80, 88)), list(range(119, 111, -1))),
        *(list(range(8)), list(range(39, 31, -1))),
    ]


@pytest.mark.parametrize(("kinds", "channels"), [(["a"] * 4, 1), (["a", "a", "b", "b"], 4), (list("abcd"), 1)])
def test_no_picture_of_one_class_of_other_channels_or_of_single_images(
    tmp_path: Path, kinds: list[str], channels: int
) -> None:
    scored = ScoredSamples(np.arange(4.0), np.zeros(4, dtype=int), np.arange(4))
    assert written(tmp_path / "e.png", scored, kinds, channels)[0] == []


def test_classes_are_those_of_the_source_where_it_has_some() -> None:
    data = OneVsAll(Digits(), normal_class=8)
    data.setup("test")
    rows = data.split.test[:5]
    scored = ScoredSamples(np.arange(5.0), data.split.test_labels[:5], rows)
    assert kinds_of(data, scored) == [str(data.test_samples.y[row]) for row in rows]
    assert kinds_of(object(), ScoredSamples(np.arange(3.0), np.array([0, 1, -1]), np.arange(3))) == [  # type: ignore[arg-type]
        *("normal", "anomaly", "not labelled")
    ]
