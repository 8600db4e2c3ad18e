"""The convolutional VAE that ADGAN compares with (Kingma and Welling, ICLR 2014; ADGAN, Section 4)."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam
from torch.optim.lr_scheduler import MultiStepLR

from adlightning.core.contracts import TrainBatch
from adlightning.core.detector import AnomalyDetector
from adlightning.core.maps import Reduction
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
from adlightning.core.rules import not_negative, seed
from adlightning.core.thresholds import NormalQuantile, ThresholdRule
from adlightning.methods.parts.inversion import Inversion, LatentSearch, mean_over_seeds, starting_latents
from adlightning.methods.parts.likelihoods import require_likelihood
from adlightning.methods.parts.reconstruction_losses import ReconstructionLoss, SquaredError
from adlightning.networks.dgm import LOG_LIKELIHOODS, MIN_SCALE, Likelihood, kl_from_standard
from adlightning.networks.encoders import build_encoder, representation_size
from adlightning.networks.gan import DCGANEncoder, build_dcgan_decoder

Score = Literal["elbo", "inversion"]


def negative_elbo(log_likelihood: Tensor, kl: Tensor) -> Tensor:
    """-ELBO (B,): KL(q(z|x) || p(z)) - E_q[log p(x|z)], from both terms (B,)."""
    return kl - log_likelihood


class VAE(AnomalyDetector):
    """ADGAN's VAE, unsupervised: trained on the negative evidence lower bound, which is also its score.

    Or its decoder stands for ADGAN's generator, as Section 3.2 names it: the score is then what a search of latents and
    weights leaves, as :class:`ADGAN`'s.

    q(z|x) = N(mean, diag(scale^2)), p(z) = N(0, I). Training takes one sample of z for each image. A score takes the
    mean of q(z|x), or `score_samples` samples that are drawn for each image by what is in it: both are the same in any
    batch.

    Args:
        encoder: a class made for the shape of a preprocessed sample that gives (B, 2 d): the means of d latents, and
            what a softplus makes their scales of. None takes `DCGANEncoder`, for 256 latents, which the paper does not
            state.
        decoder: a class made for (d, shape, output). None takes the mirror image of a `DCGANEncoder`, or a DCGAN's
            generator for another encoder.
        likelihood: of the preprocessed input: `gaussian` of unit variance, or `bernoulli` (in [0, 1]); the paper does
            not say.
        score_type: `elbo`, the negative evidence lower bound; or `inversion`, ADGAN's search with the decoder as
            generator.
        search: how a latent is searched for each sample, of `inversion`.
        reconstruction: what that search minimises and its score is: `SquaredError`, `AbsoluteError`, `Huber` or
            `LaplacianPyramid`.
        score_samples: samples of z that a score by `elbo` is the mean of; 0 takes the mean of q(z|x) in their place.
        score_seed: seed of these samples.
        optimizer: of encoder and decoder.
        lr_scheduler: its schedule; null for a constant learning rate.
        lr_scheduler_interval: whether the schedule goes on after each `epoch` or each `step`.
        reduction: how a map of squared residuals becomes the score; null for the score above, the paper's.
        preprocessing: as in :class:`AnomalyDetector`.
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, `bernoulli` for preprocessing that leaves [0, 1], an encoder of an
            odd number of values, or images of a side that the networks cannot make.
    """

    uses_known_anomalies = False
    scoring_arguments: ClassVar = ("score_type", "search", "reconstruction", "score_samples", "score_seed", "reduction")
    argument_rules: ClassVar = {"score_samples": not_negative, "score_seed": seed}

    def __init__(
        self,
        encoder: EncoderFactory | None = None,
        decoder: DecoderFactory | None = None,
        likelihood: Likelihood = "gaussian",
        score_type: Score = "elbo",
        search: LatentSearch = LatentSearch(),
        reconstruction: ReconstructionLoss = SquaredError(),
        score_samples: int = 0,
        score_seed: int = 0,
        optimizer: OptimizerFactory = partial(Adam, lr=1e-4, weight_decay=1e-6),
        lr_scheduler: SchedulerFactory | None = partial(MultiStepLR, milestones=[50]),
        lr_scheduler_interval: Interval = "epoch",
        reduction: Reduction | None = None,
        preprocessing: PreprocessingFactory | None = None,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__(preprocessing, threshold)
        self.reduction = reduction
        self.make_encoder = encoder_part("encoder", encoder)
        self.make_decoder = decoder_part("decoder", decoder)
        self.likelihood: Likelihood = likelihood
        self.score_type = score_type
        self.search = search
        self.reconstruction = reconstruction
        self.score_samples = score_samples
        self.score_seed = score_seed
        self.make_optimizer = optimizer_part("optimizer", optimizer)
        self.make_scheduler = scheduler_part("lr_scheduler", lr_scheduler)
        self.lr_scheduler_interval = lr_scheduler_interval
        if score_type == "inversion":
            self.score_needs = "a search by gradients for each sample"
        elif score_samples:
            self.score_needs = f"samples drawn for each image by what is in it (score_samples: {score_samples})"

    def build(self, shape: tuple[int, ...]) -> None:
        """Encoder and decoder; the decoder gives logits, or means in the input's range."""
        require_likelihood(self, self.likelihood)
        self.encoder = build_encoder(self.make_encoder or partial(DCGANEncoder, code_dim=512), shape)
        size = representation_size(self.encoder, shape)
        if size % 2:
            raise ValueError(f"encoder must give means and scales, an even number of values, got {size}")
        output = "linear" if self.likelihood == "bernoulli" else self.preprocess.output
        self.decoder = build_dcgan_decoder(self.make_decoder, self.encoder, size // 2, shape, output)
        self.inversion = Inversion(self.search, size // 2, self.reconstruction)
        if self.score_type == "inversion":
            self.reconstruction.require_shape(shape)
            self.inversion.require_batchable(self.generator())

    def generator(self) -> nn.Module:
        """The decoder, latents (B, d) to images in the range of the preprocessed input."""
        return nn.Sequential(self.decoder, nn.Sigmoid()) if self.likelihood == "bernoulli" else self.decoder

    def configure_optimizers(self) -> Any:
        """One optimiser over everything."""
        return one_optimizer(self.parameters(), self.make_optimizer, self.make_scheduler, self.lr_scheduler_interval)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of q(z|x), each (B, d), of preprocessed images, in float32."""
        mean, scale = self.encoder(x).float().chunk(2, dim=1)
        return mean, F.softplus(scale) + MIN_SCALE

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x|z) (B,) of preprocessed images and latents (B, d)."""
        return LOG_LIKELIHOODS[self.likelihood](x.flatten(1), self.decoder(z).flatten(1))

    def training_step(self, batch: TrainBatch, batch_idx: int) -> Tensor:
        """Mean negative evidence lower bound of the batch, by one sample of z."""
        x = self.preprocess(batch.x)
        mean, scale = self.posterior(x)
        bound = self.log_likelihood(x, mean + scale * torch.randn_like(mean))
        return negative_elbo(bound, kl_from_standard(mean, scale)).mean()

    def reconstructions(self, x: Tensor) -> Tensor:
        """What the decoder makes of the mean latents of raw images, (B, C, H, W), in the preprocessed range."""
        images: Tensor = self.generator()(self.posterior(self.preprocess(x))[0])
        return images

    def anomaly_score(self, x: Tensor) -> Tensor:
        """Negative evidence lower bound (B,); or the mean over the seeds of what the search leaves."""
        if self.reduction is not None:
            return self.reduction.reduce(self.anomaly_map(x))
        prepared = self.preprocess(x)
        if self.score_type == "inversion":
            return mean_over_seeds(self.inversion(self.generator(), x, prepared)[1], self.search.n_seeds)
        mean, scale = self.posterior(prepared)
        if not self.score_samples:
            bound = self.log_likelihood(prepared, mean)
        else:
            noise = starting_latents(x, self.score_samples, mean.shape[1], self.score_seed)
            by_sample = [self.log_likelihood(prepared, mean + scale * drawn) for drawn in noise.unbind(1)]
            bound = sum(by_sample[1:], by_sample[0]) / self.score_samples
        return negative_elbo(bound, kl_from_standard(mean, scale))
