"""What encoders made of a library's networks share: grey images, pretrained weights, what is frozen or stripped."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from adlightning.networks.encoders import Shape, representation_size
from adlightning.networks.initialisation import strip_biases_
from adlightning.networks.lenet import LeNetDecoder
from adlightning.networks.mlp import Output


class LibraryEncoder(nn.Module, ABC):
    """A library's network without its classifier: images (B, C, H, W) to pooled features (B, `rep_dim`).

    Args:
        shape: (C, H, W) of an image; one grey channel is repeated three times.
        name: of the network, for messages.
        network: gives the features.
        weights: what :meth:`take_over` gets when a fit begins; None or False for those that the network has.
        frozen: nothing of it is trained, and its BatchNorms keep their statistics.
        strip_biases: as :func:`adlightning.networks.strip_biases_`.
        smallest: sides of the smallest images that it takes, where they are known.

    Raises:
        ValueError: a network that does not take such images, or that cannot be stripped.
    """

    has_own_start: ClassVar[bool] = True
    """The library draws the weights: a detector's `weight_init` leaves them alone."""

    has_weights: Tensor
    """Whether the weights that were asked for are taken over: a checkpoint has them, wherever they came from."""

    def __init__(
        self,
        shape: Shape,
        name: str,
        network: nn.Module,
        weights: str | bool | None,
        frozen: bool,
        strip_biases: bool,
        smallest: tuple[int, ...] = (1, 1),
    ) -> None:
        super().__init__()
        self.name, self.weights, self.frozen = name, weights, frozen
        self.repeats_grey = shape[0] == 1
        self.network = network
        if strip_biases:
            try:
                strip_biases_(network)
            except ValueError as error:
                raise ValueError(f"strip_biases: {name} cannot be made collapse-free: {error}") from error
        if weights:
            self.register_buffer("has_weights", torch.tensor(False))
        if frozen:
            self.requires_grad_(False)
        self.train(self.training)
        try:
            self.rep_dim = representation_size(self, shape)
        except ValueError as error:
            least = f"it takes {in_pixels(smallest)} and more" if min(shape[1:]) < max(smallest) else None
            raise ValueError(refusal(name, shape[1:], least or error.__cause__ or error)) from error
        self.shape = tuple(shape)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, rep_dim) of images (B, C, H, W)."""
        features: Tensor = self.network(x.expand(-1, 3, -1, -1) if self.repeats_grey else x)
        return features

    def mirrored(self, output: Output) -> LeNetDecoder:
        """A decoder (B, rep_dim) to (B, C, H, W): LeNet's, since no library has one, for images of this size."""
        n = max(1, (min(self.shape[1:]) // 4).bit_length() - 1)  # from 4x4 cells on
        dense = () if self.rep_dim % 16 == 0 else (512,)
        return LeNetDecoder(self.shape, [min(32 << i, 256) for i in range(n)], dense, self.rep_dim, output=output)

    def train(self, mode: bool = True) -> LibraryEncoder:
        """Set the mode; what is frozen stays in eval mode."""
        super().train(mode and not self.frozen)
        return self

    def load_pretrained(self) -> None:
        """Take over the weights asked for, once.

        Raises:
            ValueError: they are not there, or do not fit; nothing is taken over then.
        """
        if self.weights and not self.has_weights:
            self.take_over(self.weights)
            self.has_weights.fill_(True)

    @abstractmethod
    def take_over(self, weights: str | bool) -> None:
        """Take over weights, in place. Raises ValueError as :meth:`load_pretrained`."""


def refusal(name: str, sides: tuple[int, ...], reason: object) -> str:
    """That a network does not take images of these sides, and what can be done."""
    what = f"encoder: {name} does not take images of {in_pixels(sides)} pixels"
    return f"{what} (preprocessing.resize makes others of them): {' '.join(str(reason).split())}"


def in_pixels(sides: tuple[int, ...]) -> str:
    """Height and width in words."""
    return "x".join(map(str, sides))
