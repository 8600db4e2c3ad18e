"""Skip-GANomaly's networks: a U-Net that reproduces an image, and a discriminator with a layer of features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from adlightning.networks.gan import ACTIVATIONS, DCGANCritic, dcgan_init_, square_side, stages
from adlightning.networks.mlp import Output, check_positive

WIDEST = 8  # times the width: feature maps have no more channels


class UNet(nn.Module):
    """Images (B, C, S, S) to images: halved down to an odd side, 1 for powers of 2, and doubled back, with skips.

    4x4 convolutions of stride 2 to width, 2, 4, 8, 8, ... times it, leaky ReLU (0.2) before each but the first,
    BatchNorm after each but the first and the last; transposed ones back with ReLU before and BatchNorm after each but
    the last, on what comes from below beside the map of the same side.

    Args:
        shape: (C, S, S) of the images.
        output: `tanh` for images in [-1, 1], `sigmoid` for [0, 1], `linear` for others.
        width: channels of the first feature map.

    Raises:
        ValueError: images that are not square or of a side that 4 does not divide, or a width below 1.
    """

    def __init__(self, shape: tuple[int, ...], output: Output = "tanh", width: int = 64) -> None:
        super().__init__()
        check_positive("width", (width,))
        side, n_in = square_side(shape), shape[0]
        if side % 4:
            raise ValueError(f"images must have a side that 4 divides, got {side}")
        downs: list[nn.Module] = []
        ups: list[nn.Module] = []
        while side % 2 == 0:
            side //= 2
            first, last = not downs, side % 2 == 1
            n_out = width * min(2 ** len(downs), WIDEST)
            down: list[nn.Module] = [] if first else [nn.LeakyReLU(0.2)]
            down += [nn.Conv2d(n_in, n_out, 4, 2, 1, bias=False)]
            down += [] if first or last else [nn.BatchNorm2d(n_out)]
            n_below = n_out if last else 2 * n_out
            up: list[nn.Module] = [nn.ReLU(), nn.ConvTranspose2d(n_below, n_in, 4, 2, 1, bias=first)]
            up += [ACTIVATIONS[output]()] if first else [nn.BatchNorm2d(n_in)]
            downs.append(nn.Sequential(*down))
            ups.append(nn.Sequential(*up))
            n_in = n_out
        self.downs = nn.ModuleList(downs)
        self.ups = nn.ModuleList(ups)
        dcgan_init_(self)
        nn.init.zeros_(self.get_parameter("ups.0.1.bias"))

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, S, S)."""
        maps: list[Tensor] = []
        for down in self.downs:
            x = down(x)
            maps.append(x)
        x = self.ups[-1](maps.pop())
        for up in list(self.ups)[-2::-1]:
            x = up(torch.cat([maps.pop(), x], dim=1))
        return x


class FeatureDiscriminator(nn.Module):
    """Images (B, C, S, S) to a logit each (B,), and the features (B, n_features) that it is linear in.

    A DCGAN's discriminator whose last convolution makes the features.

    Args:
        shape: (C, S, S) of the images.
        n_features: size of the layer of features.
        width: channels of the first feature map.

    Raises:
        ValueError: images that are not square or of a side it does not take, or a size below 1.
    """

    def __init__(self, shape: tuple[int, ...], n_features: int = 100, width: int = 64) -> None:
        super().__init__()
        check_positive("n_features", (n_features,))
        first, doublings = stages(square_side(shape))
        self.convolutions = DCGANCritic(shape, width=width).features
        self.features = nn.Conv2d(width * 2 ** (doublings - 1), n_features, first, bias=False)
        self.last = nn.Linear(n_features, 1, bias=False)
        dcgan_init_(self)
        nn.init.normal_(self.last.weight, 0, 0.02)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B,), high for samples of the data, and features (B, n_features)."""
        features = self.features(self.convolutions(x)).flatten(1)
        logits: Tensor = self.last(features)
        return logits.flatten(), features
