"""AMA's networks: a strided encoder, and SNGAN's residual generator and critic (Miyato et al., ICLR 2018).

Sizes for 32 pixels are those of AMA's released code. Other sides have more or fewer blocks, by the rule of
:func:`adlightning.networks.gan.stages`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize

from adlightning.networks.gan import ACTIVATIONS, square_side, stages
from adlightning.networks.mlp import Output, check_positive

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


class StridedEncoder(nn.Module):
    """Images (B, C, S, S) to latents (B, latent_dim), unbounded: strided convolutions, BatchNorm, leaky ReLU of 0.2.

    For S = 32: 4x4 convolutions C -> 64 -> 128 -> 256 of stride 2, and one from 4x4 pixels to the latents; no biases.

    Args:
        shape: (C, S, S) of the images.
        latent_dim: dimension of the latents.
        width: channels of the first feature map.

    Raises:
        ValueError: images that are not square or of a side it does not take, or a width below 1.
    """

    def __init__(self, shape: tuple[int, ...], latent_dim: int, width: int = 64) -> None:
        super().__init__()
        check_positive("width", (width,))
        first, doublings = stages(square_side(shape))
        layers: list[nn.Module] = []
        n_in, n_out = shape[0], width
        for _ in range(doublings):
            layers += [nn.Conv2d(n_in, n_out, 4, 2, 1, bias=False), nn.BatchNorm2d(n_out), nn.LeakyReLU(0.2)]
            n_in, n_out = n_out, 2 * n_out
        self.layers = nn.Sequential(*layers, nn.Conv2d(n_in, latent_dim, first, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Latents (B, latent_dim)."""
        latents: Tensor = self.layers(x)
        return latents.flatten(1)


class _UpBlock(nn.Module):
    """Twice the side: BN-ReLU-nearest-conv-BN-ReLU-conv, beside a 1x1 convolution of the enlarged input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.conv1, self.conv2 = _conv3(width, width), _conv3(width, width)
        self.shortcut = _conv1(width, width)

    def forward(self, x: Tensor) -> Tensor:
        inner = F.interpolate(self.norm1(x).relu(), scale_factor=2)
        inner = self.conv2(self.norm2(self.conv1(inner)).relu())
        larger: Tensor = inner + self.shortcut(F.interpolate(x, scale_factor=2))
        return larger


class ResidualGenerator(nn.Module):
    """Latents (B, latent_dim) to images (B, C, S, S): a linear layer, residual up-blocks, BN-ReLU-conv.

    For S = 32: latent_dim -> 256 @ 4x4, three up-blocks of 256. Biases of the blocks start at 0, those of the first and
    the last layer as the framework's.

    Args:
        latent_dim: dimension of the latents.
        shape: (C, S, S) of the images.
        output: `tanh` for images in [-1, 1], `sigmoid` for [0, 1], `linear` for others.
        width: channels of all feature maps.

    Raises:
        ValueError: images that are not square or of a side it cannot make, or a width below 1.
    """

    def __init__(self, latent_dim: int, shape: tuple[int, ...], output: Output = "tanh", width: int = 256) -> None:
        super().__init__()
        check_positive("width", (width,))
        self.first, doublings = stages(square_side(shape))
        self.linear = _xavier(nn.Linear(latent_dim, width * self.first**2))
        self.blocks = nn.Sequential(*(_UpBlock(width) for _ in range(doublings)))
        self.last = nn.Sequential(
            nn.BatchNorm2d(width), nn.ReLU(), _xavier(nn.Conv2d(width, shape[0], 3, padding=1)), ACTIVATIONS[output]()
        )

    def forward(self, z: Tensor) -> Tensor:
        """Images (B, C, S, S)."""
        images: Tensor = self.last(self.blocks(self.linear(z).unflatten(1, (-1, self.first, self.first))))
        return images


class _CriticBlock(nn.Module):
    """ReLU-conv-ReLU-conv beside the input; `down` halves the side of both, by means.

    The block that sees the image (`is_first`) has no ReLU in front, and shrinks before its shortcut's convolution.
    """

    def __init__(self, n_in: int, n_out: int, down: bool, is_first: bool = False) -> None:
        super().__init__()
        self.conv1, self.conv2 = _conv3(n_in, n_out), _conv3(n_out, n_out)
        self.down, self.is_first = down, is_first
        self.shortcut = _conv1(n_in, n_out) if down else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        inner: Tensor = self.conv2(self.conv1(x if self.is_first else x.relu()).relu())
        if not self.down:
            return inner + x
        beside: Tensor = self.shortcut(F.avg_pool2d(x, 2)) if self.is_first else F.avg_pool2d(self.shortcut(x), 2)
        return F.avg_pool2d(inner, 2) + beside


class ResidualCritic(nn.Module):
    """Stacked images (B, C, S, S) to one number each (B,): residual blocks, sum over pixels, a linear layer.

    For S = 32: two down-blocks, which lead to 8x8 pixels, and two plain ones, all of 128 channels. There is no
    BatchNorm: a gradient penalty needs samples that do not depend on one another. Biases start at 0.

    With spectral normalisation each use in training mode takes one step of power iteration, in float32.

    Args:
        shape: (C, S, S) of the input, with twice the channels of an image for pairs.
        width: channels of all feature maps, and number of features.
        spectral_norm: spectral normalisation of every layer.

    Raises:
        ValueError: images that are not square or of a side it does not take, or a width below 1.
    """

    def __init__(self, shape: tuple[int, ...], width: int = 128, spectral_norm: bool = True) -> None:
        super().__init__()
        check_positive("width", (width,))
        _, doublings = stages(square_side(shape))
        blocks = [_CriticBlock(shape[0], width, down=True, is_first=True)]
        blocks += [_CriticBlock(width, width, down=True) for _ in range(doublings - 2)]
        blocks += [_CriticBlock(width, width, down=False) for _ in range(2)]
        self.blocks = nn.Sequential(*blocks)
        self.last = _xavier(nn.Linear(width, 1, bias=False))
        if spectral_norm:
            for layer in list(self._layers()):
                parametrizations.spectral_norm(layer, n_power_iterations=1)

    def _layers(self) -> Iterator[nn.Module]:
        return (module for module in self.modules() if isinstance(module, (nn.Conv2d, nn.Linear)))

    def features(self, x: Tensor) -> Tensor:
        """f (B, width), not negative: what comes before the last layer."""
        with self._weights(x):
            return self._features(x)

    def forward(self, x: Tensor) -> Tensor:
        """One number a sample (B,), without activation."""
        with self._weights(x):
            values: Tensor = self.last(self._features(x))
        return values.flatten()

    def _features(self, x: Tensor) -> Tensor:
        maps: Tensor = self.blocks(x)
        return maps.relu().sum(dim=(2, 3))

    @contextmanager
    def _weights(self, x: Tensor) -> Iterator[None]:
        """Within it every layer has its weight normalised, once, and in float32 where the rest is in half precision."""
        with parametrize.cached():
            with torch.autocast(x.device.type, enabled=False):
                for layer in self._layers():
                    _ = layer.weight  # computed now, then kept
            yield


def _conv3(n_in: int, n_out: int) -> nn.Conv2d:
    return _unbiased(_xavier(nn.Conv2d(n_in, n_out, 3, padding=1), gain=math.sqrt(2)))


def _conv1(n_in: int, n_out: int) -> nn.Conv2d:
    return _unbiased(_xavier(nn.Conv2d(n_in, n_out, 1)))


def _xavier(layer: Layer, gain: float = 1.0) -> Layer:
    """The layer with weights drawn anew (Glorot and Bengio, uniform); its bias stays the framework's."""
    nn.init.xavier_uniform_(layer.weight, gain)
    return layer


def _unbiased(layer: nn.Conv2d) -> nn.Conv2d:
    """The layer with its bias at 0, where the released code's blocks start."""
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
