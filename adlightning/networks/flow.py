"""Invertible layers of Glow, each with the logarithm of its Jacobian's determinant (arXiv:1807.03039, Table 1).

Where the paper is silent, they are as in the released code (openai/glow): the scale of a coupling is sigmoid(s + 2),
its hidden convolutions are normalised by their activations too, and learned logarithms of scales are multiplied by 3.
The channel by which that code marks the border of an image is left out.
"""

from __future__ import annotations

from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Coupling = Literal["affine", "additive"]

LOG_SCALE_FACTOR = 3.0  # of the released code: these logarithms learn as much faster


def _over_ranks(values: Tensor) -> Tensor:
    """The mean over all ranks that train together."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return values
    torch.distributed.all_reduce(values)
    return values / torch.distributed.get_world_size()


class ActNorm(nn.Module):
    """y = exp(s) (x + b), a scale and an offset a channel, at first such that a batch has mean 0 and variance 1.

    The first batch that is seen in training mode sets both; a buffer says that it has been. Where several ranks train,
    it is the first batch of all ranks together, so that all begin alike.
    """

    started: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.log_scale = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.register_buffer("started", torch.tensor(False))
        self._known_started = False  # on the host: a training step waits for no device

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """y (B, C, H, W), and log |det dy/dx|, which is the same for all samples, ()."""
        if self.training and not self._known_started:
            self._start(x)
        log_scale = LOG_SCALE_FACTOR * self.log_scale
        return (x + self.offset) * torch.exp(log_scale), x.shape[2] * x.shape[3] * log_scale.sum()

    def inverse(self, y: Tensor) -> Tensor:
        """x of y."""
        return y * torch.exp(-LOG_SCALE_FACTOR * self.log_scale) - self.offset

    @torch.no_grad()
    def _start(self, x: Tensor) -> None:
        if not self.started:  # a checkpoint may have been loaded
            mean = _over_ranks(x.mean(dim=(0, 2, 3), keepdim=True))
            variance = _over_ranks((x - mean).square().mean(dim=(0, 2, 3), keepdim=True))
            self.offset.copy_(-mean)
            self.log_scale.copy_(-torch.log(variance.sqrt() + 1e-6) / LOG_SCALE_FACTOR)
            self.started.fill_(True)
        self._known_started = True

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._known_started = False  # ask the buffer again


class InvertibleConvolution(nn.Module):
    """y = W x at each pixel, W at first a random rotation.

    Args:
        channels: of x and y.
        lu: W = P L (U + diag(s)) with P and the signs of s fixed, so that log |det W| is a sum (equation 10); False
            learns W itself, and takes its determinant in each step.
    """

    permutation: Tensor
    signs: Tensor

    def __init__(self, channels: int, lu: bool) -> None:
        super().__init__()
        rotation = torch.linalg.qr(torch.randn(channels, channels))[0]
        self.lu = lu
        if not lu:
            self.matrix = nn.Parameter(rotation)
            return
        permutation, lower, upper = torch.linalg.lu(rotation)
        diagonal = upper.diagonal()
        self.register_buffer("permutation", permutation)
        self.register_buffer("signs", diagonal.sign())
        self.lower = nn.Parameter(lower.tril(-1))
        self.upper = nn.Parameter(upper.triu(1))
        self.log_diagonal = nn.Parameter(diagonal.abs().log())

    def weight(self) -> tuple[Tensor, Tensor]:
        """W (C, C) and log |det W|."""
        if not self.lu:
            return self.matrix, torch.linalg.slogdet(self.matrix)[1]
        lower = self.lower.tril(-1) + torch.diag(torch.ones_like(self.log_diagonal))
        upper = self.upper.triu(1) + torch.diag(self.signs * self.log_diagonal.exp())
        return self.permutation @ lower @ upper, self.log_diagonal.sum()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """y (B, C, H, W), and log |det dy/dx|, which is the same for all samples, ()."""
        weight, log_determinant = self.weight()
        return F.conv2d(x, weight[:, :, None, None]), x.shape[2] * x.shape[3] * log_determinant

    def inverse(self, y: Tensor) -> Tensor:
        """x of y."""
        inverted = torch.linalg.inv(self.weight()[0].double()).to(y.dtype)
        return F.conv2d(y, inverted[:, :, None, None])


class ZeroConvolution(nn.Module):
    """A 3x3 convolution that starts at 0, with a learned scale for each channel that it makes."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(n_in, n_out, 3, padding=1)
        nn.init.zeros_(self.convolution.weight)
        nn.init.zeros_(self.convolution.bias)  # type: ignore[arg-type]  # there is one
        self.log_scale = nn.Parameter(torch.zeros(1, n_out, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, n_out, H, W)."""
        made: Tensor = self.convolution(x) * torch.exp(LOG_SCALE_FACTOR * self.log_scale)
        return made


class CouplingLayer(nn.Module):
    """Half of the channels stay, and say how the others move: x_b + t, times sigmoid(s + 2) if it is affine.

    Args:
        channels: of x, an even number.
        width: hidden channels of the network that gives t and s.
        affine: with a scale.
    """

    def __init__(self, channels: int, width: int, affine: bool) -> None:
        super().__init__()
        half = channels // 2
        self.affine = affine
        self.first = nn.Conv2d(half, width, 3, padding=1, bias=False)
        self.first_norm = ActNorm(width)
        self.second = nn.Conv2d(width, width, 1, bias=False)
        self.second_norm = ActNorm(width)
        self.last = ZeroConvolution(width, channels if affine else half)
        for convolution in (self.first, self.second):
            nn.init.normal_(convolution.weight, 0, 0.05)

    def _moves(self, stays: Tensor) -> tuple[Tensor, Tensor | None]:
        hidden = F.relu(self.first_norm(self.first(stays))[0])
        made = self.last(F.relu(self.second_norm(self.second(hidden))[0]))
        if not self.affine:
            return made, None
        shift, raw = made.chunk(2, dim=1)
        return shift, raw + 2

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """y (B, C, H, W), and log |det dy/dx| of each sample, (B,)."""
        stays, moves = x.chunk(2, dim=1)
        shift, raw = self._moves(stays)
        moved = moves + shift
        if raw is None:
            return torch.cat([stays, moved], dim=1), x.new_zeros(())
        moved = moved * torch.sigmoid(raw)
        return torch.cat([stays, moved], dim=1), F.logsigmoid(raw).flatten(1).sum(dim=1)

    def inverse(self, y: Tensor) -> Tensor:
        """x of y."""
        stays, moved = y.chunk(2, dim=1)
        shift, raw = self._moves(stays)
        moves = moved if raw is None else moved / torch.sigmoid(raw)
        return torch.cat([stays, moves - shift], dim=1)


class Standardisation(nn.Module):
    """The Gaussian prior of a latent z, made standard: eps = (z - mean) / exp(s), mean and s learned.

    Args:
        channels: of z.
        given: whether mean and s are a convolution of the half that stays when z is split off; else, as of the latent
            that is left in the end, they are learned for each channel.
    """

    def __init__(self, channels: int, given: bool) -> None:
        super().__init__()
        self.of_kept = ZeroConvolution(channels, 2 * channels) if given else None
        if not given:
            self.mean = nn.Parameter(torch.zeros(1, channels, 1, 1))
            self.log_scale = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def _prior(self, like: Tensor) -> tuple[Tensor, Tensor]:
        if self.of_kept is None:
            return self.mean.expand_as(like), (LOG_SCALE_FACTOR * self.log_scale).expand_as(like)
        mean, log_scale = self.of_kept(like).chunk(2, dim=1)
        return mean, log_scale

    def forward(self, z: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        """eps (B, C, H, W) of z, given what is kept (z itself at the end), and log |det d eps/dz|, (B,)."""
        mean, log_scale = self._prior(kept)
        return (z - mean) * torch.exp(-log_scale), -log_scale.flatten(1).sum(dim=1)

    def inverse(self, eps: Tensor, kept: Tensor) -> Tensor:
        """z of eps."""
        mean, log_scale = self._prior(kept)
        return eps * torch.exp(log_scale) + mean


class FlowStep(nn.Module):
    """Activation normalisation, an invertible 1x1 convolution, a coupling."""

    def __init__(self, channels: int, width: int, coupling: Coupling, lu: bool) -> None:
        super().__init__()
        self.norm = ActNorm(channels)
        self.mixing = InvertibleConvolution(channels, lu)
        self.coupling = CouplingLayer(channels, width, coupling == "affine")

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """y (B, C, H, W) and log |det dy/dx|, (B,) or the same for all samples."""
        x, of_norm = self.norm(x)
        x, of_mixing = self.mixing(x)
        x, of_coupling = self.coupling(x)
        return x, of_norm + of_mixing + of_coupling

    def inverse(self, y: Tensor) -> Tensor:
        """x of y."""
        x: Tensor = self.norm.inverse(self.mixing.inverse(self.coupling.inverse(y)))
        return x


class Level(nn.Module):
    """A squeeze, some steps, and a split, of which the half that leaves is made standard normal (Figure 2b).

    Args:
        channels: of what comes in.
        steps: how many, K.
        width: hidden channels of a coupling.
        coupling: of the steps.
        lu: as in :class:`InvertibleConvolution`.
        splits: False for the last level.
    """

    def __init__(self, channels: int, steps: int, width: int, coupling: Coupling, lu: bool, splits: bool) -> None:
        super().__init__()
        squeezed = 4 * channels
        self.splits = splits
        self.steps = nn.ModuleList(FlowStep(squeezed, width, coupling, lu) for _ in range(steps))
        self.prior = Standardisation(squeezed // 2 if splits else squeezed, given=splits)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What goes on (of no use after the last level), eps, and log |det| of the map to both, (B,)."""
        x = F.pixel_unshuffle(x, 2)  # blocks of 2x2 pixels become channels
        log_determinant = x.new_zeros(())
        for step in self.steps:
            x, of_step = step(x)
            log_determinant = log_determinant + of_step
        kept, latent = x.chunk(2, dim=1) if self.splits else (x, x)
        eps, of_prior = self.prior(latent, kept)
        return kept, eps, log_determinant + of_prior

    def inverse(self, kept: Tensor, eps: Tensor) -> Tensor:
        """What came in, of what went on and eps; the last level takes eps for both."""
        latent = self.prior.inverse(eps, kept)
        x = torch.cat([kept, latent], dim=1) if self.splits else latent
        for step in reversed(self.steps):
            x = cast(FlowStep, step).inverse(x)
        return F.pixel_shuffle(x, 2)
