"""DCGAN's generator and critic (Radford et al., ICLR 2016), as ADGAN has them (FIDELITY: depth by the image's side)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adlightning.networks.mlp import Output, check_positive

ACTIVATIONS: dict[Output, type[nn.Module]] = {"tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "linear": nn.Identity}
SMALLEST, LARGEST = 4, 7  # side of the generator's first feature map


def stages(side: int) -> tuple[int, int]:
    """Side of the first feature map, 4 to 7, and number of doublings that lead from it to `side`: 32 is 4 x 2^3.

    Raises:
        ValueError: `side` is no such number; 8, 16, 28, 32 and 64 are.
    """
    first, doublings = side, 0
    while first > LARGEST and first % 2 == 0:
        first, doublings = first // 2, doublings + 1
    if not (SMALLEST <= first <= LARGEST and doublings):
        raise ValueError(f"images must have a side of 4 to 7 times a power of 2 (8, 16, 28, 32, 64), got {side}")
    return first, doublings


def square_side(shape: tuple[int, ...]) -> int:
    """Side of square images of this shape (C, H, W). Raises ValueError for any other shape."""
    if len(shape) != 3 or shape[1] != shape[2]:
        raise ValueError(f"the network takes square images (C, H, W), the data have samples of shape {shape}")
    return shape[1]


def any_stages(shape: tuple[int, ...]) -> tuple[tuple[int, int], int]:
    """Sides of the first feature map, and doublings that lead from it to images (C, H, W) or just larger ones.

    As :func:`stages` of the longer side, where it takes that; else as of the next side that it takes: 128 for 120x100.

    Raises:
        ValueError: no images, or smaller than 8 pixels.
    """
    if len(shape) != 3 or max(shape[1:]) < 2 * SMALLEST or min(shape[1:]) < 1:
        raise ValueError(f"images (C, H, W) must have a side of at least 8 pixels, the data have samples of {shape}")
    doublings = 1
    while max(shape[1:]) > LARGEST << doublings:
        doublings += 1
    return (-(-shape[1] >> doublings), -(-shape[2] >> doublings)), doublings


def _margins(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """What :func:`any_stages` makes too large: left, right, top, bottom."""
    first, doublings = any_stages(shape)
    over = [(side << doublings) - wanted for side, wanted in zip(first, shape[1:], strict=True)]
    return over[1] // 2, over[1] - over[1] // 2, over[0] // 2, over[0] - over[0] // 2


def _width_for(shape: tuple[int, ...], width: int | None) -> int:
    return width if width is not None else min(64, max(8, 512 >> any_stages(shape)[1]))


class DCGANGenerator(nn.Module):
    """Latents (B, latent_dim) to images (B, C, H, W): strided transposed convolutions, BatchNorm, ReLU.

    For 32x32: latent_dim -> 256 @ 4x4 -> 128 -> 64 -> C, with twice as many channels in front for each doubling more.
    Images whose sides are no 4 to 7 times a power of 2 are cut out of the middle of larger ones.

    Args:
        latent_dim: dimension of the latents.
        shape: (C, H, W) of the images, one side of at least 8.
        output: `tanh` for images in [-1, 1], `sigmoid` for [0, 1], `linear` for others.
        width: channels of the last feature map; None takes as many as give the first 256, but 8 to 64.
        kernel_size: of the strided convolutions: 4, or 3.

    Raises:
        ValueError: no images, or smaller than 8 pixels, or sizes that it cannot have.
    """

    def __init__(
        self,
        latent_dim: int,
        shape: tuple[int, ...],
        output: Output = "tanh",
        width: int | None = 64,
        kernel_size: int = 4,
    ) -> None:
        super().__init__()
        first, doublings = any_stages(shape)
        self.margins = _margins(shape)
        width = _width_for(shape, width)
        _check_sizes(width, kernel_size)
        channels = width * 2 ** (doublings - 1)
        layers: list[nn.Module] = [nn.ConvTranspose2d(latent_dim, channels, first, bias=False)]
        for _ in range(doublings - 1):
            layers += [nn.BatchNorm2d(channels), nn.ReLU(), _doubling(channels, channels // 2, kernel_size)]
            channels //= 2
        layers += [
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            _doubling(channels, shape[0], kernel_size),
            ACTIVATIONS[output](),
        ]
        self.layers = nn.Sequential(*layers)
        dcgan_init_(self)

    def forward(self, z: Tensor) -> Tensor:
        """Images (B, C, H, W)."""
        images: Tensor = self.layers(z[:, :, None, None])
        return F.pad(images, [-margin for margin in self.margins]) if any(self.margins) else images


class DCGANCritic(nn.Module):
    """Images (B, C, S, S) to one number each (B,): the generator mirrored, with leaky ReLU of slope 0.2.

    Args:
        shape: (C, S, S) of the images.
        batch_norm: BatchNorm on all hidden layers but the first; not with a penalty on each sample's gradient.
        width: channels of the first feature map.
        kernel_size: of the strided convolutions: 4, or 3.

    Raises:
        ValueError: images that are not square or of a side it does not take, or sizes that it cannot have.
    """

    def __init__(self, shape: tuple[int, ...], batch_norm: bool = True, width: int = 64, kernel_size: int = 4) -> None:
        super().__init__()
        first, doublings = stages(square_side(shape))
        _check_sizes(width, kernel_size)
        channels = width
        layers: list[nn.Module] = [_halving(shape[0], channels, kernel_size), nn.LeakyReLU(0.2)]
        for _ in range(doublings - 1):
            layers.append(_halving(channels, 2 * channels, kernel_size))
            channels *= 2
            layers += [nn.BatchNorm2d(channels)] if batch_norm else []
            layers.append(nn.LeakyReLU(0.2))
        self.features = nn.Sequential(*layers)
        self.last = nn.Conv2d(channels, 1, first, bias=False)
        dcgan_init_(self)

    def forward(self, x: Tensor) -> Tensor:
        """One number a sample (B,), without activation."""
        values: Tensor = self.last(self.features(x))
        return values.flatten()


class DCGANEncoder(nn.Module):
    """Images (B, C, H, W) to codes (B, code_dim): the generator mirrored, BatchNorm and (leaky) ReLU in each layer.

    Images whose sides are no 4 to 7 times a power of 2 get zeros around.

    Args:
        shape: (C, H, W) of the images, one side of at least 8.
        code_dim: dimension of the codes.
        width: channels of the first feature map; None takes as many as give the last 256, but 8 to 64.
        kernel_size: of the strided convolutions: 4, or 3.
        leakiness: slope of the leaky ReLU below zero; 0 is the ReLU.

    Raises:
        ValueError: no images, or smaller than 8 pixels, or sizes that it cannot have.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        code_dim: int = 256,
        width: int | None = 64,
        kernel_size: int = 4,
        leakiness: float = 0.0,
    ) -> None:
        super().__init__()
        first, doublings = any_stages(shape)
        self.margins = _margins(shape)
        width = _width_for(shape, width)
        check_positive("code_dim", (code_dim,))
        _check_sizes(width, kernel_size)
        self._generator = partial(DCGANGenerator, shape=shape, width=width, kernel_size=kernel_size)
        self.code_dim = code_dim
        layers: list[nn.Module] = []
        channels = shape[0]
        for i in range(doublings):
            layers += [_halving(channels, width * 2**i, kernel_size)]
            channels = width * 2**i
            layers += [nn.BatchNorm2d(channels), nn.LeakyReLU(leakiness)]
        self.features = nn.Sequential(*layers)
        self.last = nn.Conv2d(channels, code_dim, first, bias=False)
        dcgan_init_(self)

    def forward(self, x: Tensor) -> Tensor:
        """Codes (B, code_dim), unbounded."""
        if any(self.margins):
            x = F.pad(x, self.margins)
        codes: Tensor = self.last(self.features(x))
        return codes.flatten(1)

    def mirrored(self, output: Output, latent_dim: int | None = None) -> DCGANGenerator:
        """A generator (B, latent_dim) to (B, C, H, W) of the same sizes; its latents are the codes, unless told."""
        return self._generator(self.code_dim if latent_dim is None else latent_dim, output=output)


def build_generator(
    factory: Callable[[int, tuple[int, ...], Output], nn.Module],
    latent_dim: int,
    shape: tuple[int, ...],
    output: Output,
) -> nn.Module:
    """A generator of samples of this shape (B, ...) from latents (B, latent_dim), tried on two latents.

    Raises:
        ValueError: it cannot be made for these samples, or makes others.
    """
    name = _name(factory)
    try:
        generator = factory(latent_dim, shape, output)
    except TypeError as error:
        raise ValueError(f"generator: {name} cannot be made with (latent_dim, shape, output): {error}") from error
    made = _tried("generator", generator, torch.zeros(2, latent_dim))
    if made != (2, *shape):
        raise ValueError(f"generator must make samples of shape {(2, *shape)} from 2 latents, {name} makes {made}")
    return generator


def build_critic(
    factory: Callable[[tuple[int, ...], bool], nn.Module], shape: tuple[int, ...], batch_norm: bool
) -> nn.Module:
    """A critic of samples of this shape: one number each (B,), tried on two samples.

    Raises:
        ValueError: it cannot be made for these samples, gives something else, or has a BatchNorm that it must not have.
    """
    name = _name(factory)
    try:
        critic = factory(shape, batch_norm)
    except TypeError as error:
        raise ValueError(f"critic: {name} cannot be made with (shape, batch_norm): {error}") from error
    given = _tried("critic", critic, torch.zeros(2, *shape))
    if given != (2,):
        raise ValueError(f"critic must give one number a sample, (2,) for 2 samples, {name} gives {given}")
    if not batch_norm and any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in critic.modules()):
        raise ValueError(
            f"critic: {name} has a BatchNorm, which couples samples, and a penalty is on each sample's own gradient: "
            "leave it out where batch_norm is False"
        )
    return critic


def build_dcgan_decoder(
    factory: Callable[[int, tuple[int, ...], Output], nn.Module] | None,
    encoder: nn.Module,
    latent_dim: int,
    shape: tuple[int, ...],
    output: Output,
) -> nn.Module:
    """A decoder of latents (B, latent_dim): the one given, the mirror image of a DCGAN's encoder, or its generator.

    Args:
        factory: makes it, for the size of a latent, the shape of a sample and its range; or None.
        encoder: whose mirror image is taken, where it is a DCGAN's.
        latent_dim: dimension of the latents.
        shape: of a preprocessed sample.
        output: its range.

    Raises:
        ValueError: it cannot be made for these samples, or makes others.
    """
    if factory is None and isinstance(encoder, DCGANEncoder):
        return encoder.mirrored(output, latent_dim)
    name = _name(factory := factory or DCGANGenerator)
    try:
        decoder = factory(latent_dim, shape, output)
    except TypeError as error:
        raise ValueError(f"decoder: {name} cannot be made with (rep_dim, shape, output): {error}") from error
    made = _tried("decoder", decoder, torch.zeros(2, latent_dim))
    if made != (2, *shape):
        raise ValueError(f"decoder must make samples of shape {(2, *shape)} from 2 codes, {name} makes {made}")
    return decoder


@torch.no_grad()
def _tried(argument: str, network: nn.Module, x: Tensor) -> Any:
    """The shape of what a network makes of a batch, in eval mode."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        made = network(x)
    except (RuntimeError, TypeError, IndexError, ValueError) as error:
        name = type(network).__name__
        raise ValueError(f"{argument}: {name} does not take a batch of shape {tuple(x.shape)}: {error}") from error
    finally:
        for module, mode in modes:
            module.training = mode
    return tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__


def _name(factory: Any) -> str:
    return str(getattr(getattr(factory, "func", factory), "__name__", factory))


def _doubling(n_in: int, n_out: int, kernel_size: int) -> nn.Module:
    return nn.ConvTranspose2d(n_in, n_out, kernel_size, 2, 1, output_padding=4 - kernel_size, bias=False)


def _halving(n_in: int, n_out: int, kernel_size: int) -> nn.Module:
    return nn.Conv2d(n_in, n_out, kernel_size, 2, 1, bias=False)


def _check_sizes(width: int, kernel_size: int) -> None:
    check_positive("width", (width,))
    if kernel_size not in (3, 4):
        raise ValueError(f"kernel_size must be 3 or 4, got {kernel_size}")


@torch.no_grad()
def dcgan_init_(network: nn.Module) -> None:
    """DCGAN's start, in place: convolutions N(0, 0.02), BatchNorm's scales N(1, 0.02), its offsets 0."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            module.weight.normal_(0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            module.weight.normal_(1, 0.02)
            module.bias.zero_()
