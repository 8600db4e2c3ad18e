"""AMA with known anomalies as negatives (Somepalli et al., arXiv:2003.10713, Section 3.3)."""

from __future__ import annotations

from functools import partial
from typing import ClassVar, Literal

from torch.optim import Adam
from torch.optim.lr_scheduler import MultiStepLR

from adlightning.core.maps import Reduction
from adlightning.core.optimization import Interval
from adlightning.core.parts import (
    DiscriminatorFactory,
    GeneratorFactory,
    LatentEncoderFactory,
    OptimizerFactory,
    PreprocessingFactory,
    SchedulerFactory,
)
from adlightning.core.rules import not_negative
from adlightning.core.thresholds import NormalQuantile, ThresholdRule
from adlightning.methods.ama.detector import AMA
from adlightning.methods.ama.settings import CriticTurns, Interpolation, Negatives
from adlightning.methods.parts.adversarial import GradientPenalty
from adlightning.networks.residual_gan import ResidualCritic, ResidualGenerator, StridedEncoder
from adlightning.preprocessing import SymmetricRange


class SemiSupervisedAMA(AMA):
    """AMA with known anomalies as negatives in place of generated ones, from the first epoch on.

    Args:
        lambda_neg: weight of the negatives, which are a part of the batch over which the mean is taken.
        latent_dim, encoder, generator, critic, mirrored, interpolation, lambda_reg, penalty, critic_turns,
            score_type, first_scored_epoch: as in :class:`AMA`.
        critic_optimizer, generator_optimizer, encoder_optimizer, lr_scheduler, lr_scheduler_interval,
            max_gradient_norm: as in :class:`AMA`.
        reduction: as in :class:`AMA`.
        preprocessing: as in :class:`AMA`.
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, networks that do not fit the images, or no known anomaly.
    """

    uses_known_anomalies = True
    needs_known_anomalies = True
    argument_rules: ClassVar = {"lambda_neg": not_negative}

    def __init__(
        self,
        latent_dim: int = 128,
        encoder: LatentEncoderFactory = partial(StridedEncoder, width=64),
        generator: GeneratorFactory = partial(ResidualGenerator, width=256),
        critic: DiscriminatorFactory = partial(ResidualCritic, width=128, spectral_norm=True),
        mirrored: bool = True,
        interpolation: Interpolation = Interpolation(),
        lambda_neg: float = 5.0,
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
        reduction: Reduction | None = None,
        preprocessing: PreprocessingFactory | None = SymmetricRange,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__(
            latent_dim=latent_dim,
            encoder=encoder,
            generator=generator,
            critic=critic,
            mirrored=mirrored,
            interpolation=interpolation,
            negatives=Negatives(kind="none", weight=lambda_neg),
            lambda_reg=lambda_reg,
            penalty=penalty,
            critic_turns=critic_turns,
            score_type=score_type,
            first_scored_epoch=first_scored_epoch,
            critic_optimizer=critic_optimizer,
            generator_optimizer=generator_optimizer,
            encoder_optimizer=encoder_optimizer,
            lr_scheduler=lr_scheduler,
            lr_scheduler_interval=lr_scheduler_interval,
            max_gradient_norm=max_gradient_norm,
            reduction=reduction,
            preprocessing=preprocessing,
            threshold=threshold,
        )
