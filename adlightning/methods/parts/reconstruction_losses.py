"""How far an image is from a sample: what a search for the image minimises, and what is scored in the end."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from adlightning.core.parts import Part
from adlightning.core.rules import Rule, at_least, positive
from adlightning.methods.parts.inversion import squared_distance

BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)  # Burt and Adelson (1983), a = 3/8


def absolute_distance(images: Tensor, x: Tensor) -> Tensor:
    """||image - x||_1 (N,) of images and samples (N, ...)."""
    return (images.float() - x.float()).abs().flatten(1).sum(dim=1)


def huber_distance(images: Tensor, x: Tensor, delta: float) -> Tensor:
    """Sum over values (N,) of d^2 / 2 where |d| <= delta, of delta (|d| - delta / 2) elsewhere, d = image - x.

    Huber (1964); with delta 1 it is the smooth L1 loss.
    """
    return F.huber_loss(images.float(), x.float(), reduction="none", delta=delta).flatten(1).sum(dim=1)


def laplacian_pyramid(images: Tensor, levels: int) -> list[Tensor]:
    """Images (N, C, H, W) as `levels` bands, each of half the last one's side; what is left is the last one.

    A band is the image less its blurred and halved self, doubled again; smoothing is by the binomial filter of five
    taps, whose edge values are repeated.
    """
    bands = []
    for _ in range(levels - 1):
        smaller = _smoothed(images)[:, :, ::2, ::2]
        bands.append(images - F.interpolate(smaller, images.shape[2:], mode="bilinear", align_corners=False))
        images = smaller
    return [*bands, images]


def laplacian_distance(images: Tensor, x: Tensor, levels: int) -> Tensor:
    """Sum over levels j = 0, 1, ... of 4^j ||L_j(image) - L_j(x)||_1, (N,) of images (N, C, H, W).

    Ling and Okada (CVPR 2006), as Bojanowski et al. (ICML 2018), Section 3.2, weigh it.
    """
    bands = laplacian_pyramid(images.float() - x.float(), levels)  # which is linear
    return sum((4**j * band.abs().flatten(1).sum(dim=1) for j, band in enumerate(bands)), images.new_zeros(len(x)))


def _smoothed(images: Tensor) -> Tensor:
    taps = torch.tensor(BINOMIAL, device=images.device)
    kernel = taps.expand(images.shape[1], 1, 1, 5)
    wide = F.conv2d(F.pad(images, (2, 2, 0, 0), mode="replicate"), kernel, groups=images.shape[1])
    return F.conv2d(F.pad(wide, (0, 0, 2, 2), mode="replicate"), kernel.transpose(2, 3), groups=images.shape[1])


class ReconstructionLoss(Part):
    """The distance of images from samples."""

    @abstractmethod
    def __call__(self, images: Tensor, x: Tensor) -> Tensor:
        """Distances (N,) of images (N, ...) from preprocessed samples (N, ...)."""

    def require_shape(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError for samples of a shape that it cannot compare: by default none."""


@dataclass(frozen=True)
class SquaredError(ReconstructionLoss):
    """||image - x||^2: ADGAN's."""

    def __call__(self, images: Tensor, x: Tensor) -> Tensor:
        """Of each pair (N,)."""
        return squared_distance(images, x)


@dataclass(frozen=True)
class AbsoluteError(ReconstructionLoss):
    """||image - x||_1."""

    def __call__(self, images: Tensor, x: Tensor) -> Tensor:
        """Of each pair (N,)."""
        return absolute_distance(images, x)


@dataclass(frozen=True)
class Huber(ReconstructionLoss):
    """Huber's loss, summed over values: squared where they are near, absolute where they are far.

    Args:
        delta: the difference from which on it is absolute; with 1 it is the smooth L1 loss.
    """

    delta: float = 1.0

    argument_rules: ClassVar[Mapping[str, Rule]] = {"delta": positive}

    def __call__(self, images: Tensor, x: Tensor) -> Tensor:
        """Of each pair (N,)."""
        return huber_distance(images, x, self.delta)


@dataclass(frozen=True)
class LaplacianPyramid(ReconstructionLoss):
    """The absolute differences of Laplacian pyramids: coarse differences weigh more than fine ones.

    ADGAN's Section 5 hopes for it.

    Args:
        levels: of the pyramid; 1 is the absolute error.
    """

    levels: int = 3

    argument_rules: ClassVar[Mapping[str, Rule]] = {"levels": at_least(1)}

    def __call__(self, images: Tensor, x: Tensor) -> Tensor:
        """Of each pair (N,)."""
        return laplacian_distance(images, x, self.levels)

    def require_shape(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError for what are no images, or images too small for so many levels."""
        if len(shape) != 3:
            raise ValueError(f"LaplacianPyramid must have images (C, H, W), the data have samples of shape {shape}")
        if min(shape[1:]) < 2 ** (self.levels - 1):
            raise ValueError(
                f"LaplacianPyramid.levels must leave a pixel of images of shape {shape}, got {self.levels}"
            )
