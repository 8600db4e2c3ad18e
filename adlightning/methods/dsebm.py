"""DSEBM, deep structured energy-based models: low energy is normal (Zhai et al., ICML 2016)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import MultiStepLR

from adlightning.core.contracts import TrainBatch
from adlightning.core.detector import AnomalyDetector
from adlightning.core.optimization import Interval, one_optimizer, optimizer_part, scheduler_part
from adlightning.core.parts import (
    DiscriminatorFactory,
    OptimizerFactory,
    PreprocessingFactory,
    SchedulerFactory,
    network_part,
)
from adlightning.core.rules import positive
from adlightning.core.thresholds import NormalQuantile, ThresholdRule
from adlightning.methods.autoencoder import reconstruction_error
from adlightning.networks.checks import check_network, make_network
from adlightning.networks.energy import ConvolutionalEnergy, DenseEnergy, RecurrentEnergy

Score = Literal["energy", "reconstruction"]

SUITED: dict[int, type[nn.Module]] = {3: ConvolutionalEnergy, 1: DenseEnergy, 2: RecurrentEnergy}
"""Energies by the number of dimensions of a sample: images, tables, series."""


def reconstruction(energy: Callable[[Tensor], Tensor], x: Tensor, for_loss: bool = False) -> Tensor:
    """f(x) = x - dE/dx (B, ...) of samples, in float32, also where nobody else takes gradients.

    Args:
        energy: energies (B,) of samples, each of its own sample alone.
        x: samples (B, ...).
        for_loss: whether the result has a gradient with respect to the energy's weights.
    """
    with ExitStack() as within:
        within.enter_context(torch.inference_mode(False))
        within.enter_context(torch.enable_grad())
        within.enter_context(torch.autocast(x.device.type, enabled=False))
        points = x.detach().float().clone().requires_grad_()
        (gradient,) = torch.autograd.grad(energy(points).float().sum(), points, create_graph=for_loss)
        return points.detach() - gradient


class DSEBM(AnomalyDetector):
    """A network whose output is the energy of a sample, -log p(x) but for a constant; REBM where it is recurrent.

    Training is denoising score matching: ||x - f(x + noise)||^2, with f(x) = x - dE/dx. So the energy's gradient is
    trained to be what noise added, and no samples are drawn from the model.

    Args:
        energy: a class made for the shape of a preprocessed sample, from samples to energies (B,), twice
            differentiable, without BatchNorm. None takes a dense one for tables, a convolutional one for images, a
            recurrent one for series.
        noise: standard deviation of the normal noise on preprocessed samples; the paper's value was not at hand.
        score_type: `energy`, or `reconstruction`, the mean squared difference of x and f(x), which is small where the
            energy is flat.
        optimizer: of the energy.
        lr_scheduler: its schedule; null for a constant learning rate.
        lr_scheduler_interval: whether the schedule goes on after each `epoch` or each `step`.
        preprocessing: as in :class:`AnomalyDetector`.
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, or an energy that does not fit the data or has a BatchNorm.
    """

    uses_known_anomalies = False
    scoring_arguments: ClassVar = ("score_type",)
    differentiated_twice = ("energy",)
    argument_rules: ClassVar = {"noise": positive}

    def __init__(
        self,
        energy: DiscriminatorFactory | None = None,
        noise: float = 1.0,
        score_type: Score = "energy",
        optimizer: OptimizerFactory = partial(Adam, lr=1e-3),
        lr_scheduler: SchedulerFactory | None = partial(MultiStepLR, milestones=[40]),
        lr_scheduler_interval: Interval = "epoch",
        preprocessing: PreprocessingFactory | None = None,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__(preprocessing, threshold)
        self.make_energy = None if energy is None else network_part("energy", energy)
        self.noise = noise
        self.score_type = score_type
        self.make_optimizer = optimizer_part("optimizer", optimizer)
        self.make_scheduler = scheduler_part("lr_scheduler", lr_scheduler)
        self.lr_scheduler_interval = lr_scheduler_interval
        if score_type == "reconstruction":
            self.score_needs = "the energy's gradient for each sample"

    def build(self, shape: tuple[int, ...]) -> None:
        """The energy of samples of this shape."""
        self.energy = make_network("energy", self.make_energy or SUITED[len(shape)], shape)
        check_network("energy", self.energy, [shape], ())
        if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in self.energy.modules()):
            raise ValueError(
                f"energy must have no BatchNorm, which couples samples, got {type(self.energy).__name__} with one"
            )

    def remarks(self) -> list[str]:
        """That energies of steps given their past make no score."""
        past_given = isinstance(self.energy, RecurrentEnergy) and not self.energy.through_time
        if self.score_type == "reconstruction" or not past_given:
            return []
        return [
            "energy.through_time: false leaves a constant of each step open, which depends on its past: "
            "score_type: reconstruction ranks series, the sum of energies need not"
        ]

    def configure_optimizers(self) -> Any:
        """One optimiser over everything."""
        return one_optimizer(self.parameters(), self.make_optimizer, self.make_scheduler, self.lr_scheduler_interval)

    def training_step(self, batch: TrainBatch, batch_idx: int) -> Tensor:
        """Mean squared error of what the energy's gradient makes of noisy samples."""
        x = self.preprocess(batch.x).float()
        noisy = x + self.noise * torch.randn_like(x)
        return reconstruction_error(x, reconstruction(self.energy, noisy, for_loss=True)).mean()

    def anomaly_score(self, x: Tensor) -> Tensor:
        """The energy (B,), or the mean squared difference of x and f(x)."""
        x = self.preprocess(x)
        if self.score_type == "energy":
            energies: Tensor = self.energy(x)
            return energies.float()
        return reconstruction_error(x, reconstruction(self.energy, x, for_loss=torch.is_grad_enabled()))
