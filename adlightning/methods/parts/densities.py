"""What detectors on density models of images have in common: which preprocessing they take, and pictures they draw."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from adlightning.core.prepared import name_of
from adlightning.networks.density import Sampling
from adlightning.preprocessing import Preprocessing, UnitRange

MANY_PASSES = 256
FEW = 10
"""How many images are drawn of models whose networks run more than MANY_PASSES times for them."""


def require_unit_range(preprocess: Preprocessing) -> None:
    """Refuse a preprocessing other than `UnitRange`. Raises ValueError."""
    if not isinstance(preprocess, UnitRange):
        raise ValueError(
            "preprocessing must be UnitRange, since a density gives the probability of images of 256 values, got "
            f"{name_of(preprocess)}"
        )


def drawn(density: nn.Module, n: int, shape: tuple[int, ...], device: torch.device, seed: int = 0) -> Tensor:
    """Images (n, C, H, W) in [0, 1] of a density model, the same ones every time.

    Ten at most of a model that takes long to draw them, and none of one that cannot.
    """
    if not isinstance(density, Sampling):
        return torch.empty(0, *shape, device=device)
    few = getattr(density, "passes_per_sample", 1) > MANY_PASSES
    return density.sample(min(n, FEW) if few else n, torch.Generator(device=device).manual_seed(seed))
