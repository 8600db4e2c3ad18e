"""Pictures of where images are anomalous: heat maps laid over them, in one colour scale for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from adlightning.callbacks.extremes import extremes
from adlightning.callbacks.generated import as_pixels
from adlightning.callbacks.plots import COLOURS, ShownImage, image_rows, shortened, titled_figure
from adlightning.core.image_maps import nearest_normal
from adlightning.core.metrics import ScoredSamples
from adlightning.core.scored import ScoredModule
from adlightning.core.scoring import scoring
from adlightning.labels import ANOMALY, NORMAL

_IN_ROW = 10
_OF_KIND = {NORMAL: "normal", ANOMALY: "anomaly", -1: ""}
_COLOURS = "inferno"
_STRONGEST = 0.75
"""How much of the image the hottest colour hides."""


class Scale(NamedTuple):
    """Values of a map whose colours are the coldest and the hottest."""

    low: float
    high: float


def colour_scale(maps: ArrayLike) -> Scale:
    """One scale for maps (N, H, W): from the median of all values to the median of the maps' largest ones.

    So that an image that is far out does not make all others look cold.
    """
    values = np.asarray(maps, dtype=np.float64)
    low, high = float(np.median(values)), float(np.median(values.reshape(len(values), -1).max(axis=1)))
    return Scale(low, high if high > low else low + max(abs(low), 1e-12))


def overlaid(images: NDArray[np.uint8], maps: NDArray[np.float32], scale: Scale) -> NDArray[np.uint8]:
    """Maps (N, H, W) as colours over images (N, C, H, W), uint8, of 1 or 3 channels: uint8 (N, 3, H, W).

    Where a map is cold the image is seen as it is.
    """
    from matplotlib import colormaps

    heat = ((maps - scale.low) / (scale.high - scale.low)).clip(0, 1)
    colours = colormaps[_COLOURS](heat)[..., :3].transpose(0, 3, 1, 2)
    weight = _STRONGEST * heat[:, None]
    mixed = (1 - weight) * (images / 255) + weight * colours
    return np.asarray((255 * mixed).round(), dtype=np.uint8)


def shown_channels(images: Tensor) -> NDArray[np.uint8]:
    """Raw images (N, C, H, W) of 1 or 3 channels; of others the first channel."""
    return (images if images.shape[1] in (1, 3) else images[:, :1]).cpu().numpy()


def write_heatmaps(
    path: Path,
    detector: ScoredModule,
    scored: ScoredSamples,
    images: Callable[[NDArray[np.int64]], Tensor],
    names: Sequence[str],
    title: str,
) -> list[Path]:
    """The most anomalous images of each kind, each above its heat map; nothing of a method without maps.

    Args:
        path: the PNG that is written.
        detector: trained, of images.
        scored: scores, labels and indices (N,).
        images: from indices (K,) to raw uint8 images (K, C, H, W).
        names: of samples, by their indices.
        title: of the figure.
    """
    chosen = []
    for kind in _OF_KIND if detector.gives_maps else ():
        rows = np.flatnonzero(scored.labels == kind)
        most = rows[extremes(scored.scores[rows], _IN_ROW)[0]]
        chosen += [(kind, most)] if len(most) else []
    if not chosen:
        return []
    raw = torch.cat([images(scored.index[rows]) for _, rows in chosen])
    maps = detector.heatmaps(raw)
    scale, pixels = colour_scale(maps), shown_channels(raw)
    over, lines, first = overlaid(pixels, maps, scale), [], 0
    for kind, rows in chosen:
        each = zip(scored.index[rows], scored.scores[rows], strict=True)
        words = [f"{shortened(names[i])}\n{f'{_OF_KIND[kind]} {score:.4g}'.strip()}" for i, score in each]
        span = range(first, first := first + len(rows))
        colour = COLOURS[kind]
        lines.append([ShownImage(pixels[i], text, colour) for i, text in zip(span, words, strict=True)])
        lines.append([ShownImage(over[i], "", colour) for i in span])
    return [image_rows(path, lines, {}, title)]


class ShownMap(NamedTuple):
    """An image beside its heat map.

    Args:
        pixels: uint8 (C, H, W), of 1 or 3 channels.
        map: (H, W).
        normal: what normal images come nearest, uint8 (C, h, w), or None.
        words: what is said of it.
    """

    pixels: NDArray[np.uint8]
    map: NDArray[np.float32]
    normal: NDArray[np.uint8] | None
    words: str


def write_map(path: Path, shown: ShownMap, scale: Scale, what_is_normal: str) -> Path:
    """An image, its heat map over it with the scale of colours, and what is normal, side by side."""
    panels = [("image", shown.pixels), ("where", overlaid(shown.pixels[None], shown.map[None], scale)[0])]
    panels += [(what_is_normal, shown.normal)] if shown.normal is not None else []
    height, width = shown.pixels.shape[1:]
    size = (3.1 * len(panels) + 0.9, min(3.1 * height / width, 6.5) + 0.8)
    with titled_figure(path, size, shown.words) as figure:
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        columns = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, (words, pixels) in zip(columns, panels, strict=True):
            axes.imshow(
                pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0),
                cmap="gray",
                vmin=0,
                vmax=255,
                interpolation="nearest" if max(pixels.shape[1:]) <= 64 else "auto",
            )
            axes.set_title(words, fontsize=9)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set(visible=True, color="lightgrey")  # where a white image ends
        heat = ScalarMappable(Normalize(*scale), _COLOURS)
        figure.colorbar(heat, ax=list(columns), shrink=0.8, extend="both")
    return path


def maps_shown(detector: ScoredModule, raw: Tensor, maps: NDArray[np.float32], words: Sequence[str]) -> list[ShownMap]:
    """Raw images (N, C, H, W) with their maps (N, H, W), what normal images come nearest to them, and words."""
    pixels, normal = shown_channels(raw), nearest_normal(detector, raw)
    nearest: Sequence[NDArray[np.uint8] | None] = [None] * len(pixels)
    if normal is not None and normal.ndim == 4:
        with scoring(detector):
            prepared = detector.preprocess(raw.to(detector.device))
        nearest = list(shown_channels(as_pixels([prepared, normal], detector.preprocess.output)[1]))
    return [ShownMap(*each) for each in zip(pixels, maps, nearest, words, strict=True)]
