"""Fence GAN: a generator that draws a fence around the normal samples (Ngo et al., ICTAI 2019)."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Adam

from adlightning.core.contracts import TrainBatch
from adlightning.core.detector import AnomalyDetector
from adlightning.core.optimization import Interval, optimizer_part, scheduler_part
from adlightning.core.parts import (
    DiscriminatorFactory,
    GeneratorFactory,
    OptimizerFactory,
    PreprocessingFactory,
    SchedulerFactory,
    network_part,
)
from adlightning.core.rules import at_least, between, not_negative, or_none, positive
from adlightning.core.thresholds import NormalQuantile, ThresholdRule
from adlightning.methods.parts.adversarial import (
    Players,
    fake_loss,
    one_optimizer_each,
    real_loss,
    resting_statistics,
)
from adlightning.networks.checks import check_network, make_network
from adlightning.networks.fence_gan import FenceDiscriminator, FenceGenerator

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


class FenceGAN(AnomalyDetector):
    """Fence GAN: generated samples spread where the discriminator says alpha, which so learns a tight boundary.

    Epochs 0 to `pretrain_epochs` - 1 train the discriminator alone; then each batch is a step of the discriminator and
    one of the generator, until `trainer.max_epochs`, which counts both phases. The score is -D(x), by its logit.

    The generator's step leaves the running statistics of the discriminator's BatchNorm as they are, as in the released
    code. In the discriminator's own step generated images count as the normal ones do, in training mode.

    Args:
        latent_dim: dimension of the latents, N(0, I): 200 for MNIST, 256 for CIFAR-10.
        generator: a class made for (latent_dim, shape, output), from latents to images.
        discriminator: a class made for the shape of an image, from images to logits (B,), high for the data's.
        alpha: what the discriminator is to say of generated samples, in (0, 1): 0.1 for MNIST, 0.5 for CIFAR-10.
        beta: weight of the inverse of their dispersion: 30 and 10.
        gamma: weight of generated samples in the discriminator's loss: 0.1 and 0.5.
        encirclement: `cross_entropy`, as the released code, or `log_distance`, as the paper.
        separate_steps: the discriminator takes a step for the normal samples and another for generated ones, as in the
            released code; False takes one for both, as in the paper.
        pretrain_epochs: epochs that train the discriminator alone.
        discriminator_optimizer: learning rate 1e-5 for MNIST, 1e-4 for CIFAR-10.
        generator_optimizer: learning rate 2e-5 and 1e-3.
        lr_scheduler: of both, for each from the first epoch that trains it; null for constant learning rates.
        lr_scheduler_interval: whether the schedule goes on after each `epoch`, or after each `step` of the player.
        max_gradient_norm: bound on the norm of a player's gradient; null for none.
        preprocessing: as in :class:`AnomalyDetector`.
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, networks that do not fit the images, or a `trainer.max_epochs` that
            ends within the first phase.
    """

    uses_known_anomalies = False
    first_phase_argument = "pretrain_epochs"
    argument_rules: ClassVar = {
        "latent_dim": at_least(1),
        "alpha": between(0, 1),
        "beta": not_negative,
        "gamma": not_negative,
        "pretrain_epochs": not_negative,
        "max_gradient_norm": or_none(positive, "no bound"),
    }

    def __init__(
        self,
        latent_dim: int = 200,
        generator: GeneratorFactory = partial(FenceGenerator, network="dense", width=64, hidden=1024),
        discriminator: DiscriminatorFactory = partial(FenceDiscriminator, network="dense", width=64, hidden=1024),
        alpha: float = 0.1,
        beta: float = 30.0,
        gamma: float = 0.1,
        encirclement: Encirclement = "cross_entropy",
        separate_steps: bool = False,
        pretrain_epochs: int = 15,
        discriminator_optimizer: OptimizerFactory = partial(Adam, lr=1e-5, betas=(0.5, 0.999)),
        generator_optimizer: OptimizerFactory = partial(Adam, lr=2e-5, betas=(0.5, 0.999)),
        lr_scheduler: SchedulerFactory | None = None,
        lr_scheduler_interval: Interval = "epoch",
        max_gradient_norm: float | None = None,
        preprocessing: PreprocessingFactory | None = None,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__(preprocessing, threshold)
        self.automatic_optimization = False
        self.latent_dim = latent_dim
        self.make_generator = network_part("generator", generator)
        self.make_discriminator = network_part("discriminator", discriminator)
        self.alpha = alpha
        self.beta = beta
        self.gamma = gamma
        self.encirclement = encirclement
        self.separate_steps = separate_steps
        self.pretrain_epochs = pretrain_epochs
        self.make_optimizers = {
            "discriminator": optimizer_part("discriminator_optimizer", discriminator_optimizer),
            "generator": optimizer_part("generator_optimizer", generator_optimizer),
        }
        self.make_scheduler = scheduler_part("lr_scheduler", lr_scheduler)
        self.lr_scheduler_interval = lr_scheduler_interval
        self.max_gradient_norm = max_gradient_norm

    def build(self, shape: tuple[int, ...]) -> None:
        """Generator and discriminator for images of this shape; the generator's range is the preprocessed input's."""
        self.generator = make_network("generator", self.make_generator, self.latent_dim, shape, self.preprocess.output)
        self.discriminator = make_network("discriminator", self.make_discriminator, shape)
        check_network("generator", self.generator, [(self.latent_dim,)], shape)
        check_network("discriminator", self.discriminator, [shape], ())
        networks = {"discriminator": self.discriminator, "generator": self.generator}
        self.players = Players(self, networks, self.max_gradient_norm, self.lr_scheduler_interval)

    def configure_optimizers(self) -> Any:
        """One optimiser for each player."""
        return one_optimizer_each(self.players.networks, self.make_optimizers, self.make_scheduler)

    def on_train_epoch_start(self) -> None:
        """Note how far training has come: a checkpoint says so."""
        super().on_train_epoch_start()
        self.training_record["epochs"] = self.current_epoch + 1

    def ready_to_score(self) -> bool:
        """Only once the generator is trained."""
        begun: int = self.training_record.get("epochs", 0)
        return not self.pretrain_epochs or begun > self.pretrain_epochs

    def latents(self, n: int) -> Tensor:
        """Latents (n, latent_dim), by the run's random state."""
        return torch.randn(n, self.latent_dim, device=self.device)

    def training_step(self, batch: TrainBatch, batch_idx: int) -> dict[str, Tensor]:
        """A step of the discriminator and, after its epochs alone, one of the generator."""
        real = self.preprocess(batch.x)
        with self.players.only("discriminator"):
            with torch.no_grad():
                fake = self.generator(self.latents(len(real)))
            loss = real_loss(self.discriminator(real).float())
            if self.separate_steps:
                self.players.minimise(loss, "discriminator")
            of_generated = self.gamma * fake_loss(self.discriminator(fake).float())
            self.players.minimise(of_generated if self.separate_steps else loss + of_generated, "discriminator")
        if self.current_epoch < self.pretrain_epochs:
            return {"loss": loss + of_generated}
        with self.players.only("generator"), resting_statistics(self.discriminator):
            fake = self.generator(self.latents(len(real)))
            encircling = encirclement_loss(self.discriminator(fake).float(), self.alpha, self.encirclement)
            spread = dispersion(fake)
            self.players.minimise(encircling + self.beta / spread, "generator")
        return {"loss": loss + of_generated, "encirclement_loss": encircling, "dispersion": spread}

    def on_train_epoch_end(self) -> None:
        """Let the schedules of those that were trained go on."""
        super().on_train_epoch_end()
        self.players.end_epoch(*(["discriminator"] if self.current_epoch < self.pretrain_epochs else []))

    def anomaly_score(self, x: Tensor) -> Tensor:
        """The discriminator's negative logit (B,): the ranking of -D(x) without its saturation at 0 and 1."""
        logits: Tensor = self.discriminator(self.preprocess(x))
        return -logits.float()
