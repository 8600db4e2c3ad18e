"""The 72 transforms against numpy and scipy, image by image, in the order of GEOM's code."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from adlightning.methods.geometric_transforms.transforms import (
    TRANSFORMS,
    Transform,
    source_pixels,
    transform_all,
    transform_each,
)

SIDE = 8


def reference(image: NDArray[np.uint8], transform: Transform) -> NDArray[np.uint8]:
    """One channel (H, W): flip, translation by scipy (Keras' implementation), rotation."""
    if transform.flip:
        image = np.fliplr(image)
    shift = [transform.rows * (len(image) // 4), transform.columns * (len(image) // 4)]
    moved = ndimage.affine_transform(image.astype(np.float64), np.eye(2), shift, order=1, mode="reflect")
    return np.rot90(moved.round().astype(np.uint8), transform.quarter_turns)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randint(0, 256, (2, 3, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def sources() -> Tensor:
    return source_pixels(SIDE, SIDE)


def test_index_is_flip_rows_columns_rotation() -> None:
    shifts = (0, -1, 1)
    assert len(TRANSFORMS) == 72
    assert TRANSFORMS[0] == Transform(False, 0, 0, 0)
    for flip, rows, columns, turns in itertools.product((False, True), shifts, shifts, range(4)):
        index = ((flip * 3 + shifts.index(rows)) * 3 + shifts.index(columns)) * 4 + turns
        assert TRANSFORMS[index] == Transform(flip, rows, columns, turns)


@pytest.mark.parametrize("side", [4, 7, 8])
def test_each_transform_against_numpy(side: int) -> None:
    x = torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    out = transform_all(x, source_pixels(side, side))
    assert out.shape == (2, 72, 3, side, side)
    assert out.dtype == torch.uint8
    for b, (t, transform), c in itertools.product(range(2), enumerate(TRANSFORMS), range(3)):
        np.testing.assert_array_equal(out[b, t, c].numpy(), reference(x[b, c].numpy(), transform), str(transform))


def test_a_translation_by_hand(images: Tensor, sources: Tensor) -> None:
    # up by a quarter; the two rows of the gap mirror the last two, border first
    up = TRANSFORMS.index(Transform(False, 1, 0, 0))
    assert torch.equal(transform_all(images, sources)[:, up], images[:, :, [2, 3, 4, 5, 6, 7, 7, 6]])
    right = TRANSFORMS.index(Transform(False, 0, -1, 0))
    assert torch.equal(transform_all(images, sources)[:, right], images[:, :, :, [1, 0, 0, 1, 2, 3, 4, 5]])


def test_translations_of_32_pixels_are_by_8() -> None:
    column = torch.arange(32).repeat_interleave(32).view(1, 1, 32, 32)
    up = TRANSFORMS.index(Transform(False, 1, 0, 0))
    assert transform_all(column, source_pixels(32, 32))[0, up, 0, 0, 0] == 8


def test_all_differ_on_a_random_image(images: Tensor, sources: Tensor) -> None:
    rows = transform_all(images[:1], sources)[0].flatten(1)
    assert len(torch.unique(rows, dim=0)) == 72
    assert torch.equal(rows[0], images[0].flatten())


def test_floats_in_any_memory_format(images: Tensor, sources: Tensor) -> None:
    expected = transform_all(images, sources)
    floats = (images.float() / 255).contiguous(memory_format=torch.channels_last)
    assert torch.equal(transform_all(floats, sources), expected.float() / 255)
    assert transform_all(images[:0], sources).shape == (0, 72, 3, SIDE, SIDE)


def test_each_image_under_its_own_transform(images: Tensor, sources: Tensor) -> None:
    every = transform_all(images, sources)
    for first, second in ((0, 71), (5, 40)):
        out = transform_each(images, torch.tensor([first, second]), sources)
        assert torch.equal(out, torch.stack([every[0, first], every[1, second]]))
        assert out.dtype == torch.uint8


@pytest.mark.parametrize(("height", "width"), [(8, 12), (3, 3)])
def test_sizes_that_have_no_72_transforms_are_refused(height: int, width: int) -> None:
    with pytest.raises(ValueError, match=f"must be square and at least 4x4 .*, got {height}x{width}"):
        source_pixels(height, width)


@pytest.mark.parametrize("shape", [(2, 3, 4, 16), (2, 3, 12, 12), (3, 8, 8)])
def test_images_of_another_size_are_refused(sources: Tensor, shape: tuple[int, ...]) -> None:
    x = torch.zeros(shape)
    with pytest.raises(ValueError, match=r"images must be \(B, C, H, W\) with H = W and 64 pixels"):
        transform_all(x, sources)
    with pytest.raises(ValueError, match=r"got the shape \("):
        transform_each(x, torch.zeros(len(x), dtype=torch.long), sources)
