"""Likelihood ratios (Ren et al., "Likelihood Ratios for Out-of-Distribution Detection", NeurIPS 2019).

docs/methods/likelihood.md.
"""

from __future__ import annotations

import math
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import ExponentialLR

from adlightning.core.contracts import TrainBatch
from adlightning.core.optimization import Interval
from adlightning.core.parts import DensityFactory, OptimizerFactory, PreprocessingFactory, SchedulerFactory, as_part
from adlightning.core.rules import between, not_negative
from adlightning.core.thresholds import NormalQuantile, ThresholdRule
from adlightning.methods.likelihood import Likelihood
from adlightning.networks.density import LEVELS, build_density
from adlightning.networks.pixelcnn import PixelCNNPP


def mutated(x: Tensor, rate: float) -> Tensor:
    """Images (B, C, H, W) in [0, 1] of which each value is, with probability `rate`, a uniform one of the 256.

    The paper's perturbation for a background model. Channels of a pixel are drawn apart, as in the released code.
    """
    uniform = torch.randint(LEVELS, x.shape, device=x.device).to(x.dtype) / (LEVELS - 1)
    return torch.where(torch.rand_like(x) < rate, uniform, x)


def squared_weights(network: nn.Module) -> Tensor:
    """Sum of the squares of all weights but biases: parameters of more than one dimension."""
    squares = [weight.square().sum() for weight in network.parameters() if weight.dim() > 1]
    return torch.stack(squares).sum()


class LikelihoodRatio(Likelihood):
    """log p_background - log p, in nats: what of an image is likely by its background alone says nothing of it.

    Two density models train side by side in one fit, one on the images, the other, of the background, on images some of
    whose values are random. They share no weights: one optimiser takes the steps that one for each would take.

    The paper chooses `mutation_rate` and `background_l2` by held-out anomalies of a third data set. Here they are
    arguments, and nothing chooses them.

    Args:
        density: as in :class:`Likelihood`.
        background: the density model of the background, a class like `density`; None takes the same.
        mutation_rate: share of an image's values that are random, for the background model: 0.1, 0.2 or 0.3 in the
            paper.
        background_l2: weight of the sum of the background's squared weights beside its negative log-likelihood of an
            image in nats: 0, 10 or 100 in the paper, whose released code leaves the sum out of the loss. With
            `weight_norm` it would bind nothing and is refused.
        optimizer, lr_scheduler, lr_scheduler_interval: as in :class:`Likelihood`.
        preprocessing: as in :class:`Likelihood`.
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, or as :class:`Likelihood`.
    """

    argument_rules: ClassVar = {"mutation_rate": between(0, 1, "right"), "background_l2": not_negative}

    background: nn.Module

    def __init__(
        self,
        density: DensityFactory = PixelCNNPP,
        background: DensityFactory | None = None,
        mutation_rate: float = 0.3,
        background_l2: float = 0.0,
        optimizer: OptimizerFactory = partial(Adam, lr=1e-4, betas=(0.95, 0.9995)),
        lr_scheduler: SchedulerFactory | None = partial(ExponentialLR, gamma=0.999995),
        lr_scheduler_interval: Interval = "step",
        preprocessing: PreprocessingFactory | None = None,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__(density, optimizer, lr_scheduler, lr_scheduler_interval, preprocessing, threshold)
        self.make_background = self.make_density if background is None else as_part("background", background, nn.Module)
        self.mutation_rate = mutation_rate
        self.background_l2 = background_l2

    def build(self, shape: tuple[int, ...]) -> None:
        """Both density models."""
        super().build(shape)
        self.background = build_density(self.make_background, shape)
        if self.background_l2 and getattr(self.background, "weight_norm", False):
            raise ValueError(
                f"background_l2 must be 0 with weight_norm, which scales the weights anew, got {self.background_l2}: "
                "give weight_norm: false to density or background"
            )

    def training_step(self, batch: TrainBatch, batch_idx: int) -> dict[str, Tensor]:
        """Bits per dimension of both models, and the background's squared weights, all in that unit."""
        x = self.preprocess(batch.x)
        surprise = self.bits(self.density(x)).mean()
        background = self.bits(self.background(mutated(x, self.mutation_rate))).mean()
        loss = surprise + background
        if self.background_l2:
            nats = self.background_l2 * squared_weights(self.background)
            loss = loss + nats / (math.log(2) * math.prod(self.image_shape))
        return {"loss": loss, "bits_per_dimension": surprise, "background_bits_per_dimension": background}

    def anomaly_score(self, x: Tensor) -> Tensor:
        """log p_background - log p (B,), in nats."""
        prepared = self.preprocess(x)
        ratio: Tensor = self.background(prepared).float() - self.density(prepared).float()
        return ratio
