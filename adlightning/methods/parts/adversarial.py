"""Networks that train against each other: several optimisers, one for each player, stepped by hand."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from adlightning.core.detector import AnomalyDetector
from adlightning.methods.parts.optimization import step_decay


class AdversarialDetector(AnomalyDetector):
    """A detector whose networks are players: each has an optimiser of its own and is moved by its own loss.

    A subclass names its players, gives each an optimiser, and calls :meth:`minimise` in its training step. Lightning's
    `trainer.gradient_clip_val` and `accumulate_grad_batches` do not work with several optimisers: there is
    `max_gradient_norm`.

    Args:
        lr_milestones: epochs at which all learning rates drop to a tenth.
        max_gradient_norm: bound on the norm of a player's gradient; null for none.
        common: preprocessing and threshold, as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range.
    """

    def __init__(
        self, lr_milestones: Sequence[int] = (), max_gradient_norm: float | None = None, **common: Any
    ) -> None:
        super().__init__(**common)
        if any(milestone < 0 for milestone in lr_milestones):
            raise ValueError(f"lr_milestones must not be negative, got {list(lr_milestones)}")
        if max_gradient_norm is not None and max_gradient_norm <= 0:
            raise ValueError(f"max_gradient_norm must be positive, or null for no bound, got {max_gradient_norm}")
        self.automatic_optimization = False
        self.lr_milestones = list(lr_milestones)
        self.max_gradient_norm = max_gradient_norm
        self._first_rates: dict[str, float] = {}

    @abstractmethod
    def players(self) -> dict[str, nn.Module]:
        """The networks that have an optimiser, by name; always in the same order."""

    @abstractmethod
    def new_optimizer(self, player: str, parameters: Iterator[nn.Parameter]) -> Optimizer:
        """The optimiser of a player."""

    def configure_optimizers(self) -> list[Optimizer]:
        """One for each player."""
        optimizers = [self.new_optimizer(name, network.parameters()) for name, network in self.players().items()]
        self._first_rates = {
            name: optimizer.param_groups[0]["lr"] for name, optimizer in zip(self.players(), optimizers, strict=True)
        }
        return optimizers

    def on_train_epoch_start(self) -> None:
        """Each epoch has its learning rate."""
        super().on_train_epoch_start()
        for rate, optimizer in zip(self._first_rates.values(), self.trainer.optimizers, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = step_decay(rate, self.lr_milestones, self.current_epoch)

    @contextmanager
    def only(self, *moving: str) -> Iterator[None]:
        """Within it, gradients are taken for these players' weights alone.

        Where several ranks train, for all of them: DistributedDataParallel wants every weight in every graph.
        """
        still = [network for name, network in self.players().items() if name not in moving]
        if self.trainer.world_size > 1:
            still = []
        for network in still:
            network.requires_grad_(False)
        try:
            yield
        finally:
            for network in still:
                network.requires_grad_(True)

    def minimise(self, loss: Tensor, *moving: str) -> None:
        """One step of these players' optimisers down the loss; the other players' weights stay."""
        names, optimizers = list(self.players()), self.optimizers()
        assert isinstance(optimizers, list), "a detector has two players or more"
        stepped = [optimizers[names.index(name)] for name in moving]
        for optimizer in optimizers:
            optimizer.zero_grad()
        if self.trainer.world_size > 1:
            loss = loss + 0 * sum(
                weight.sum() for network in self.players().values() for weight in network.parameters()
            )
        self.manual_backward(loss)
        for name, optimizer in zip(moving, stepped, strict=True):
            if self.max_gradient_norm is not None:
                scaler = getattr(self.trainer.precision_plugin, "scaler", None)
                scale = 1.0 if scaler is None else scaler.get_scale()  # float16's gradients are still scaled up here
                nn.utils.clip_grad_norm_(self.players()[name].parameters(), self.max_gradient_norm * scale)
            optimizer.step()
        torch.clear_autocast_cache()  # of the weights before this step


def real_loss(logits: Tensor) -> Tensor:
    """-mean log D, from a discriminator's logits (B,): the cross-entropy of what is to be called real."""
    return F.softplus(-logits).mean()


def fake_loss(logits: Tensor) -> Tensor:
    """-mean log(1 - D), from a discriminator's logits (B,): the cross-entropy of what is to be called fake."""
    return F.softplus(logits).mean()


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
