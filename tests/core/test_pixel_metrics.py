"""Pixel AUROC and AUPRO: by hand, against thresholds one after the other, and what an image or a kind has of them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from adlightning.core.pixel_metrics import PixelRanking, pixel_metrics


def slow_aupro(maps: NDArray[np.floating], masks: NDArray[np.bool_], limit: float = 0.3) -> float:
    """Section 6.1 of Bergmann et al. 2021 as it is written: for each threshold the false positive rate and the mean
    overlap, then the trapezoids up to the limit."""
    regions = []
    for values, mask in zip(maps, masks, strict=True):
        where, n = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [values[where == i + 1] for i in range(n)]
    normal = maps[~masks]
    points = [(0.0, 0.0)]
    for threshold in np.unique(maps)[::-1]:
        overlap = np.mean([np.mean(region >= threshold) for region in regions])
        points.append((float(np.mean(normal >= threshold)), float(overlap)))
    fpr, pro = (np.array(column) for column in zip(*points, strict=True))
    at_limit = np.interp(limit, fpr, pro)  # where several points have one rate, the area up to it is the same
    inside = fpr < limit
    x, y = np.append(fpr[inside], limit), np.append(pro[inside], at_limit)
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2) / limit)


def test_by_hand() -> None:
    """Nine normal pixels, and two regions of one and two pixels, of which one pixel lies below two normal ones."""
    maps = np.array([[[0.0, 0.1, 0.2, 0.3, 0.4, 1.0]], [[0.5, 0.6, 2.0, 0.65, 0.7, 0.8]]], dtype=np.float32)
    masks = np.array([[[0, 0, 0, 0, 0, 1]], [[0, 0, 1, 1, 0, 0]]], dtype=bool)
    # nine normal pixels: 1.0 and 2.0 lie above all of them, 0.65 above all but 2
    found = pixel_metrics(maps, masks)
    assert found["pixel_auroc"] == pytest.approx((1 + 1 + 7 / 9) / 3)
    # the first region is found at once; of the second one half at once, half at a rate of 2/9
    assert found["aupro"] == pytest.approx((1 + (1 + (0.3 - 2 / 9) / 0.3) / 2) / 2)


@pytest.mark.parametrize("levels", [3, 20, 10_000])
def test_is_what_thresholds_one_after_the_other_give_with_ties_and_without(levels: int) -> None:
    rng = np.random.default_rng(levels)
    masks = np.zeros((4, 12, 10), dtype=bool)
    masks[0, 2:5, 3:6], masks[0, 8, 1], masks[1, 5, 5], masks[1, 6, 6], masks[2, :2, :9] = True, True, True, True, True
    maps = (rng.normal(size=masks.shape) + masks * 0.8).astype(np.float32)
    maps = np.round((maps - maps.min()) / np.ptp(maps) * levels).astype(np.float32)
    found = pixel_metrics(maps, masks)
    assert found["aupro"] == pytest.approx(slow_aupro(maps, masks), abs=1e-12)
    assert found["pixel_auroc"] == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-12)


def test_perfect_constant_and_inverted_maps() -> None:
    masks = np.zeros((2, 8, 8), dtype=bool)
    masks[0, 2:4, 2:4] = True
    perfect = masks.astype(np.float32)
    assert pixel_metrics(perfect, masks) == {"pixel_auroc": 1.0, "aupro": 1.0}
    assert pixel_metrics(-perfect, masks) == {"pixel_auroc": 0.0, "aupro": 0.0}
    assert pixel_metrics(perfect * 0, masks) == {"pixel_auroc": 0.5, "aupro": pytest.approx(0.15)}


def test_pixels_that_touch_at_a_corner_are_one_region_and_each_region_counts_alike() -> None:
    masks = np.zeros((1, 6, 6), dtype=bool)
    masks[0, 0, 0] = masks[0, 1, 1] = masks[0, 5, 5] = True
    ranking = PixelRanking()
    ranking.add_defects(7, masks[0].astype(np.float32), masks[0])
    ranking.add_normals(masks[0].astype(np.float32), masks[0])
    found = ranking.result()
    assert found.pixels.tolist() == [2, 1]
    assert found.image.tolist() == [7, 7]


def test_metrics_of_some_images_are_parts_of_the_whole() -> None:
    rng = np.random.default_rng(0)
    maps, masks = rng.normal(size=(3, 9, 9)).astype(np.float32), np.zeros((3, 9, 9), dtype=bool)
    masks[0, :2, :2], masks[1, 4, 4], masks[1, 7:, 7:] = True, True, True
    ranking = PixelRanking()
    for i in (0, 1):
        ranking.add_defects(i, maps[i], masks[i])
    for values, mask in zip(maps, masks, strict=True):
        ranking.add_normals(values, mask)
    found = ranking.result()
    assert found.of() == pytest.approx(pixel_metrics(maps, masks))
    assert found.of()["aupro"] == pytest.approx((found.of([0])["aupro"] + 2 * found.of([1])["aupro"]) / 3)
    assert found.of([2]) == {}


def test_what_cannot_be_measured_is_refused() -> None:
    maps, masks = np.zeros((1, 2, 2), dtype=np.float32), np.zeros((1, 2, 2), dtype=bool)
    with pytest.raises(ValueError, match="masks must show a defect, got none"):
        pixel_metrics(maps, masks)
    with pytest.raises(ValueError, match="pixel metrics need normal pixels, there are none"):
        pixel_metrics(maps, ~masks)
    with pytest.raises(ValueError, match=r"must both have shape \(N, H, W\), got \(1, 2, 2\) and \(1, 2, 3\)"):
        pixel_metrics(maps, np.zeros((1, 2, 3), dtype=bool))
    masks[0, 0, 0], maps[0, 0, 0] = True, np.nan
    with pytest.raises(ValueError, match="maps must be finite"):
        pixel_metrics(maps, masks)
