"""The Deep SAD encoders and their mirrored decoders by name, sized by the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import nn

from adlightning.networks.lenet import LeNetDecoder, LeNetEncoder
from adlightning.networks.mlp import MLPDecoder, MLPEncoder

EncoderName = Literal["lenet", "mlp"]
Output = Literal["sigmoid", "tanh", "linear"]


def build_encoder(
    network: EncoderName,
    shape: tuple[int, ...],
    conv_channels: Sequence[int],
    dense: Sequence[int],
    rep_dim: int,
    leakiness: float,
) -> nn.Module:
    """The encoder for samples of this shape. Raises ValueError when the network does not take that kind of sample."""
    _check(network, shape)
    if network == "lenet":
        return LeNetEncoder((shape[0], shape[1], shape[2]), conv_channels, dense, rep_dim, leakiness)
    return MLPEncoder(shape[0], dense, rep_dim, leakiness)


def build_decoder(
    network: EncoderName,
    shape: tuple[int, ...],
    conv_channels: Sequence[int],
    dense: Sequence[int],
    rep_dim: int,
    leakiness: float,
    output: Output,
) -> nn.Module:
    """The encoder's mirror image, from codes (B, rep_dim) to samples of this shape."""
    _check(network, shape)
    if network == "lenet":
        return LeNetDecoder((shape[0], shape[1], shape[2]), conv_channels, dense, rep_dim, leakiness, output)
    return MLPDecoder(shape[0], dense, rep_dim, leakiness, output)


def _check(network: EncoderName, shape: tuple[int, ...]) -> None:
    dimensions = {"lenet": (3, "images (C, H, W)"), "mlp": (1, "tables (D,)")}[network]
    if len(shape) != dimensions[0]:
        raise ValueError(f"network: {network} takes {dimensions[1]}, the data have samples of shape {shape}")
