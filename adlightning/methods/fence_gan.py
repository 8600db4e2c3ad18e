"""Fence GAN: a generator that draws a fence around the normal samples (Ngo et al., ICTAI 2019)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer

from adlightning.core.contracts import TrainBatch
from adlightning.methods.parts.adversarial import AdversarialDetector, fake_loss, real_loss
from adlightning.networks.fence_gan import FenceDiscriminator, FenceGenerator, FenceNetwork

Encirclement = Literal["cross_entropy", "log_distance"]

SMALLEST = 1e-7  # distance from alpha, below which its logarithm goes no further


def encirclement_loss(logits: Tensor, alpha: float, form: Encirclement = "cross_entropy") -> Tensor:
    """How far D(G(z)) is from alpha, from the logits (B,) of generated samples: least where it is alpha.

    `cross_entropy` of D(G(z)) with alpha as its target, as the released code has it, or `log_distance`, the mean of
    log |alpha - D(G(z))|, as the paper does: it has no lower bound but that of float32.
    """
    if form == "cross_entropy":
        return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, alpha))
    return (torch.sigmoid(logits) - alpha).abs().clamp_min(SMALLEST).log().mean()


def dispersion(images: Tensor) -> Tensor:
    """Mean over generated samples (B, ...) of their Euclidean distance from their mean; the generator has beta / it."""
    flat = images.float().flatten(1)
    # the root's derivative is infinite at 0, and a batch of one is its own mean
    return ((flat - flat.mean(dim=0)).square().sum(dim=1) + 1e-12).sqrt().mean()


class FenceGAN(AdversarialDetector):
    """Fence GAN: generated samples spread where the discriminator says alpha, which so learns a tight boundary.

    Epochs 0 to `pretrain_epochs` - 1 train the discriminator alone; then each batch is a step of the discriminator and
    one of the generator, until `trainer.max_epochs`, which counts both phases. The score is -D(x), by its logit.

    Args:
        latent_dim: dimension of the latents, N(0, I): 200 for MNIST, 256 for CIFAR-10.
        alpha: what the discriminator is to say of generated samples, in (0, 1): 0.1 for MNIST, 0.5 for CIFAR-10.
        beta: weight of the inverse of their dispersion: 30 and 10.
        gamma: weight of generated samples in the discriminator's loss: 0.1 and 0.5.
        encirclement: `cross_entropy`, as the released code, or `log_distance`, as the paper.
        separate_steps: the discriminator takes a step for the normal samples and another for generated ones, as in the
            released code; False takes one for both, as in the paper.
        pretrain_epochs: epochs that train the discriminator alone.
        network: `dense`, the released code's for MNIST, or `conv`, for CIFAR-10.
        width: channels of the feature map next to the image: 64 for MNIST, 32 for CIFAR-10.
        hidden: units of the hidden layer of `dense`.
        lr_discriminator: learning rate of Adam, with betas (0.5, 0.999): 1e-5 and 1e-4.
        lr_generator: learning rate of the generator's: 2e-5 and 1e-3.
        common: schedule and gradient norm, as in :class:`AdversarialDetector`; preprocessing and threshold, as in
            :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, images of a side that the network cannot make, or a
            `trainer.max_epochs` that ends within the first phase.
    """

    uses_known_anomalies = False
    first_phase_argument = "pretrain_epochs"

    generator: FenceGenerator
    discriminator: FenceDiscriminator

    def __init__(
        self,
        latent_dim: int = 200,
        alpha: float = 0.1,
        beta: float = 30.0,
        gamma: float = 0.1,
        encirclement: Encirclement = "cross_entropy",
        separate_steps: bool = False,
        pretrain_epochs: int = 15,
        network: FenceNetwork = "dense",
        width: int = 64,
        hidden: int = 1024,
        lr_discriminator: float = 1e-5,
        lr_generator: float = 2e-5,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        for name, value in (("latent_dim", latent_dim), ("width", width), ("hidden", hidden)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not 0 < alpha < 1:
            raise ValueError(f"alpha must lie in (0, 1), got {alpha}")
        for name, weight in (("beta", beta), ("gamma", gamma)):
            if not 0 <= weight < math.inf:
                raise ValueError(f"{name} must not be negative and be finite, got {weight}")
        for name, rate in (("lr_discriminator", lr_discriminator), ("lr_generator", lr_generator)):
            if not 0 < rate < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {rate}")
        if pretrain_epochs < 0:
            raise ValueError(f"pretrain_epochs must not be negative, got {pretrain_epochs}")
        chosen = (("encirclement", encirclement, Encirclement), ("network", network, FenceNetwork))
        for name, choice, kind in chosen:
            if choice not in get_args(kind):
                raise ValueError(f"{name} must be one of {', '.join(get_args(kind))}, got {choice!r}")
        self.latent_dim = latent_dim
        self.alpha = alpha
        self.beta = beta
        self.gamma = gamma
        self.encirclement = encirclement
        self.separate_steps = separate_steps
        self.pretrain_epochs = pretrain_epochs
        self.network = network
        self.width = width
        self.hidden = hidden
        self.lr_discriminator = lr_discriminator
        self.lr_generator = lr_generator

    def build(self, shape: tuple[int, ...]) -> None:
        """Generator and discriminator for images of this shape; the generator's range is the preprocessed input's."""
        output = self.preprocess.output
        self.generator = FenceGenerator(shape, self.latent_dim, self.network, self.width, self.hidden, output)
        self.discriminator = FenceDiscriminator(shape, self.network, self.width, self.hidden)

    def on_train_epoch_start(self) -> None:
        """Note how far training has come: a checkpoint says so."""
        super().on_train_epoch_start()
        self.training_record["epochs"] = self.current_epoch + 1

    def ready_to_score(self) -> bool:
        """Only once the generator is trained."""
        begun: int = self.training_record.get("epochs", 0)
        return not self.pretrain_epochs or begun > self.pretrain_epochs

    def players(self) -> dict[str, nn.Module]:
        """Discriminator and generator."""
        return {"discriminator": self.discriminator, "generator": self.generator}

    def new_optimizer(self, player: str, parameters: Iterator[nn.Parameter]) -> Optimizer:
        """Adam, with a learning rate for each."""
        lr = self.lr_generator if player == "generator" else self.lr_discriminator
        return Adam(parameters, lr=lr, betas=(0.5, 0.999))

    def latents(self, n: int) -> Tensor:
        """Latents (n, latent_dim), by the run's random state."""
        return torch.randn(n, self.latent_dim, device=self.device)

    def training_step(self, batch: TrainBatch, batch_idx: int) -> None:
        """A step of the discriminator and, after its epochs alone, one of the generator."""
        real = self.preprocess(batch.x)
        with self.only("discriminator"):
            with torch.no_grad():
                fake = self.generator(self.latents(len(real)))
            loss = real_loss(self.discriminator(real).float())
            if self.separate_steps:
                self.minimise(loss, "discriminator")
            of_generated = self.gamma * fake_loss(self.discriminator(fake).float())
            self.minimise(of_generated if self.separate_steps else loss + of_generated, "discriminator")
        if self.current_epoch >= self.pretrain_epochs:
            with self.only("generator"):
                fake = self.generator(self.latents(len(real)))
                encircling = encirclement_loss(self.discriminator(fake).float(), self.alpha, self.encirclement)
                spread = dispersion(fake)
                self.minimise(encircling + self.beta / spread, "generator")
            self.curves.add(self.global_step, encirclement_loss=encircling, dispersion=spread)
        self.log_loss(loss + of_generated, batch)

    def anomaly_score(self, x: Tensor) -> Tensor:
        """The discriminator's negative logit (B,): the ranking of -D(x) without its saturation at 0 and 1."""
        logits: Tensor = self.discriminator(self.preprocess(x))
        return -logits.float()
