"""Glow, a density of images by an invertible network (Kingma and Dhariwal, NeurIPS 2018, arXiv:1807.03039)."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from adlightning.networks.density import LEVELS
from adlightning.networks.flow import Coupling, Level
from adlightning.networks.mlp import check_positive

MOST_LEVELS = 3  # by default; the paper's for 32x32


def fitting_levels(shape: tuple[int, ...], levels: int | None = None) -> int:
    """How often images (C, H, W) are squeezed: the number asked for, or what suits their sides.

    Raises:
        ValueError: a side is odd, or no multiple of 2^levels; the message says what fits.
    """
    height, width = shape[1:]
    most = 0
    while height % 2 ** (most + 1) == 0 and width % 2 ** (most + 1) == 0:
        most += 1
    if most == 0:
        raise ValueError(
            f"Glow takes images whose sides are even, got {height}x{width}: resize them to multiples of 8, or pad them "
            "(preprocessing.resize, preprocessing.pad)"
        )
    if levels is None:
        large_enough = [n for n in range(1, most + 1) if min(height, width) >= 2 * 2**n]
        return min(max(large_enough, default=1), MOST_LEVELS)
    check_positive("levels", (levels,))
    if levels > most:
        raise ValueError(
            f"levels must be at most {most} for images of {height}x{width}, whose sides are multiples of {2**most}, "
            f"got {levels}"
        )
    return levels


class Glow(nn.Module):
    """Images (B, C, H, W) in [0, 1] to natural log-probabilities (B,) of images of 256 values a channel.

    The density is that of (255 x + u) / 256 - 1/2, u uniform on [0, 1] in training mode and 1/2 in eval mode, so that
    a score depends on its image alone. The first batch in training mode starts the normalisation of activations.

    Args:
        shape: (C, H, W) of the images; H and W are multiples of 2^levels.
        levels: L, how often the image is squeezed; None takes up to 3, as long as the smallest map has 2 pixels a side:
            3 for 16x16 and 32x32, 2 for 8x8 and 28x28.
        steps: K, of each level: 32 for CIFAR-10 in the paper.
        width: hidden channels of a coupling: 512 in the paper.
        coupling: `affine`, or `additive`, which preserves volumes.
        lu: as in :class:`InvertibleConvolution`.

    Raises:
        ValueError: images that cannot be squeezed so often, or sizes below 1.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        levels: int | None = None,
        steps: int = 32,
        width: int = 512,
        coupling: Coupling = "affine",
        lu: bool = True,
    ) -> None:
        super().__init__()
        check_positive("steps", (steps,))
        check_positive("width", (width,))
        if coupling not in ("affine", "additive"):
            raise ValueError(f"coupling must be affine or additive, got {coupling!r}")
        levels = fitting_levels(shape, levels)
        self.shape = shape
        self.latent_shapes: list[tuple[int, int, int]] = []
        self.levels = nn.ModuleList()
        channels, height, side = shape
        for level in range(1, levels + 1):
            splits = level < levels
            self.levels.append(Level(channels, steps, width, coupling, lu, splits))
            channels = 2 * channels if splits else 4 * channels
            self.latent_shapes.append((channels, height // 2**level, side // 2**level))

    def encode(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Latents of continuous images (B, C, H, W), level by level, and log |det| of the whole map, (B,).

        Under the model they are standard normal: the priors are part of the map.
        """
        latents: list[Tensor] = []
        log_determinant = x.new_zeros(())
        for level in self.levels:
            x, eps, of_level = level(x)
            latents.append(eps)
            log_determinant = log_determinant + of_level
        return latents, log_determinant

    def decode(self, latents: list[Tensor]) -> Tensor:
        """Continuous images (B, C, H, W) of latents: the inverse of :meth:`encode`."""
        x = latents[-1]
        for level, eps in zip(reversed(self.levels), reversed(latents), strict=True):
            x = cast(Level, level).inverse(x, eps)
        return x

    def log_density(self, x: Tensor) -> Tensor:
        """Natural log-density (B,) of continuous images (B, C, H, W)."""
        latents, log_determinant = self.encode(x)
        squares = torch.stack([eps.square().flatten(1).sum(dim=1) for eps in latents]).sum(dim=0)
        return log_determinant - 0.5 * (squares + math.prod(self.shape) * math.log(2 * math.pi))

    def forward(self, x: Tensor) -> Tensor:
        """Log-probabilities (B,)."""
        if torch.is_autocast_enabled(x.device.type):  # a determinant needs all digits
            with torch.autocast(x.device.type, enabled=False):
                return self.forward(x.float())
        noise = torch.rand_like(x) if self.training else 0.5
        return self.log_density((x * (LEVELS - 1) + noise) / LEVELS - 0.5) - math.prod(self.shape) * math.log(LEVELS)

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Images (n, C, H, W) of the 256 values k / 255; the same ones for the same state of the generator."""
        device = torch.device("cpu") if generator is None else generator.device
        like = next(self.parameters())
        latents = [torch.randn(n, *shape, generator=generator, device=device).to(like) for shape in self.latent_shapes]
        levels = torch.floor((self.decode(latents) + 0.5) * LEVELS)
        return levels.clamp(0, LEVELS - 1) / (LEVELS - 1)
