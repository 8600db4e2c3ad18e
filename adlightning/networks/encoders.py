"""The encoders and their mirrored decoders by name, sized by the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from torch import nn

from adlightning.networks.lenet import LeNetDecoder, LeNetEncoder
from adlightning.networks.lstm import LSTMDecoder, LSTMEncoder
from adlightning.networks.mlp import MLPDecoder, MLPEncoder
from adlightning.networks.mobilenet import N_FEATURES, MobileNetV2Encoder

EncoderName = Literal["lenet", "mlp", "lstm", "mobilenet_v2"]
Output = Literal["sigmoid", "tanh", "linear"]

SAMPLES: dict[EncoderName, tuple[int, str]] = {
    "lenet": (3, "images (C, H, W)"),
    "mlp": (1, "tables (D,)"),
    "lstm": (2, "series (T, D)"),
    "mobilenet_v2": (3, "images (3, H, W)"),
}
"""How many dimensions a sample of each network has, and its kind in words."""


def build_encoder(
    network: EncoderName,
    shape: tuple[int, ...],
    conv_channels: Sequence[int],
    dense: Sequence[int],
    rep_dim: int,
    leakiness: float,
    bias: bool = False,
) -> nn.Module:
    """The encoder for samples of this shape, to codes (B, rep_dim).

    Args:
        network: `lenet` or `mobilenet_v2` for images, `mlp` for tables, `lstm` for series.
        shape: of a preprocessed sample.
        conv_channels: filters of each convolutional module of a LeNet; other networks do not look at it.
        dense: units of a LeNet's or an MLP's hidden dense layers; must be empty for the others.
        rep_dim: size of the code; an LSTM's hidden state; 1280 for MobileNetV2.
        leakiness: slope of a LeNet's or an MLP's leaky ReLU below zero; the others have none.
        bias: linear layers, convolutions (but MobileNetV2's, which never do) and LSTMs have biases, and BatchNorms are
            affine. Without it the encoder suits Deep SVDD and Deep SAD.

    Raises:
        ValueError: the network does not take that kind of sample, or an argument does not fit it.
    """
    _check(network, shape, dense, rep_dim)
    if network == "lenet":
        return LeNetEncoder((shape[0], shape[1], shape[2]), conv_channels, dense, rep_dim, leakiness, bias)
    if network == "mlp":
        return MLPEncoder(shape[0], dense, rep_dim, leakiness, bias)
    if network == "lstm":
        return LSTMEncoder(shape[1], rep_dim, bias)
    return MobileNetV2Encoder((shape[0], shape[1], shape[2]), affine=bias)


def build_decoder(
    network: EncoderName,
    shape: tuple[int, ...],
    conv_channels: Sequence[int],
    dense: Sequence[int],
    rep_dim: int,
    leakiness: float,
    output: Output,
) -> nn.Module:
    """The encoder's mirror image, from codes (B, rep_dim) to samples of this shape.

    Args:
        network, shape, conv_channels, dense, rep_dim, leakiness: those of the encoder, as in :func:`build_encoder`;
            no decoder has biases.
        output: `sigmoid` for samples in [0, 1], `tanh` for [-1, 1], `linear` for unbounded ones.

    Raises:
        ValueError: the network has no decoder, does not take that kind of sample, or an argument does not fit it.
    """
    _check(network, shape, dense, rep_dim)
    if network == "lenet":
        return LeNetDecoder((shape[0], shape[1], shape[2]), conv_channels, dense, rep_dim, leakiness, output)
    if network == "mlp":
        return MLPDecoder(shape[0], dense, rep_dim, leakiness, output)
    if network == "lstm":
        return LSTMDecoder((shape[0], shape[1]), rep_dim, output)
    raise ValueError("network: mobilenet_v2 has no decoder: set pretrain_epochs to 0, or take another network")


def _check(network: EncoderName, shape: tuple[int, ...], dense: Sequence[int], rep_dim: int) -> None:
    if network not in SAMPLES:
        raise ValueError(f"network must be one of {', '.join(get_args(EncoderName))}, got {network!r}")
    dimensions, kind = SAMPLES[network]
    if len(shape) != dimensions:
        raise ValueError(f"network: {network} takes {kind}, the data have samples of shape {shape}")
    if network in ("lstm", "mobilenet_v2") and len(dense):
        raise ValueError(f"dense must be empty for network: {network}, got {tuple(dense)}")
    if network == "mobilenet_v2" and rep_dim != N_FEATURES:
        raise ValueError(f"rep_dim must be {N_FEATURES} for network: mobilenet_v2, got {rep_dim}")
