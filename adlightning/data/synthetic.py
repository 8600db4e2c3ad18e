"""Known anomalies that are made of normal images while training: CutPaste, confetti, or one's own."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from adlightning.core.contracts import InputSpec, MaskedBatch, TrainBatch
from adlightning.core.parts import Part
from adlightning.core.rules import Rule, at_least, between
from adlightning.labels import KNOWN_ANOMALY

PAPERS_SIDE = 256
"""Side in pixels of the images for which CutPaste's paper states the sizes of its scars."""

_span = Rule(lambda v: len(v) == 2 and 0 < v[0] <= v[1] < math.inf, "be two positive numbers, the smaller one first")
_share_span = Rule(lambda v: _span.holds(v) and v[1] <= 1, "be two numbers in (0, 1], the smaller one first")
_count_span = Rule(
    lambda v: len(v) == 2 and 1 <= v[0] <= v[1] and all(float(n).is_integer() for n in v),
    "be two whole numbers of at least 1, the smaller one first",
)


@dataclass(frozen=True)
class SyntheticAnomalies(Part):
    """What makes known anomalies of a share of each training batch: a frozen dataclass with :meth:`make`.

    One of one's own:

        @dataclass(frozen=True)
        class Inverted(SyntheticAnomalies):
            def make(self, images):
                return 255 - images, torch.ones_like(images[:, 0], dtype=torch.bool)

    Args:
        share: of a batch that becomes anomalous, in (0, 1); a half in FCDD's paper.
    """

    share: float = 0.5

    argument_rules: ClassVar[Mapping[str, Rule]] = {"share": between(0, 1)}

    @abstractmethod
    def make(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """An anomaly of each image (B, C, H, W), uint8, in a new tensor, and masks (B, H, W), bool, of where it is one.

        Draws come from torch's random state on the host, which a detector sets at the start of every epoch.
        """

    @torch.no_grad()
    def __call__(self, batch: TrainBatch) -> MaskedBatch:
        """The batch with anomalies in the place of `share` of its images; what is a known anomaly already stays so."""
        n, device = len(batch.index), batch.x.device
        rows = torch.randperm(n)[: int(self.share * n + torch.rand(()).item())].to(device)
        taken = batch.x[rows]
        made, where = self.make(taken)
        real = (batch.known[rows] == KNOWN_ANOMALY).view(-1, 1, 1)
        mask = torch.zeros((n, *batch.x.shape[2:]), dtype=torch.bool, device=device)
        return MaskedBatch(
            batch.x.index_copy(0, rows, torch.where(real[..., None], taken, made)),
            batch.known.index_fill(0, rows, KNOWN_ANOMALY),
            batch.index,
            mask.index_copy(0, rows, where & ~real),
        )

    def require_fits(self, images: Tensor, spec: InputSpec) -> None:
        """Try :meth:`make` on a few raw samples, before training; no draw is taken by it.

        Raises:
            ValueError: the data are no images, or what it makes is of another type or shape.
        """
        name = type(self).__name__
        if spec.kind != "image":
            raise ValueError(f"synthetic_anomalies: {name} makes anomalies of images, the data are {spec}")
        with torch.random.fork_rng(devices=[]):
            made, where = self.make(images)
        if (made.shape, made.dtype) != (images.shape, images.dtype):
            raise ValueError(
                f"synthetic_anomalies: {name} must make {images.dtype} images {tuple(images.shape)} of such, got "
                f"{made.dtype} {tuple(made.shape)}"
            )
        wanted = (len(images), *images.shape[2:])
        if where.shape != wanted or where.dtype != torch.bool:
            raise ValueError(
                f"synthetic_anomalies: masks of {name} must be bool {wanted}, got {where.dtype} {tuple(where.shape)}"
            )


@dataclass(frozen=True)
class CutPaste(SyntheticAnomalies):
    """A rectangle of the image, its colours changed a little, pasted elsewhere in it (Li et al., CVPR 2021, Section 2).

    Args:
        share: as in :class:`SyntheticAnomalies`.
        variant: `patch` is a rectangle as it stood, `scar` a long and thin one that is turned, `both` one of the two
            for each image.
        area: of a patch, as a share of the image's.
        aspect: of a patch, its height by its width: the paper draws from (0.3, 1) or (1, 3.3).
        scar_width, scar_length: in pixels of an image of 256, which is the paper's; smaller ones have smaller scars, of
            at least one pixel by two.
        scar_angle: in degrees: a scar is turned by as much at most, to either side.
        jitter: of what is pasted: brightness and contrast, and in colour saturation and hue, change by such a share at
            most.
    """

    variant: Literal["patch", "scar", "both"] = "both"
    area: tuple[float, float] = (0.02, 0.15)
    aspect: tuple[float, float] = (0.3, 3.3)
    scar_width: tuple[float, float] = (2, 16)
    scar_length: tuple[float, float] = (10, 25)
    scar_angle: float = 45.0
    jitter: float = 0.1

    argument_rules: ClassVar[Mapping[str, Rule]] = {
        **SyntheticAnomalies.argument_rules,
        "area": _share_span,
        "aspect": _span,
        "scar_width": _span,
        "scar_length": _span,
        "scar_angle": at_least(0),
        "jitter": between(0, 1, "left"),
    }

    def make(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images with a part of themselves pasted into them, and the masks of where."""
        n, _, height, width = images.shape
        draws = torch.rand(n, 16).to(images.device)
        is_scar = draws[:, 0] < {"patch": 0.0, "scar": 1.0, "both": 0.5}[self.variant]
        sizes = torch.where(is_scar[:, None], self._scars(draws, height, width), self._patches(draws, height, width))
        angle = torch.deg2rad(self.scar_angle * (2 * draws[:, 5] - 1)) * is_scar
        limits = torch.tensor([height, width], device=images.device)
        start = (draws[:, 6:8] * (limits - sizes + 1)).floor()
        box = turned_box(sizes, angle).minimum(limits)
        end = (draws[:, 8:10] * (limits - box + 1)).floor() + (box - 1) / 2
        along, across = offsets(height, width, end, angle)
        half = sizes[:, :, None, None] / 2
        where = (along.abs() < half[:, 0]) & (across.abs() < half[:, 1])
        source = (start + (sizes - 1) / 2)[:, :, None, None]
        row = (source[:, 0] + along).round().clamp(0, height - 1)
        column = (source[:, 1] + across).round().clamp(0, width - 1)
        place = (row * width + column).long().flatten(1)[:, None].expand(-1, images.shape[1], -1)
        pasted = images.flatten(2).gather(2, place).view_as(images)
        if self.jitter:
            pasted = jittered(pasted, self.jitter * (2 * draws[:, 10:14] - 1))
        return torch.where(where[:, None], pasted, images), where

    def _patches(self, draws: Tensor, height: int, width: int) -> Tensor:
        """Heights and widths (B, 2) of patches, in whole pixels."""
        area = _within(self.area, draws[:, 1]) * height * width
        low, high = self.aspect
        middle = min(max(1.0, low), high)
        aspect = torch.where(
            draws[:, 2] < 0.5, _within((low, middle), draws[:, 3]), _within((middle, high), draws[:, 3])
        )
        tall, wide = (area * aspect).sqrt(), (area / aspect).sqrt()
        return torch.stack([tall.round().clamp(1, height), wide.round().clamp(1, width)], dim=1)

    def _scars(self, draws: Tensor, height: int, width: int) -> Tensor:
        """Heights and widths (B, 2) of scars, in whole pixels: the long side first."""
        side, scale = min(height, width), min(height, width) / PAPERS_SIDE
        length = (_within(self.scar_length, draws[:, 1]) * scale).round().clamp(2, max(side, 2))
        breadth = (_within(self.scar_width, draws[:, 3]) * scale).round().clamp(1, side)
        return torch.stack([length, breadth], dim=1)


@dataclass(frozen=True)
class Confetti(SyntheticAnomalies):
    """Blobs of another colour, turned and with more or less soft edges (FCDD, Liznerski et al. 2021, Appendix).

    The paper names them; sizes are those of its released code for images of 224, and numbers and colours are open.

    Args:
        share: as in :class:`SyntheticAnomalies`.
        blobs: how many an image gets, from and to.
        size: sides of a blob, as shares of the image's smaller side; at least one pixel.
        shift: by how much a blob is brighter or darker than what it covers, as a share of the range. Half of the blobs
            are shifted in all channels alike, the others in each by its own.
    """

    blobs: tuple[int, int] = (1, 3)
    size: tuple[float, float] = (0.035, 0.24)
    shift: tuple[float, float] = (0.1, 1.0)

    argument_rules: ClassVar[Mapping[str, Rule]] = {
        **SyntheticAnomalies.argument_rules,
        "blobs": _count_span,
        "size": _share_span,
        "shift": _share_span,
    }

    def make(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images with blobs in them, and the masks of where."""
        n, channels, height, width = images.shape
        few, many = self.blobs
        number = (few + (torch.rand(n) * (many - few + 1)).floor()).to(images.device)
        limits = torch.tensor([height, width], device=images.device)
        x = images.float()
        above = x.mean(dim=(2, 3)) / 255  # no bright blob on white: where there is no room a shift goes the other way
        where = torch.zeros(n, height, width, dtype=torch.bool, device=images.device)
        for i in range(int(many)):
            draws = torch.rand(n, 8 + 2 * channels).to(images.device)
            sides = (_within(self.size, draws[:, :2]) * min(height, width)).clamp_min(1)
            along, across = offsets(height, width, draws[:, 2:4] * (limits - 1), math.pi * draws[:, 4])
            edge = draws[:, 5, None, None].clamp_min(1e-3)
            half = sides[:, :, None, None] / 2
            rises = [((1 - at.abs() / half[:, j]) / edge).clamp(0, 1) for j, at in enumerate((along, across))]
            alpha = rises[0] * rises[1] * (i < number)[:, None, None]
            size, sign = draws[:, 8 : 8 + channels], draws[:, 8 + channels :]
            alike = draws[:, 6, None] < 0.5
            size, sign = torch.where(alike, size[:, :1], size), torch.where(alike, sign[:, :1], sign)
            room = torch.where(alike, above.mean(dim=1, keepdim=True), above)
            shift = _within(self.shift, size) * torch.where(sign < room, -255, 255)
            x = x + alpha[:, None] * shift[:, :, None, None]
            where |= alpha >= 0.5
        return x.round().clamp(0, 255).to(torch.uint8), where


def offsets(height: int, width: int, center: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """How far pixels lie from centres (B, 2) along axes turned by angles (B,): down (B, H, W), and to the right."""
    y = torch.arange(height, device=center.device).view(1, -1, 1) - center[:, 0].view(-1, 1, 1)
    x = torch.arange(width, device=center.device).view(1, 1, -1) - center[:, 1].view(-1, 1, 1)
    cos, sin = angle.cos().view(-1, 1, 1), angle.sin().view(-1, 1, 1)
    return y * cos - x * sin, y * sin + x * cos


def turned_box(sizes: Tensor, angle: Tensor) -> Tensor:
    """Heights and widths (B, 2), in whole pixels, of what holds rectangles (B, 2) turned by angles (B,)."""
    cos, sin = angle.cos().abs(), angle.sin().abs()
    box = torch.stack([sizes[:, 0] * cos + sizes[:, 1] * sin, sizes[:, 0] * sin + sizes[:, 1] * cos], dim=1)
    return (box - 1e-4).ceil()  # a rectangle that is not turned is its own box


def jittered(images: Tensor, by: Tensor) -> Tensor:
    """Images (B, C, H, W), uint8, in other colours.

    Args:
        images: of which those of three channels are taken for red, green and blue.
        by: (B, 4), changes of brightness, contrast, saturation (shares) and hue (turns).
    """
    brightness, contrast, saturation, hue = (column.view(-1, 1, 1, 1) for column in by.T)
    x = images.float() * (1 + brightness)
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    x = mean + (x - mean) * (1 + contrast)
    if images.shape[1] == 3:
        grey = x.mean(dim=1, keepdim=True)
        chroma, angle = (x - grey) * (1 + saturation), 2 * math.pi * hue
        turned = (chroma.roll(1, dims=1) - chroma.roll(-1, dims=1)) / math.sqrt(3)  # by a quarter, around grey
        x = grey + chroma * angle.cos() + turned * angle.sin()
    rounded: Tensor = x.round().clamp(0, 255).to(torch.uint8)
    return rounded


def _within(span: tuple[float, float], draw: Tensor) -> Tensor:
    """Draws from [0, 1) brought to a span."""
    return draw * (span[1] - span[0]) + span[0]
