"""How the weights of networks lie in memory, which decides how their convolutions run."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Layout = Literal["contiguous", "channels_last"]


def lay_out_as_faster(module: nn.Module) -> None:
    """Lay out the networks within whose class says `channels_last = True`; others, a user's own too, stay as they are.

    Their maps are channels last then, and `view` refuses such: so a class says it of itself, not of those derived.
    """
    for network in module.modules():
        if vars(type(network)).get("channels_last", False):
            lay_out(network, "channels_last")


def lay_out(module: nn.Module, layout: Layout) -> None:
    """Lay out all weights of four dimensions; names and values stay."""
    for weight in module.parameters():
        if weight.dim() == 4:
            weight.data = _laid_out(weight.data, layout)


def _laid_out(weight: Tensor, layout: Layout) -> Tensor:
    """A copy with the strides of its layout, which a convolution goes by, in dimensions of one entry too.

    `Tensor.contiguous` gives a weight for one channel back as it is, and the maps would be contiguous.
    """
    _, c, h, w = weight.shape
    strides = (c * h * w, h * w, w, 1) if layout == "contiguous" else (h * w * c, 1, w * c, c)
    return torch.empty_strided(weight.shape, strides, dtype=weight.dtype, device=weight.device).copy_(weight)
