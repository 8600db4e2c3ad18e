"""ALAD: a bidirectional GAN with discriminators of cycles, whose features make the score (Zenati et al., ICDM 2018)."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from adlightning.core.contracts import TrainBatch
from adlightning.methods.parts.adversarial import AdversarialDetector, fake_loss, real_loss
from adlightning.networks.alad import (
    ImagePairDiscriminator,
    JointDiscriminator,
    LatentPairDiscriminator,
    Pairing,
    alad_init_,
    normalise_spectra_,
)
from adlightning.networks.gan import DCGANEncoder, DCGANGenerator

Score = Literal["features", "absolute", "euclidean", "logit"]


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


class ALAD(AdversarialDetector):
    """ALAD: encoder and generator against discriminators of (x, z), (x, x) and (z, z); score by the second's features.

    Each batch is a step of the discriminators and, with other latents, one of encoder and generator.

    Args:
        latent_dim: dimension of the latents, N(0, I).
        width: channels of the feature map next to the image.
        latent_units: units of the layers that D_xz has for a latent.
        joint_units: units of its layer for image and latent.
        spectral_norm: of the encoder and the discriminators, but for the last layer of each.
        latent_discriminator: whether there is D_zz.
        pairing: how D_xx sees two images: one below the other (`height`), as in the released code, or as `channels`.
        ema_decay: of the averages of the weights that score, in [0, 1); 0 scores by the weights themselves.
        score_type: `features`, the L1 distance of D_xx's features of (x, x) and (x, G(E(x))), or what the paper
            compares it with: the L1 (`absolute`) or L2 (`euclidean`) distance of x and G(E(x)), or D_xx's negative
            `logit`.
        lr: learning rate of all, of Adam with betas (0.5, 0.999).
        common: schedule and gradient norm, as in :class:`AdversarialDetector`; preprocessing and threshold, as in
            :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, or images of a side that the networks do not take.
    """

    uses_known_anomalies = False

    encoder: DCGANEncoder
    generator: DCGANGenerator
    joint: JointDiscriminator
    image_pairs: ImagePairDiscriminator
    latent_pairs: LatentPairDiscriminator
    averages: nn.ModuleList

    def __init__(
        self,
        latent_dim: int = 100,
        width: int = 128,
        latent_units: int = 512,
        joint_units: int = 1024,
        spectral_norm: bool = True,
        latent_discriminator: bool = True,
        pairing: Pairing = "height",
        ema_decay: float = 0.999,
        score_type: Score = "features",
        lr: float = 2e-4,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        sizes = (("latent_dim", latent_dim), ("width", width), ("latent_units", latent_units))
        for name, value in (*sizes, ("joint_units", joint_units)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not 0 <= ema_decay < 1:
            raise ValueError(f"ema_decay must lie in [0, 1), got {ema_decay}")
        for name, chosen, kind in (("pairing", pairing, Pairing), ("score_type", score_type, Score)):
            if chosen not in get_args(kind):
                raise ValueError(f"{name} must be one of {', '.join(get_args(kind))}, got {chosen!r}")
        if not 0 < lr < math.inf:
            raise ValueError(f"lr must be positive and finite, got {lr}")
        self.latent_dim = latent_dim
        self.width = width
        self.latent_units = latent_units
        self.joint_units = joint_units
        self.spectral_norm = spectral_norm
        self.latent_discriminator = latent_discriminator
        self.pairing = pairing
        self.ema_decay = ema_decay
        self.score_type = score_type
        self.lr = lr

    def build(self, shape: tuple[int, ...]) -> None:
        """All networks for images of this shape; the generator's range is that of the preprocessed input."""
        self.encoder = DCGANEncoder(shape, self.latent_dim, self.width, leakiness=0.2)
        self.generator = DCGANGenerator(shape, self.latent_dim, self.width, output=self.preprocess.output)
        self.joint = JointDiscriminator(shape, self.latent_dim, self.width, self.latent_units, self.joint_units)
        self.image_pairs = ImagePairDiscriminator(shape, self.width, self.pairing)
        if self.latent_discriminator:
            self.latent_pairs = LatentPairDiscriminator(self.latent_dim)
        for name, network in self.players().items():
            alad_init_(network)
            if self.spectral_norm and name != "generator":
                normalise_spectra_(network)
        followed = self.scoring() if self.ema_decay else ()
        self.averages = nn.ModuleList(copy.deepcopy(network) for network in followed).requires_grad_(False)

    def players(self) -> dict[str, nn.Module]:
        """Encoder, generator and the discriminators."""
        networks = {"encoder": self.encoder, "generator": self.generator, **self.discriminators()}
        return networks

    def discriminators(self) -> dict[str, nn.Module]:
        """D_xz, D_xx and, where there is one, D_zz."""
        latent = {"latent_pairs": self.latent_pairs} if self.latent_discriminator else {}
        return {"joint": self.joint, "image_pairs": self.image_pairs, **latent}

    def scoring(self) -> tuple[nn.Module, nn.Module, nn.Module]:
        """The networks that a score needs, as trained."""
        return self.encoder, self.generator, self.image_pairs

    def new_optimizer(self, player: str, parameters: Iterator[nn.Parameter]) -> Optimizer:
        """Adam for each."""
        return Adam(parameters, lr=self.lr, betas=(0.5, 0.999))

    def latents(self, n: int) -> Tensor:
        """Latents (n, latent_dim), by the run's random state."""
        return torch.randn(n, self.latent_dim, device=self.device)

    def training_step(self, batch: TrainBatch, batch_idx: int) -> None:
        """A step of the discriminators, one of encoder and generator, and one of the averages."""
        x = self.preprocess(batch.x)
        with self.only(*self.discriminators()):
            z = self.latents(len(x))
            with torch.no_grad():
                code, made = self.encoder(x), self.generator(z)
                rebuilt, recoded = self.generator(code), self.encoder(made)
            of_discriminators = discriminator_loss(self.joint(x, code).float(), self.joint(made, z).float())
            of_discriminators = of_discriminators + discriminator_loss(
                self.image_pairs(x, x).float(), self.image_pairs(x, rebuilt).float()
            )
            if self.latent_discriminator:
                of_discriminators = of_discriminators + discriminator_loss(
                    self.latent_pairs(z, z).float(), self.latent_pairs(z, recoded).float()
                )
            self.minimise(of_discriminators, *self.discriminators())
        with self.only("encoder", "generator"):
            z = self.latents(len(x))
            code, made = self.encoder(x), self.generator(z)
            cycles = [self.image_pairs(x, self.generator(code)).float()]
            if self.latent_discriminator:
                cycles.append(self.latent_pairs(z, self.encoder(made)).float())
            loss = encoder_generator_loss(self.joint(x, code).float(), self.joint(made, z).float(), *cycles)
            self.minimise(loss, "encoder", "generator")
        for average, network in zip(self.averages, self.scoring(), strict=False):  # there are none without a decay
            follow_(average, network, self.ema_decay)
        self.curves.add(self.global_step, encoder_generator=loss, discriminators=of_discriminators)
        self.log_loss(loss, batch)

    def anomaly_score(self, x: Tensor) -> Tensor:
        """Distance (B,) of x from what encoder and generator make of it, as D_xx's features have it, or another."""
        encoder, generator, image_pairs = self.averages if self.ema_decay else self.scoring()
        x = self.preprocess(x)
        rebuilt: Tensor = generator(encoder(x))
        if self.score_type == "logit":
            logits: Tensor = image_pairs(x, rebuilt)
            return -logits.float()
        if self.score_type == "features":
            assert isinstance(image_pairs, ImagePairDiscriminator)
            difference = image_pairs.features(x, x).float() - image_pairs.features(x, rebuilt).float()
            return difference.abs().sum(dim=1)
        difference = (x.float() - rebuilt.float()).flatten(1)
        return difference.abs().sum(dim=1) if self.score_type == "absolute" else difference.square().sum(dim=1).sqrt()
