"""ALAD: a bidirectional GAN with discriminators of cycles, whose features make the score (Zenati et al., ICDM 2018)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.optim import Adam

from adlightning.core.contracts import TrainBatch
from adlightning.core.detector import AnomalyDetector
from adlightning.core.optimization import Interval, optimizer_part, scheduler_part
from adlightning.core.parts import (
    DiscriminatorFactory,
    GeneratorFactory,
    LatentEncoderFactory,
    OptimizerFactory,
    PreprocessingFactory,
    SchedulerFactory,
    network_part,
)
from adlightning.core.rules import at_least, between, or_none, positive
from adlightning.core.thresholds import NormalQuantile, ThresholdRule
from adlightning.methods.parts.adversarial import Players, fake_loss, one_optimizer_each, real_loss
from adlightning.networks.alad import (
    ALADEncoder,
    ALADGenerator,
    ImagePairDiscriminator,
    JointDiscriminator,
    LatentPairDiscriminator,
    alad_init_,
    normalise_spectra_,
)
from adlightning.networks.checks import check_network, make_network

LatentPairFactory = Callable[[int], nn.Module]
"""From the dimension of latents to a module from pairs of them to one number a pair, (B,)."""


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Cross-entropy of a discriminator, from its logits (B,) of pairs that it is to call real and fake.

    D_xz: (x, E(x)) and (G(z), z); D_xx: (x, x) and (x, G(E(x))); D_zz: (z, z) and (z, E(G(z))).
    """
    return real_loss(real) + fake_loss(fake)


def encoder_generator_loss(encoded: Tensor, made: Tensor, *cycles: Tensor) -> Tensor:
    """Cross-entropy of calling everything the other way, from the discriminators' logits (B,).

    What the encoder and the generator cannot change, D_xx of (x, x) and D_zz of (z, z), is left out.

    Args:
        encoded: D_xz of (x, E(x)), to be called fake.
        made: D_xz of (G(z), z), to be called real.
        cycles: D_xx of (x, G(E(x))) and, where there is one, D_zz of (z, E(G(z))), to be called real.
    """
    return fake_loss(encoded) + real_loss(made) + sum(real_loss(logits) for logits in cycles)


@torch.no_grad()
def follow_(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move an average's weights a share of 1 - decay towards a network's, in place, and copy its buffers."""
    for mean, weight in zip(average.parameters(), network.parameters(), strict=True):
        mean.lerp_(weight, 1 - decay)
    for mine, buffer in zip(average.buffers(), network.buffers(), strict=True):
        mine.copy_(buffer)


class ALAD(AnomalyDetector):
    """ALAD: encoder and generator against discriminators of (x, z), (x, x) and (z, z); score by the second's features.

    Each batch is a step of the discriminators and, with other latents, one of encoder and generator.

    Args:
        latent_dim: dimension of the latents, N(0, I).
        encoder: a class made for (shape, latent_dim), from images to latents (B, latent_dim).
        generator: a class made for (latent_dim, shape, output), from latents to images.
        joint_discriminator: D_xz, a class made for (shape, latent_dim), from images and latents to logits (B,).
        image_discriminator: D_xx, a class made for the shape of an image, from two images to logits (B,); for the score
            by `features` it has these too, (B, n).
        latent_discriminator: D_zz, a class made for latent_dim, from two latents to logits (B,); null leaves it out.
        spectral_norm: of the encoder and the discriminators, but for a layer of theirs that is called `last`.
        ema_decay: of the averages of the weights that score, in [0, 1); 0 scores by the weights themselves.
        score_type: `features`, the L1 distance of D_xx's features of (x, x) and (x, G(E(x))), or what the paper
            compares it with: the L1 (`absolute`) or L2 (`euclidean`) distance of x and G(E(x)), or D_xx's negative
            `logit`.
        discriminator_optimizer: of each of the discriminators.
        generator_optimizer: of encoder and generator, each.
        lr_scheduler: of each player; null for constant learning rates.
        lr_scheduler_interval: whether the schedule goes on after each `epoch`, or after each `step` of the player.
        max_gradient_norm: bound on the norm of a player's gradient; null for none.
        preprocessing: as in :class:`AnomalyDetector`.
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, or networks that do not fit the images.
    """

    uses_known_anomalies = False
    scoring_arguments: ClassVar = ("score_type",)
    argument_rules: ClassVar = {
        "latent_dim": at_least(1),
        "ema_decay": between(0, 1, "left"),
        "max_gradient_norm": or_none(positive, "no bound"),
    }
    image_pairs: Any
    averages: Any

    def __init__(
        self,
        latent_dim: int = 100,
        encoder: LatentEncoderFactory = partial(ALADEncoder, width=128),
        generator: GeneratorFactory = partial(ALADGenerator, width=128),
        joint_discriminator: LatentEncoderFactory = partial(JointDiscriminator, width=128),
        image_discriminator: DiscriminatorFactory = partial(ImagePairDiscriminator, width=128),
        latent_discriminator: LatentPairFactory | None = LatentPairDiscriminator,
        spectral_norm: bool = True,
        ema_decay: float = 0.999,
        score_type: Literal["features", "absolute", "euclidean", "logit"] = "features",
        discriminator_optimizer: OptimizerFactory = partial(Adam, lr=2e-4, betas=(0.5, 0.999)),
        generator_optimizer: OptimizerFactory = partial(Adam, lr=2e-4, betas=(0.5, 0.999)),
        lr_scheduler: SchedulerFactory | None = None,
        lr_scheduler_interval: Interval = "epoch",
        max_gradient_norm: float | None = None,
        preprocessing: PreprocessingFactory | None = None,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__(preprocessing, threshold)
        self.automatic_optimization = False
        self.latent_dim = latent_dim
        self.make_encoder = network_part("encoder", encoder)
        self.make_generator = network_part("generator", generator)
        self.make_joint = network_part("joint_discriminator", joint_discriminator)
        self.make_image_pairs = network_part("image_discriminator", image_discriminator)
        self.make_latent_pairs = latent_discriminator and network_part("latent_discriminator", latent_discriminator)
        self.spectral_norm = spectral_norm
        self.ema_decay = ema_decay
        self.own_averages = f"model.ema_decay={ema_decay}" if ema_decay else None
        self.score_type = score_type
        self.make_discriminator_optimizer = optimizer_part("discriminator_optimizer", discriminator_optimizer)
        self.make_generator_optimizer = optimizer_part("generator_optimizer", generator_optimizer)
        self.make_scheduler = scheduler_part("lr_scheduler", lr_scheduler)
        self.lr_scheduler_interval = lr_scheduler_interval
        self.max_gradient_norm = max_gradient_norm

    def build(self, shape: tuple[int, ...]) -> None:
        """All networks for images of this shape; the generator's range is that of the preprocessed input."""
        d = self.latent_dim
        self.encoder = make_network("encoder", self.make_encoder, shape, d)
        self.generator = make_network("generator", self.make_generator, d, shape, self.preprocess.output)
        self.joint = make_network("joint_discriminator", self.make_joint, shape, d)
        self.image_pairs = make_network("image_discriminator", self.make_image_pairs, shape)
        self.discriminators = {"joint": self.joint, "image_pairs": self.image_pairs}
        check_network("encoder", self.encoder, [shape], (d,))
        check_network("generator", self.generator, [(d,)], shape)
        check_network("joint_discriminator", self.joint, [shape, (d,)], ())
        check_network("image_discriminator", self.image_pairs, [shape, shape], ())
        if self.score_type == "features":
            check_network("image_discriminator", self.image_pairs, [shape, shape], (None,), method="features")
        if self.make_latent_pairs:
            self.latent_pairs = make_network("latent_discriminator", self.make_latent_pairs, d)
            check_network("latent_discriminator", self.latent_pairs, [(d,), (d,)], ())
            self.discriminators["latent_pairs"] = self.latent_pairs
        networks = {"encoder": self.encoder, "generator": self.generator, **self.discriminators}
        for name, network in networks.items():
            alad_init_(network)
            if self.spectral_norm and name != "generator":
                normalise_spectra_(network)
        self.players = Players(self, networks, self.max_gradient_norm, self.lr_scheduler_interval)
        followed = self.scoring() if self.ema_decay else ()
        self.averages = nn.ModuleList(copy.deepcopy(network) for network in followed).requires_grad_(False)

    def scoring(self) -> tuple[nn.Module, nn.Module, Any]:
        """The networks that a score needs, as trained."""
        return self.encoder, self.generator, self.image_pairs

    def configure_optimizers(self) -> Any:
        """One optimiser for each player."""
        others = {"encoder": self.make_generator_optimizer, "generator": self.make_generator_optimizer}
        optimizers = {name: others.get(name, self.make_discriminator_optimizer) for name in self.players.networks}
        return one_optimizer_each(self.players.networks, optimizers, self.make_scheduler)

    def latents(self, n: int) -> Tensor:
        """Latents (n, latent_dim), by the run's random state."""
        return torch.randn(n, self.latent_dim, device=self.device)

    def training_step(self, batch: TrainBatch, batch_idx: int) -> dict[str, Tensor]:
        """A step of the discriminators, one of encoder and generator, and one of the averages."""
        x = self.preprocess(batch.x)
        with self.players.only(*self.discriminators):
            z = self.latents(len(x))
            with torch.no_grad():
                code, made = self.encoder(x), self.generator(z)
                rebuilt, recoded = self.generator(code), self.encoder(made)
            of_discriminators = discriminator_loss(self.joint(x, code).float(), self.joint(made, z).float())
            of_discriminators = of_discriminators + discriminator_loss(
                self.image_pairs(x, x).float(), self.image_pairs(x, rebuilt).float()
            )
            if self.make_latent_pairs:
                of_discriminators = of_discriminators + discriminator_loss(
                    self.latent_pairs(z, z).float(), self.latent_pairs(z, recoded).float()
                )
            self.players.minimise(of_discriminators, *self.discriminators)
        with self.players.only("encoder", "generator"):
            z = self.latents(len(x))
            code, made = self.encoder(x), self.generator(z)
            cycles = [self.image_pairs(x, self.generator(code)).float()]
            if self.make_latent_pairs:
                cycles.append(self.latent_pairs(z, self.encoder(made)).float())
            loss = encoder_generator_loss(self.joint(x, code).float(), self.joint(made, z).float(), *cycles)
            self.players.minimise(loss, "encoder", "generator")
        for average, network in zip(self.averages, self.scoring(), strict=False):  # there are none without a decay
            follow_(average, network, self.ema_decay)
        return {"loss": loss, "encoder_generator": loss, "discriminators": of_discriminators}

    def on_train_epoch_end(self) -> None:
        """Let the schedules go on."""
        super().on_train_epoch_end()
        self.players.end_epoch()

    def anomaly_score(self, x: Tensor) -> Tensor:
        """Distance (B,) of x from what encoder and generator make of it, as D_xx's features have it, or another."""
        encoder, generator, image_pairs = self.averages if self.ema_decay else self.scoring()
        x = self.preprocess(x)
        rebuilt: Tensor = generator(encoder(x))
        if self.score_type == "logit":
            logits: Tensor = image_pairs(x, rebuilt)
            return -logits.float()
        if self.score_type == "features":
            of_features: Tensor = image_pairs.features(x, x).float() - image_pairs.features(x, rebuilt).float()
            return of_features.abs().sum(dim=1)
        difference = (x.float() - rebuilt.float()).flatten(1)
        return difference.abs().sum(dim=1) if self.score_type == "absolute" else difference.square().sum(dim=1).sqrt()
