"""What classifiers share: an encoder with a head that ends in one logit (DROCC, Section 3 and Appendix E)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from adlightning.methods.parts.encoder import EncoderDetector
from adlightning.networks.mlp import check_positive
from adlightning.networks.mobilenet import MobileNetV2Encoder

HeadActivation = Literal["none", "leaky_relu"]


class LogitDetector(EncoderDetector):
    """An encoder and a head of linear layers with one logit, whose meaning the method says.

    Args:
        head_dense: units of the head's hidden layers.
        head_activation: what comes before each of the head's layers: `leaky_relu` of slope `leakiness`, or `none`.
        head_bias: whether the head's layers have biases.
        encoder_bias: whether the encoder has biases and affine BatchNorms: they are harmless in a classifier.
        encoder_weights: pretrained weights for `mobilenet_v2` with `encoder_bias`: a file of torchvision's, or their
            name (`IMAGENET1K_V1`); null starts from random ones.
        common: networks, optimisation, preprocessing and threshold, as in :class:`EncoderDetector`.

    Raises:
        ValueError: an argument outside its range.
    """

    head: nn.Module
    has_encoder_weights: Tensor

    def __init__(
        self,
        head_dense: Sequence[int] = (),
        head_activation: HeadActivation = "none",
        head_bias: bool = True,
        encoder_bias: bool = False,
        encoder_weights: str | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        check_positive("head_dense", head_dense)
        if head_activation not in get_args(HeadActivation):
            raise ValueError(f"head_activation must be none or leaky_relu, got {head_activation!r}")
        if encoder_weights is not None and (self.network != "mobilenet_v2" or not encoder_bias):
            raise ValueError(f"encoder_weights needs network mobilenet_v2 and encoder_bias, got {encoder_weights}")
        self.head_dense = list(head_dense)
        self.head_activation = head_activation
        self.head_bias = head_bias
        self.encoder_bias = encoder_bias
        self.encoder_weights = encoder_weights
        if encoder_weights is not None:
            self.register_buffer("has_encoder_weights", torch.tensor(False))

    def build_head(self, shape: tuple[int, ...]) -> None:
        """The head on the representation."""
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise((self.rep_dim, *self.head_dense, 1)):
            layers += [nn.LeakyReLU(self.leakiness)] if self.head_activation == "leaky_relu" else []
            layers.append(nn.Linear(n_in, n_out, bias=self.head_bias))
        self.head = layers[0] if len(layers) == 1 else nn.Sequential(*layers)

    def on_fit_start(self) -> None:
        """Load pretrained weights, once: a checkpoint has them, wherever they came from."""
        super().on_fit_start()
        if self.encoder_weights is not None and not self.has_encoder_weights:
            assert isinstance(self.encoder, MobileNetV2Encoder)
            self.encoder.load_weights(self.encoder_weights)
            self.has_encoder_weights.fill_(True)

    def logits(self, x: Tensor) -> Tensor:
        """Logits (B,) of preprocessed samples."""
        logits: Tensor = self.head(self.encoder(x))
        return logits.squeeze(1)
