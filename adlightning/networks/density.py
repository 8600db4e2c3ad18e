"""What is asked of a density model of images: the log-probability of each, and samples where it can draw them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

Shape = tuple[int, ...]

LEVELS = 256
"""Values of a channel of an image of eight bits: k / 255 for k = 0 ... 255."""


@runtime_checkable
class Sampling(Protocol):
    """A density model that draws images."""

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Images (n, C, H, W) in [0, 1]; the same ones for the same state of the generator."""
        ...


def bits_per_dimension(log_probabilities: Tensor, shape: Shape) -> Tensor:
    """-log2 p / (C H W), from natural logarithms (B,) of the probabilities of images of 256 values a channel."""
    return -log_probabilities / (math.log(2) * math.prod(shape))


def build_density(factory: Callable[[Shape], nn.Module], shape: Shape) -> nn.Module:
    """A density model for images of this shape, (C, H, W).

    Raises:
        ValueError: the samples are no images, or the model cannot be made for them.
    """
    if len(shape) != 3:
        raise ValueError(f"a density of pixels takes images (C, H, W), the data have samples of shape {shape}")
    try:
        return factory(shape)
    except TypeError as error:
        raise ValueError(f"density cannot be made for samples of shape {shape}: {error}") from error
