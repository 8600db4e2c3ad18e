"""Tiles: they cover an image, the highest of each image decides, and overlaps are averaged."""

from __future__ import annotations

import numpy as np
import pytest

from adlightning.core.contracts import InputSpec
from adlightning.core.tiles import TileSpec, highest, stitched


def test_tiles_cover_an_image_and_the_last_ones_end_with_it() -> None:
    assert TileSpec(4, 1).corners(4, 9).tolist() == [[0, 0], [0, 3], [0, 5]]
    assert TileSpec(4, 0).corners(8, 4).tolist() == [[0, 0], [4, 0]]
    covered = np.zeros((11, 7))
    for row, column in TileSpec(5, 2).corners(11, 7):
        assert row + 5 <= 11
        assert column + 5 <= 7
        covered[row : row + 5, column : column + 5] = 1
    assert covered.all()
    with pytest.raises(ValueError, match=r"3x9 \(height x width\) is less than a tile of 4x4"):
        TileSpec(4, 1).corners(3, 9)


def test_the_highest_tile_of_each_image_and_the_first_of_several() -> None:
    scores = np.array([1.0, 3.0, 3.0, -2.0, -1.0, 5.0])
    assert highest(scores, np.array([0, 0, 0, 4, 4, 7])).tolist() == [1, 4, 5]


def test_overlaps_are_averaged() -> None:
    maps = [np.full((2, 2), value, dtype=np.float32) for value in (1, 3)]
    assert stitched(maps, np.array([[0, 0], [0, 1]]), (2, 3)).tolist() == [[1, 2, 3]] * 2


def test_an_input_of_tiles_comes_back_from_plain_values() -> None:
    spec = InputSpec("image", (3, 8, 8), "parts", tiles=TileSpec(8, 2))
    assert InputSpec.from_dict(spec.as_dict()) == spec
    for wrong in ({"size": 4, "overlap": 2}, {"size": 8}, {"size": 8, "overlap": 8}, 3):
        with pytest.raises(ValueError, match=r"tiles of an input|overlap must be"):
            InputSpec.from_dict(spec.as_dict() | {"tiles": wrong})
