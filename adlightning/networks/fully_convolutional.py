"""Networks without dense layers, from images to a small map, and what each of its positions sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adlightning.networks.mlp import BATCH_NORM_EPS, check_leakiness, check_positive, require_samples_of

SMALL, MEDIUM = 16, 64
"""Sides in pixels up to which an image is tiny, and up to which it is small."""


class ReceptiveField(NamedTuple):
    """What the positions of a map see of an image: squares of `size` pixels, `stride` apart, the first around `start`.

    `start` is the place of its centre in pixels, 0 that of the first pixel.
    """

    size: int
    stride: int
    start: float


class FullyConvolutional(nn.Module):
    """Images (B, C, H, W) to maps (B, 1, h, w), unbounded: stages of convolutions, each ended by a 2x2 max-pooling.

    After each convolution come BatchNorm and a leaky ReLU, at the end a 1x1 convolution to one channel.

    Args:
        shape: (C, H, W) of an image.
        stages: filters of the convolutions, stage by stage. None takes, by the smaller side of the images, one stage
            and a convolution for up to 16 pixels; FCDD's for up to 64, with more filters; and for larger ones the start
            of a VGG, three stages and two convolutions, with fewer.
        kernel: side of the convolutions, odd; None takes 3 for tiny and large images, and 5 between.
        pool_last: whether the last stage ends in a max-pooling, too.
        leakiness: slope of the leaky ReLU below zero.
        positions: give the network two more channels, the row and the column of each pixel, both from -1 to 1. Where
            all photographs show the same view it learns what belongs where.

    Raises:
        ValueError: images too small for the number of stages, an even kernel, or a size below 1.
    """

    grid: Tensor | None

    def __init__(
        self,
        shape: tuple[int, ...],
        stages: Sequence[Sequence[int]] | None = None,
        kernel: int | None = None,
        pool_last: bool | None = None,
        leakiness: float = 0.01,
        positions: bool = False,
    ) -> None:
        super().__init__()
        require_samples_of(3, "images (C, H, W)", shape, "FullyConvolutional")
        side = min(shape[1:])
        if stages is None:
            stages = ((32, 32), (64, 64)) if side <= SMALL else ((32,), (64,)) if side <= MEDIUM else _LARGE
        if kernel is None:
            kernel = 5 if SMALL < side <= MEDIUM else 3
        if pool_last is None:
            pool_last = SMALL < side <= MEDIUM
        check_positive("shape", shape)
        check_leakiness(leakiness)
        if not stages or not all(stages):
            raise ValueError(f"stages must name at least one stage of one convolution or more, got {stages}")
        for stage in stages:
            check_positive("stages", stage)
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel must be odd and positive, got {kernel}")
        poolings = len(stages) - (not pool_last)
        if side < 2**poolings:
            raise ValueError(
                f"stages: {poolings} poolings halve the image as many times and need sides of at least {2**poolings} "
                f"pixels, got images of shape {tuple(shape)}"
            )
        layers: list[nn.Module] = []
        n_in = shape[0] + 2 * positions
        rows, columns = (torch.linspace(-1, 1, length) for length in shape[1:])
        grid = torch.stack([rows[:, None].expand(shape[1:]), columns[None].expand(shape[1:])])[None]
        self.register_buffer("grid", grid if positions else None, persistent=False)
        for i, stage in enumerate(stages):
            for n_out in stage:
                layers += [
                    nn.Conv2d(n_in, n_out, kernel, padding=kernel // 2, bias=False),
                    nn.BatchNorm2d(n_out, eps=BATCH_NORM_EPS),
                    nn.LeakyReLU(leakiness),
                ]
                n_in = n_out
            if i < poolings:
                layers.append(nn.MaxPool2d(2))
        self.net = nn.Sequential(*layers, nn.Conv2d(n_in, 1, 1))
        self.net.to(memory_format=torch.channels_last)  # twice as fast on a CPU

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, 1, h, w) of images (B, C, H, W)."""
        if self.grid is not None:
            x = torch.cat([x, self.grid.to(x).expand(x.shape[0], -1, -1, -1)], dim=1)
        maps: Tensor = self.net(x)
        return maps


_LARGE = ((8,), (16, 16), (32, 32), (64, 64))


def receptive_field(network: nn.Module) -> ReceptiveField:
    """What a position of a network's map sees: its convolutions and poolings, one after the other.

    Raises:
        ValueError: a layer whose sides differ, or one that enlarges a map.
    """
    size, stride, start = 1, 1, 0.0
    for name, layer in network.named_modules():
        if isinstance(layer, (nn.ConvTranspose2d, nn.Upsample, nn.Linear, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)):
            raise ValueError(f"network must have convolutions and poolings alone, got a {type(layer).__name__}, {name}")
        if not isinstance(layer, (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)):
            continue
        kernel, step, padding, dilation = (
            _side(f"{name}.{of}", getattr(layer, of, 1)) for of in ("kernel_size", "stride", "padding", "dilation")
        )
        start += ((kernel - 1) * dilation / 2 - padding) * stride
        size += (kernel - 1) * dilation * stride
        stride *= step
    return ReceptiveField(size, stride, start)


def _side(name: str, value: object) -> int:
    """Of a square layer."""
    sides = set(value) if isinstance(value, tuple) else {value}
    if len(sides) != 1 or not isinstance(side := sides.pop(), int):
        raise ValueError(f"network must have square kernels with numbers for padding, got {name}={value!r}")
    return side


class GaussianUpsampling(nn.Module):
    """Maps (B, 1, h, w) at the size of images, by a Gaussian over what each position sees (FCDD, Algorithm 1).

    The paper's transposed convolution with a fixed kernel, of the receptive field's size and stride. Its kernel is a
    product of two lines, so two products of matrices do the same in a fraction of the time. The result is divided by
    what a map of ones becomes: it keeps its scale, and its border is not darker because fewer positions see it.

    Args:
        size: (H, W) of the images.
        of: (h, w) of the maps.
        field: of the network that made the maps.
        sigma: deviation of the Gaussian in pixels; None takes 0.3 ((size - 1) / 2 - 1) + 0.8, by the field's size.
    """

    rows: Tensor
    columns: Tensor

    def __init__(
        self, size: tuple[int, int], of: tuple[int, int], field: ReceptiveField, sigma: float | None = None
    ) -> None:
        super().__init__()
        sigma = 0.3 * max((field.size - 1) / 2 - 1, 0) + 0.8 if sigma is None else sigma
        for name, side, n in zip(("rows", "columns"), size, of, strict=True):
            centers = field.start + field.stride * torch.arange(n)
            away = (torch.arange(side)[:, None] - centers[None]).abs()
            weights = torch.exp(-0.5 * (away.double() / sigma).square()) * (away <= field.size / 2)
            nearest = F.one_hot(away.argmin(dim=1), n)  # of a pixel that no position sees
            weights = torch.where(weights.sum(dim=1, keepdim=True) > 0, weights, nearest)
            self.register_buffer(name, (weights / weights.sum(dim=1, keepdim=True)).float(), persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, H, W)."""
        return self.rows @ maps[:, 0].float() @ self.columns.T


def output_size(network: nn.Module, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of one image's map, (C, h, w), by a dry run in eval mode. Raises ValueError where it takes no such images."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.no_grad():
            maps = network(torch.zeros(1, *shape))
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise ValueError(f"network: {type(network).__name__} does not take images {tuple(shape)}: {error}") from error
    finally:
        for module, mode in modes:
            module.training = mode
    return tuple(maps.shape[1:]) if isinstance(maps, Tensor) else ()


__all__ = ["FullyConvolutional", "GaussianUpsampling", "ReceptiveField", "output_size", "receptive_field"]
