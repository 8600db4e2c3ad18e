"""Semi-supervised deep generative models M2 and M1+M2 (Kingma et al. 2014; Deep SAD, Appendix E; docs/methods.md)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR

from adlightning.core.contracts import KNOWN_ANOMALY, UNLABELLED, TrainBatch
from adlightning.methods.parts.encoder import EncoderDetector
from adlightning.methods.parts.likelihoods import LOG_LIKELIHOODS, Likelihood, kl_from_standard, require_likelihood
from adlightning.methods.parts.optimization import OptimizedDetector, TwoPhaseDetector
from adlightning.networks.dgm import VAE, fully_connected, sample_gaussian
from adlightning.networks.initialisation import glorot_uniform_


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


def _mean_where(chosen: Tensor, values: Tensor) -> Tensor:
    """Mean of the chosen values, 0 where there are none."""
    return torch.where(chosen, values, 0.0).sum() / chosen.sum().clamp_min(1)


class M2Detector(OptimizedDetector):
    """What both models share: a classifier q(y|x) trained with a class-conditional VAE; its log-odds are the score.

    Args:
        hidden: units of the hidden layers of each VAE's encoder, reversed in its decoder, at least one.
        latent_dim: dimension of the latent variable.
        likelihood: of the preprocessed input: `bernoulli` (in [0, 1]) or `gaussian` of unit variance.
        alpha: weight of the classifier's cross-entropy on labelled samples.
        separate_means: the mean of the labelled and that of the unlabelled samples count alike, as in the released
            code of Deep SAD; False lets every sample of a batch count alike.
        common: optimisation, preprocessing and threshold, as in :class:`OptimizedDetector`.

    Raises:
        ValueError: an argument outside its range, `bernoulli` for preprocessing that leaves [0, 1], or training data
            without a known anomaly.
    """

    needs_known_anomalies = True

    m2: VAE

    def __init__(
        self,
        hidden: Sequence[int] = (128, 64),
        latent_dim: int = 32,
        likelihood: Likelihood = "bernoulli",
        alpha: float = 0.1,
        separate_means: bool = False,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if not hidden or any(units < 1 for units in hidden):
            raise ValueError(f"hidden must name at least one layer of at least 1 unit, got {list(hidden)}")
        if latent_dim < 1:
            raise ValueError(f"latent_dim must be at least 1, got {latent_dim}")
        if likelihood not in LOG_LIKELIHOODS:
            raise ValueError(f"likelihood must be bernoulli or gaussian, got {likelihood!r}")
        if alpha < 0:
            raise ValueError(f"alpha must not be negative, got {alpha}")
        self.hidden = list(hidden)
        self.latent_dim = latent_dim
        self.likelihood = likelihood
        self.alpha = alpha
        self.separate_means = separate_means

    def objective(self, x: Tensor, logits: Tensor, known: Tensor, likelihood: Likelihood) -> Tensor:
        """M2's loss from its data (B, D), the classifier's log-odds (B,) and what is known of the samples (B,).

        Every sample goes through the VAE with either label, so that shapes do not depend on how many are labelled.
        """
        twice = x.repeat(2, 1)
        y = torch.eye(2, device=x.device).repeat_interleave(len(x), dim=0)  # normal for one half, anomaly for the other
        output, mean, scale = self.m2(twice, y)
        bounds = m2_bound(LOG_LIKELIHOODS[likelihood](twice, output), kl_from_standard(mean, scale))
        return m2_loss(bounds.view(2, -1).t(), logits, known, self.alpha, self.separate_means)


class SSDGM(M2Detector, EncoderDetector):
    """SS-DGM, M2 on the input: the encoder of the other methods with one logit classifies, a VAE explains the input.

    Args:
        common: generative model, as in :class:`M2Detector`; the classifier's networks, optimisation, preprocessing and
            threshold, as in :class:`EncoderDetector`.

    Raises:
        ValueError: an argument outside its range, `bernoulli` for preprocessing that leaves [0, 1], or training data
            without a known anomaly.
    """

    head: nn.Linear

    def __init__(self, **common: Any) -> None:
        super().__init__(**common)

    def build_head(self, shape: tuple[int, ...]) -> None:
        """The classifier's logit, and the VAE of flattened samples."""
        require_likelihood(self, self.likelihood)
        self.head = nn.Linear(self.rep_dim, 1)
        self.m2 = VAE(math.prod(shape), self.hidden, self.latent_dim, n_classes=2)

    def training_step(self, batch: TrainBatch, batch_idx: int) -> Tensor:
        """M2's loss of the batch."""
        x = self.preprocess(batch.x)
        return self.log_loss(self.objective(x.flatten(1), self.log_odds(x), batch.known, self.likelihood), batch)

    def log_odds(self, x: Tensor) -> Tensor:
        """log q(anomaly|x) - log q(normal|x), (B,), of preprocessed samples."""
        logits: Tensor = self.head(self.encoder(x))
        return logits.squeeze(1)

    def anomaly_score(self, x: Tensor) -> Tensor:
        """Log-odds (B,) of an anomaly: the ranking of q(anomaly|x) without its saturation at 1."""
        return self.log_odds(self.preprocess(x))


class StackedSSDGM(TwoPhaseDetector, M2Detector):
    """SS-DGM, M1+M2: an unsupervised VAE (M1) is trained first and left as it is; M2 works on its latent variable.

    Epochs 0 to `pretrain_epochs` - 1 train M1 on all training samples, without labels; then M2 and a classifier with
    one hidden layer are trained on samples of M1's latent variable until `trainer.max_epochs`, which counts both
    phases. Scores take M1's mean.

    Args:
        common: phases, as in :class:`TwoPhaseDetector`; both generative models, as in :class:`M2Detector`.

    Raises:
        ValueError: an argument outside its range, `bernoulli` for preprocessing that leaves [0, 1], training data
            without a known anomaly, or a `trainer.max_epochs` that ends within the first phase.
    """

    m1: VAE
    m1_is_trained: Tensor

    def __init__(self, **common: Any) -> None:
        super().__init__(**common)

    def build(self, shape: tuple[int, ...]) -> None:
        """M1 on flattened samples, M2 and the classifier on M1's latent variable."""
        require_likelihood(self, self.likelihood)
        self.m1 = VAE(math.prod(shape), self.hidden, self.latent_dim)
        self.m2 = VAE(self.latent_dim, self.hidden, self.latent_dim, n_classes=2)
        self.classifier = fully_connected((self.latent_dim, self.hidden[0], 1))
        self.register_buffer("m1_is_trained", torch.tensor(False))
        glorot_uniform_(self)

    def configure_optimizers(self) -> Any:
        """One optimiser with a group for each phase; the learning rate of the group whose phase it is not is 0."""
        second = [*self.m2.parameters(), *self.classifier.parameters()]
        optimizer = self.new_optimizer(
            [
                {"params": self.m1.parameters(), "lr": self.pretrain_lr, "weight_decay": self.pretrain_weight_decay},
                {"params": second, "lr": self.lr, "weight_decay": self.weight_decay},
            ]
        )
        factors: list[Callable[[int], float]] = [
            lambda epoch: self.learning_rate(epoch) / self.pretrain_lr if epoch < self.pretrain_epochs else 0.0,
            lambda epoch: self.learning_rate(epoch) / self.lr if epoch >= self.pretrain_epochs else 0.0,
        ]
        return {"optimizer": optimizer, "lr_scheduler": LambdaLR(optimizer, factors)}

    def on_train_epoch_start(self) -> None:
        """At the start of the second phase, note that M1 is trained."""
        super().on_train_epoch_start()
        if not self.pretraining and not self.m1_is_trained:
            self.trainer.optimizers[0].state.clear()  # of no use to M1; M2's hold zeros where several ranks train
            self.m1_is_trained.fill_(True)

    def training_step(self, batch: TrainBatch, batch_idx: int) -> Tensor:
        """M1's loss of the batch in the first phase, M2's in the second."""
        x = self.preprocess(batch.x).flatten(1)
        if self.pretraining:
            output, mean, scale = self.m1(x)
            log_likelihood = LOG_LIKELIHOODS[self.likelihood](x, output)
            loss = m1_loss(log_likelihood, kl_from_standard(mean, scale))
            idle = [self.m2, self.classifier]
        else:
            with torch.no_grad():
                latent = sample_gaussian(*self.m1.encode(x))
            loss = self.objective(latent, self.log_odds(latent), batch.known, "gaussian")
            idle = [self.m1]
        loss = self.log_loss(loss, batch)
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
