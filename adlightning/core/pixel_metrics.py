"""How well maps show where images are anomalous: pixel AUROC and AUPRO, exact, an image at a time.

A map is higher where an image is more anomalous. A mask says where it is. Both metrics depend on the ranks of a map's
values only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

LIMIT = 0.3
"""False positive rate up to which AUPRO integrates, as in the paper."""

_AROUND = np.ones((3, 3), dtype=np.int64)  # pixels that touch at a corner belong together

_Floats = NDArray[np.float64]
_Places = NDArray[np.int64]
Map = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class PixelMetrics:
    """What maps are worth, by defective image and by region.

    A region is one piece of a mask, by 8-connectivity. The false positive rate is that of all normal pixels of all
    test images, of defective ones too. So the metrics of some images are means over their pixels and regions.

    Args:
        image: places (R,) of the images that the regions lie in.
        pixels: numbers (R,) of their pixels.
        ranked: shares (R,) of normal pixels that their pixels lie above, the mean over pixels; ties count half.
        overlap: areas (R,) under their overlap by the false positive rate up to `LIMIT`, over that limit.
    """

    image: _Places
    pixels: _Places
    ranked: _Floats
    overlap: _Floats

    def of(self, images: Iterable[int] | None = None) -> dict[str, float]:
        """`pixel_auroc` and `aupro` of defective images at these places, or of all; nothing where none has a region.

        - `pixel_auroc`: area under the ROC curve of the images' defective pixels against all normal ones.
        - `aupro`: area under the per-region overlap, the share of a region that lies above a threshold, by the false
          positive rate up to 30 %, over 0.3; the mean over regions. A perfect map has 1, a constant one 0.15. Source:
          Bergmann et al., The MVTec Anomaly Detection Dataset, IJCV 129, 2021, Section 6.1.
        """
        among = slice(None) if images is None else np.isin(self.image, list(images))
        pixels = self.pixels[among]
        if not len(pixels):
            return {}
        auroc = float(np.sum(self.ranked[among] * pixels) / np.sum(pixels))
        return {"pixel_auroc": auroc, "aupro": float(np.mean(self.overlap[among]))}


class PixelRanking:
    """Where the pixels of defects rank among all normal pixels, from two passes over maps.

    The first pass adds defects, the second one normal pixels. It keeps some 30 bytes for each defective pixel,
    and of normal ones nothing but counts.
    """

    def __init__(self) -> None:
        self._values: list[Map] = []
        self._regions: list[_Places] = []
        self._images: list[int] = []
        self._levels: Map = np.empty(0, dtype=np.float32)
        self._above: _Places = np.empty(0, dtype=np.int64)  # normal pixels above each level
        self._least: _Places = np.empty(0, dtype=np.int64)  # those at it or above
        self._n = 0

    def add_defects(self, image: int, values: Map, mask: Mask) -> None:
        """Add the defective pixels of an image.

        Args:
            image: its place, by which :meth:`PixelMetrics.of` finds it.
            values: its map (H, W), finite.
            mask: (H, W), true where it is defective.

        Raises:
            ValueError: shapes that differ, values that are not finite, or normal pixels that were counted already.
        """
        _require_fit(values, mask)
        if self._n:
            raise ValueError("defects must be added before any normal pixel is counted")
        where, n = ndimage.label(mask, structure=_AROUND)
        found = values[mask].astype(np.float32)
        self._regions.append(where[mask].astype(np.int64) - 1 + len(self._images))
        self._values.append(found)
        self._images += [image] * n

    def add_normals(self, values: Map, mask: Mask | None = None) -> None:
        """Count the normal pixels of an image.

        Args:
            values: its map (H, W), finite.
            mask: (H, W), true where it is defective; None for nowhere.

        Raises:
            ValueError: shapes that differ, or values that are not finite.
        """
        _require_fit(values, mask)
        if not self._n:
            self._levels = np.unique(np.concatenate(self._values)) if self._values else self._levels
            self._above, self._least = (np.zeros(len(self._levels), dtype=np.int64) for _ in range(2))
        normal = np.sort((values if mask is None else values[~mask]).astype(np.float32), axis=None)
        self._above += len(normal) - np.searchsorted(normal, self._levels, side="right")
        self._least += len(normal) - np.searchsorted(normal, self._levels, side="left")
        self._n += len(normal)

    def result(self) -> PixelMetrics:
        """Of all that was added. Raises ValueError where there are no normal pixels."""
        if not self._n:
            raise ValueError("pixel metrics need normal pixels, there are none")
        if not self._images:
            nothing = np.empty(0)
            return PixelMetrics(nothing.astype(np.int64), nothing.astype(np.int64), nothing, nothing)
        before, after = self._above / self._n, self._least / self._n
        level = np.searchsorted(self._levels, np.concatenate(self._values))
        region, n = np.concatenate(self._regions), len(self._images)
        pixels = np.bincount(region, minlength=n)
        ranked, overlap = 1 - (before + after) / 2, _areas(before, after) / LIMIT
        means = (np.bincount(region, weights=of[level], minlength=n) / pixels for of in (ranked, overlap))
        return PixelMetrics(np.array(self._images), pixels, *means)


def _areas(before: _Floats, after: _Floats) -> _Floats:
    """Areas up to `LIMIT` under what a pixel adds to a curve: 0 up to a rate `before`, 1 from `after` on, between them
    a line."""
    rise = np.maximum(after - before, np.finfo(np.float64).tiny)
    within = np.square(np.maximum(LIMIT - before, 0)) / (2 * rise)
    areas: _Floats = np.where(after <= LIMIT, LIMIT - (before + after) / 2, within)
    return areas


def _require_fit(values: Map, mask: Mask | None) -> None:
    if mask is not None and values.shape != mask.shape:
        raise ValueError(f"a map and its mask must have one shape, got {values.shape} and {mask.shape}")
    if not np.isfinite(values).all():
        raise ValueError("maps must be finite")


def pixel_metrics(maps: NDArray[np.floating], masks: NDArray[np.bool_]) -> dict[str, float]:
    """`pixel_auroc` and `aupro` of maps (N, H, W) by masks (N, H, W), true where an image is defective.

    As :meth:`PixelMetrics.of` says; images without a defect count by their normal pixels. Raises ValueError for shapes
    that differ, maps that are not finite, or masks without either kind of pixel.
    """
    ranking = PixelRanking()
    masks = np.asarray(masks, dtype=bool)
    if np.shape(maps) != masks.shape or masks.ndim != 3:
        raise ValueError(f"maps and masks must both have shape (N, H, W), got {np.shape(maps)} and {masks.shape}")
    if not masks.any():
        raise ValueError("masks must show a defect, got none")
    for i in np.flatnonzero(masks.any(axis=(1, 2))):
        ranking.add_defects(int(i), maps[i], masks[i])
    for values, mask in zip(maps, masks, strict=True):
        ranking.add_normals(values, mask)
    return ranking.result().of()
