"""ConAD: an autoencoder with several hypotheses of its input, and a discriminator that keeps them real.

Nguyen et al., "Anomaly Detection With Multiple-Hypotheses Predictions" (ICML 2019); docs/methods/conad.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam

from adlightning.core.contracts import TrainBatch
from adlightning.core.detector import AnomalyDetector
from adlightning.core.optimization import Interval, optimizer_part, scheduler_part
from adlightning.core.parts import (
    DiscriminatorFactory,
    EncoderFactory,
    OptimizerFactory,
    PreprocessingFactory,
    SchedulerFactory,
    encoder_part,
    network_part,
)
from adlightning.core.rules import at_least, between, not_negative, or_none, positive
from adlightning.core.thresholds import NormalQuantile, ThresholdRule
from adlightning.methods.parts.adversarial import Players, fake_loss, one_optimizer_each, real_loss
from adlightning.networks.checks import check_network, make_network
from adlightning.networks.dgm import MIN_SCALE, kl_from_standard
from adlightning.networks.encoders import build_encoder, representation_size
from adlightning.networks.gan import DCGANEncoder
from adlightning.networks.hypotheses import GroupDiscriminator, HypothesesDecoder
from adlightning.preprocessing import Output

HypothesesFactory = Callable[[int, tuple[int, ...], Output, int], nn.Module]
"""From latent dimension, sample shape, range and number H to a module from latents to means and scales (B, H, ...)."""


def hypotheses_nll(x: Tensor, means: Tensor, scales: Tensor) -> Tensor:
    """-log p_h(x) (B, H) of samples (B, ...) under H normal distributions each, (B, H, ...), summed over values."""
    scales = scales.float()
    surprise = ((x.float().unsqueeze(1) - means.float()) / scales).square() / 2 + scales.log()
    return (surprise + math.log(2 * math.pi) / 2).flatten(2).sum(dim=2)


def winner_takes_all(nll: Tensor, epsilon: float = 0.0) -> Tensor:
    """Loss (B,) of hypotheses (B, H): the best one's by 1 - epsilon, each other's by epsilon / (H - 1).

    Equation 2 with epsilon = 0, equation 1 (Rupprecht et al., ICCV 2017) else. A single hypothesis has it all.
    """
    best, n_others = nll.min(dim=1).values, nll.shape[1] - 1
    if not (epsilon and n_others):
        return best
    return (1 - epsilon) * best + epsilon / n_others * (nll.sum(dim=1) - best)


def groups(samples: Tensor, size: int) -> Tensor:
    """As many groups (N, size, ...) as samples (B, ...) make; the rest is left out."""
    return samples[: len(samples) // size * size].reshape(-1, size, *samples.shape[1:])


def discriminator_loss(real: Tensor, *fakes: Tensor) -> Tensor:
    """Cross-entropy from the logits of images and of each kind of hypotheses, all of weight 1: equations 3 and 4."""
    return real_loss(real) + sum((fake_loss(fake) for fake in fakes), torch.zeros_like(real.sum()))


def consistency_loss(*fakes: Tensor) -> Tensor:
    """What hypotheses are to lower, from the logits of each kind: equation 5's -L_D with labels exchanged."""
    return sum((real_loss(fake) for fake in fakes[1:]), real_loss(fakes[0]))


class ConAD(AnomalyDetector):
    """ConAD: the likelihood of an image under the best of several hypotheses that a variational autoencoder makes.

    Only the best hypothesis of an image learns from it. A discriminator tells images from three kinds of hypotheses:
    all those of a random latent, all those of an image's latent, and the best ones. It sees them in groups, so that
    hypotheses which are alike give themselves away. The score is the negative log-likelihood under the best hypothesis.

    Args:
        encoder: a class made for the shape of a preprocessed image that gives (B, 2 d): means of d latents, and what a
            softplus makes their scales of. None takes `DCGANEncoder` for 128 latents, which the paper does not state.
        decoder: a class made for (d, shape, output, n_hypotheses), from latents to means and scales (B, H, C, S, S).
        discriminator: a class made for the shape of an image, from groups (N, K, C, S, S) to logits (N, K), high for
            images.
        n_hypotheses: H; DROCC's table has 16.
        epsilon: share of the loss that the other hypotheses have; 0 leaves all to the best.
        adversarial_weight: of the discriminator's judgement in the autoencoder's loss: 1 in equation 5.
        discriminator_optimizer: of the discriminator.
        autoencoder_optimizer: of encoder and decoder.
        lr_scheduler: of both; null for constant learning rates.
        lr_scheduler_interval: whether the schedule goes on after each `epoch`, or after each `step` of the player.
        max_gradient_norm: bound on the norm of a player's gradient; null for none.
        preprocessing: as in :class:`AnomalyDetector`.
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, or networks that do not fit the images.
    """

    uses_known_anomalies = False
    argument_rules: ClassVar = {
        "n_hypotheses": at_least(1),
        "epsilon": between(0, 1, "left"),
        "adversarial_weight": not_negative,
        "max_gradient_norm": or_none(positive, "no bound"),
    }

    def __init__(
        self,
        encoder: EncoderFactory | None = None,
        decoder: HypothesesFactory = HypothesesDecoder,
        discriminator: DiscriminatorFactory = GroupDiscriminator,
        n_hypotheses: int = 16,
        epsilon: float = 0.0,
        adversarial_weight: float = 1.0,
        discriminator_optimizer: OptimizerFactory = partial(Adam, lr=2e-4, betas=(0.5, 0.999)),
        autoencoder_optimizer: OptimizerFactory = partial(Adam, lr=2e-4, betas=(0.5, 0.999)),
        lr_scheduler: SchedulerFactory | None = None,
        lr_scheduler_interval: Interval = "epoch",
        max_gradient_norm: float | None = None,
        preprocessing: PreprocessingFactory | None = None,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__(preprocessing, threshold)
        self.automatic_optimization = False
        self.make_encoder = encoder_part("encoder", encoder)
        self.make_decoder = network_part("decoder", decoder)
        self.make_discriminator = network_part("discriminator", discriminator)
        self.n_hypotheses = n_hypotheses
        self.epsilon = epsilon
        self.adversarial_weight = adversarial_weight
        of_autoencoder = optimizer_part("autoencoder_optimizer", autoencoder_optimizer)
        self.make_optimizers = {
            "discriminator": optimizer_part("discriminator_optimizer", discriminator_optimizer),
            "encoder": of_autoencoder,
            "decoder": of_autoencoder,
        }
        self.make_scheduler = scheduler_part("lr_scheduler", lr_scheduler)
        self.lr_scheduler_interval = lr_scheduler_interval
        self.max_gradient_norm = max_gradient_norm

    def build(self, shape: tuple[int, ...]) -> None:
        """Encoder, decoder and discriminator for images of this shape; the means have the preprocessed range."""
        self.encoder = build_encoder(self.make_encoder or partial(DCGANEncoder, code_dim=256), shape)
        size = representation_size(self.encoder, shape)
        if size % 2:
            raise ValueError(f"encoder must give means and scales, an even number of values, got {size}")
        self.latent_dim, hypotheses = size // 2, (self.n_hypotheses, *shape)
        asked = (self.latent_dim, shape, self.preprocess.output, self.n_hypotheses)
        self.decoder = make_network("decoder", self.make_decoder, *asked)
        check_network("decoder", self.decoder, [(self.latent_dim,)], hypotheses, hypotheses)
        self.discriminator = make_network("discriminator", self.make_discriminator, shape)
        check_network("discriminator", self.discriminator, [hypotheses], (self.n_hypotheses,))
        networks = {"discriminator": self.discriminator, "encoder": self.encoder, "decoder": self.decoder}
        self.players = Players(self, networks, self.max_gradient_norm, self.lr_scheduler_interval)

    def configure_optimizers(self) -> Any:
        """One optimiser for each player."""
        return one_optimizer_each(self.players.networks, self.make_optimizers, self.make_scheduler)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of q(z|x), each (B, d), of preprocessed images, in float32."""
        mean, scale = self.encoder(x).float().chunk(2, dim=1)
        return mean, F.softplus(scale) + MIN_SCALE

    def training_step(self, batch: TrainBatch, batch_idx: int) -> dict[str, Tensor]:
        """A step of the discriminator, and one of encoder and decoder, on the same hypotheses."""
        x = self.preprocess(batch.x)
        size = min(self.n_hypotheses, len(x))
        n_groups = len(x) // size
        mean, scale = self.posterior(x)
        drawn = mean + scale * torch.randn_like(mean)
        # one pass: BatchNorm then sees latents of images and random ones alike
        means, scales = self.decoder(torch.cat([drawn, torch.randn_like(drawn[:n_groups])]))
        of_random, means, scales = means[len(x) :], means[: len(x)], scales[: len(x)]
        nll = hypotheses_nll(x, means, scales)
        best = means[torch.arange(len(x), device=x.device), nll.argmin(dim=1)]
        heads = torch.randperm(self.n_hypotheses, device=x.device)[:size]
        fakes = (of_random[:, heads], means[:n_groups, heads], groups(best, size))
        with self.players.only("discriminator"):
            real = self.discriminator(groups(x, size)).float()
            of_discriminator = discriminator_loss(real, *(self.discriminator(f.detach()).float() for f in fakes))
            self.players.minimise(of_discriminator, "discriminator")
        with self.players.only("encoder", "decoder"):
            winner = winner_takes_all(nll, self.epsilon).mean()
            divergence = kl_from_standard(mean, scale).mean()
            consistency = consistency_loss(*(self.discriminator(fake).float() for fake in fakes))
            loss = winner + divergence + self.adversarial_weight * consistency
            self.players.minimise(loss, "encoder", "decoder")
        terms = {"winner": winner, "divergence": divergence, "consistency": consistency}
        return {"loss": loss, "discriminator": of_discriminator, **terms}

    def on_train_epoch_end(self) -> None:
        """Let the schedules go on."""
        super().on_train_epoch_end()
        self.players.end_epoch()

    def anomaly_score(self, x: Tensor) -> Tensor:
        """-log p(x) (B,) under the best hypothesis at the mean of q(z|x), in nats for each image."""
        x = self.preprocess(x)
        return hypotheses_nll(x, *self.decoder(self.posterior(x)[0])).min(dim=1).values

    def reconstructions(self, x: Tensor) -> Tensor:
        """The best hypothesis' mean (B, C, S, S) of raw images, in the preprocessed range."""
        x = self.preprocess(x)
        means, scales = self.decoder(self.posterior(x)[0])
        best: Tensor = means[torch.arange(len(x), device=x.device), hypotheses_nll(x, means, scales).argmin(dim=1)]
        return best
