"""Preprocessing of images, uint8 (B, C, H, W)."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from adlightning.preprocessing.base import Batches, Preprocessing, or_one, require_samples

Statistics = Literal["training", "cifar10", "mnist", "imagenet"]

# Of all training images of all classes, as DROCC's released code has them; ImageNet's as torchvision's weights were
# trained.
KNOWN_STATISTICS = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.261)),
    "mnist": ((0.1307,), (0.3081,)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


def resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Images uint8 (B, C, H, W) to uint8 (B, C, height, width), bilinear, antialiased."""
    require_images(x)
    smooth = F.interpolate(x.float(), size, mode="bilinear", antialias=True)
    return smooth.round().clamp(0, 255).to(torch.uint8)


class ImagePreprocessing(Preprocessing):
    """Images uint8 (B, C, H, W), first resized and padded where asked to.

    Args:
        shape: (C, H, W) of a raw image.
        resize: side to which images are resized, in pixels; null leaves them.
        pad: pixels of zeros added around each image, after resizing.

    Raises:
        ValueError: samples that are no images, or an argument outside its range.
    """

    kinds: ClassVar[tuple[str, ...]] = ("image",)

    def __init__(
        self, shape: tuple[int, ...], resize: int | None = None, pad: int = 0, needs_fitting: bool | None = None
    ) -> None:
        super().__init__(shape, needs_fitting)
        if resize is not None and resize < 1:
            raise ValueError(f"resize must be at least 1 pixel, got {resize}")
        if pad < 0:
            raise ValueError(f"pad must not be negative, got {pad}")
        self.resize = resize
        self.pad = pad

    def output_shape(self) -> tuple[int, ...]:
        """(C, H, W) after resizing and padding."""
        height, width = self.shape[1:] if self.resize is None else (self.resize, self.resize)
        return (self.shape[0], height + 2 * self.pad, width + 2 * self.pad)

    def sized(self, x: Tensor) -> Tensor:
        """Images uint8 of the size wanted."""
        require_images(x)
        if self.resize is not None:
            x = resized(x, (self.resize, self.resize))
        return F.pad(x, [self.pad] * 4) if self.pad else x


class UnitRange(ImagePreprocessing):
    """Images uint8 to [0, 1]: x / 255.

    Args:
        shape: (C, H, W) of a raw image.
        resize: side to which images are resized first, in pixels; null leaves them.
        pad: pixels of zeros added around each image, after resizing.
    """

    output = "sigmoid"

    def __init__(self, shape: tuple[int, ...], resize: int | None = None, pad: int = 0) -> None:
        super().__init__(shape, resize, pad)

    def forward(self, x: Tensor) -> Tensor:
        """Images in [0, 1]."""
        return self.sized(x).float() / 255


class SymmetricRange(ImagePreprocessing):
    """Images uint8 to [-1, 1]: x / 127.5 - 1.

    Args:
        shape: (C, H, W) of a raw image.
        resize: side to which images are resized first, in pixels; null leaves them.
        pad: pixels of zeros added around each image, after resizing.
    """

    output = "tanh"

    def __init__(self, shape: tuple[int, ...], resize: int | None = None, pad: int = 0) -> None:
        super().__init__(shape, resize, pad)

    def forward(self, x: Tensor) -> Tensor:
        """Images in [-1, 1]."""
        return self.sized(x).float() / 127.5 - 1


class StandardizeChannels(ImagePreprocessing):
    """Images uint8, taken as [0, 1], to mean 0 and standard deviation 1 of each channel over all training pixels.

    A constant channel is divided by 1.

    Args:
        shape: (C, H, W) of a raw image.
        statistics: mean and standard deviation of the `training` images, or the known ones of a data set over all of
            its classes: `cifar10`, `mnist`, `imagenet`.
        resize: side to which images are resized first, in pixels; null leaves them.
        pad: pixels of zeros added around each image, after resizing.

    Raises:
        ValueError: statistics of another number of channels, or an argument outside its range.
    """

    output = "linear"
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        shape: tuple[int, ...],
        statistics: Statistics = "training",
        resize: int | None = None,
        pad: int = 0,
    ) -> None:
        super().__init__(shape, resize, pad, needs_fitting=statistics == "training")
        if statistics != "training" and statistics not in KNOWN_STATISTICS:
            names = ", ".join(("training", *KNOWN_STATISTICS))
            raise ValueError(f"statistics must be one of {names}, got {statistics!r}")
        self.statistics = statistics
        known = KNOWN_STATISTICS.get(statistics)
        if known is not None and len(known[0]) != shape[0]:
            raise ValueError(
                f"preprocessing: statistics={statistics} are of {len(known[0])} channels, the images have {shape[0]}"
            )
        self.register_buffer("mean", torch.zeros(shape[0]) if known is None else torch.tensor(known[0]))
        self.register_buffer("std", torch.ones(shape[0]) if known is None else torch.tensor(known[1]))

    def _fit(self, batches: Batches) -> None:
        if self.statistics != "training":
            return
        # Sums of whole grey levels are exact: the result does not depend on batches or their order.
        n = 0
        total = torch.zeros_like(self.mean, dtype=torch.long)
        squares = torch.zeros_like(total)
        for x in batches():
            pixels = self.sized(x).long()
            n += pixels.numel() // pixels.shape[1]
            total += pixels.sum(dim=(0, 2, 3))
            squares += pixels.square().sum(dim=(0, 2, 3))
        require_samples(n)
        mean = total.cpu().double() / n  # on the host: not every device has float64
        std = (squares.cpu().double() / n - mean.square()).clamp(min=0).sqrt()
        self.mean.copy_(mean / 255)
        self.std.copy_(or_one(std / 255))

    def forward(self, x: Tensor) -> Tensor:
        """Standardised images."""
        if not self.ready:
            self.refuse()
        return (self.sized(x).float() / 255 - self.mean[:, None, None]) / self.std[:, None, None]


class GlobalContrastL1(ImagePreprocessing):
    """Images uint8, each to mean 0 and mean absolute value 1 over (C, H, W), then to [0, 1] by the training extremes.

    Deep SVDD's released code, which lists one minimum and one maximum for each normal class; images beyond them are not
    clipped. A constant image is zeros before the second step.

    Args:
        shape: (C, H, W) of a raw image.
        resize: side to which images are resized first, in pixels; null leaves them.
        pad: pixels of zeros added around each image, after resizing.
    """

    output = "sigmoid"
    low: Tensor
    high: Tensor

    def __init__(self, shape: tuple[int, ...], resize: int | None = None, pad: int = 0) -> None:
        super().__init__(shape, resize, pad)
        self.register_buffer("low", torch.tensor(0.0))
        self.register_buffer("high", torch.tensor(1.0))

    def _fit(self, batches: Batches) -> None:
        extremes = [_unit_contrast(self.sized(x)).aminmax() for x in batches() if len(x)]
        require_samples(len(extremes))
        self.low.copy_(torch.stack([e.min for e in extremes]).min())
        self.high.copy_(torch.stack([e.max for e in extremes]).max())

    def forward(self, x: Tensor) -> Tensor:
        """Images in [0, 1], where they are like the training images."""
        if not self.ready:
            self.refuse()
        return (_unit_contrast(self.sized(x)) - self.low) / or_one(self.high - self.low)


def _unit_contrast(x: Tensor) -> Tensor:
    """Images (B, C, H, W) with mean 0 and mean absolute value 1 each; constant ones are zeros."""
    # Deviations times the number n of values are whole numbers and their sums exact: the same in any batch.
    n = x.shape[1:].numel()
    deviations = x.long() * n - x.sum(dim=(1, 2, 3), keepdim=True)
    total = deviations.abs().sum(dim=(1, 2, 3), keepdim=True).clamp(min=1)
    return deviations.float() * (n / total.float())


def require_images(x: Tensor) -> None:
    """Raise ValueError unless these are raw images."""
    if x.dtype != torch.uint8 or x.dim() != 4:
        raise ValueError(f"x must be raw images, uint8 (B, C, H, W), got {x.dtype} of shape {tuple(x.shape)}")
