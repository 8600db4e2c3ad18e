"""AMA: an autoencoder against a critic of pairs, with negatives from outside of the typical latents.

Somepalli et al., arXiv:2003.10713; docs/methods/ama.md says where the paper and its released code differ.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Adam
from torch.optim.lr_scheduler import MultiStepLR

from adlightning.core.contracts import TrainBatch
from adlightning.core.detector import AnomalyDetector
from adlightning.core.final_fit import fit_now
from adlightning.core.maps import Reduction
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
from adlightning.core.rules import at_least, not_negative, or_none, positive
from adlightning.core.thresholds import NormalQuantile, ThresholdRule
from adlightning.labels import KNOWN_ANOMALY
from adlightning.methods.ama.settings import CriticTurns, Interpolation, Negatives, Simplex
from adlightning.methods.parts.adversarial import (
    GradientPenalty,
    Players,
    between,
    gradient_penalty,
    one_optimizer_each,
)
from adlightning.networks.checks import check_network, make_network
from adlightning.networks.residual_gan import ResidualCritic, ResidualGenerator, StridedEncoder
from adlightning.preprocessing import SymmetricRange

LARGEST_SCALE = 0.5  # of a latent in `scaled`: `atyp_ratio` of the released code


def mean_over(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of the chosen ones of values (B,); 0 where none is."""
    total: Tensor = torch.where(chosen, values, 0).sum()
    return total / chosen.sum().clamp_min(1)


def reconstruction_terms(real: Tensor, made: Tensor, negative: Tensor, weight: float) -> Tensor:
    """Mean over the batch of d on normals and -weight d on negatives (B,), d = D(x, x) - D(x, G(E(x))).

    Equations 1 and 4, over the whole batch as in the released code, from the critic's values real, made (B,). With D(x)
    and D(G(E(x))) of a critic of single images it is the plain Wasserstein loss.
    """
    difference = real - made
    return torch.where(negative, -weight * difference, difference).mean()


def simplex_weights(n: int, k: int, form: Simplex, device: torch.device) -> Tensor:
    """Random weights (n, k) of k latents, rows of sum 1.

    `normalized`: a_i / sum a, a_i ~ U(0, 0.5), as in the paper. `remainder`: a_1 ... a_(k-1) ~ U(0, 0.5) and what is
    left to 1, as in the released code, which judges the image beside each of the k samples; here it is judged beside
    one, so which of them has the remainder is drawn.
    """
    if form == "normalized":
        alpha = 1 - torch.rand(n, k, device=device)  # above 0; the factor 0.5 cancels
        return alpha / alpha.sum(dim=1, keepdim=True)
    alpha = torch.rand(n, k - 1, device=device) / 2
    weights = torch.cat([alpha, 1 - alpha.sum(dim=1, keepdim=True)], dim=1)
    return weights.gather(1, torch.rand(n, k, device=device).argsort(dim=1))


def corners(negative: Tensor, k: int) -> Tensor:
    """Positions (B, k) of the samples that each one is mixed with: itself, then random normals; normals only.

    A negative (B,) has a random normal in its own place.
    """
    normals = negative.long().argsort(stable=True)  # normals first: no host synchronisation
    n_normal = (~negative).sum()
    drawn = normals[(torch.rand(len(negative), k, device=negative.device) * n_normal).long()]
    drawn[:, 0] = torch.where(negative, drawn[:, 0], torch.arange(len(negative), device=negative.device))
    return drawn


def atypical_latents(latents: Tensor, positions: Tensor, where: Negatives) -> Tensor:
    """Atypical latents (N, d) from those of a batch (B, d) and positions (N,) in it.

    `annulus`: in their directions, with norms drawn from U(radius - delta, radius), or outward; below 0 they become 0.
    `scaled`: times a, or divided by a (outward), a ~ U(0, 0.5) for each. `sipple`: uniform in [-1, 1]^d, the cube whose
    corners are at sqrt(d). `sipple_code`: in [0, 1]^d times the smallest |value| of the batch's latents.
    """
    n, d, device = len(positions), latents.shape[1], latents.device
    if where.kind == "sipple":
        return 2 * torch.rand(n, d, device=device) - 1
    if where.kind == "sipple_code":
        return torch.rand(n, d, device=device) * latents.abs().min()
    chosen, inward = latents[positions], where.direction == "inward"
    if where.kind == "scaled":
        scale = LARGEST_SCALE * (1 - torch.rand(n, 1, device=device))  # above 0
        return scale * chosen if inward else chosen / scale
    radius = math.sqrt(d) if where.radius == "sqrt_dim" else torch.linalg.vector_norm(latents, dim=1).median()
    drawn = where.delta * torch.rand(n, 1, device=device)
    return (radius - drawn if inward else radius + drawn).clamp_min(0) * F.normalize(chosen, dim=1)


def overwritten(x: Tensor, made: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """x (B, ...) with made (N, ...) at positions (N,), and which (B,) were overwritten; the last of several stays."""
    draws = torch.arange(len(positions), device=x.device)
    last = torch.full((len(x),), -1, device=x.device).scatter_reduce(0, positions, draws, "amax")
    negative = last >= 0
    return torch.where(negative.view(-1, *[1] * (x.dim() - 1)), made[last.clamp_min(0)], x), negative


def r_score(features_real: Tensor, features_made: Tensor) -> Tensor:
    """||f(x, x) - f(x, G(E(x)))||_1 (B,) of the critic's features (B, width): equation 5."""
    return (features_real.float() - features_made.float()).abs().sum(dim=1)


def a_score(r: Tensor, mean: Tensor) -> Tensor:
    """(R - mean)^2 (B,): falls as the normal density of equation 6 rises, without its underflow far from the mean."""
    return (r - mean).square()


class AMA(AnomalyDetector):
    """AMA, unsupervised: an autoencoder against a critic of pairs (x, x) and (x, G(E(x))), and negatives.

    A batch is `critic_turns.steps` steps of the critic and one of encoder and generator. Reconstructions and
    interpolated images of a batch are made once: they do not change while the critic moves.

    The A-score needs the mean of R over the training set, which is taken at each validation from epoch
    `first_scored_epoch` on, and after the last step: there are no scores before.

    Args:
        latent_dim: dimension of the latents.
        encoder: a class made for (shape, latent_dim), from images to latents (B, latent_dim).
        generator: a class made for (latent_dim, shape, output), from latents to images.
        critic: a class made for the shape of a pair, (2 C, H, W), or of an image, that gives one number each, (B,), and
            has `features`, (B, n). A gradient penalty asks for samples that do not depend on one another: no BatchNorm.
        mirrored: the critic sees pairs; else single images, the plain Wasserstein loss.
        interpolation: images of mixed latents.
        negatives: images of atypical latents.
        lambda_reg: weight of the mean norm of the latents of normals.
        penalty: on the critic's gradient.
        critic_turns: how many steps of the critic there are for one of encoder and generator.
        score_type: `A`, or `R`, higher for what is reconstructed worse.
        first_scored_epoch: first epoch whose validation has scores, and whose weights `--monitor` may choose.
        critic_optimizer, generator_optimizer, encoder_optimizer: of each player.
        lr_scheduler: of each player; null for constant learning rates.
        lr_scheduler_interval: whether the schedule goes on after each `epoch`, or after each `step` of the player.
        max_gradient_norm: bound on the norm of a player's gradient; null for none.
        selection: `oracle` when `negatives` or another of these values were chosen by anomalies of a tested kind, as
            the paper's were: reports say so.
        reduction: how a map of squared residuals becomes the score; null for the score above, the paper's.
        preprocessing: as in :class:`AnomalyDetector`; the released code's is to [-1, 1].
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, networks that do not fit the images, or batches too small to have a
            negative.
    """

    uses_known_anomalies = False
    fits_at_end = True
    scoring_arguments: ClassVar = ("score_type", "reduction")
    argument_rules: ClassVar = {
        "latent_dim": at_least(1),
        "lambda_reg": not_negative,
        "first_scored_epoch": not_negative,
        "max_gradient_norm": or_none(positive, "no bound"),
    }
    critic: Any
    r_mean: Tensor
    r_std: Tensor
    has_fit: Tensor
    critic_steps_taken: Tensor

    def __init__(
        self,
        latent_dim: int = 128,
        encoder: LatentEncoderFactory = partial(StridedEncoder, width=64),
        generator: GeneratorFactory = partial(ResidualGenerator, width=256),
        critic: DiscriminatorFactory = partial(ResidualCritic, width=128, spectral_norm=True),
        mirrored: bool = True,
        interpolation: Interpolation = Interpolation(),
        negatives: Negatives = Negatives(),
        lambda_reg: float = 1.0,
        penalty: GradientPenalty = GradientPenalty(weight=10.0),
        critic_turns: CriticTurns = CriticTurns(),
        score_type: Literal["A", "R"] = "A",
        first_scored_epoch: int = 20,
        critic_optimizer: OptimizerFactory = partial(Adam, lr=3e-4, betas=(0.0, 0.9)),
        generator_optimizer: OptimizerFactory = partial(Adam, lr=3e-4, betas=(0.0, 0.9)),
        encoder_optimizer: OptimizerFactory = partial(Adam, lr=3e-4, betas=(0.5, 0.9)),
        lr_scheduler: SchedulerFactory | None = partial(MultiStepLR, milestones=[30, 60, 90]),
        lr_scheduler_interval: Interval = "epoch",
        max_gradient_norm: float | None = None,
        selection: Literal["none", "oracle"] = "none",
        reduction: Reduction | None = None,
        preprocessing: PreprocessingFactory | None = SymmetricRange,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__(preprocessing, threshold)
        self.reduction = reduction
        negatives.require_room(latent_dim)
        self.automatic_optimization = False
        self.latent_dim = latent_dim
        self.make_encoder = network_part("encoder", encoder)
        self.make_generator = network_part("generator", generator)
        self.make_critic = network_part("critic", critic)
        self.mirrored = mirrored
        self.interpolation = interpolation
        self.negatives = negatives
        self.lambda_reg = lambda_reg
        self.penalty = penalty
        self.differentiated_twice = ("critic",) if penalty.weight else ()
        self.critic_turns = critic_turns
        self.score_type = score_type
        self.first_scored_epoch = first_scored_epoch
        optimizers = {"critic": critic_optimizer, "generator": generator_optimizer, "encoder": encoder_optimizer}
        self.make_optimizers = {name: optimizer_part(f"{name}_optimizer", given) for name, given in optimizers.items()}
        self.make_scheduler = scheduler_part("lr_scheduler", lr_scheduler)
        self.lr_scheduler_interval = lr_scheduler_interval
        self.max_gradient_norm = max_gradient_norm
        self.selection = selection
        self._warned = False

    def build(self, shape: tuple[int, ...]) -> None:
        """The three networks, and room for the moments of R."""
        seen = (2 * shape[0], *shape[1:]) if self.mirrored else shape
        self.encoder = make_network("encoder", self.make_encoder, shape, self.latent_dim)
        self.generator = make_network("generator", self.make_generator, self.latent_dim, shape, self.preprocess.output)
        self.critic = make_network("critic", self.make_critic, seen)
        check_network("encoder", self.encoder, [shape], (self.latent_dim,))
        check_network("generator", self.generator, [(self.latent_dim,)], shape)
        check_network("critic", self.critic, [seen], (None,), method="features")
        check_network("critic", self.critic, [seen], ())
        networks = {"critic": self.critic, "generator": self.generator, "encoder": self.encoder}
        self.players = Players(self, networks, self.max_gradient_norm, self.lr_scheduler_interval)
        self.register_buffer("r_mean", torch.tensor(math.nan))
        self.register_buffer("r_std", torch.tensor(math.nan))
        self.register_buffer("has_fit", torch.tensor(False))
        # since the last step of encoder and generator: a run with fresh batches that is resumed goes on there
        self.register_buffer("critic_steps_taken", torch.tensor(0))

    def setup(self, stage: str) -> None:
        """Refuse batches that would have no negative, and say so when a fit ends before there are any."""
        super().setup(stage)
        if stage == "fit":
            self.negatives.require_some(self)

    def configure_optimizers(self) -> Any:
        """One optimiser for each player."""
        return one_optimizer_each(self.players.networks, self.make_optimizers, self.make_scheduler)

    # ---- training -------------------------------------------------------------------------------------------------

    def on_train_start(self) -> None:
        """Where the turns stand, on the host: a training step waits for no device."""
        super().on_train_start()
        self._critic_steps = int(self.critic_steps_taken)

    def training_step(self, batch: TrainBatch, batch_idx: int) -> dict[str, Tensor]:
        """The critic's steps and, when its turn has come, one of encoder and generator."""
        self.forget_fit()
        x, negative = self.with_negatives(self.preprocess(batch.x), batch.known)
        n_steps = 1 if self.critic_turns.fresh_batches else self.critic_turns.steps
        due = self._critic_steps + n_steps >= self.critic_turns.steps
        with self.players.only("encoder", "generator"), torch.set_grad_enabled(due):
            latents = self.encoder(x)
            made, mixed = self.generator(latents), self._interpolated(latents, negative)
        for _ in range(n_steps):
            with self.players.only("critic"):
                fixed = made.detach(), None if mixed is None else mixed.detach()
                loss = self._penalty(x, fixed[0]) - self._objective(x, *fixed, negative)
                self.players.minimise(loss, "critic")
        norms = torch.linalg.vector_norm(latents.float(), dim=1)
        if due:
            with self.players.only("encoder", "generator"):
                learnt = None if self.interpolation.gradient == "none" else mixed
                objective = self._objective(x, made, learnt, negative)
                objective = objective + self.lambda_reg * mean_over(norms, ~negative)
                self.players.minimise(objective, "encoder", "generator")
        self._critic_steps = 0 if due else self._critic_steps + n_steps
        self.critic_steps_taken.fill_(self._critic_steps)
        median = norms.detach().masked_fill(negative, math.nan).nanmedian()
        return {"loss": loss, "critic_loss": loss, "latent_norm": median}

    def with_negatives(self, x: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """Preprocessed samples (B, ...) of a batch, negatives among them, and which (B,) are negatives.

        Known anomalies are, and generated ones in the place of random samples once the warm-up is over.
        """
        n = int(self.negatives.share * len(x) + 1e-9)  # 0 of an epoch's last batch, where it is too small to have one
        if not self._has_negatives() or n == 0:
            return x, known == KNOWN_ANOMALY
        positions = torch.randint(len(x), (n,), device=x.device)
        with self.players.evaluating("encoder", "generator"):
            made = self.generator(atypical_latents(self.encoder(x).float(), positions, self.negatives)).to(x.dtype)
        return overwritten(x, made, positions)

    def _has_negatives(self) -> bool:
        wanted = self.negatives.kind != "none" and self.negatives.weight > 0
        return wanted and self.current_epoch >= self.negatives.warm_up_epochs

    def _interpolated(self, latents: Tensor, negative: Tensor) -> Tensor | None:
        """What the generator makes of mixed latents of normals, or None where that has no weight."""
        mixing = self.interpolation
        if not mixing.weight:
            return None
        latents = latents if mixing.gradient == "EG" else latents.detach()
        weights = simplex_weights(len(latents), mixing.points, mixing.simplex, latents.device)
        mixed = (weights[:, :, None] * latents[corners(negative, mixing.points)]).sum(dim=1)
        images: Tensor = self.generator(mixed)
        return images

    def _objective(self, x: Tensor, made: Tensor, mixed: Tensor | None, negative: Tensor) -> Tensor:
        """Equation 2 without the norms: the critic maximises it, encoder and generator minimise it."""
        images = [x, made] if mixed is None else [x, made, mixed]
        values = self.critic(torch.cat([self.pairs(x, image) for image in images])).float().chunk(len(images))
        terms = reconstruction_terms(values[0], values[1], negative, self.negatives.weight)
        if mixed is not None:
            terms = terms + self.interpolation.weight * mean_over(values[0] - values[2], ~negative)
        return terms

    def _penalty(self, x: Tensor, made: Tensor) -> Tensor:
        """The weighted gradient penalty on pairs whose second image lies between x and what is made of it."""
        if not self.penalty.weight:
            return x.new_zeros(())
        with torch.autocast(self.device.type, enabled=False):
            pairs = self.pairs(x, between(x, made.float())).detach().requires_grad_()
            penalty = gradient_penalty(self.critic(pairs), pairs, self.penalty.mode == "per_pixel")
            return self.penalty.weight * penalty

    def pairs(self, x: Tensor, images: Tensor) -> Tensor:
        """What the critic sees of preprocessed samples and images made of them: both stacked, or the images alone."""
        return torch.cat([x, images.to(x.dtype)], dim=1) if self.mirrored else images.to(x.dtype)

    def on_train_epoch_end(self) -> None:
        """Let the schedules go on; say so, once, when the latents are not where the annulus takes them to be."""
        super().on_train_epoch_end()
        self.players.end_epoch()
        if self._has_negatives() and not self._warned:
            self._warned = self.negatives.warn_when_misplaced(self)

    def remarks(self) -> list[str]:
        """Whether there were negatives."""
        return self.negatives.remarks(self)

    # ---- scores ---------------------------------------------------------------------------------------------------

    def first_scored(self) -> int:
        """As asked for, the last epoch at the latest."""
        return min(self.first_scored_epoch, super().first_scored())

    def ready_to_score(self) -> bool:
        """Only once the moments of R are those of the weights."""
        return bool(self.has_fit)

    def forget_fit(self) -> None:
        """The moments of R belong to earlier weights."""
        self.has_fit.fill_(False)

    def fit_on_training_data(self) -> None:
        """Mean and standard deviation of R over the training samples that are not known anomalies."""
        with self.trainer.precision_plugin.forward_context():
            values = torch.cat([self.r_scores(x).cpu() for x in self.normal_data()]).double()
        self.r_mean.fill_(values.mean())
        self.r_std.fill_(values.std(correction=0))
        self.has_fit.fill_(True)

    def on_validation_epoch_start(self) -> None:
        """During a fit, validation scores are those of the weights as they are."""
        super().on_validation_epoch_start()
        fitting = self.trainer.state.fn == "fit" and not self.trainer.sanity_checking
        if fitting and self.current_epoch >= self.first_scored_epoch and not self.ready_to_score():
            fit_now(self)

    def reconstructions(self, x: Tensor) -> Tensor:
        """G(E(x)) of raw samples, (B, C, H, W), in the preprocessed range."""
        images: Tensor = self.generator(self.encoder(self.preprocess(x)))
        return images

    def r_scores(self, x: Tensor) -> Tensor:
        """R (B,) of raw samples."""
        prepared = self.preprocess(x)
        made = self.generator(self.encoder(prepared))
        features = self.critic.features(torch.cat([self.pairs(prepared, prepared), self.pairs(prepared, made)]))
        return r_score(features[: x.shape[0]], features[x.shape[0] :])

    def latent_norms(self, x: Tensor) -> Tensor:
        """||E(x)|| (B,) of raw samples."""
        norms: Tensor = torch.linalg.vector_norm(self.encoder(self.preprocess(x)).float(), dim=1)
        return norms

    def expected_norms(self) -> dict[str, float]:
        """Where typical latents are thought to lie, and where the annulus of the negatives ends: Figure 3."""
        return self.negatives.expected_norms(self.latent_dim)

    def anomaly_score(self, x: Tensor) -> Tensor:
        """The A-score (B,) as squared distance from the mean R of training samples, or R itself."""
        if self.reduction is not None:
            return self.reduction.reduce(self.anomaly_map(x))
        r = self.r_scores(x)
        return a_score(r, self.r_mean) if self.score_type == "A" else r
