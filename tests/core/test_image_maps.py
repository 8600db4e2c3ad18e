"""Maps of a detector without its own: by hand where a score looks at one place, and as its own where it has one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import adlightning as ad
from adlightning.core.fitted_once import FittedOnce
from adlightning.core.image_maps import _windows, map_words


class Corner(FittedOnce):
    """Looks at nothing but the 4 x 4 pixels from row 8 and column 20 on."""

    def fit_to_normals(self) -> None:
        """Nothing to fit."""

    def forget_fit(self) -> None:
        """Nothing to forget."""

    def anomaly_score(self, x: Tensor) -> Tensor:
        """Contrast of these pixels."""
        contrast: Tensor = self.preprocess(x)[:, 0, 8:12, 20:24].flatten(1).std(dim=1)
        return contrast


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (12, 1, 32, 32), dtype=np.uint8)


@pytest.fixture(scope="module")
def corner(images: np.ndarray) -> ad.AnomalyDetector:
    return ad.fit(Corner(None, ad.NormalQuantile(0.9)), ad.Arrays(images), progress=False).detector


def test_occlusion_finds_the_only_place_that_counts(corner: ad.AnomalyDetector, images: np.ndarray) -> None:
    assert not corner.gives_maps
    maps = corner.heatmaps(images)
    assert maps.shape == (12, 32, 32)
    assert maps.dtype == np.float32
    for each in maps:
        row, column = np.unravel_index(each.argmax(), each.shape)
        assert 8 <= row < 12
        assert 20 <= column < 24
    assert np.abs(maps[:, 20:, :12]).max() < 1e-3 * maps.max()
    np.testing.assert_allclose(corner.heatmaps(images, batch_size=5, by="occlusion"), maps, rtol=1e-5, atol=1e-6)
    assert "occlusion" in map_words(corner)


def test_blurring_what_is_smooth_changes_nothing(corner: ad.AnomalyDetector) -> None:
    assert corner.heatmaps(np.full((2, 1, 32, 32), 90, dtype=np.uint8)) == pytest.approx(0)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 9), (8, 8), (28, 28), (96, 130)])
def test_windows_leave_no_place_out(height: int, width: int) -> None:
    windows = _windows(height, width, max(min(height, width) / 16, 1.0))
    assert windows.shape[1:] == (height, width)
    assert windows.amax(dim=0).min() > 0.5
    assert len(windows) <= 400


def test_a_method_with_a_map_gives_it(images: np.ndarray) -> None:
    pca = ad.fit(ad.PCA(components=2), ad.Arrays(images), progress=False).detector
    np.testing.assert_array_equal(pca.heatmaps(images), pca.heatmaps(images, by="method"))
    assert not np.array_equal(pca.heatmaps(images), pca.heatmaps(images, by="occlusion"))
    nearest = pca.nearest_normal(torch.from_numpy(images))
    assert nearest is not None
    assert nearest.shape == images.shape


def test_what_cannot_be_said_is_refused(corner: ad.AnomalyDetector, images: np.ndarray) -> None:
    with pytest.raises(ValueError, match="by must be auto or occlusion: Corner has no map of its own, got 'method'"):
        corner.heatmaps(images, by="method")
    with pytest.raises(ValueError, match="by must be auto, method or occlusion, got 'gradients'"):
        corner.heatmaps(images, by="gradients")  # type: ignore[arg-type]
    table = ad.fit(ad.PCA(components=2), ad.Arrays(images[:, 0, 0, :4] / 255.0), progress=False).detector
    with pytest.raises(ValueError, match=r"PCA scores .*: maps are of images; explain\(\) says which values count"):
        table.heatmaps(images)
    with pytest.raises(ValueError, match=r"PCA scores images: .* heatmaps\(\) are of images"):
        ad.fit(ad.PCA(components=2), ad.Arrays(images), progress=False).detector.explain(images)


def test_the_nearest_normal_image_is_a_training_image(images: np.ndarray) -> None:
    detector = ad.fit(ad.NearestNeighbor(), ad.Arrays(images, validation_fraction=0.0), progress=False).detector
    x = torch.from_numpy(images[3:5].copy())
    x[:, :, :3, :3] = 0
    nearest = detector.nearest_normal(x)
    assert nearest is not None
    np.testing.assert_array_equal((nearest * 255).round().numpy(), images[3:5])
