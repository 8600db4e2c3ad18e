"""WAIC of an ensemble of density models (Choi, Jang and Alemi 2018, arXiv:1810.01392). docs/methods/waic.md."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Adam

from adlightning.core.contracts import TrainBatch
from adlightning.core.detector import AnomalyDetector
from adlightning.core.optimization import Interval, one_optimizer, optimizer_part, scheduler_part
from adlightning.core.parts import (
    DensityFactory,
    OptimizerFactory,
    PreprocessingFactory,
    SchedulerFactory,
    network_part,
)
from adlightning.core.rules import at_least
from adlightning.core.thresholds import NormalQuantile, ThresholdRule
from adlightning.methods.parts.densities import drawn, require_unit_range
from adlightning.methods.waic import waic
from adlightning.networks.density import bits_per_dimension, build_density
from adlightning.networks.glow import Glow


class DensityWAIC(AnomalyDetector):
    """Density models of the normal images; the score is their negative WAIC, -(E[log p] - Var[log p]), in nats.

    The members of the ensemble see the same batches; each has its own start and draws its own noise. They share no
    weight, so each is trained as if it were alone.

    Args:
        n_members: models of the ensemble.
        density: a class made for the shape of the images whose modules give natural log-probabilities (B,) of images
            (B, C, H, W) in [0, 1].
        optimizer: of all members.
        lr_scheduler: its schedule; null for a constant learning rate.
        lr_scheduler_interval: whether the schedule goes on after each `epoch` or each `step`.
        preprocessing: `UnitRange`, with `resize` or `pad` where wanted; None takes it as well. Probabilities are those
            of images of 256 values.
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, samples that are no images of a size that the density takes, or
            another preprocessing.
    """

    uses_known_anomalies = False
    argument_rules: ClassVar = {"n_members": at_least(2)}

    def __init__(
        self,
        n_members: int = 5,
        density: DensityFactory = Glow,
        optimizer: OptimizerFactory = partial(Adam, lr=1e-3),
        lr_scheduler: SchedulerFactory | None = None,
        lr_scheduler_interval: Interval = "epoch",
        preprocessing: PreprocessingFactory | None = None,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__(preprocessing, threshold)
        self.n_members = n_members
        self.make_density = network_part("density", density)
        self.make_optimizer = optimizer_part("optimizer", optimizer)
        self.make_scheduler = scheduler_part("lr_scheduler", lr_scheduler)
        self.lr_scheduler_interval = lr_scheduler_interval

    def build(self, shape: tuple[int, ...]) -> None:
        """The members, each with a start of its own."""
        self.members = nn.ModuleList(build_density(self.make_density, shape) for _ in range(self.n_members))
        require_unit_range(self.preprocess)

    def configure_optimizers(self) -> Any:
        """One optimiser over everything."""
        return one_optimizer(self.parameters(), self.make_optimizer, self.make_scheduler, self.lr_scheduler_interval)

    def log_probabilities(self, x: Tensor) -> Tensor:
        """Natural log-probabilities (M, B) of raw images by each member, in float32."""
        prepared = self.preprocess(x)
        return torch.stack([member(prepared).float() for member in self.members])

    def training_step(self, batch: TrainBatch, batch_idx: int) -> dict[str, Tensor]:
        """-log2 p in bits per dimension, its mean over the batch; summed over members, so that each has its own."""
        bits = bits_per_dimension(self.log_probabilities(batch.x), self.preprocess.output_shape()).mean(dim=1)
        return {"loss": bits.sum(), "bits_per_dimension": bits.mean()}

    def anomaly_score(self, x: Tensor) -> Tensor:
        """The negative WAIC (B,): variance less mean of the log-probabilities, in nats."""
        return -waic(self.log_probabilities(x))

    def generated(self, n: int) -> Tensor:
        """Images (n, C, H, W) in [0, 1], as many of each member in turn, the same ones every time.

        Ten at most of each that takes long to draw them, and none of one that cannot.
        """
        shape, share = self.preprocess.output_shape(), range(self.n_members)
        parts = [drawn(self.members[i], len(range(i, n, self.n_members)), shape, self.device, seed=i) for i in share]
        return torch.cat(parts)
