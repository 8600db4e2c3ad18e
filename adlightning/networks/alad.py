"""ALAD's networks, by its released code for CIFAR-10: DCGAN's encoder and generator, and discriminators of pairs.

BatchNorm has TensorFlow's constants.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from adlightning.networks.gan import DCGANCritic, DCGANEncoder, DCGANGenerator, square_side, stages
from adlightning.networks.mlp import Output, check_positive
from adlightning.networks.tensorflow_layers import SameConv2d, keras_batch_norms_

Pairing = Literal["height", "channels"]

DROPOUT = 0.2
LATENT_PAIR_UNITS = (64, 32)


class ALADEncoder(nn.Module):
    """Images (B, C, S, S) to latents (B, latent_dim), unbounded: a DCGAN's encoder with leaky ReLU of 0.2.

    Args:
        shape: (C, S, S) of the images.
        latent_dim: dimension of the latents.
        width: channels of the first feature map.

    Raises:
        ValueError: images that are not square or of a side it does not take, or a width below 1.
    """

    def __init__(self, shape: tuple[int, ...], latent_dim: int, width: int = 128) -> None:
        super().__init__()
        encoder = DCGANEncoder(shape, latent_dim, width, leakiness=0.2)
        self.features, self.last = encoder.features, encoder.last
        keras_batch_norms_(self)

    def forward(self, x: Tensor) -> Tensor:
        """Latents (B, latent_dim)."""
        latents: Tensor = self.last(self.features(x))
        return latents.flatten(1)


class ALADGenerator(nn.Module):
    """Latents (B, latent_dim) to images (B, C, S, S): a DCGAN's generator.

    Args:
        latent_dim: dimension of the latents.
        shape: (C, S, S) of the images.
        output: `tanh` for images in [-1, 1], `sigmoid` for [0, 1], `linear` for others.
        width: channels of the last feature map.

    Raises:
        ValueError: images that are not square or of a side it cannot make, or a width below 1.
    """

    def __init__(self, latent_dim: int, shape: tuple[int, ...], output: Output = "tanh", width: int = 128) -> None:
        super().__init__()
        self.layers = DCGANGenerator(latent_dim, shape, output, width).layers
        keras_batch_norms_(self)

    def forward(self, z: Tensor) -> Tensor:
        """Images (B, C, S, S)."""
        images: Tensor = self.layers(z[:, :, None, None])
        return images


class JointDiscriminator(nn.Module):
    """Pairs of an image (B, C, S, S) and a latent (B, latent_dim) to a logit each (B,): D_xz.

    A DCGAN's discriminator up to its last map, two linear layers for the latent, and one for both beside each other.
    The first convolution has a bias, for no BatchNorm follows it.

    Args:
        shape: (C, S, S) of the images.
        latent_dim: dimension of the latents.
        width: channels of the first feature map.
        latent_units: units of both layers of the latent.
        joint_units: units of the layer of both.

    Raises:
        ValueError: images that are not square or of a side it does not take, or a size below 1.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        latent_dim: int,
        width: int = 128,
        latent_units: int = 512,
        joint_units: int = 1024,
    ) -> None:
        super().__init__()
        check_positive("latent_units", (latent_units,))
        check_positive("joint_units", (joint_units,))
        first, doublings = stages(square_side(shape))
        n_image = width * 2 ** (doublings - 1) * first**2
        features = DCGANCritic(shape, width=width).features
        features[0] = nn.Conv2d(shape[0], width, 4, 2, 1)
        keras_batch_norms_(features)
        self.image = nn.Sequential(features, nn.Flatten())
        self.latent = nn.Sequential(*_dense(latent_dim, latent_units), *_dense(latent_units, latent_units))
        self.joint = nn.Sequential(*_dense(n_image + latent_units, joint_units))
        self.last = nn.Linear(joint_units, 1)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """Logits (B,)."""
        joint = self.joint(torch.cat([self.image(x), self.latent(z)], dim=1))
        logits: Tensor = self.last(joint)
        return logits.flatten()


class ImagePairDiscriminator(nn.Module):
    """Pairs of images (B, C, S, S) to a logit each (B,): D_xx, two 5x5 convolutions of stride 2, padded as by 'SAME'.

    Args:
        shape: (C, S, S) of an image.
        width: channels of the second convolution; the first has half as many.
        pairing: an image lies below the other (`height`), or has channels of its own (`channels`).

    Raises:
        ValueError: images that are not square, an unknown pairing, or a width below 1.
    """

    def __init__(self, shape: tuple[int, ...], width: int = 128, pairing: Pairing = "height") -> None:
        super().__init__()
        if pairing not in get_args(Pairing):
            raise ValueError(f"pairing must be one of {', '.join(get_args(Pairing))}, got {pairing!r}")
        check_positive("width", (width,))
        self.dim = 2 if pairing == "height" else 1
        channels, height, side = shape[0], square_side(shape), shape[2]
        if pairing == "height":
            height *= 2
        else:
            channels *= 2
        half = max(width // 2, 1)
        self.convolutions = nn.Sequential(
            *(SameConv2d(channels, half, 5, 2), nn.LeakyReLU(0.2), nn.Dropout(DROPOUT)),
            *(SameConv2d(half, width, 5, 2), nn.LeakyReLU(0.2), nn.Dropout(DROPOUT)),
            nn.Flatten(),
        )
        self.last = nn.Linear(width * -(-height // 4) * -(-side // 4), 1)

    def features(self, x: Tensor, other: Tensor) -> Tensor:
        """What the logit is linear in, (B, n)."""
        features: Tensor = self.convolutions(torch.cat([x, other], dim=self.dim))
        return features

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        """Logits (B,)."""
        logits: Tensor = self.last(self.features(x, other))
        return logits.flatten()


class LatentPairDiscriminator(nn.Module):
    """Pairs of latents (B, latent_dim) to a logit each (B,): D_zz, linear layers of 64 and 32 units."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        first, second = LATENT_PAIR_UNITS
        self.dense = nn.Sequential(*_dense(2 * latent_dim, first), *_dense(first, second))
        self.last = nn.Linear(second, 1)

    def forward(self, z: Tensor, other: Tensor) -> Tensor:
        """Logits (B,)."""
        logits: Tensor = self.last(self.dense(torch.cat([z, other], dim=1)))
        return logits.flatten()


def alad_init_(network: nn.Module) -> None:
    """The released start, in place, of a network of ours: weights N(0, 0.01), biases 0, BatchNorms without training."""
    if type(network).__module__.partition(".")[0] != "adlightning":
        return
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            nn.init.normal_(module.weight, 0, 0.01)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()


def normalise_spectra_(network: nn.Module) -> None:
    """Spectral norm by one power iteration a step, in place, of each convolution and linear layer but `last`."""
    for name, module in network.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)) and name != "last":
            spectral_norm(module)


def _dense(n_in: int, n_out: int) -> list[nn.Module]:
    return [nn.Linear(n_in, n_out), nn.LeakyReLU(0.2), nn.Dropout(DROPOUT)]
