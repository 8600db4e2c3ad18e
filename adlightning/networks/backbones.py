"""The networks of the density-ratio paper by name, sized by the data: VGG11, WRN-10-4, and an MLP for all else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

from torch import nn

from adlightning.networks.mlp import MLP
from adlightning.networks.vgg import VGG11, DropoutPlacement, VGGHead
from adlightning.networks.wide_resnet import WideResNet10x4

BackboneName = Literal["vgg11", "wide_resnet", "mlp"]


def build_backbone(
    network: BackboneName,
    shape: tuple[int, ...],
    n_outputs: int,
    *,
    head: VGGHead,
    dropout: float,
    dropout_placement: DropoutPlacement,
    dense: Sequence[int],
    batch_norm: bool,
) -> nn.Module:
    """A network from samples (B, *shape) to logits (B, n_outputs).

    Args:
        network: `vgg11` for images of at least 32x32 pixels, `wide_resnet` (WRN-10-4) for images, `mlp` for tables and,
            flattened, anything.
        shape: of a preprocessed sample.
        n_outputs: logits.
        head, dropout_placement: of `vgg11`, as in :class:`VGG11`.
        dropout: rate of `vgg11` and `mlp`; the WRN has none.
        dense: units of the hidden layers of `mlp`.
        batch_norm: whether BatchNorm is allowed: `vgg11` then has it, `wide_resnet` always does, `mlp` never.

    Raises:
        ValueError: an unknown network, one that does not take that kind of sample, or an argument that does not fit it.
    """
    if network not in get_args(BackboneName):
        raise ValueError(f"network must be one of {', '.join(get_args(BackboneName))}, got {network!r}")
    if network == "mlp":
        if batch_norm:
            raise ValueError("batch_norm must be false for network: mlp, which never has it, got True")
        return MLP(math.prod(shape), dense, n_outputs, dropout)
    if len(shape) != 3:
        raise ValueError(f"network: {network} takes images (C, H, W), the data have samples of shape {shape}")
    if network == "vgg11":
        return VGG11((shape[0], shape[1], shape[2]), n_outputs, head, dropout, dropout_placement, batch_norm)
    if not batch_norm:
        raise ValueError("batch_norm must be true for network: wide_resnet, which cannot do without, got False")
    return WideResNet10x4(shape[0], n_outputs)
