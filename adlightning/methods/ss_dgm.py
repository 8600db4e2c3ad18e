"""The semi-supervised deep generative model M2 (Kingma et al. 2014; Deep SAD, Appendix E; docs/methods/ss_dgm.md).

M1+M2 is in stacked_ss_dgm.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam
from torch.optim.lr_scheduler import MultiStepLR

from adlightning.core.contracts import TrainBatch
from adlightning.core.detector import AnomalyDetector
from adlightning.core.optimization import Interval, one_optimizer, optimizer_part, scheduler_part
from adlightning.core.parts import (
    EncoderFactory,
    OptimizerFactory,
    PreprocessingFactory,
    SchedulerFactory,
    encoder_part,
)
from adlightning.core.rules import at_least, each, not_negative
from adlightning.core.thresholds import NormalQuantile, ThresholdRule
from adlightning.labels import KNOWN_ANOMALY, UNLABELLED
from adlightning.methods.parts.likelihoods import require_likelihood
from adlightning.networks.dgm import LOG_LIKELIHOODS, VAE, Deviation, Likelihood, kl_from_standard
from adlightning.networks.encoders import WeightInit, build_encoder, representation_size
from adlightning.networks.initialisation import start_weights_


def m1_loss(log_likelihood: Tensor, kl: Tensor) -> Tensor:
    """Mean negative evidence lower bound, both arguments (B,): equation 5."""
    return (kl - log_likelihood).mean()


def m2_bound(log_likelihood: Tensor, kl: Tensor) -> Tensor:
    """-L(x, y) (B,): log p(x|y, z) + log p(y) - KL, equation 6, with two classes equally likely beforehand."""
    return log_likelihood - math.log(2) - kl


def m2_loss(bounds: Tensor, logits: Tensor, known: Tensor, alpha: float, separate_means: bool = False) -> Tensor:
    """Equation 9 per sample: L(x, y) where the class is known, U(x) where not, and the classifier's cross-entropy.

    U(x) = -sum_y q(y|x) (-L(x, y)) - H(q(y|x)), equation 7.

    Args:
        bounds: (B, 2), -L(x, y) for y = normal and y = anomaly.
        logits: (B,), log q(anomaly|x) - log q(normal|x).
        known: (B,), +1 known normal, 0 unlabelled, -1 known anomaly.
        alpha: weight of the mean cross-entropy of the labelled samples; the paper's alpha divided by its N.
        separate_means: True takes the mean of L over the labelled samples and that of U over the unlabelled ones and
            adds them, as the released code of Deep SAD does; False takes one mean over the batch.
    """
    log_q = torch.stack([F.logsigmoid(-logits.float()), F.logsigmoid(logits.float())], dim=1)
    y = (known == KNOWN_ANOMALY).long().unsqueeze(1)
    labelled = known != UNLABELLED
    unlabelled_bounds = (log_q.exp() * (bounds - log_q)).sum(dim=1)
    labelled_bounds = bounds.gather(1, y).squeeze(1)
    cross_entropy = _mean_where(labelled, -log_q.gather(1, y).squeeze(1))
    if separate_means:
        bound = _mean_where(labelled, labelled_bounds) + _mean_where(~labelled, unlabelled_bounds)
    else:
        bound = torch.where(labelled, labelled_bounds, unlabelled_bounds).mean()
    return alpha * cross_entropy - bound


def m2_objective(
    vae: VAE,
    x: Tensor,
    logits: Tensor,
    known: Tensor,
    likelihood: Likelihood,
    alpha: float,
    separate_means: bool,
) -> Tensor:
    """M2's loss of a batch; every sample goes through the VAE with either label, so that shapes depend on no label.

    Args:
        vae: M2, with two classes.
        x: (B, D), its data.
        logits: (B,), the classifier's log-odds of an anomaly.
        known: (B,), +1 known normal, 0 unlabelled, -1 known anomaly.
        likelihood: of x.
        alpha, separate_means: as in :func:`m2_loss`.
    """
    twice = x.repeat(2, 1)
    y = torch.eye(2, device=x.device).repeat_interleave(len(x), dim=0)  # normal for one half, anomaly for the other
    output, mean, scale = vae(twice, y)
    bounds = m2_bound(LOG_LIKELIHOODS[likelihood](twice, output), kl_from_standard(mean, scale))
    return m2_loss(bounds.view(2, -1).t(), logits, known, alpha, separate_means)


def _mean_where(chosen: Tensor, values: Tensor) -> Tensor:
    """Mean of the chosen values, 0 where there are none."""
    return torch.where(chosen, values, 0.0).sum() / chosen.sum().clamp_min(1)


class SSDGM(AnomalyDetector):
    """SS-DGM, M2 on the input: an encoder with one logit classifies, a class-conditional VAE explains the input.

    The classifier q(y|x) is trained with the VAE; its log-odds are the score.

    Args:
        encoder: of the classifier, a class made for the shape of a preprocessed sample that gives (B, d). None takes
            LeNet for images, an MLP for tables, an LSTM for series.
        hidden: units of the hidden layers of the VAE's encoder, reversed in its decoder, at least one.
        latent_dim: dimension of the latent variable.
        likelihood: of the preprocessed input: `bernoulli` (in [0, 1]) or `gaussian` of unit variance.
        alpha: weight of the classifier's cross-entropy on labelled samples.
        separate_means: the mean of the labelled and that of the unlabelled samples count alike, as in the released
            code of Deep SAD; False lets every sample of a batch count alike.
        deviation: of q(z|x, y): a `softplus`; or `at_least_one`, as in the released code of Deep SAD, whose
            log-variance is a softplus.
        weight_init: of our own networks, `glorot` (uniform) or `framework`.
        optimizer: of classifier and VAE.
        lr_scheduler: its schedule; null for a constant learning rate.
        lr_scheduler_interval: whether the schedule goes on after each `epoch` or each `step`.
        preprocessing: as in :class:`AnomalyDetector`.
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, `bernoulli` for preprocessing that leaves [0, 1], or training data
            without a known anomaly.
    """

    needs_known_anomalies = True
    argument_rules: ClassVar = {"hidden": each(at_least(1), least=1), "latent_dim": at_least(1), "alpha": not_negative}

    def __init__(
        self,
        encoder: EncoderFactory | None = None,
        hidden: Sequence[int] = (128, 64),
        latent_dim: int = 32,
        likelihood: Likelihood = "bernoulli",
        alpha: float = 0.1,
        separate_means: bool = False,
        deviation: Deviation = "softplus",
        weight_init: WeightInit = "glorot",
        optimizer: OptimizerFactory = partial(Adam, lr=1e-4, weight_decay=1e-6),
        lr_scheduler: SchedulerFactory | None = partial(MultiStepLR, milestones=[50]),
        lr_scheduler_interval: Interval = "epoch",
        preprocessing: PreprocessingFactory | None = None,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__(preprocessing, threshold)
        self.make_encoder = encoder_part("encoder", encoder)
        self.hidden = hidden
        self.latent_dim = latent_dim
        self.likelihood: Likelihood = likelihood
        self.alpha = alpha
        self.separate_means = separate_means
        self.deviation: Deviation = deviation
        self.weight_init = weight_init
        self.make_optimizer = optimizer_part("optimizer", optimizer)
        self.make_scheduler = scheduler_part("lr_scheduler", lr_scheduler)
        self.lr_scheduler_interval = lr_scheduler_interval

    def build(self, shape: tuple[int, ...]) -> None:
        """The classifier, and the VAE of flattened samples."""
        require_likelihood(self, self.likelihood)
        self.encoder = build_encoder(self.make_encoder, shape)
        self.head = nn.Linear(representation_size(self.encoder, shape), 1)
        self.m2 = VAE(math.prod(shape), self.hidden, self.latent_dim, n_classes=2, deviation=self.deviation)
        start_weights_(self, self.weight_init)

    def configure_optimizers(self) -> Any:
        """One optimiser over everything."""
        return one_optimizer(self.parameters(), self.make_optimizer, self.make_scheduler, self.lr_scheduler_interval)

    def training_step(self, batch: TrainBatch, batch_idx: int) -> Tensor:
        """M2's loss of the batch."""
        x = self.preprocess(batch.x)
        return m2_objective(
            self.m2, x.flatten(1), self.log_odds(x), batch.known, self.likelihood, self.alpha, self.separate_means
        )

    def log_odds(self, x: Tensor) -> Tensor:
        """log q(anomaly|x) - log q(normal|x), (B,), of preprocessed samples."""
        logits: Tensor = self.head(self.encoder(x))
        return logits.squeeze(1)

    def anomaly_score(self, x: Tensor) -> Tensor:
        """Log-odds (B,) of an anomaly: the ranking of q(anomaly|x) without its saturation at 1."""
        return self.log_odds(self.preprocess(x))
