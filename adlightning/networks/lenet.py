"""LeNet-type encoders and decoders for images of any size: Deep SAD, Appendix D, and its released code.

| data          | conv_channels | dense  | rep_dim |                                   |
|---------------|---------------|--------|---------|-----------------------------------|
| MNIST         | 8, 4          |        | 32      | 64 in the released code of DROCC  |
| Fashion-MNIST | 16, 32        | 64     | 32      | 128 and 64 in the code            |
| CIFAR-10      | 32, 64, 128   |        | 128     | DROCC takes the same              |
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn

from adlightning.networks.mlp import (
    BATCH_NORM_EPS,
    Output,
    check_leakiness,
    check_positive,
    dense_layers,
    output_activation,
    require_samples_of,
)

FILTERS = (32, 64, 128)
"""Of the conv modules for own images of up to 64 pixels a side, CIFAR-10's."""

GRID = 4  # the decoder's code is laid out on a grid of at most 4 x 4 cells, as in the released code


def channels_for(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Filters of conv modules for images (C, H, W) of any size: those of CIFAR-10 up to 64 pixels a side.

    For each doubling beyond a module with half as many filters comes before them, 8 at least: the last map stays as
    small, and an image costs about as much. A short side below 8 pixels has fewer modules.
    """
    require_samples_of(3, "images (C, H, W)", shape, "LeNetEncoder")
    check_positive("shape", shape)
    channels: tuple[int, ...] = FILTERS
    side = max(shape[1:])
    while side > 64:
        channels, side = (max(8, channels[0] // 2), *channels), (side + 1) // 2
    most = min(shape[1:]).bit_length() - 1
    return channels[len(channels) - most :] if 0 < most < len(channels) else channels


class LeNetEncoder(nn.Module):
    """Images (B, C, H, W) to codes (B, rep_dim), unbounded.

    Each conv module is a 5x5 convolution, BatchNorm, leaky ReLU and 2x2 max-pooling (which drops an odd last row or
    column); then dense layers, then a bare Linear. The largest of four values is taken before the leaky ReLU, which
    changes no value and no gradient, and leaves it a quarter to do. Without `bias` there is no bias and no affine
    BatchNorm anywhere, so that the encoder can serve Deep SVDD and Deep SAD.

    Args:
        shape: (C, H, W) of an image.
        conv_channels: filters of each conv module, at least one; None chooses by the size of the images: 32, 64, 128
            up to 64 pixels a side, 16, 32, 64, 128 up to 128, and so on.
        dense: units of each dense layer before the code; may be empty.
        rep_dim: size of the code.
        leakiness: slope of the leaky ReLU below zero: 0.1 in the paper, 0.01 in the released code.
        bias: convolutions and linear layers have biases and BatchNorms are affine.

    Raises:
        ValueError: images too small for the number of conv modules, a size below 1, or a leakiness outside [0, 1).
    """

    channels_last: ClassVar = True  # as its convolutions are faster (docs/performance.md)

    def __init__(
        self,
        shape: tuple[int, ...],
        conv_channels: Sequence[int] | None = (8, 4),
        dense: Sequence[int] = (),
        rep_dim: int = 32,
        leakiness: float = 0.1,
        bias: bool = False,
    ) -> None:
        super().__init__()
        conv_channels = channels_for(shape) if conv_channels is None else conv_channels
        self._mirrored = partial(LeNetDecoder, shape, conv_channels, dense, rep_dim, leakiness)
        height, width = _map_sizes(shape, conv_channels, dense, rep_dim, leakiness)[-1]
        conv: list[nn.Module] = []
        for n_in, n_out in pairwise((shape[0], *conv_channels)):
            conv += [
                nn.Conv2d(n_in, n_out, 5, padding=2, bias=bias),
                nn.BatchNorm2d(n_out, eps=BATCH_NORM_EPS, affine=bias),
                nn.MaxPool2d(2),
                nn.LeakyReLU(leakiness),
            ]
        widths = (conv_channels[-1] * height * width, *dense)
        self.conv = nn.Sequential(*conv)
        self.dense = nn.Sequential(*dense_layers(widths, leakiness, bias), nn.Linear(widths[-1], rep_dim, bias=bias))

    def forward(self, x: Tensor) -> Tensor:
        """Codes (B, rep_dim) of images (B, C, H, W)."""
        codes: Tensor = self.dense(self.conv(x).flatten(1))
        return codes

    def mirrored(self, output: Output) -> LeNetDecoder:
        """A decoder (B, rep_dim) to (B, C, H, W) of the same sizes, without biases."""
        return self._mirrored(output)


class LeNetDecoder(nn.Module):
    """Codes (B, rep_dim) to images (B, C, H, W): :class:`LeNetEncoder` mirrored, with an output activation.

    The code, or the last of the mirrored dense layers, is laid out on a grid of at most 4x4 cells. Transposed 5x5
    convolutions alternate with nearest-neighbour upsampling by two; the padding of a transposed convolution takes off
    what upsampling made too large, as the released code does from 16 to 14 on MNIST.

    Args:
        shape: (C, H, W) of an image.
        conv_channels: output channels of the *encoder's* conv modules, in the encoder's order.
        dense: units of the *encoder's* dense layers, in the encoder's order.
        rep_dim: size of the code.
        leakiness: slope of the leaky ReLU below zero.
        output: `sigmoid` for images in [0, 1], `tanh` for [-1, 1], `linear` for unbounded ones.

    Raises:
        ValueError: a code (or first dense layer) that the grid's cells do not divide, images too small for the number
            of conv modules, a size below 1, a leakiness outside [0, 1), or an unknown output.
    """

    channels_last: ClassVar = True

    def __init__(
        self,
        shape: tuple[int, ...],
        conv_channels: Sequence[int],
        dense: Sequence[int],
        rep_dim: int,
        leakiness: float = 0.1,
        output: Output = "sigmoid",
    ) -> None:
        super().__init__()
        targets = _map_sizes(shape, conv_channels, dense, rep_dim, leakiness)[::-1]
        grid = (_cells(targets[0][0]), _cells(targets[0][1]))
        cells = grid[0] * grid[1]
        widths = (rep_dim, *reversed(dense))
        if widths[-1] % cells:
            name = "the first of dense" if dense else "rep_dim"
            raise ValueError(
                f"{name} must be a multiple of {cells}, since the decoder of {_text(shape)} images lays it out on a "
                f"{grid[0]}x{grid[1]} grid, got {widths[-1]}"
            )
        channels = (widths[-1] // cells, *reversed(conv_channels), shape[0])
        size = (_grown(grid[0], targets[0][0]), _grown(grid[1], targets[0][1]))
        # The activation of the last dense layer and that of the grid are one and the same.
        layers = dense_layers(widths, leakiness, bias=False)[:-1] if dense else []
        layers += [nn.Unflatten(1, (channels[0], *grid)), nn.LeakyReLU(leakiness)]
        if size != grid:
            layers += [nn.Upsample(size=size, mode="nearest")]
        layers += [nn.ConvTranspose2d(channels[0], channels[1], 5, padding=2, bias=False)]
        for (n_in, n_out), target in zip(pairwise(channels[1:]), targets[1:], strict=True):
            size, padding = _upsampling(size, target)
            layers += [
                nn.BatchNorm2d(n_in, eps=BATCH_NORM_EPS, affine=False),
                nn.LeakyReLU(leakiness),
                nn.Upsample(size=size, mode="nearest"),
                nn.ConvTranspose2d(n_in, n_out, 5, padding=padding, bias=False),
            ]
            size = target
        self.net = nn.Sequential(*layers, output_activation(output))

    def forward(self, code: Tensor) -> Tensor:
        """Images (B, C, H, W) from codes (B, rep_dim)."""
        x: Tensor = self.net(code)
        return x


def _map_sizes(
    shape: tuple[int, ...], conv_channels: Sequence[int], dense: Sequence[int], rep_dim: int, leakiness: float
) -> list[tuple[int, int]]:
    """Height and width of an image and of the maps after each conv module. Raises ValueError for bad arguments."""
    require_samples_of(3, "images (C, H, W)", shape, "LeNetEncoder")
    if not conv_channels:
        raise ValueError("conv_channels must name at least one conv module, got none")
    check_positive("shape", shape)
    check_positive("conv_channels", conv_channels)
    check_positive("dense", dense)
    check_positive("rep_dim", (rep_dim,))
    check_leakiness(leakiness)
    _, height, width = shape
    sizes = [(height >> i, width >> i) for i in range(len(conv_channels) + 1)]
    if 0 in sizes[-1]:
        raise ValueError(
            f"conv_channels: {len(conv_channels)} conv modules halve the image as many times and need sides of at "
            f"least {2 ** len(conv_channels)} pixels, got images of shape {_text(shape)}"
        )
    return sizes


def _cells(size: int) -> int:
    """Cells of the code's grid along a side of the smallest map: 1, 2 or 4, the largest that is not over its size."""
    return min(GRID, 1 << (size.bit_length() - 1))


def _grown(cells: int, size: int) -> int:
    """The number of cells, doubled until it is at least the size."""
    while cells < size:
        cells *= 2
    return cells


def _upsampling(size: tuple[int, int], target: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """To which size to upsample, and how to pad the transposed convolution that makes it the target size.

    By two, with one pixel taken off each side where the release does so (16 to 14 on MNIST); straight to the target
    where that does not fit.
    """
    sizes, paddings = [], []
    for now, goal in zip(size, target, strict=True):
        excess = 2 * now - goal
        fits = excess in (0, 2)
        sizes.append(2 * now if fits else goal)
        paddings.append(2 + excess // 2 if fits else 2)
    return (sizes[0], sizes[1]), (paddings[0], paddings[1])


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(str(n) for n in shape)
