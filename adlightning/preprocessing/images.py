"""Preprocessing of images, uint8 (B, C, H, W)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from adlightning.preprocessing.base import Batches, Preprocessing, or_one, require_samples

# Of all training images of all classes, as DROCC's released code has them.
CIFAR10_CHANNELS = ((0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.261))
MNIST_CHANNELS = ((0.1307,), (0.3081,))
IMAGENET_CHANNELS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # as torchvision's weights were trained


class Resize(Preprocessing):
    """Images uint8 (B, C, H, W) to uint8 (B, C, height, width), bilinear, antialiased; a first step of a Compose."""

    output = "linear"

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        if min(height, width) < 1:
            raise ValueError(f"height and width must be at least 1, got {height} and {width}")
        self.size = (height, width)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """(C, height, width)."""
        return (shape[0], *self.size)

    def _transform(self, x: Tensor) -> Tensor:
        _require_images(x)
        resized = F.interpolate(x.float(), self.size, mode="bilinear", antialias=True)
        return resized.round().clamp(0, 255).to(torch.uint8)


class Pad(Preprocessing):
    """Images uint8 (B, C, H, W) with `amount` black pixels added on every side, uint8; a first step of a Compose."""

    output = "linear"

    def __init__(self, amount: int) -> None:
        super().__init__()
        if amount < 0:
            raise ValueError(f"amount must not be negative, got {amount}")
        self.amount = amount

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """(C, H + 2 amount, W + 2 amount)."""
        return (shape[0], shape[1] + 2 * self.amount, shape[2] + 2 * self.amount)

    def _transform(self, x: Tensor) -> Tensor:
        _require_images(x)
        return F.pad(x, [self.amount] * 4)


class UnitRange(Preprocessing):
    """Images uint8 to [0, 1]: x / 255."""

    output = "sigmoid"

    def _transform(self, x: Tensor) -> Tensor:
        _require_images(x)
        return x.float() / 255


class SymmetricRange(Preprocessing):
    """Images uint8 to [-1, 1]: x / 127.5 - 1."""

    output = "tanh"

    def _transform(self, x: Tensor) -> Tensor:
        _require_images(x)
        return x.float() / 127.5 - 1


class StandardizeChannels(Preprocessing):
    """Images uint8, taken as [0, 1], to mean 0 and standard deviation 1 of each channel over all training pixels.

    A constant channel is divided by 1.

    Args:
        channels: number of channels.
        known: mean and standard deviation of each channel, of [0, 1], where they are not to be fitted.
    """

    output = "linear"
    mean: Tensor
    std: Tensor

    def __init__(self, channels: int, known: tuple[Sequence[float], Sequence[float]] | None = None) -> None:
        if known is not None and len(known[0]) != channels:
            raise ValueError(
                f"preprocessing: the means known are of {len(known[0])} channels, the images have {channels}"
            )
        super().__init__(needs_fitting=known is None)
        self.known = known
        self.register_buffer("mean", torch.zeros(channels) if known is None else torch.tensor(known[0]))
        self.register_buffer("std", torch.ones(channels) if known is None else torch.tensor(known[1]))

    def _fit(self, batches: Batches) -> None:
        if self.known is not None:
            return
        # Sums of whole grey levels are exact: the result does not depend on batches or their order.
        n = 0
        total = torch.zeros_like(self.mean, dtype=torch.long)
        squares = torch.zeros_like(total)
        for x in batches():
            _require_images(x)
            pixels = x.long()
            n += x.numel() // x.shape[1]
            total += pixels.sum(dim=(0, 2, 3))
            squares += pixels.square().sum(dim=(0, 2, 3))
        require_samples(n)
        mean = total.cpu().double() / n  # on the host: not every device has float64
        std = (squares.cpu().double() / n - mean.square()).clamp(min=0).sqrt()
        self.mean.copy_(mean / 255)
        self.std.copy_(or_one(std / 255))

    def _transform(self, x: Tensor) -> Tensor:
        _require_images(x)
        return (x.float() / 255 - self.mean[:, None, None]) / self.std[:, None, None]


class GlobalContrastL1(Preprocessing):
    """Images uint8, each to mean 0 and mean absolute value 1 over (C, H, W), then to [0, 1] by the training extremes.

    Deep SVDD's released code, which lists one minimum and one maximum for each normal class; images beyond them are not
    clipped. A constant image is zeros before the second step.
    """

    output = "sigmoid"
    low: Tensor
    high: Tensor

    def __init__(self) -> None:
        super().__init__(needs_fitting=True)
        self.register_buffer("low", torch.tensor(0.0))
        self.register_buffer("high", torch.tensor(1.0))

    def _fit(self, batches: Batches) -> None:
        extremes = [_unit_contrast(x).aminmax() for x in batches() if len(x)]
        require_samples(len(extremes))
        self.low.copy_(torch.stack([e.min for e in extremes]).min())
        self.high.copy_(torch.stack([e.max for e in extremes]).max())

    def _transform(self, x: Tensor) -> Tensor:
        return (_unit_contrast(x) - self.low) / or_one(self.high - self.low)


def _unit_contrast(x: Tensor) -> Tensor:
    """Images (B, C, H, W) with mean 0 and mean absolute value 1 each; constant ones are zeros."""
    _require_images(x)
    # Deviations times the number n of values are whole numbers and their sums exact: the same in any batch.
    n = x.shape[1:].numel()
    deviations = x.long() * n - x.sum(dim=(1, 2, 3), keepdim=True)
    total = deviations.abs().sum(dim=(1, 2, 3), keepdim=True).clamp(min=1)
    return deviations.float() * (n / total.float())


def _require_images(x: Tensor) -> None:
    if x.dtype != torch.uint8 or x.dim() != 4:
        raise ValueError(f"x must be raw images, uint8 (B, C, H, W), got {x.dtype} of shape {tuple(x.shape)}")
