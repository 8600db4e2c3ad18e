"""Maps of where an image is anomalous, and how a map becomes a score."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from adlightning.core.parts import Part
from adlightning.core.rules import Rule, at_least, between
from adlightning.preprocessing import Preprocessing


class Reduction(Part):
    """How a map (B, H, W) becomes a score (B,): a frozen dataclass of plain values with :meth:`reduce`.

    One of one's own:

        @dataclass(frozen=True)
        class Median(Reduction):
            def reduce(self, maps):
                return maps.flatten(1).median(dim=1).values
    """

    @abstractmethod
    def reduce(self, maps: Tensor) -> Tensor:
        """Scores (B,) of maps (B, H, W)."""


@dataclass(frozen=True)
class MeanOfMap(Reduction):
    """The mean over all positions: a whole object that is other. The papers' residuals are this."""

    def reduce(self, maps: Tensor) -> Tensor:
        """Means (B,)."""
        return maps.flatten(1).mean(dim=1)


@dataclass(frozen=True)
class MaximumOfMap(Reduction):
    """The largest value: a defect that is small, however much of the image is normal.

    Args:
        sigma: deviation of the Gaussian by which maps are smoothed first, in pixels; 0 for none. A single noisy pixel
            is no defect.
    """

    sigma: float = 1.0

    argument_rules: ClassVar[Mapping[str, Rule]] = {"sigma": at_least(0)}

    def reduce(self, maps: Tensor) -> Tensor:
        """Maxima (B,) of smoothed maps."""
        return smoothed(maps, self.sigma).flatten(1).amax(dim=1)


@dataclass(frozen=True)
class TopShare(Reduction):
    """The mean of the largest values: between the maximum and the mean.

    Args:
        share: of positions, in (0, 1]; at least one is taken.
        sigma: as in :class:`MaximumOfMap`.
    """

    share: float = 0.01
    sigma: float = 1.0

    argument_rules: ClassVar[Mapping[str, Rule]] = {"share": between(0, 1, "right"), "sigma": at_least(0)}

    def reduce(self, maps: Tensor) -> Tensor:
        """Means (B,) of the largest values of smoothed maps."""
        flat = smoothed(maps, self.sigma).flatten(1)
        return flat.topk(max(1, round(self.share * flat.shape[1])), dim=1).values.mean(dim=1)


def smoothed(maps: Tensor, sigma: float) -> Tensor:
    """Maps (B, H, W) smoothed by a Gaussian of this deviation in pixels, cut off at three; 0 leaves them."""
    if not sigma:
        return maps
    radius = max(1, math.ceil(3 * sigma))
    at = torch.arange(-radius, radius + 1, device=maps.device, dtype=maps.dtype)
    kernel = torch.exp(-0.5 * (at / sigma).square())
    kernel = (kernel / kernel.sum()).view(1, 1, -1, 1)
    padded = F.pad(maps[:, None], (radius,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel), kernel.mT)[:, 0]


def enlarged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (B, h, w) at the size (H, W) of the image, between whose positions lines are drawn."""
    if maps.shape[1:] == size:
        return maps
    return F.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def residual_map(prepared: Tensor, reconstruction: Tensor, preprocess: Preprocessing, raw: Tensor) -> Tensor:
    """Squared differences (B, H, W) of preprocessed images and their reconstructions, the mean over channels.

    Args:
        prepared: (B, C, h, w).
        reconstruction: like `prepared`.
        preprocess: what prepared them; pixels that it added around are cut off.
        raw: the images (B, C, H, W), at whose size the map is.
    """
    squares = (reconstruction.float() - prepared.float()).square().mean(dim=1)
    if pad := getattr(preprocess, "pad", 0):
        squares = squares[:, pad:-pad, pad:-pad]
    return enlarged(squares, (raw.shape[2], raw.shape[3]))
