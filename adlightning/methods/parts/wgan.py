"""The Wasserstein GAN that ADGAN and AnoGAN search (Arjovsky et al., ICML 2017; ADGAN, equation 2)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer, RMSprop

from adlightning.core.contracts import TrainBatch
from adlightning.methods.parts.adversarial import AdversarialDetector, between, gradient_penalty
from adlightning.networks.gan import DCGANCritic, DCGANGenerator

Lipschitz = Literal["clipping", "penalty"]
OptimizerName = Literal["rmsprop", "adam"]

BURST, BURST_FIRST, BURST_EVERY = 100, 25, 500  # the released WGAN code's schedule of the critic


def critic_loss(real: Tensor, fake: Tensor) -> Tensor:
    """mean D(G(z)) - mean D(x), from the critic's values (B,) of both: its negative estimates the distance."""
    return fake.mean() - real.mean()


def generator_loss(fake: Tensor) -> Tensor:
    """-mean D(G(z)), from the critic's values (B,)."""
    return -fake.mean()


def critic_steps_due(generator_steps: int, critic_steps: int, bursts: bool) -> int:
    """Steps of the critic before the generator's next one.

    With `bursts`, at least 100 before each of its first 25 steps and before every 500th, as the released code has it.
    """
    in_burst = bursts and (generator_steps < BURST_FIRST or generator_steps % BURST_EVERY == 0)
    return max(critic_steps, BURST) if in_burst else critic_steps


class WGANDetector(AdversarialDetector):
    """A DCGAN trained on the Wasserstein distance; a subclass makes a score of it.

    A batch is one step of the critic; after every `critic_steps` of them the generator takes one as well.

    Args:
        latent_dim: dimension of the latents, N(0, I).
        width: channels of the feature map next to the image.
        kernel_size: of the strided convolutions: 4, or 3.
        lipschitz: how the critic is kept Lipschitz: `clipping` of its weights, as the original WGAN, or `penalty` on
            its gradients; ADGAN's paper does not say. With `penalty` the critic has no BatchNorm.
        clip: bound on the absolute value of the critic's weights.
        penalty_weight: weight of the gradient penalty.
        critic_steps: steps of the critic for each one of the generator.
        critic_bursts: 100 steps of the critic before each of the generator's first 25 and before every 500th.
        optimizer: `rmsprop`, or `adam` with betas (0, 0.9), as is usual with the penalty.
        lr: learning rate of both.
        common: schedule and gradient norm, as in :class:`AdversarialDetector`; preprocessing and threshold, as in
            :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, or images of a side that the network cannot make.
    """

    uses_known_anomalies = False

    generator: DCGANGenerator
    critic: DCGANCritic
    steps_taken: Tensor

    def __init__(
        self,
        latent_dim: int = 256,
        width: int = 64,
        kernel_size: int = 4,
        lipschitz: Lipschitz = "clipping",
        clip: float = 0.01,
        penalty_weight: float = 10.0,
        critic_steps: int = 5,
        critic_bursts: bool = True,
        optimizer: OptimizerName = "rmsprop",
        lr: float = 5e-5,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        for name, value in (("latent_dim", latent_dim), ("width", width), ("critic_steps", critic_steps)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        for name, number in (("clip", clip), ("penalty_weight", penalty_weight), ("lr", lr)):
            if not 0 < number < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {number}")
        for name, chosen, kind in (("lipschitz", lipschitz, Lipschitz), ("optimizer", optimizer, OptimizerName)):
            if chosen not in get_args(kind):
                raise ValueError(f"{name} must be one of {', '.join(get_args(kind))}, got {chosen!r}")
        self.latent_dim = latent_dim
        self.width = width
        self.kernel_size = kernel_size
        self.lipschitz = lipschitz
        self.clip = clip
        self.penalty_weight = penalty_weight
        self.critic_steps = critic_steps
        self.critic_bursts = critic_bursts
        self.optimizer = optimizer
        self.lr = lr

    def build(self, shape: tuple[int, ...]) -> None:
        """Generator and critic for images of this shape; the generator's range is that of the preprocessed input."""
        output = self.preprocess.output
        self.generator = DCGANGenerator(shape, self.latent_dim, self.width, self.kernel_size, output)
        self.critic = DCGANCritic(shape, self.width, self.kernel_size, batch_norm=self.lipschitz == "clipping")
        # of the critic since the generator's last step, of the generator in all: a run that is resumed goes on there
        self.register_buffer("steps_taken", torch.zeros(2, dtype=torch.long))

    def players(self) -> dict[str, nn.Module]:
        """Critic and generator."""
        return {"critic": self.critic, "generator": self.generator}

    def new_optimizer(self, player: str, parameters: Iterator[nn.Parameter]) -> Optimizer:
        """The same kind for both."""
        if self.optimizer == "adam":
            return Adam(parameters, lr=self.lr, betas=(0.0, 0.9))
        return RMSprop(parameters, lr=self.lr)

    def latents(self, n: int) -> Tensor:
        """Latents (n, latent_dim), by the run's random state."""
        return torch.randn(n, self.latent_dim, device=self.device)

    def on_train_start(self) -> None:
        """Where the turns stand, on the host: a training step waits for no device."""
        super().on_train_start()
        self._critic_steps, self._generator_steps = self.steps_taken.tolist()

    def training_step(self, batch: TrainBatch, batch_idx: int) -> None:
        """A step of the critic and, when its turn has come, one of the generator."""
        real = self.preprocess(batch.x)
        with self.only("critic"):
            with torch.no_grad():
                fake = self.generator(self.latents(len(real)))
            loss = critic_loss(self.critic(real).float(), self.critic(fake).float())
            self.curves.add(self.global_step, wasserstein_estimate=-loss)
            if self.lipschitz == "penalty":
                with torch.autocast(self.device.type, enabled=False):
                    middle = between(real, fake.float())
                    loss = loss + self.penalty_weight * gradient_penalty(self.critic(middle), middle)
            self.minimise(loss, "critic")
        if self.lipschitz == "clipping":
            with torch.no_grad():
                for weight in self.critic.parameters():
                    weight.clamp_(-self.clip, self.clip)
        self._count(critic=1)
        if self._critic_steps >= critic_steps_due(self._generator_steps, self.critic_steps, self.critic_bursts):
            with self.only("generator"):
                fake = self.generator(self.latents(len(real)))
                self.minimise(generator_loss(self.critic(fake).float()), "generator")
            self._count(generator=1)
        self.log_loss(loss, batch)

    def _count(self, critic: int = 0, generator: int = 0) -> None:
        """Note a step of either; with the generator's the critic's turn begins anew."""
        self._critic_steps = 0 if generator else self._critic_steps + critic
        self._generator_steps += generator
        self.steps_taken[0] += critic
        self.steps_taken[0] *= 1 - generator
        self.steps_taken[1] += generator
