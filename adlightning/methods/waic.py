"""WAIC of an ensemble of WGANs' critics (Choi, Jang and Alemi 2018, arXiv:1810.01392; AMA's Table 1).

The scores are those of the released code (hschoi1/rich_latent, `vae_wgan/wgan_run.py`); docs/methods/waic.md.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import RMSprop

from adlightning.core.contracts import TrainBatch
from adlightning.core.detector import AnomalyDetector
from adlightning.core.optimization import Interval, optimizer_part, scheduler_part
from adlightning.core.parts import (
    CriticFactory,
    GeneratorFactory,
    OptimizerFactory,
    PreprocessingFactory,
    SchedulerFactory,
    network_part,
)
from adlightning.core.rules import at_least, not_negative
from adlightning.core.thresholds import NormalQuantile, ThresholdRule
from adlightning.methods.adgan import CriticTurns, critic_loss, generator_loss
from adlightning.methods.parts.adversarial import (
    GradientPenalty,
    Lipschitz,
    Players,
    fake_loss,
    one_optimizer_each,
    real_loss,
)
from adlightning.networks.gan import DCGANCritic, DCGANGenerator, build_critic, build_generator


def waic(log_probabilities: Tensor) -> Tensor:
    """E[log p] - Var[log p] over an ensemble, (B,), of values (M, B) of its M members, in float32: high is normal.

    The variance is that of the population, (1 / M) sum (log p - E[log p])^2, as the released code has it: taken of the
    differences from the mean, it keeps its digits where log p is large.
    """
    values = log_probabilities.float()
    mean = values.mean(dim=0)
    return mean - (values - mean).square().mean(dim=0)


class WAIC(AnomalyDetector):
    """WGANs of the normal samples; the score is the negative WAIC of their critics: -(E[D(x)] - Var[D(x)]).

    The members of the ensemble see the same batches; each has its own start, latents, and optimiser's statistics. A
    batch is one step of every critic; when the turn has come, every generator takes one as well. With `wgan_epochs`,
    the critics then train on as classifiers of normal samples against those of their generator, which stays.

    Args:
        n_members: WGANs of the ensemble.
        generator: a class made for (latent_dim, shape, output) whose modules make samples (B, ...) of latents (B, d).
        critic: a class made for (shape, batch_norm) whose modules give one number a sample, (B,); where `batch_norm` is
            False it must have no BatchNorm.
        latent_dim: dimension of the latents, N(0, I).
        lipschitz: how a critic is kept Lipschitz: `WeightClipping` or `GradientPenalty`.
        critic_turns: how many steps of the critics there are for one of the generators.
        wgan_epochs: epochs of WGANs, after which critics are classifiers until `trainer.max_epochs`, which counts both
            phases; 0 for WGANs to the end.
        critic_optimizer: of the critics.
        generator_optimizer: of the generators.
        lr_scheduler: of both, while they are WGANs and after; null for constant learning rates.
        lr_scheduler_interval: whether a schedule goes on after each `epoch`, or each `step` of critics or generators.
        preprocessing: as in :class:`AnomalyDetector`.
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, or networks that do not fit the data.
    """

    uses_known_anomalies = False
    first_phase_argument = "wgan_epochs"
    argument_rules: ClassVar = {"n_members": at_least(2), "latent_dim": at_least(1), "wgan_epochs": not_negative}

    steps_taken: Tensor

    def __init__(
        self,
        n_members: int = 5,
        generator: GeneratorFactory = DCGANGenerator,
        critic: CriticFactory = DCGANCritic,
        latent_dim: int = 128,
        lipschitz: Lipschitz = GradientPenalty(weight=10.0),
        critic_turns: CriticTurns = CriticTurns(),
        wgan_epochs: int = 0,
        critic_optimizer: OptimizerFactory = partial(RMSprop, lr=5e-5, alpha=0.9),
        generator_optimizer: OptimizerFactory = partial(RMSprop, lr=5e-5, alpha=0.9),
        lr_scheduler: SchedulerFactory | None = None,
        lr_scheduler_interval: Interval = "epoch",
        preprocessing: PreprocessingFactory | None = None,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__(preprocessing, threshold)
        if isinstance(lipschitz, GradientPenalty) and lipschitz.weight == 0:
            raise ValueError(f"lipschitz.weight must be positive, got {lipschitz.weight}: nothing else bounds a critic")
        self.automatic_optimization = False
        self.n_members = n_members
        self.make_generator = network_part("generator", generator)
        self.make_critic = network_part("critic", critic)
        self.latent_dim = latent_dim
        self.lipschitz = lipschitz
        self.differentiated_twice = ("critics",) if isinstance(lipschitz, GradientPenalty) else ()
        self.critic_turns = critic_turns
        self.wgan_epochs = wgan_epochs
        self.make_optimizers = {
            "critics": optimizer_part("critic_optimizer", critic_optimizer),
            "generators": optimizer_part("generator_optimizer", generator_optimizer),
        }
        self.make_scheduler = scheduler_part("lr_scheduler", lr_scheduler)
        self.lr_scheduler_interval = lr_scheduler_interval

    def build(self, shape: tuple[int, ...]) -> None:
        """Generators and critics of samples of this shape, a pair a member, each with a start of its own."""
        members, output = range(self.n_members), self.preprocess.output
        self.generators = nn.ModuleList(
            build_generator(self.make_generator, self.latent_dim, shape, output) for _ in members
        )
        self.critics = nn.ModuleList(
            build_critic(self.make_critic, shape, self.lipschitz.allows_batch_norm) for _ in members
        )
        networks = {"critics": self.critics, "generators": self.generators}
        self.players = Players(self, networks, None, self.lr_scheduler_interval)
        # of the critics since the generators' last step, of the generators in all: a resumed run goes on there
        self.register_buffer("steps_taken", torch.zeros(2, dtype=torch.long))

    def configure_optimizers(self) -> Any:
        """One for all critics and one for all generators: none of their members share a weight."""
        return one_optimizer_each(self.players.networks, self.make_optimizers, self.make_scheduler)

    def on_train_start(self) -> None:
        """Where the turns stand, on the host: a training step waits for no device."""
        super().on_train_start()
        self._critic_steps, self._generator_steps = self.steps_taken.tolist()

    def on_train_epoch_start(self) -> None:
        """Note how far training has come: a checkpoint says so."""
        super().on_train_epoch_start()
        self.training_record["epochs"] = self.current_epoch + 1

    def ready_to_score(self) -> bool:
        """Once the critics are what is scored: WGANs' where there is no other phase, else classifiers."""
        begun: int = self.training_record.get("epochs", 0)
        return not self.wgan_epochs or begun > self.wgan_epochs

    def fakes(self, n: int) -> list[Tensor]:
        """n samples of each generator, by latents of the run's random state."""
        return [generator(torch.randn(n, self.latent_dim, device=self.device)) for generator in self.generators]

    def training_step(self, batch: TrainBatch, batch_idx: int) -> dict[str, Tensor]:
        """A step of the critics and, when its turn has come, one of the generators; means over the members."""
        real = self.preprocess(batch.x)
        if self.wgan_epochs and self.current_epoch >= self.wgan_epochs:
            return self._classifier_step(real)
        with self.players.only("critics"):
            with torch.no_grad():
                fakes = self.fakes(len(real))
            pairs = list(zip(self.critics, fakes, strict=True))
            distances = torch.stack([critic_loss(critic(real).float(), critic(fake).float()) for critic, fake in pairs])
            penalties = torch.stack([self.lipschitz.penalty(critic, real, fake) for critic, fake in pairs])
            losses = distances + penalties
            self.players.minimise(losses.sum(), "critics")  # a sum: each member's gradient is its own loss's
        for critic in self.critics:
            self.lipschitz.bound_(critic)
        self._count(critic=1)
        if self._critic_steps >= self.critic_turns.due(self._generator_steps):
            with self.players.only("generators"):
                pairs = list(zip(self.critics, self.fakes(len(real)), strict=True))
                of_fakes = torch.stack([generator_loss(critic(fake).float()) for critic, fake in pairs])
                self.players.minimise(of_fakes.sum(), "generators")
            self._count(generator=1)
        return {"loss": losses.mean(), "wasserstein_estimate": -distances.mean()}

    def _classifier_step(self, real: Tensor) -> dict[str, Tensor]:
        """Cross-entropy of normal samples against generated ones, half of each, by the critics' values as logits."""
        with self.players.only("critics"):
            with torch.no_grad():
                fakes = self.fakes(len(real))
            losses = torch.stack(
                [
                    (real_loss(critic(real).float()) + fake_loss(critic(fake).float())) / 2
                    for critic, fake in zip(self.critics, fakes, strict=True)
                ]
            )
            self.players.minimise(losses.sum(), "critics")
        return {"loss": losses.mean()}

    def _count(self, critic: int = 0, generator: int = 0) -> None:
        self._critic_steps = 0 if generator else self._critic_steps + critic
        self._generator_steps += generator
        self.steps_taken[0], self.steps_taken[1] = self._critic_steps, self._generator_steps

    def on_train_epoch_end(self) -> None:
        """Log the epoch's means; schedules go on."""
        super().on_train_epoch_end()
        self.players.end_epoch()

    def anomaly_score(self, x: Tensor) -> Tensor:
        """The negative WAIC (B,): variance less mean of the critics' values."""
        prepared = self.preprocess(x)
        return -waic(torch.stack([critic(prepared) for critic in self.critics]))

    def generated(self, n: int) -> Tensor:
        """Images (n, C, H, W), as many of each member in turn, the same ones every time, in the preprocessed range."""
        draw = torch.Generator().manual_seed(0)
        latents = torch.randn(n, self.latent_dim, generator=draw).to(self.device)
        parts = [latents[i :: self.n_members] for i in range(self.n_members)]
        return torch.cat([generator(part) for generator, part in zip(self.generators, parts, strict=True)])
