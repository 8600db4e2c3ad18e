"""What the methods with an encoder share: one of the networks, sized by the data, its weights, and an optimiser."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

from torch import nn

from adlightning.methods.parts.optimization import OptimizedDetector
from adlightning.networks.encoders import EncoderName, build_encoder
from adlightning.networks.initialisation import glorot_uniform_


class EncoderDetector(OptimizedDetector):
    """An encoder sized by the data, and whatever a method puts on it (Deep SAD, Appendix D; DROCC, Appendix E).

    Args:
        network: `lenet` for images, `mlp` for tables, `lstm` for series, `mobilenet_v2` for large images.
        conv_channels: filters of each convolutional module of a LeNet (5x5, BatchNorm, leaky ReLU, 2x2 max-pool).
        dense: units of the hidden dense layers: after a LeNet's convolutions, or of the MLP.
        rep_dim: dimension of the representation: the LSTM's hidden state; 1280 for MobileNetV2.
        leakiness: slope of the leaky ReLU below zero: 0.1 in the paper, 0.01 in its code (docs/methods.md, S4).
        weight_init: `glorot` (uniform, the paper for autoencoders) or `framework` (the released code, but for its
            CIFAR decoder).
        common: optimisation, preprocessing and threshold, as in :class:`OptimizedDetector`.

    Raises:
        ValueError: an argument outside its range.
    """

    encoder: nn.Module

    encoder_bias: bool = False
    """Whether the encoder has biases and affine BatchNorms; never in Deep SVDD and Deep SAD, which would collapse."""

    def __init__(
        self,
        network: EncoderName = "lenet",
        conv_channels: Sequence[int] = (8, 4),
        dense: Sequence[int] = (),
        rep_dim: int = 32,
        leakiness: float = 0.1,
        weight_init: Literal["glorot", "framework"] = "glorot",
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if rep_dim < 1:
            raise ValueError(f"rep_dim must be positive, got {rep_dim}")
        self.network = network
        self.conv_channels = list(conv_channels)
        self.dense = list(dense)
        self.rep_dim = rep_dim
        self.leakiness = leakiness
        self.weight_init = weight_init

    def build(self, shape: tuple[int, ...]) -> None:
        """The encoder, what the method puts on it, then the weights of all of them."""
        self.encoder = build_encoder(
            self.network,
            shape,
            self.conv_channels,
            self.dense,
            self.rep_dim,
            self.leakiness,
            bias=self.encoder_bias,
        )
        self.build_head(shape)
        if self.weight_init == "glorot":
            glorot_uniform_(self)

    @abstractmethod
    def build_head(self, shape: tuple[int, ...]) -> None:
        """Make what the method puts on the encoder, for preprocessed samples of this shape."""
