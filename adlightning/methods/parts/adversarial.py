"""Networks that train against each other: several optimisers, one for each player, stepped by hand."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from adlightning.core.optimization import MONITOR, Interval, go_on, with_schedule
from adlightning.core.parts import Part
from adlightning.core.rules import Rule, not_negative, positive

GradientNorm = Literal["per_sample", "per_pixel"]

if TYPE_CHECKING:
    from adlightning.core.detector import AnomalyDetector


class Players:
    """The networks of a detector that have an optimiser each: who moves, and how.

    A detector makes them in `build`, gives each an optimiser in `configure_optimizers` (:func:`one_optimizer_each`),
    calls :meth:`minimise` in its training step and :meth:`end_epoch` at the end of an epoch. It sets
    `automatic_optimization = False`. Lightning's `trainer.gradient_clip_val` and `accumulate_grad_batches` do not work
    with several optimisers: there is `max_gradient_norm`.

    Args:
        detector: whose networks these are.
        networks: by name; always in the same order, which is that of their optimisers.
        max_gradient_norm: bound on the norm of a player's gradient; None for none.
        interval: whether a player's schedule goes on after each epoch, or after each of its own steps.
    """

    def __init__(
        self,
        detector: AnomalyDetector,
        networks: Mapping[str, nn.Module],
        max_gradient_norm: float | None,
        interval: Interval = "epoch",
    ) -> None:
        self.detector = detector
        self.networks = dict(networks)
        self.max_gradient_norm = max_gradient_norm
        self.interval = interval

    @contextmanager
    def only(self, *moving: str) -> Iterator[None]:
        """Within it, gradients are taken for these players' weights alone.

        Where several ranks train, for all of them: DistributedDataParallel wants every weight in every graph.
        """
        still = [
            weight
            for name, network in self.networks.items()
            if name not in moving
            for weight in network.parameters()
            if weight.requires_grad
        ]
        if self.detector.trainer.world_size > 1:
            still = []
        for weight in still:
            weight.requires_grad_(False)
        try:
            yield
        finally:
            for weight in still:
                weight.requires_grad_(True)

    @contextmanager
    def evaluating(self, *names: str) -> Iterator[None]:
        """Within it these players are in eval mode, and no gradients are taken."""
        parts = [part for name in names for part in self.networks[name].modules() if part.training]
        for part in parts:
            part.training = False
        try:
            with torch.no_grad():
                yield
        finally:
            for part in parts:
                part.training = True

    def minimise(self, loss: Tensor, *moving: str) -> None:
        """One step of these players' optimisers down the loss; the other players' weights stay."""
        schedules = self._schedules() if self.interval == "step" else []
        names, optimizers, trainer = list(self.networks), self.detector.optimizers(), self.detector.trainer
        assert isinstance(optimizers, list), "a detector has two players or more"
        stepped = [optimizers[names.index(name)] for name in moving]
        for optimizer in optimizers:
            optimizer.zero_grad()
        if trainer.world_size > 1:
            loss = loss + 0 * sum(weight.sum() for network in self.networks.values() for weight in network.parameters())
        self.detector.manual_backward(loss)
        for name, optimizer in zip(moving, stepped, strict=True):
            if self.max_gradient_norm is not None:
                scaler = getattr(trainer.precision_plugin, "scaler", None)
                scale = 1.0 if scaler is None else scaler.get_scale()  # float16's gradients are still scaled up here
                nn.utils.clip_grad_norm_(self.networks[name].parameters(), self.max_gradient_norm * scale)
            optimizer.step()
            if schedules and not isinstance(schedule := schedules[names.index(name)], ReduceLROnPlateau):
                go_on(schedule)
        torch.clear_autocast_cache()  # of the weights before this step

    def end_epoch(self, *played: str) -> None:
        """Let schedules go on by an epoch, once its metrics are logged: of these players, or of all.

        What is stepped by hand is scheduled by hand. One that watches a metric goes on by epochs in any case; of
        held-out samples it waits until there is a metric.

        Raises:
            ValueError: a schedule that watches something else which is not logged.
        """
        for name, schedule in zip(self.networks, self._schedules(), strict=False):  # there may be none
            if played and name not in played:
                continue
            if isinstance(schedule, ReduceLROnPlateau):
                self._watch(schedule, getattr(schedule, "monitor", MONITOR))
            elif self.interval == "epoch":
                go_on(schedule)

    def _watch(self, schedule: ReduceLROnPlateau, monitor: str) -> None:
        metrics = self.detector.trainer.callback_metrics
        if monitor in metrics:
            schedule.step(metrics[monitor])
        elif not monitor.startswith("val/"):
            raise ValueError(f"lr_scheduler.monitor={monitor} is not logged: what is logged is {', '.join(metrics)}")

    def _schedules(self) -> list[Any]:
        """The players' schedules in their order, or none."""
        schedules = self.detector.lr_schedulers() or []
        return schedules if isinstance(schedules, list) else [schedules]

    def __reduce__(self) -> tuple[type[Players], tuple[Any, ...]]:
        """A copy of a detector has players of its own."""
        return Players, (self.detector, self.networks, self.max_gradient_norm, self.interval)


@contextmanager
def resting_statistics(network: nn.Module) -> Iterator[None]:
    """Within it BatchNorms in training mode normalise by the batch, and their running statistics do not move."""
    norms = [
        module
        for module in network.modules()
        if isinstance(module, nn.modules.batchnorm._NormBase) and module.training and module.track_running_stats
    ]
    for module in norms:
        module.track_running_stats = False
    try:
        yield
    finally:
        for module in norms:
            module.track_running_stats = True


def one_optimizer_each(
    networks: Mapping[str, nn.Module],
    optimizers: Mapping[str, partial[Optimizer]],
    scheduler: partial[LRScheduler] | None,
) -> tuple[list[Optimizer], list[LRScheduler]]:
    """What `configure_optimizers` returns for players: an optimiser each, and the same schedule for each of them.

    Args:
        networks: the players, by name.
        optimizers: made with a player's weights, by the player's name.
        scheduler: made with an optimiser; None for constant learning rates.

    Raises:
        ValueError: one of them refuses its arguments, or fails in its first step.
    """
    made, schedules = [], []
    for name, network in networks.items():
        parts = (optimizers[name], "lr_scheduler", scheduler)
        optimizer, schedule = with_schedule(f"optimizer of the {name}", *parts, network.parameters())
        made.append(optimizer)
        schedules += [] if schedule is None else [schedule]
    return made, schedules


def real_loss(logits: Tensor) -> Tensor:
    """-mean log D, from a discriminator's logits (B,): the cross-entropy of what is to be called real."""
    return F.softplus(-logits).mean()


def fake_loss(logits: Tensor) -> Tensor:
    """-mean log(1 - D), from a discriminator's logits (B,): the cross-entropy of what is to be called fake."""
    return F.softplus(logits).mean()


class Lipschitz(Part):
    """How a critic is kept Lipschitz."""

    allows_batch_norm: ClassVar[bool] = True
    """Whether the critic may have BatchNorm, which couples the samples of a batch."""

    @abstractmethod
    def penalty(self, critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        """What is added to the critic's loss on samples (B, ...) and generated ones."""

    def bound_(self, critic: nn.Module) -> None:
        """What is done to the critic's weights after its step, in place: by default nothing."""


@dataclass(frozen=True)
class WeightClipping(Lipschitz):
    """Weights are clipped after each step, as in the original WGAN (Arjovsky et al., ICML 2017).

    Args:
        bound: on the absolute value of each weight.
    """

    bound: float = 0.01

    argument_rules: ClassVar[Mapping[str, Rule]] = {"bound": positive}

    def penalty(self, critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        """None: 0."""
        return torch.zeros((), device=real.device)

    @torch.no_grad()
    def bound_(self, critic: nn.Module) -> None:
        """Clip."""
        for weight in critic.parameters():
            weight.clamp_(-self.bound, self.bound)


@dataclass(frozen=True)
class GradientPenalty(Lipschitz):
    """The norm of the critic's gradient is drawn to 1 between samples and what is made of them.

    Args:
        weight: of :func:`gradient_penalty`; 0 leaves it out.
        mode: the norm is taken `per_sample`, or `per_pixel` over the channels, as AMA's released code has it.
    """

    weight: float = 10.0
    mode: GradientNorm = "per_sample"

    allows_batch_norm: ClassVar[bool] = False
    argument_rules: ClassVar[Mapping[str, Rule]] = {"weight": not_negative}

    def penalty(self, critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        """On points between pairs of samples (B, ...), in float32."""
        with torch.autocast(real.device.type, enabled=False):
            middle = between(real, fake.float())
            return self.weight * gradient_penalty(critic(middle), middle, self.mode == "per_pixel")


@dataclass(frozen=True)
class Unconstrained(Lipschitz):
    """Nothing keeps the critic Lipschitz: for objectives that ask for no such critic."""

    def penalty(self, critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        """None: 0."""
        return torch.zeros((), device=real.device)


def gradient_penalty(critic_values: Tensor, x: Tensor, per_pixel: bool = False) -> Tensor:
    """Mean over samples of (||d critic / d x||_2 - 1)^2, the norm over all of a sample's values.

    Gulrajani et al., "Improved training of Wasserstein GANs" (NeurIPS 2017), equation 3. Call it outside autocast.

    Args:
        critic_values: (B,), computed from `x` without a coupling between samples (no BatchNorm).
        x: (B, ...), a leaf or a result that takes a gradient.
        per_pixel: mean over samples and pixels, each pixel's norm over its channels, as AMA's released code has it.
    """
    (gradient,) = torch.autograd.grad(critic_values.sum(), x, create_graph=True)
    # the root's derivative is infinite at 0
    squares = gradient.float().square()
    norms = ((squares if per_pixel else squares.flatten(1)).sum(dim=1) + 1e-12).sqrt()
    return (norms - 1).square().mean()


def between(real: Tensor, fake: Tensor) -> Tensor:
    """Points drawn uniformly on the lines between pairs of samples (B, ...), one a pair; takes a gradient."""
    share = torch.rand(len(real), *[1] * (real.dim() - 1), device=real.device)
    return (share * real.detach() + (1 - share) * fake.detach()).requires_grad_()
