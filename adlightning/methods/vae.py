"""The convolutional VAE that ADGAN compares with (Kingma and Welling, ICLR 2014; ADGAN, Section 4)."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from adlightning.core.contracts import TrainBatch
from adlightning.methods.dcae import DCGANAutoencoder
from adlightning.methods.parts.inversion import starting_latents
from adlightning.methods.parts.likelihoods import LOG_LIKELIHOODS, Likelihood, kl_from_standard, require_likelihood
from adlightning.networks.dgm import MIN_SCALE, sample_gaussian
from adlightning.networks.gan import DCGANEncoder, DCGANGenerator


def negative_elbo(log_likelihood: Tensor, kl: Tensor) -> Tensor:
    """-ELBO (B,): KL(q(z|x) || p(z)) - E_q[log p(x|z)], from both terms (B,)."""
    return kl - log_likelihood


class VAE(DCGANAutoencoder):
    """ADGAN's VAE, unsupervised: trained on the negative evidence lower bound, which is also its score.

    q(z|x) = N(mean, diag(scale^2)), p(z) = N(0, I). Training takes one sample of z for each image. A score takes the
    mean of q(z|x), or `score_samples` samples that are drawn for each image by what is in it: both are the same in any
    batch.

    Args:
        likelihood: of the preprocessed input: `gaussian` of unit variance, or `bernoulli` (in [0, 1]); the paper does
            not say.
        score_samples: samples of z that a score is the mean of; 0 takes the mean of q(z|x) in their place.
        score_seed: seed of these samples.
        common: networks, as in :class:`DCGANAutoencoder`; optimisation, preprocessing and threshold, as in
            :class:`OptimizedDetector`.

    Raises:
        ValueError: an argument outside its range, `bernoulli` for preprocessing that leaves [0, 1], or images of a side
            that the network cannot make.
    """

    def __init__(
        self, likelihood: Likelihood = "gaussian", score_samples: int = 0, score_seed: int = 0, **common: Any
    ) -> None:
        super().__init__(**common)
        if likelihood not in LOG_LIKELIHOODS:
            raise ValueError(f"likelihood must be bernoulli or gaussian, got {likelihood!r}")
        if score_samples < 0:
            raise ValueError(f"score_samples must not be negative, got {score_samples}")
        if not 0 <= score_seed < 2**63:
            raise ValueError(f"score_seed must lie in [0, 2^63), got {score_seed}")
        self.likelihood = likelihood
        self.score_samples = score_samples
        self.score_seed = score_seed
        if score_samples:
            self.score_needs = f"samples drawn for each image by what is in it (score_samples: {score_samples})"

    def build(self, shape: tuple[int, ...]) -> None:
        """Encoder and decoder for images of this shape; the decoder gives logits, or means in the input's range."""
        require_likelihood(self, self.likelihood)
        output = "linear" if self.likelihood == "bernoulli" else self.preprocess.output
        self.encoder = DCGANEncoder(shape, 2 * self.latent_dim, self.width, self.kernel_size)
        self.decoder = DCGANGenerator(shape, self.latent_dim, self.width, self.kernel_size, output)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of q(z|x), each (B, latent_dim), of preprocessed images, in float32."""
        mean, scale = self.encoder(x).float().chunk(2, dim=1)
        return mean, F.softplus(scale) + MIN_SCALE

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x|z) (B,) of preprocessed images and latents (B, latent_dim)."""
        return LOG_LIKELIHOODS[self.likelihood](x.flatten(1), self.decoder(z).flatten(1))

    def training_step(self, batch: TrainBatch, batch_idx: int) -> Tensor:
        """Mean negative evidence lower bound of the batch, by one sample of z."""
        x = self.preprocess(batch.x)
        mean, scale = self.posterior(x)
        bound = self.log_likelihood(x, sample_gaussian(mean, scale))
        return self.log_loss(negative_elbo(bound, kl_from_standard(mean, scale)).mean(), batch)

    def anomaly_score(self, x: Tensor) -> Tensor:
        """Negative evidence lower bound (B,)."""
        prepared = self.preprocess(x)
        mean, scale = self.posterior(prepared)
        if not self.score_samples:
            bound = self.log_likelihood(prepared, mean)
        else:
            noise = starting_latents(x, self.score_samples, self.latent_dim, self.score_seed)
            by_sample = [self.log_likelihood(prepared, mean + scale * drawn) for drawn in noise.unbind(1)]
            bound = sum(by_sample[1:], by_sample[0]) / self.score_samples
        return negative_elbo(bound, kl_from_standard(mean, scale))
