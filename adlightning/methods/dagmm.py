"""DAGMM: an autoencoder and a Gaussian mixture of its codes and errors, trained together (Zong et al., ICLR 2018)."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.optim import Adam

from adlightning.core.contracts import TrainBatch
from adlightning.core.detector import AnomalyDetector
from adlightning.core.optimization import Interval, one_optimizer, optimizer_part, scheduler_part
from adlightning.core.parts import (
    DecoderFactory,
    EncoderFactory,
    OptimizerFactory,
    PreprocessingFactory,
    SchedulerFactory,
    decoder_part,
    encoder_part,
)
from adlightning.core.rules import at_least, not_negative, positive
from adlightning.core.thresholds import NormalQuantile, ThresholdRule
from adlightning.networks.dagmm import DAGMMEncoder, EstimationNetwork
from adlightning.networks.encoders import WeightInit, build_decoder, build_encoder, representation_size
from adlightning.networks.initialisation import start_weights_
from adlightning.networks.logits import build_logits

SMALLEST = 1e-6  # of norms, by which distances are divided


TABLE_ENCODER = partial(DAGMMEncoder, dense=(32, 16), rep_dim=4)
"""What serves tables of one's own best (docs/defaults.md)."""


class Mixture(NamedTuple):
    """Weights phi (K,), means mu (K, d) and covariances Sigma (K, d, d) of a Gaussian mixture."""

    weights: Tensor
    means: Tensor
    covariances: Tensor


def reconstruction_features(x: Tensor, reconstruction: Tensor) -> Tensor:
    """z_r (B, 2) of samples (B, ...): ||x - x'|| / ||x|| and the cosine of the angle between x and x' (Section 3.2)."""
    x, other = x.flatten(1), reconstruction.flatten(1)
    norm = x.norm(dim=1).clamp_min(SMALLEST)
    distance = (x - other).norm(dim=1) / norm
    cosine = (x * other).sum(dim=1) / (norm * other.norm(dim=1).clamp_min(SMALLEST))
    return torch.stack([distance, cosine], dim=1)


def fit_mixture(z: Tensor, memberships: Tensor) -> Mixture:
    """The mixture of features (N, d) by their memberships gamma (N, K), each row of which sums to 1 (equation 5)."""
    total = memberships.sum(dim=0)
    shares = memberships / total.clamp_min(torch.finfo(z.dtype).tiny)
    means = shares.T @ z
    centred = z[:, None] - means
    return Mixture(total / len(z), means, torch.einsum("nk,nki,nkj->kij", shares, centred, centred))


def inverse_factors(covariances: Tensor, jitter: float) -> Tensor:
    """W (K, d, d) with W' W = (Sigma + e I)^-1, lower triangular.

    e is `jitter`, times the largest variance of a component where that is more than 1: it stays above the rounding of
    the covariances. A matrix that is singular all the same gives NaN, without a host synchronisation.
    """
    eye = torch.eye(covariances.shape[1], dtype=covariances.dtype, device=covariances.device)
    factors, failed = torch.linalg.cholesky_ex(covariances + jitter_of(covariances, jitter)[:, None, None] * eye)
    inverse = torch.linalg.solve_triangular(factors, eye.expand_as(factors), upper=False)
    return torch.where(failed[:, None, None] == 0, inverse, math.nan)


def jitter_of(covariances: Tensor, jitter: float) -> Tensor:
    """What is added to each component's variances, (K,)."""
    return jitter * covariances.detach().diagonal(dim1=1, dim2=2).amax(dim=1).clamp_min(1)


def sample_energy(z: Tensor, weights: Tensor, means: Tensor, factors: Tensor) -> Tensor:
    """E(z) (B,), the negative log-likelihood of features (B, d) under the mixture (equation 6).

    Args:
        z: features (B, d).
        weights: phi (K,).
        means: mu (K, d).
        factors: W (K, d, d) of :func:`inverse_factors`.
    """
    whitened = torch.einsum("kij,bkj->bki", factors, z[:, None] - means)
    log_roots = factors.diagonal(dim1=1, dim2=2).log().sum(dim=1)  # -1/2 log |Sigma|
    log_weights = weights.clamp_min(torch.finfo(z.dtype).tiny).log()
    constant = log_weights + log_roots - z.shape[1] / 2 * math.log(2 * math.pi)
    return -(constant - whitened.square().sum(dim=2) / 2).logsumexp(dim=1)


def variance_penalty(covariances: Tensor, jitter: float) -> Tensor:
    """P(Sigma): the sum of 1 / variance over components and dimensions (Section 3.4)."""
    variances = covariances.diagonal(dim1=1, dim2=2)
    return (1 / (variances + jitter_of(covariances, jitter)[:, None])).sum()


class DAGMM(AnomalyDetector):
    """DAGMM, unsupervised: the score is a sample's energy under a Gaussian mixture of codes and reconstruction errors.

    z of a sample is its code, the relative Euclidean distance of its reconstruction, and their cosine. An estimation
    network gives the memberships of z in the mixture's components, from which a batch's mixture follows in closed form.
    The loss is the mean squared norm of x - x', plus `energy_weight` times the mean energy of the batch, plus
    `variance_weight` times the sum of inverse variances (equation 7). After the last step the mixture is that of the
    whole training set, in eval mode, and stays.

    Args:
        encoder: a class made for the shape of a preprocessed sample that gives (B, d). None takes `DAGMMEncoder` with
            the paper's sizes for arrhythmia on tables, LeNet on images, an LSTM on series.
        decoder: a class made for (d, shape, output); None takes the encoder's mirror image.
        estimation: the estimation network, a class made for the shape (d + 2,) of z. One that takes `n_outputs` ends in
            the components' logits by itself; on any other a linear layer is put. None takes `EstimationNetwork`.
        n_components: Gaussians of the mixture, K: 2 in the paper for thyroid and arrhythmia, 4 for KDDCUP.
        energy_weight: lambda_1.
        variance_weight: lambda_2.
        jitter: added to variances, so that covariances can be inverted; the paper does not say what it does. It is
            multiplied by a component's largest variance where that is more than 1.
        weight_init: of our own networks, `glorot` (uniform) or `framework`; the paper does not say.
        optimizer: of all networks.
        lr_scheduler: its schedule; null for a constant learning rate.
        lr_scheduler_interval: whether the schedule goes on after each `epoch` or each `step`.
        preprocessing: as in :class:`AnomalyDetector`.
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, or networks that do not fit the data.
    """

    uses_known_anomalies = False
    fits_at_end = True
    argument_rules: ClassVar = {
        "n_components": at_least(1),
        "energy_weight": not_negative,
        "variance_weight": not_negative,
        "jitter": positive,
    }
    weights: Tensor
    means: Tensor
    factors: Tensor

    def __init__(
        self,
        encoder: EncoderFactory | None = None,
        decoder: DecoderFactory | None = None,
        estimation: EncoderFactory | None = None,
        n_components: int = 2,
        energy_weight: float = 0.1,
        variance_weight: float = 0.005,
        jitter: float = 1e-6,
        weight_init: WeightInit = "glorot",
        optimizer: OptimizerFactory = partial(Adam, lr=1e-3),
        lr_scheduler: SchedulerFactory | None = None,
        lr_scheduler_interval: Interval = "epoch",
        preprocessing: PreprocessingFactory | None = None,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__(preprocessing, threshold)
        self.make_encoder = encoder_part("encoder", encoder)
        self.make_decoder = decoder_part("decoder", decoder)
        self.make_estimation = encoder_part("estimation", estimation)
        self.n_components = n_components
        self.energy_weight = energy_weight
        self.variance_weight = variance_weight
        self.jitter = jitter
        self.weight_init = weight_init
        self.make_optimizer = optimizer_part("optimizer", optimizer)
        self.make_scheduler = scheduler_part("lr_scheduler", lr_scheduler)
        self.lr_scheduler_interval = lr_scheduler_interval
        self._n_singular = 0

    # ---- construction ---------------------------------------------------------------------------------------------

    def build(self, shape: tuple[int, ...]) -> None:
        """Compression and estimation networks, and room for the mixture."""
        self.encoder = build_encoder(self.make_encoder, shape, of_tables=TABLE_ENCODER)
        self.decoder = build_decoder(self.make_decoder, self.encoder, shape, self.preprocess.output)
        d, k = representation_size(self.encoder, shape) + 2, self.n_components
        self.estimation = build_logits(self.make_estimation or EstimationNetwork, (d,), k)
        start_weights_(self, self.weight_init)
        self.register_buffer("weights", torch.full((k,), math.nan))
        self.register_buffer("means", torch.full((k, d), math.nan))
        self.register_buffer("factors", torch.full((k, d, d), math.nan))

    def configure_optimizers(self) -> Any:
        """One optimiser over everything."""
        return one_optimizer(self.parameters(), self.make_optimizer, self.make_scheduler, self.lr_scheduler_interval)

    # ---- training -------------------------------------------------------------------------------------------------

    def compress(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z (B, d + 2) of preprocessed samples, and their reconstructions (B, ...), in float32."""
        code = self.encoder(x)
        reconstruction = self.decoder(code).float()
        return torch.cat([code.float(), reconstruction_features(x.float(), reconstruction)], dim=1), reconstruction

    def training_step(self, batch: TrainBatch, batch_idx: int) -> dict[str, Tensor]:
        """Equation 7, with the mixture of the batch."""
        x = self.preprocess(batch.x)
        z, reconstruction = self.compress(x)
        memberships = self.estimation(z).float().softmax(dim=1)
        with torch.autocast(z.device.type, enabled=False):
            mixture = fit_mixture(z, memberships)
            factors = inverse_factors(mixture.covariances, self.jitter)
            energy = sample_energy(z, mixture.weights, mixture.means, factors).mean()
            penalty = variance_penalty(mixture.covariances, self.jitter)
        error = (reconstruction - x.float()).square().flatten(1).sum(dim=1).mean()
        loss = error + self.energy_weight * energy + self.variance_weight * penalty
        return {"loss": loss, "reconstruction_error": error.detach(), "energy": energy.detach()}

    # ---- the mixture of the training set --------------------------------------------------------------------------

    def fit_on_training_data(self) -> None:
        """The mixture of all training samples, by the memberships that the estimation network gives them."""
        features, memberships = [], []
        with self.trainer.precision_plugin.forward_context():
            for x in self.normal_data():
                z, _ = self.compress(self.preprocess(x))
                features.append(z.cpu())
                memberships.append(self.estimation(z).float().softmax(dim=1).cpu())
        # on the host: not every device has float64
        mixture = fit_mixture(torch.cat(features).double(), torch.cat(memberships).double())
        added = jitter_of(mixture.covariances, self.jitter)
        self._n_singular = int((torch.linalg.eigvalsh(mixture.covariances)[:, 0] < added).sum())
        self.weights.copy_(mixture.weights)
        self.means.copy_(mixture.means)
        self.factors.copy_(inverse_factors(mixture.covariances, self.jitter))

    def forget_fit(self) -> None:
        """No mixture."""
        self.factors.fill_(math.nan)

    def remarks(self) -> list[str]:
        """How many covariances are singular but for the jitter."""
        n = self._n_singular
        what = f"{n} of {self.n_components} covariances are singular but for model.jitter={self.jitter:g}"
        return [what] if n else []

    # ---- scores ---------------------------------------------------------------------------------------------------

    def ready_to_score(self) -> bool:
        """Once the mixture is that of the training set."""
        return bool(self.factors.isfinite().all())

    def anomaly_score(self, x: Tensor) -> Tensor:
        """Energies (B,): negative log-likelihoods of z under the mixture of the training set."""
        z, _ = self.compress(self.preprocess(x))
        with torch.autocast(z.device.type, enabled=False):
            return sample_energy(z, self.weights, self.means, self.factors)
