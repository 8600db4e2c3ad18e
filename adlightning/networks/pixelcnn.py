"""PixelCNN++ (Salimans et al., ICLR 2017): the probability of an image, pixel by pixel in the order of reading."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adlightning.networks.logistic_mixture import draw, log_probability, mixture_of, n_parameters
from adlightning.networks.mlp import check_positive

Size = tuple[int, int]

RESIDUAL_SCALE = 0.1
"""Of the outputs of a block's second convolution at the start, as in the paper's code: a block begins near identity."""


def concat_elu(x: Tensor) -> Tensor:
    """ELU of x and of -x, (B, 2 C, ...)."""
    return F.elu(torch.cat([x, -x], dim=1))


class _Convolution(nn.Conv2d):
    """A convolution that sees no pixel below, nor to the right where `right` is 0; `up` > 1 enlarges, transposed.

    A filter begins with norm `scale`: inputs of unit variance then give outputs of that deviation. With `weight_norm`
    the norm is a weight of its own (Salimans and Kingma 2016). The paper's code takes the first norms from a batch of
    data; these do not depend on any.

    Args:
        n_in: channels of the input.
        n_out: channels of the output.
        kernel: height and width; the current pixel is in the lowest row.
        right: columns of the kernel to the right of the current pixel.
        stride: of a convolution that shrinks.
        up: factor by which it enlarges.
        scale: norm of a filter at the start.
        weight_norm: see above.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        kernel: Size = (1, 1),
        right: int = 0,
        stride: int = 1,
        up: int = 1,
        scale: float = 1.0,
        weight_norm: bool = True,
    ) -> None:
        super().__init__(n_in, n_out, kernel, stride)
        self.right, self.up = right, up
        with torch.no_grad():
            self.weight *= scale
        self.gain = nn.Parameter(torch.full((n_out, 1, 1, 1), scale)) if weight_norm else None

    def reset_parameters(self) -> None:
        """Filters of norm 1 in random directions, biases of 0."""
        with torch.no_grad():
            self.weight.normal_()
            self.weight /= _norms(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def filters(self) -> Tensor:
        """The weights (n_out, n_in, height, width) that are applied."""
        if self.gain is None:
            return self.weight
        return self.gain * self.weight / _norms(self.weight)

    def forward(self, x: Tensor, size: Sequence[int] = ()) -> Tensor:
        """Feature maps (B, n_out, ...); of this height and width where it enlarges."""
        height, width = self.kernel_size
        if self.up > 1:
            larger = F.conv_transpose2d(x, self.filters().transpose(0, 1), self.bias, self.up)
            return larger[:, :, : size[0], self.right : self.right + size[1]]
        x = F.pad(x, (width - 1 - self.right, self.right, height - 1, 0))
        return F.conv2d(x, self.filters(), self.bias, self.stride)


def _norms(filters: Tensor) -> Tensor:
    """Norm of each filter, (n_out, 1, 1, 1)."""
    return filters.square().sum(dim=(1, 2, 3), keepdim=True).sqrt()


class _GatedBlock(nn.Module):
    """A gated residual block: concat_elu-conv (+ 1x1 of a shortcut)-concat_elu-dropout-conv, a sigmoid gate, the input.

    Args:
        filters: channels.
        kernel: of both convolutions.
        right: as in the convolution.
        shortcut: channels of another stream or of the way down that come in; 0 for none.
        dropout: share of values set to zero in training.
        weight_norm: as in the convolution.
    """

    def __init__(
        self, filters: int, kernel: Size, right: int, shortcut: int, dropout: float, weight_norm: bool
    ) -> None:
        super().__init__()
        self.first = _Convolution(2 * filters, filters, kernel, right, weight_norm=weight_norm)
        self.beside = _Convolution(2 * shortcut, filters, weight_norm=weight_norm) if shortcut else None
        self.dropout = nn.Dropout(dropout)
        self.second = _Convolution(
            2 * filters, 2 * filters, kernel, right, scale=RESIDUAL_SCALE, weight_norm=weight_norm
        )

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        inner = self.first(concat_elu(x))
        if self.beside is not None and shortcut is not None:
            inner = inner + self.beside(concat_elu(shortcut))
        inner = concat_elu(inner)
        inner = self.dropout(inner.contiguous() if self.training else inner)  # the same mask in any layout of memory
        value, gate = self.second(inner).chunk(2, dim=1)
        out: Tensor = x + value * gate.sigmoid()
        return out


class _Stage(nn.Module):
    """Gated blocks of both streams at one resolution: of the rows above (v), and of what is to the left as well (h).

    Args:
        blocks: of each stream.
        filters: channels of each stream.
        receptive_field: rows and columns.
        takes_kept: each block takes in what a block had on the way down; else it keeps what it has.
        dropout, weight_norm: as in the block.
    """

    def __init__(
        self, blocks: int, filters: int, receptive_field: Size, takes_kept: bool, dropout: float, weight_norm: bool
    ) -> None:
        super().__init__()
        self.takes_kept = takes_kept
        vertical, horizontal = _kernels(receptive_field)
        kept = filters if takes_kept else 0
        by_row = (_GatedBlock(filters, *vertical, kept, dropout, weight_norm) for _ in range(blocks))
        by_pixel = (_GatedBlock(filters, *horizontal, filters + kept, dropout, weight_norm) for _ in range(blocks))
        self.vertical, self.horizontal = nn.ModuleList(by_row), nn.ModuleList(by_pixel)

    def forward(self, v: Tensor, h: Tensor, kept: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        for by_row, by_pixel in zip(self.vertical, self.horizontal, strict=True):
            if self.takes_kept:
                kept_v, kept_h = kept.pop()
                v = by_row(v, kept_v)
                h = by_pixel(h, torch.cat([v, kept_h], dim=1))
            else:
                v = by_row(v)
                h = by_pixel(h, v)
                kept.append((v, h))
        return v, h


class _Resized(nn.Module):
    """Both streams at half or twice the resolution."""

    def __init__(self, filters: int, receptive_field: Size, weight_norm: bool, stride: int = 1, up: int = 1) -> None:
        super().__init__()
        streams = (
            _Convolution(filters, filters, *stream, stride=stride, up=up, weight_norm=weight_norm)
            for stream in _kernels(receptive_field)
        )
        self.vertical, self.horizontal = streams

    def forward(self, v: Tensor, h: Tensor, size: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        return self.vertical(v, size), self.horizontal(h, size)


def _kernels(receptive_field: Size) -> tuple[tuple[Size, int], tuple[Size, int]]:
    """Of the vertical and the horizontal stream: size, and columns to the right of the current pixel."""
    rows, columns = receptive_field
    return ((rows - 1, columns), columns // 2), ((2, columns // 2 + 1), 0)


class PixelCNNPP(nn.Module):
    """PixelCNN++: images (B, C, H, W) in [0, 1], of 256 values a channel, to natural log-probabilities (B,).

    Two streams of gated residual blocks, one of all rows above a pixel and one of what is to its left too, go through
    `levels` resolutions down and up again; each block on the way up also gets what the block of the same place had on
    the way down. A pixel's channels have a mixture of discretised logistics, later ones given the earlier.

    The defaults are a small model. Salimans et al. (2017) have levels=3, filters=160, dropout=0.5; Ren et al. (2019)
    levels=1, filters=32, components=1, weight_norm=False for Fashion-MNIST.

    Args:
        shape: (C, H, W) of the images, of any size.
        levels: resolutions, each half the one before.
        blocks: gated blocks of each stream at each resolution, on each way.
        filters: channels of each stream.
        components: logistics in the mixture.
        receptive_field: rows, with the current one, and columns that a convolution sees: 3 rows at least, and an odd
            number of columns, 3 at least.
        dropout: share of a block's inner values set to zero in training.
        weight_norm: filters are learned as a direction and a norm.

    Raises:
        ValueError: an argument outside its range.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        levels: int = 1,
        blocks: int = 5,
        filters: int = 32,
        components: int = 10,
        receptive_field: Sequence[int] = (3, 3),
        dropout: float = 0.0,
        weight_norm: bool = True,
    ) -> None:
        super().__init__()
        for name, value in (("levels", levels), ("blocks", blocks), ("filters", filters), ("components", components)):
            check_positive(name, (value,))
        if len(receptive_field) != 2 or min(receptive_field) < 3 or receptive_field[1] % 2 == 0:
            raise ValueError(
                "receptive_field must be rows and columns, at least 3 each, and columns odd, got "
                f"{list(receptive_field)}"
            )
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {dropout}")
        self.shape = tuple(shape)
        self.weight_norm = weight_norm
        seen = rows, columns = (receptive_field[0], receptive_field[1])
        n_in = shape[0] + 1  # with a channel of ones, by which the image is told from its padding
        self.above = _Convolution(n_in, filters, (rows - 1, columns), columns // 2, weight_norm=weight_norm)
        self.just_above = _Convolution(n_in, filters, (1, columns), columns // 2, weight_norm=weight_norm)
        self.left = _Convolution(n_in, filters, (2, columns // 2), weight_norm=weight_norm)
        # on the way up the lowest resolution has as many blocks as there are maps to take in, the others one more
        ups = [blocks + (level > 0) for level in range(levels)]
        self.down = nn.ModuleList(_Stage(blocks, filters, seen, False, dropout, weight_norm) for _ in range(levels))
        self.up = nn.ModuleList(_Stage(n, filters, seen, True, dropout, weight_norm) for n in ups)
        self.smaller = nn.ModuleList(_Resized(filters, seen, weight_norm, stride=2) for _ in range(levels - 1))
        self.larger = nn.ModuleList(_Resized(filters, seen, weight_norm, up=2) for _ in range(levels - 1))
        self.last = _Convolution(filters, n_parameters(shape[0], components), weight_norm=weight_norm)

    @property
    def passes_per_sample(self) -> int:
        """How often the network runs to draw images: once a pixel."""
        return self.shape[1] * self.shape[2]

    def parameters_of(self, x: Tensor) -> Tensor:
        """What the network says of each pixel of x (B, C, H, W) in [-1, 1] by those before it, (B, P, H, W)."""
        padded = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
        down, right = (0, 0, 1, 0), (1, 0, 0, 0)
        v = _shift(self.above(padded), down)
        h = _shift(self.just_above(padded), down) + _shift(self.left(padded), right)
        kept = [(v, h)]
        for level, stage in enumerate(self.down):
            v, h = stage(v, h, kept)
            if level < len(self.smaller):
                v, h = self.smaller[level](v, h)
                kept.append((v, h))
        v, h = kept.pop()
        for level, stage in enumerate(self.up):
            v, h = stage(v, h, kept)
            if level < len(self.larger):
                v, h = self.larger[level](v, h, kept[-1][0].shape[2:])
        said: Tensor = self.last(F.elu(h))
        return said

    def forward(self, x: Tensor) -> Tensor:
        """Natural log-probabilities (B,) of images (B, C, H, W) in [0, 1], in float32."""
        x = 2 * x - 1
        mixture = mixture_of(self.parameters_of(x).float(), self.shape[0])
        return log_probability(mixture, x.float()).sum(dim=(1, 2))

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Images (n, C, H, W) in [0, 1], drawn pixel by pixel; the same ones for the same state of the generator.

        The network runs once a pixel, on the rows down to the pixel's. The generator is on the weights' device.
        """
        channels, height, width = self.shape
        x = torch.zeros(n, channels, height, width, device=self.last.weight.device)
        for row in range(height):
            for column in range(width):
                said = self.parameters_of(x[:, :, : row + 1])[:, :, row, column].float()
                x[:, :, row, column] = draw(mixture_of(said, channels), generator)
        return (x + 1) / 2


def _shift(x: Tensor, padding: tuple[int, int, int, int]) -> Tensor:
    """Feature maps moved by a row down or a column to the right; the first is zeros, the last is lost."""
    height, width = x.shape[2:]
    return F.pad(x, padding)[:, :, :height, :width]
