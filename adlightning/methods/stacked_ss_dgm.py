"""The semi-supervised deep generative model M1+M2.

Kingma et al. 2014; Deep SAD, Appendix E; docs/methods/stacked_ss_dgm.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Adam
from torch.optim.lr_scheduler import MultiStepLR

from adlightning.core.contracts import TrainBatch
from adlightning.core.detector import AnomalyDetector
from adlightning.core.optimization import Interval, one_optimizer, optimizer_part, scheduler_part
from adlightning.core.parts import OptimizerFactory, PreprocessingFactory, SchedulerFactory
from adlightning.core.rules import at_least, check_arguments, each, not_negative
from adlightning.core.thresholds import NormalQuantile, ThresholdRule
from adlightning.methods.parts.likelihoods import require_likelihood
from adlightning.methods.ss_dgm import m1_loss, m2_objective
from adlightning.networks.dgm import (
    LOG_LIKELIHOODS,
    VAE,
    Likelihood,
    fully_connected,
    kl_from_standard,
    sample_gaussian,
)
from adlightning.networks.initialisation import glorot_uniform_


@dataclass(frozen=True)
class M1Pretraining:
    """The first phase of a fit: epochs 0 to `epochs` - 1 train M1 on all training samples, without labels.

    Args:
        epochs: of the first phase; `trainer.max_epochs` counts both phases.
        optimizer: of M1.
        lr_scheduler: of the first phase; null for a constant learning rate.
    """

    epochs: int = 150
    optimizer: OptimizerFactory = partial(Adam, lr=1e-4, weight_decay=1e-6)
    lr_scheduler: SchedulerFactory | None = partial(MultiStepLR, milestones=[50])

    def __post_init__(self) -> None:
        """Check the values."""
        check_arguments({"pretraining.epochs": not_negative}, {}, {"pretraining.epochs": self.epochs})
        object.__setattr__(self, "optimizer", optimizer_part("pretraining.optimizer", self.optimizer))
        object.__setattr__(self, "lr_scheduler", scheduler_part("pretraining.lr_scheduler", self.lr_scheduler))

    def configured(self, parameters: Any) -> dict[str, Any]:
        """What `configure_optimizers` returns in the first phase."""
        return one_optimizer(
            parameters,
            optimizer_part("pretraining.optimizer", self.optimizer),
            scheduler_part("pretraining.lr_scheduler", self.lr_scheduler),
            place="pretraining.",
        )


class StackedSSDGM(AnomalyDetector):
    """SS-DGM, M1+M2: an unsupervised VAE (M1) is trained first and left as it is; M2 works on its latent variable.

    Epochs 0 to `pretraining.epochs` - 1 train M1 on all training samples, without labels; then M2 and a classifier with
    one hidden layer are trained on samples of M1's latent variable until `trainer.max_epochs`, which counts both
    phases. Scores take M1's mean.

    Args:
        hidden: units of the hidden layers of each VAE's encoder, reversed in its decoder, at least one.
        latent_dim: dimension of both latent variables.
        likelihood: of the preprocessed input: `bernoulli` (in [0, 1]) or `gaussian` of unit variance.
        alpha: weight of the classifier's cross-entropy on labelled samples.
        separate_means: the mean of the labelled and that of the unlabelled samples count alike, as in the released
            code of Deep SAD; False lets every sample of a batch count alike.
        pretraining: the first phase, which trains M1.
        optimizer: of M2 and the classifier.
        lr_scheduler: of the second phase, whose epochs it counts; null for a constant learning rate.
        lr_scheduler_interval: whether the schedule goes on after each `epoch` or each `step`.
        preprocessing: as in :class:`AnomalyDetector`.
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, `bernoulli` for preprocessing that leaves [0, 1], training data
            without a known anomaly, or a `trainer.max_epochs` that ends within the first phase.
    """

    needs_known_anomalies = True
    first_phase_argument = "pretraining.epochs"
    argument_rules: ClassVar = {"hidden": each(at_least(1), least=1), "latent_dim": at_least(1), "alpha": not_negative}
    m1_is_trained: Tensor

    def __init__(
        self,
        hidden: Sequence[int] = (128, 64),
        latent_dim: int = 32,
        likelihood: Likelihood = "bernoulli",
        alpha: float = 0.1,
        separate_means: bool = False,
        pretraining: M1Pretraining = M1Pretraining(),
        optimizer: OptimizerFactory = partial(Adam, lr=1e-4, weight_decay=1e-6),
        lr_scheduler: SchedulerFactory | None = partial(MultiStepLR, milestones=[50]),
        lr_scheduler_interval: Interval = "epoch",
        preprocessing: PreprocessingFactory | None = None,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__(preprocessing, threshold)
        self.hidden = hidden
        self.latent_dim = latent_dim
        self.likelihood: Likelihood = likelihood
        self.alpha = alpha
        self.separate_means = separate_means
        self.pretraining = pretraining
        self.make_optimizer = optimizer_part("optimizer", optimizer)
        self.make_scheduler = scheduler_part("lr_scheduler", lr_scheduler)
        self.lr_scheduler_interval = lr_scheduler_interval

    def build(self, shape: tuple[int, ...]) -> None:
        """M1 on flattened samples, M2 and the classifier on M1's latent variable."""
        require_likelihood(self, self.likelihood)
        self.m1 = VAE(math.prod(shape), self.hidden, self.latent_dim)
        self.m2 = VAE(self.latent_dim, self.hidden, self.latent_dim, n_classes=2)
        self.classifier = fully_connected((self.latent_dim, self.hidden[0], 1))
        self.register_buffer("m1_is_trained", torch.tensor(False))
        glorot_uniform_(self)

    def configure_optimizers(self) -> Any:
        """One optimiser in each phase, over what it trains; the second's is made in both, as in :class:`DeepSAD`."""
        second = [*self.m2.parameters(), *self.classifier.parameters()]
        of_second = one_optimizer(second, self.make_optimizer, self.make_scheduler, self.lr_scheduler_interval)
        if self.pretraining.epochs and not self.m1_is_trained:
            return self.pretraining.configured(self.m1.parameters())
        return of_second

    def on_train_epoch_start(self) -> None:
        """At the start of the second phase, note that M1 is trained, and start the optimiser of the rest."""
        super().on_train_epoch_start()
        if self.current_epoch >= self.pretraining.epochs and not self.m1_is_trained:
            self.m1_is_trained.fill_(True)
            self.trainer.strategy.setup_optimizers(self.trainer)

    def training_step(self, batch: TrainBatch, batch_idx: int) -> Tensor:
        """M1's loss of the batch in the first phase, M2's in the second."""
        x = self.preprocess(batch.x).flatten(1)
        if self.current_epoch < self.pretraining.epochs:
            output, mean, scale = self.m1(x)
            log_likelihood = LOG_LIKELIHOODS[self.likelihood](x, output)
            loss = m1_loss(log_likelihood, kl_from_standard(mean, scale))
            idle = [self.m2, self.classifier]
        else:
            with torch.no_grad():
                latent = sample_gaussian(*self.m1.encode(x))
            logits = self.log_odds(latent)
            loss = m2_objective(self.m2, latent, logits, batch.known, "gaussian", self.alpha, self.separate_means)
            idle = [self.m1]
        if self.trainer.world_size > 1:  # DistributedDataParallel wants every parameter in every graph
            loss = loss + 0 * sum(weight.sum() for module in idle for weight in module.parameters())
        return loss

    def log_odds(self, latent: Tensor) -> Tensor:
        """log q(anomaly|z1) - log q(normal|z1), (B,), of M1's latent variable (B, latent_dim)."""
        logits: Tensor = self.classifier(latent)
        return logits.squeeze(1)

    def anomaly_score(self, x: Tensor) -> Tensor:
        """Log-odds (B,) of an anomaly at the mean of M1's latent variable."""
        mean, _ = self.m1.encode(self.preprocess(x).flatten(1))
        return self.log_odds(mean)

    def ready_to_score(self) -> bool:
        """Only once M1 is trained."""
        return bool(self.m1_is_trained)
