"""VGG11 for images of at least 32x32 pixels: the density-ratio paper, Section 5.3 (Simonyan and Zisserman, 2014).

The paper gives a dropout rate of 0.5 "in the convolution and FC layers" and no BatchNorm; where the dropout lies and
how the first dense layer meets a 1x1 map are left open there, and arguments here.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from adlightning.networks.mlp import check_dropout, check_positive, require_samples_of
from adlightning.networks.pretrained import load_pretrained

VGGHead = Literal["torchvision", "compact"]
DropoutPlacement = Literal["per_stage", "per_conv", "fc_only"]

STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))
"""Filters of each convolution (configuration A), by the stages that max-pooling ends."""

N_HIDDEN = 4096
MIN_SIDE = 2 ** len(STAGES)
LAST_LAYER = "classifier.6."


class VGG11(nn.Module):
    """Images (B, C, H, W) to logits (B, n_outputs): eight 3x3 convolutions, three dense layers, ReLU after all but one.

    Layers have the names of torchvision's vgg11 (vgg11_bn with `batch_norm`) and start as they do there: convolutions
    Kaiming-normal by fan-out, linear layers N(0, 0.01), biases zero.

    Args:
        shape: (C, H, W) of an image, H and W at least 32.
        n_outputs: logits: 1 for a density ratio, 72 for GEOM; null for as many as the detector needs, 1 on its own.
        head: `torchvision` pools the maps to 7x7 and has 25088-4096-4096 units, which repeats a 32x32 image's one cell
            49 times; `compact` pools to one cell and has 512-4096-4096: the same functions with a fifth of the weights.
        dropout: its rate, in [0, 1).
        dropout_placement: before both of the last dense layers, and `per_stage` after each max-pooling, or `per_conv`
            after each convolution's ReLU, or (`fc_only`, torchvision's) nowhere else.
        batch_norm: BatchNorm after each convolution, which lets a density ratio diverge: for the paper's Figure 1 only.
        weights: pretrained weights of torchvision's vgg11, taken over when a fit begins: a file, or their name
            (`IMAGENET1K_V1`); null starts from random ones. They need three channels and `head: torchvision`.

    Raises:
        ValueError: a size below 1, images smaller than 32x32, a rate outside its range, or an unknown name.
    """

    has_weights: Tensor

    def __init__(
        self,
        shape: tuple[int, ...],
        n_outputs: int | None = None,
        head: VGGHead = "torchvision",
        dropout: float = 0.5,
        dropout_placement: DropoutPlacement = "per_stage",
        batch_norm: bool = False,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        require_samples_of(3, "images (C, H, W)", shape, "VGG11")
        n_outputs = 1 if n_outputs is None else n_outputs
        check_positive("shape", shape)
        check_positive("n_outputs", (n_outputs,))
        if min(shape[1:]) < MIN_SIDE:
            raise ValueError(f"shape: VGG11 takes images of at least {MIN_SIDE}x{MIN_SIDE} pixels, got {tuple(shape)}")
        if head not in get_args(VGGHead):
            raise ValueError(f"head must be torchvision or compact, got {head!r}")
        check_dropout(dropout)
        if dropout_placement not in get_args(DropoutPlacement):
            raise ValueError(f"dropout_placement must be per_stage, per_conv or fc_only, got {dropout_placement!r}")
        self.head = head
        self.batch_norm = batch_norm
        self.weights = weights
        if weights is not None:
            self.register_buffer("has_weights", torch.tensor(False))
        self.features = _features(shape[0], dropout, dropout_placement, batch_norm)
        side = 7 if head == "torchvision" else 1
        self.avgpool = nn.AdaptiveAvgPool2d(side)
        self.classifier = nn.Sequential(
            nn.Linear(STAGES[-1][-1] * side**2, N_HIDDEN),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(N_HIDDEN, N_HIDDEN),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(N_HIDDEN, n_outputs),
        )
        _initialise_(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, n_outputs) of images (B, C, H, W)."""
        logits: Tensor = self.classifier(self.avgpool(self.features(x)).flatten(1))
        return logits

    def load_pretrained(self) -> None:
        """Take over the weights asked for, once: a checkpoint has them, wherever they came from."""
        if self.weights is not None and not self.has_weights:
            self.load_weights(self.weights)
            self.has_weights.fill_(True)

    def load_weights(self, weights: str) -> None:
        """Take over weights of torchvision's vgg11, in place; the last layer stays new, theirs is not looked at.

        Args:
            weights: name of torchvision's weights (`IMAGENET1K_V1`) or file of a `state_dict` of its vgg11. They were
                trained on images standardised with ImageNet's mean and deviation.

        Raises:
            ValueError: the network has another head, BatchNorm, or other than 3 input channels; the weights are not
                there, or a key is missing, unknown or of another shape; nothing is taken over.
        """
        channels = self.features.get_parameter("0.weight").shape[1]
        if self.head != "torchvision" or self.batch_norm or channels != 3:
            raise ValueError(
                f"weights are of a vgg11 with head: torchvision, batch_norm: false and 3 input channels, "
                f"this network has {self.head}, {str(self.batch_norm).lower()} and {channels}, got {weights}"
            )
        load_pretrained(self, "vgg11", weights, but=(LAST_LAYER, "has_weights"))


def _features(in_channels: int, dropout: float, placement: DropoutPlacement, batch_norm: bool) -> nn.Sequential:
    """The convolutions, numbered as in torchvision; dropouts have names of their own, not to shift the numbers."""
    layers = nn.Sequential()
    number = 0
    for i, stage in enumerate(STAGES):
        for j, out_channels in enumerate(stage):
            block: list[nn.Module] = [nn.Conv2d(in_channels, out_channels, 3, padding=1)]
            if batch_norm:
                block.append(nn.BatchNorm2d(out_channels))
            block.append(nn.ReLU(inplace=True))
            for layer in block:
                layers.add_module(str(number), layer)
                number += 1
            if placement == "per_conv":
                layers.add_module(f"dropout_{i}_{j}", nn.Dropout(dropout))
            in_channels = out_channels
        layers.add_module(str(number), nn.MaxPool2d(2))
        number += 1
        if placement == "per_stage":
            layers.add_module(f"dropout_{i}", nn.Dropout(dropout))
    return layers


def _initialise_(network: nn.Module) -> None:
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0, 0.01)
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
