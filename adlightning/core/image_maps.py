"""Where images are anomalous: the method's own map or, of a method without one, what its score loses by occlusion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adlightning.core.above import from_above
from adlightning.core.maps import smoothed
from adlightning.core.raw_input import raw_batches
from adlightning.core.scoring import scoring

if TYPE_CHECKING:
    from adlightning.core.scored import ScoredModule

MapKind = Literal["auto", "method", "occlusion"]

_ACROSS = 16
"""Deviations of the window that is blurred, along the smaller side of an image."""

_STEP = 1.5
"""From one window to the next, in deviations: no place is left out."""

_AT_ONCE = 256
"""Blurred images that are scored at a time."""


def map_kind(detector: ScoredModule, by: MapKind = "auto") -> Literal["method", "occlusion"]:
    """What a detector's maps are of.

    Args:
        detector: of images.
        by: `method` for its own map, `occlusion`, or `auto`: its own where it has one.

    Raises:
        ValueError: a detector of something else, or `method` where it has none.
    """
    name = type(detector).__name__
    if by not in ("auto", "method", "occlusion"):
        raise ValueError(f"by must be auto, method or occlusion, got {by!r}")
    if detector.built_for.kind != "image":
        raise ValueError(f"{name} scores {detector.built_for}: maps are of images; explain() says which values count")
    if by == "method" and not detector.gives_maps:
        raise ValueError(f"by must be auto or occlusion: {name} has no map of its own, got {by!r}")
    return "method" if by != "occlusion" and detector.gives_maps else "occlusion"


def heatmaps(detector: ScoredModule, x: object, batch_size: int, by: MapKind) -> NDArray[np.float32]:
    """Maps (N, H, W) of raw images, as :meth:`ScoredModule.heatmaps` gives them."""
    kind, spec, found = map_kind(detector, by), detector.built_for, []
    samples = None if spec.tiles is None else from_above("data.own_samples", "tile_samples")(x, spec)
    if samples is not None and len(sizes := set(samples.x.sizes)) > 1:
        (a, b), (c, d) = sorted(sizes)[:2]
        raise ValueError(f"x must hold images of one size, to give maps in one array, got {a}x{b} and {c}x{d}")
    batches = raw_batches(x, spec, batch_size) if samples is None else samples.batches(samples.spans(batch_size))
    with scoring(detector):
        for part in batches:
            raw = part.to(detector.device)
            maps = detector.anomaly_map(raw) if kind == "method" else occlusion_map(detector, raw)
            found.append(maps.float().cpu())
    whole = torch.cat(found).numpy() if found else np.empty((0, *spec.shape[1:]), dtype=np.float32)
    return whole if samples is None or not len(whole) else np.stack(list(samples.x.maps(whole)))


def occlusion_map(detector: ScoredModule, x: Tensor) -> Tensor:
    """By how much the scores of raw images (B, C, H, W) fall where they are blurred, (B, H, W), in units of the score.

    A Gaussian window goes over the image. What lies in it is blurred, so that a detail is gone and nothing new is
    there. Each place has the mean of the falls of the windows over it, by their weights. A place whose blurring makes
    the image more anomalous is below 0.
    """
    height, width = x.shape[2:]
    sigma = max(min(height, width) / _ACROSS, 1.0)
    flat = x.float().flatten(0, 1)
    blurred = smoothed(flat, min(2 * sigma, (min(height, width) - 1) / 6)).view(x.shape)
    windows = _windows(height, width, sigma).to(x.device)
    scores, falls = detector.scores_that_fit(x), []
    for image, without, score in zip(x.float(), blurred, scores, strict=True):
        for some in windows.split(_AT_ONCE):
            changed = image + some[:, None] * (without - image)
            falls.append(score - detector.scores_that_fit(changed.round().to(x.dtype)))
    of_windows = torch.cat(falls).view(len(x), -1) if falls else x.new_empty(0, len(windows), dtype=torch.float32)
    return torch.einsum("bk,khw->bhw", of_windows, windows / windows.sum(dim=0))


def _windows(height: int, width: int, sigma: float) -> Tensor:
    """Gaussian windows (K, H, W), 1 in their middles, so that every place lies in some."""

    def along(n: int) -> Tensor:
        middles = torch.linspace(0, n - 1, max(2, round((n - 1) / (_STEP * sigma)) + 1))
        return torch.exp(-0.5 * ((torch.arange(n) - middles[:, None]) / sigma).square())

    rows, columns = along(height), along(width)
    return (rows[:, None, :, None] * columns[None, :, None, :]).flatten(0, 1)


def map_words(detector: ScoredModule, by: MapKind = "auto") -> str:
    """What a detector's maps are of, in words."""
    if map_kind(detector, by) == "method":
        return f"the map of {type(detector).__name__} itself"
    return f"occlusion: by how much the score of {type(detector).__name__} falls where the image is blurred"


def nearest_normal(detector: ScoredModule, x: Tensor) -> Tensor | None:
    """What normal images come nearest to raw ones, (B, C, H, W) in the preprocessed range, in eval mode; or None."""
    with scoring(detector):
        return detector.nearest_normal(x.to(detector.device))
