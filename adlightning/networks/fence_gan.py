"""Fence GAN's networks, by the image's side: its released code's for MNIST (`dense`) and for CIFAR-10 (`conv`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from adlightning.networks.gan import ACTIVATIONS, square_side, stages
from adlightning.networks.mlp import Output, check_positive
from adlightning.networks.tensorflow_layers import SameConv2d, SameConvTranspose2d, keras_batch_norms_

FenceNetwork = Literal["dense", "conv"]


class FenceGenerator(nn.Module):
    """Latents (B, latent_dim) to images (B, C, S, S).

    `dense`: linear to `hidden`, linear to a map of a quarter of the side with twice `width` channels, transposed 4x4
    convolutions of stride 2 to `width` channels and to the image; ReLU and then BatchNorm after each but the last.
    `conv`: linear to a map of 2 or 3 pixels (7 for S = 28), transposed 5x5 convolutions of stride 2 (padded as by
    TensorFlow's 'SAME') that halve the channels down to `width`, and to the image; BatchNorm and then leaky ReLU (0.2)
    before each.

    Args:
        latent_dim: dimension of the latents.
        shape: (C, S, S) of the images.
        output: `tanh` for images in [-1, 1], `sigmoid` for [0, 1], `linear` for others.
        network: `dense`, the released code's for MNIST, or `conv`, for CIFAR-10.
        width: channels of the feature map next to the image: 64 for MNIST, 32 for CIFAR-10.
        hidden: units of the hidden layer of `dense`; `conv` does not look at it.

    Raises:
        ValueError: images that are not square or of a side it cannot make, an unknown network, or a size below 1.
    """

    def __init__(
        self,
        latent_dim: int,
        shape: tuple[int, ...],
        output: Output = "tanh",
        network: FenceNetwork = "dense",
        width: int = 64,
        hidden: int = 1024,
    ) -> None:
        super().__init__()
        check_positive("width", (width,))
        check_positive("hidden", (hidden,))
        first, doublings = maps(square_side(shape), network)
        channels = width * 2 ** (doublings - 1)
        n_first = channels * first**2
        layers: list[nn.Module]
        if network == "dense":
            layers = [nn.Linear(latent_dim, hidden), nn.ReLU(), nn.BatchNorm1d(hidden)]
            layers += [nn.Linear(hidden, n_first), nn.ReLU(), nn.BatchNorm1d(n_first)]
            layers += [nn.Unflatten(1, (channels, first, first))]
            layers += [nn.ConvTranspose2d(channels, width, 4, 2, 1), nn.ReLU(), nn.BatchNorm2d(width)]
            layers += [nn.ConvTranspose2d(width, shape[0], 4, 2, 1)]
        else:
            layers = [nn.Linear(latent_dim, n_first), nn.Unflatten(1, (channels, first, first))]
            for i in range(doublings):
                n_out = shape[0] if i == doublings - 1 else channels // 2
                layers += [nn.BatchNorm2d(channels), nn.LeakyReLU(0.2)]
                layers += [SameConvTranspose2d(channels, n_out, 5, 2)]
                channels = n_out
        self.layers = nn.Sequential(*layers, ACTIVATIONS[output]())
        _init_(self, network)

    def forward(self, z: Tensor) -> Tensor:
        """Images (B, C, S, S)."""
        images: Tensor = self.layers(z)
        return images


class FenceDiscriminator(nn.Module):
    """Images (B, C, S, S) to a logit each (B,).

    `dense`: two 4x4 convolutions of stride 2 to `width` channels, linear to `hidden`, linear to 1; leaky ReLU (0.1),
    no BatchNorm. `conv`: 5x5 convolutions of stride 2 (padded as by TensorFlow's 'SAME') that double the channels from
    `width` on, with BatchNorm but for the last and leaky ReLU (0.2), dropout of 0.2, linear to 1.

    Args:
        shape: (C, S, S) of the images.
        network, width, hidden: as in :class:`FenceGenerator`.

    Raises:
        ValueError: images that are not square or of a side it does not take, an unknown network, or a size below 1.
    """

    def __init__(
        self, shape: tuple[int, ...], network: FenceNetwork = "dense", width: int = 64, hidden: int = 1024
    ) -> None:
        super().__init__()
        check_positive("width", (width,))
        check_positive("hidden", (hidden,))
        first, halvings = maps(square_side(shape), network)
        layers: list[nn.Module]
        if network == "dense":
            layers = [nn.Conv2d(shape[0], width, 4, 2, 1), nn.LeakyReLU(0.1)]
            layers += [nn.Conv2d(width, width, 4, 2, 1), nn.LeakyReLU(0.1), nn.Flatten()]
            layers += [nn.Linear(width * first**2, hidden), nn.LeakyReLU(0.1), nn.Linear(hidden, 1)]
        else:
            layers, channels = [], shape[0]
            for i in range(halvings):
                layers.append(SameConv2d(channels, width * 2**i, 5, 2))
                channels = width * 2**i
                layers += [nn.BatchNorm2d(channels)] if i < halvings - 1 else []
                layers.append(nn.LeakyReLU(0.2))
            layers += [nn.Flatten(), nn.Dropout(0.2), nn.Linear(channels * first**2, 1)]
        self.layers = nn.Sequential(*layers)
        _init_(self, network)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B,), high for samples of the data."""
        logits: Tensor = self.layers(x)
        return logits.flatten()


def maps(side: int, network: FenceNetwork) -> tuple[int, int]:
    """Side of the smallest feature map, and number of doublings that lead from it to `side`.

    Raises:
        ValueError: a side that the network cannot make, or an unknown network.
    """
    if network not in get_args(FenceNetwork):
        raise ValueError(f"network must be one of {', '.join(get_args(FenceNetwork))}, got {network!r}")
    if network == "dense":
        if side % 4:
            raise ValueError(f"images must have a side that 4 divides for network: dense, got {side}")
        return side // 4, 2
    first, doublings = stages(side)
    return (first // 2, doublings + 1) if first % 2 == 0 else (first, doublings)


@torch.no_grad()
def _init_(module: nn.Module, network: FenceNetwork) -> None:
    """The released start: weights N(0, 0.02) for `dense`, Glorot's normal for `conv`; biases 0; Keras' BatchNorm."""
    keras_batch_norms_(module)
    start: Callable[[Tensor], Tensor] = nn.init.xavier_normal_ if network == "conv" else _small_normal_
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            start(layer.weight)
            assert layer.bias is not None
            layer.bias.zero_()


def _small_normal_(weight: Tensor) -> Tensor:
    return weight.normal_(0, 0.02)
