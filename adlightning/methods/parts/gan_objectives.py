"""What a critic and a generator minimise against each other in GANs that are none of Wasserstein's."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from adlightning.methods.parts.adversarial import fake_loss, real_loss


class AdversarialLoss(NamedTuple):
    """What the critic minimises, by its values (B,) of real and made samples, and the generator, by the latter."""

    critic: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]


def cross_entropy(real: Tensor, fake: Tensor) -> Tensor:
    """-mean log D(x) - mean log(1 - D(G(z))), from logits (B,): the discriminator of the original GAN.

    Goodfellow et al. (NeurIPS 2014), equation 1, which is equation 1 of ADGAN.
    """
    return real_loss(real) + fake_loss(fake)


def minimax_loss(fake: Tensor) -> Tensor:
    """mean log(1 - D(G(z))), from logits (B,): the generator of the same equation."""
    return -fake_loss(fake)


def least_squares_critic(real: Tensor, fake: Tensor) -> Tensor:
    """mean (D(x) - 1)^2 / 2 + mean D(G(z))^2 / 2, from values (B,): LSGAN, Mao et al. (ICCV 2017), equation 9."""
    return (real - 1).square().mean() / 2 + fake.square().mean() / 2


def least_squares_generator(fake: Tensor) -> Tensor:
    """mean (D(G(z)) - 1)^2 / 2, from values (B,): the same equation."""
    return (fake - 1).square().mean() / 2
