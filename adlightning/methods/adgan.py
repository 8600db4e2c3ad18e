"""ADGAN: how well a GAN of normal samples can reproduce a sample.

Deecke et al., ECML-PKDD 2018; docs/methods/adgan.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.optim import RMSprop

from adlightning.core.contracts import TrainBatch
from adlightning.core.detector import AnomalyDetector
from adlightning.core.maps import Reduction, residual_map
from adlightning.core.optimization import Interval, optimizer_part, scheduler_part
from adlightning.core.parts import (
    CriticFactory,
    GeneratorFactory,
    OptimizerFactory,
    PreprocessingFactory,
    SchedulerFactory,
    as_part,
)
from adlightning.core.rules import at_least, check_arguments, or_none, positive
from adlightning.core.thresholds import NormalQuantile, ThresholdRule
from adlightning.methods.parts.adversarial import (
    GradientPenalty,
    Lipschitz,
    Players,
    Unconstrained,
    WeightClipping,
    one_optimizer_each,
    real_loss,
)
from adlightning.methods.parts.gan_objectives import (
    AdversarialLoss,
    cross_entropy,
    least_squares_critic,
    least_squares_generator,
    minimax_loss,
)
from adlightning.methods.parts.inversion import Inversion, LatentSearch, mean_over_seeds, starting_latents
from adlightning.methods.parts.reconstruction_losses import ReconstructionLoss, SquaredError
from adlightning.networks.gan import DCGANCritic, DCGANGenerator, build_critic, build_generator

Score = Literal["inversion", "critic", "prior"]
Objective = Literal["wasserstein", "minimax", "non_saturating", "least_squares"]

BURST, BURST_FIRST, BURST_EVERY = 100, 25, 500  # the released WGAN code's schedule of the critic


def critic_loss(real: Tensor, fake: Tensor) -> Tensor:
    """mean D(G(z)) - mean D(x), from the critic's values (B,) of both: its negative estimates the distance."""
    return fake.mean() - real.mean()


def generator_loss(fake: Tensor) -> Tensor:
    """-mean D(G(z)), from the critic's values (B,)."""
    return -fake.mean()


OBJECTIVES: dict[Objective, AdversarialLoss] = {
    "wasserstein": AdversarialLoss(critic_loss, generator_loss),
    "minimax": AdversarialLoss(cross_entropy, minimax_loss),
    "non_saturating": AdversarialLoss(cross_entropy, real_loss),
    "least_squares": AdversarialLoss(least_squares_critic, least_squares_generator),
}


def prior_surprise(latents: Tensor) -> Tensor:
    """||z||^2 / 2 (N,) of latents (N, d): -log p(z) under N(0, I) without its constant."""
    return latents.float().square().sum(dim=1) / 2


@dataclass(frozen=True)
class CriticTurns:
    """How many steps the critic takes before the generator's next one.

    Args:
        steps: of the critic for each one of the generator.
        bursts: at least 100 before each of the generator's first 25 steps and before every 500th, as the released
            WGAN code has it.
    """

    steps: int = 5
    bursts: bool = True

    def __post_init__(self) -> None:
        """Check the values."""
        check_arguments({"critic_turns.steps": at_least(1)}, {}, {"critic_turns.steps": self.steps})

    def due(self, generator_steps: int) -> int:
        """Steps of the critic, after so many of the generator."""
        in_burst = self.bursts and (generator_steps < BURST_FIRST or generator_steps % BURST_EVERY == 0)
        return max(self.steps, BURST) if in_burst else self.steps


class ADGAN(AnomalyDetector):
    """A GAN of the normal samples, and for each sample a search for the latent and the weights that reproduce it.

    A batch is one step of the critic; when its turn has come, the generator takes one as well. To score, from each of
    n_seeds random latents, and with a copy of the generator of its own, k steps of Adam move latent and weights down
    ||G(z) - x||^2; the score is the mean over the seeds of that distance in the end.

    The paper trains a WGAN, and names other GANs as ways to get a generator (Section 3.2).

    Args:
        generator: a class made for (latent_dim, shape, output) whose modules make samples (B, ...) of latents (B, d).
            The search batches it over copies of its weights by `torch.func`.
        critic: a class made for (shape, batch_norm) whose modules give one number a sample, (B,); where `batch_norm` is
            False it must have no BatchNorm.
        latent_dim: dimension of the latents, N(0, I).
        objective: what the players minimise: `wasserstein`, the paper's; `minimax`, the original GAN (equation 1), or
            `non_saturating`, its generator that maximises log D(G(z)); `least_squares`, the LSGAN.
        lipschitz: how the critic is kept Lipschitz: `WeightClipping` or `GradientPenalty`; or `Unconstrained`, for
            other objectives than `wasserstein`.
        critic_turns: how many steps of the critic there are for one of the generator.
        reconstruction: what the search minimises and the score is: `SquaredError`, the paper's, `AbsoluteError`,
            `Huber` or `LaplacianPyramid`.
        search: how a latent is searched for each sample.
        score_type: `inversion`; or what the paper tries and rejects: `critic`, the negative of the critic's value, or
            `prior`, how unlikely the latents are that the search ends at.
        critic_optimizer: of the critic. With the penalty, Adam with betas (0, 0.9) is usual.
        generator_optimizer: of the generator.
        lr_scheduler: of both; null for constant learning rates.
        lr_scheduler_interval: whether a player's schedule goes on after each `epoch`, or each `step` of the player.
        max_gradient_norm: bound on the norm of a player's gradient; null for none.
        reduction: how a map of squared residuals becomes the score; null for the score above, the paper's.
        preprocessing: as in :class:`AnomalyDetector`.
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, or networks that do not fit the data or the search.
    """

    uses_known_anomalies = False
    score_needs: str | None = "a search by gradients for each sample"
    scoring_arguments: ClassVar[tuple[str, ...]] = ("search", "score_type", "reconstruction", "reduction")
    argument_rules: ClassVar = {"latent_dim": at_least(1), "max_gradient_norm": or_none(positive, "no bound")}

    generator: nn.Module
    critic: nn.Module
    steps_taken: Tensor

    def __init__(
        self,
        generator: GeneratorFactory = DCGANGenerator,
        critic: CriticFactory = DCGANCritic,
        latent_dim: int = 256,
        objective: Objective = "wasserstein",
        lipschitz: Lipschitz = WeightClipping(bound=0.01),
        critic_turns: CriticTurns = CriticTurns(),
        reconstruction: ReconstructionLoss = SquaredError(),
        search: LatentSearch = LatentSearch(),
        score_type: Score = "inversion",
        critic_optimizer: OptimizerFactory = partial(RMSprop, lr=5e-5),
        generator_optimizer: OptimizerFactory = partial(RMSprop, lr=5e-5),
        lr_scheduler: SchedulerFactory | None = None,
        lr_scheduler_interval: Interval = "epoch",
        max_gradient_norm: float | None = None,
        reduction: Reduction | None = None,
        preprocessing: PreprocessingFactory | None = None,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__(preprocessing, threshold)
        self.reduction = reduction
        if isinstance(lipschitz, GradientPenalty) and lipschitz.weight == 0:
            raise ValueError(
                f"lipschitz.weight must be positive, got {lipschitz.weight}: nothing else bounds the critic"
            )
        if objective == "wasserstein" and isinstance(lipschitz, Unconstrained):
            raise ValueError(
                "lipschitz must be WeightClipping or GradientPenalty with objective: wasserstein, got Unconstrained: "
                "nothing else bounds the critic"
            )
        self.automatic_optimization = False
        self.make_generator = as_part("generator", generator, nn.Module)
        self.make_critic = as_part("critic", critic, nn.Module)
        self.latent_dim = latent_dim
        self.objective: Objective = objective
        self.lipschitz = lipschitz
        self.differentiated_twice = ("critic",) if isinstance(lipschitz, GradientPenalty) else ()
        self.critic_turns = critic_turns
        self.reconstruction = reconstruction
        self.inversion = Inversion(search, latent_dim, self.distance)
        self.score_type = score_type
        self.make_optimizers = {
            "critic": optimizer_part("critic_optimizer", critic_optimizer),
            "generator": optimizer_part("generator_optimizer", generator_optimizer),
        }
        self.make_scheduler = scheduler_part("lr_scheduler", lr_scheduler)
        self.lr_scheduler_interval = lr_scheduler_interval
        self.max_gradient_norm = max_gradient_norm
        if score_type == "critic":
            self.score_needs = None

    def build(self, shape: tuple[int, ...]) -> None:
        """Generator and critic of samples of this shape; the generator's range is that of the preprocessed input."""
        self.reconstruction.require_shape(shape)
        self.generator = build_generator(self.make_generator, self.latent_dim, shape, self.preprocess.output)
        self.critic = build_critic(self.make_critic, shape, self.lipschitz.allows_batch_norm)
        if self.score_needs is not None:
            self.inversion.require_batchable(self.generator)
        networks = {"critic": self.critic, "generator": self.generator}
        self.players = Players(self, networks, self.max_gradient_norm, self.lr_scheduler_interval)
        # of the critic since the generator's last step, of the generator in all: a run that is resumed goes on there
        self.register_buffer("steps_taken", torch.zeros(2, dtype=torch.long))

    def configure_optimizers(self) -> Any:
        """One for each player."""
        return one_optimizer_each(self.players.networks, self.make_optimizers, self.make_scheduler)

    def latents(self, n: int) -> Tensor:
        """Latents (n, latent_dim), by the run's random state."""
        return torch.randn(n, self.latent_dim, device=self.device)

    def on_train_start(self) -> None:
        """Where the turns stand, on the host: a training step waits for no device."""
        super().on_train_start()
        self._critic_steps, self._generator_steps = self.steps_taken.tolist()

    def training_step(self, batch: TrainBatch, batch_idx: int) -> dict[str, Tensor]:
        """A step of the critic and, when its turn has come, one of the generator; the critic's loss."""
        real, losses = self.preprocess(batch.x), OBJECTIVES[self.objective]
        with self.players.only("critic"):
            with torch.no_grad():
                fake = self.generator(self.latents(len(real)))
            of_critic = losses.critic(self.critic(real).float(), self.critic(fake).float())
            loss = of_critic + self.lipschitz.penalty(self.critic, real, fake)
            self.players.minimise(loss, "critic")
        self.lipschitz.bound_(self.critic)
        self._count(critic=1)
        if self._critic_steps >= self.critic_turns.due(self._generator_steps):
            with self.players.only("generator"):
                fake = self.generator(self.latents(len(real)))
                self.players.minimise(losses.generator(self.critic(fake).float()), "generator")
            self._count(generator=1)
        curve = "wasserstein_estimate" if self.objective == "wasserstein" else "critic_loss"
        return {"loss": loss, curve: -of_critic if self.objective == "wasserstein" else of_critic}

    def _count(self, critic: int = 0, generator: int = 0) -> None:
        self._critic_steps = 0 if generator else self._critic_steps + critic
        self._generator_steps += generator
        self.steps_taken[0], self.steps_taken[1] = self._critic_steps, self._generator_steps

    def on_train_epoch_end(self) -> None:
        """Log the epoch's means; schedules go on."""
        super().on_train_epoch_end()
        self.players.end_epoch()

    def distance(self, images: Tensor, x: Tensor) -> Tensor:
        """What the search minimises, (N,), of generated images and preprocessed samples, both (N, ...)."""
        return self.reconstruction(images, x)

    def anomaly_score(self, x: Tensor) -> Tensor:
        """Mean over the seeds (B,) of what the search leaves, ||G(z_k) - x||^2, or one of the other scores."""
        if self.reduction is not None:
            return self.reduction.reduce(self.anomaly_map(x))
        if self.score_type == "critic":
            values: Tensor = self.critic(self.preprocess(x))
            return -values.float()
        latents, losses, _ = self.inversion(self.generator, x, self.preprocess(x))
        return mean_over_seeds(
            prior_surprise(latents) if self.score_type == "prior" else losses, self.inversion.search.n_seeds
        )

    def filmstrip(self, x: Tensor) -> Tensor:
        """What the first seed's search makes of raw samples before and after each step, (B, steps + 1, C, H, W)."""
        frames: list[Tensor] = []
        starts = starting_latents(x, 1, self.latent_dim, self.inversion.search.seed).flatten(0, 1)
        self.inversion.of_pairs(self.generator, self.preprocess(x), starts, lambda _, images: frames.append(images))
        return torch.stack(frames, dim=1)

    def anomaly_map(self, x: Tensor) -> Tensor:
        """Squared residuals (B, H, W) of what the search finds, a mean over channels and seeds, at the images' size."""
        prepared, n_seeds = self.preprocess(x), self.inversion.search.n_seeds
        images = self.inversion(self.generator, x, prepared)[2].unflatten(0, (x.shape[0], n_seeds))
        by_seed = [residual_map(prepared, of_seed, self.preprocess, x) for of_seed in images.unbind(1)]
        return torch.stack(by_seed).mean(dim=0)

    def generated(self, n: int) -> Tensor:
        """Images (n, C, H, W) of random latents, the same ones every time, in the preprocessed range."""
        draw = torch.Generator().manual_seed(self.inversion.search.seed)
        images: Tensor = self.generator(torch.randn(n, self.latent_dim, generator=draw).to(self.device))
        return images

    def reconstructions(self, x: Tensor) -> Tensor:
        """What the first seed's search makes of raw samples, (B, C, H, W), in the preprocessed range."""
        return self.inversion(self.generator, x, self.preprocess(x), n_seeds=1)[2]
