"""A VAE as a density of images: a bound on the probability of 256 values a channel (Kingma and Welling, ICLR 2014)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adlightning.networks.density import LEVELS
from adlightning.networks.dgm import MIN_SCALE, kl_from_standard
from adlightning.networks.gan import DCGANEncoder
from adlightning.networks.mlp import check_positive

WIDTH_OF_LEVEL = 1 / (LEVELS - 1)
DRAWS_SEED = 0


def log_probability_of_level(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """log P of values k / 255 under a logistic distribution, rounded to them; what lies beyond goes to 0 and to 1.

    Kingma et al., "Improved variational inference with inverse autoregressive flow" (NeurIPS 2016), Section 5.2.

    Args:
        x: values in [0, 1].
        mean: of the logistic distribution, of the shape of x.
        log_scale: logarithm of its scale, broadcast.
    """
    inverse = torch.exp(-log_scale)
    above = (x - mean + WIDTH_OF_LEVEL / 2) * inverse
    below = (x - mean - WIDTH_OF_LEVEL / 2) * inverse
    # s(a) - s(b) = s(a) s(-b) (1 - exp(b - a)), and a - b is a level's width over the scale
    within = F.logsigmoid(above) + F.logsigmoid(-below) + torch.log(-torch.expm1(-WIDTH_OF_LEVEL * inverse))
    lowest, highest = x < WIDTH_OF_LEVEL / 2, x > 1 - WIDTH_OF_LEVEL / 2
    return torch.where(lowest, F.logsigmoid(above), torch.where(highest, F.logsigmoid(-below), within))


class VAEDensity(nn.Module):
    """Square images (B, C, S, S) in [0, 1] to a lower bound (B,) on their natural log-probabilities.

    DCGAN's encoder gives q(z|x) = N(mean, diag(scale^2)), its generator the mean of p(x|z), a rounded logistic
    distribution with a learned scale for each value. In training mode the bound is the ELBO by one sample of z, in
    eval mode IWAE's (Burda et al., ICLR 2016), log (1/K) sum p(x, z) / q(z|x), by draws that are the same for every
    image.

    Args:
        shape: (C, S, S) of the images.
        latent_dim: dimension of z, whose prior is N(0, I).
        width: of the networks, as in :class:`DCGANEncoder`.
        samples: K, draws of a score; 16 in the code of Choi et al. (2018).

    Raises:
        ValueError: images that the networks do not take, or sizes below 1.
    """

    draws: Tensor

    def __init__(self, shape: tuple[int, ...], latent_dim: int = 64, width: int = 64, samples: int = 16) -> None:
        super().__init__()
        check_positive("latent_dim", (latent_dim,))
        check_positive("samples", (samples,))
        self.encoder = DCGANEncoder(shape, code_dim=2 * latent_dim, width=width)
        self.decoder = self.encoder.mirrored("sigmoid", latent_dim)
        self.log_scale = nn.Parameter(torch.full(shape, math.log(0.1)))
        draws = torch.randn(samples, 1, latent_dim, generator=torch.Generator().manual_seed(DRAWS_SEED))
        self.register_buffer("draws", draws)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and scale of q(z|x), each (B, latent_dim)."""
        mean, raw = self.encoder(x).float().chunk(2, dim=1)
        return mean, F.softplus(raw) + MIN_SCALE

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x|z) (B,) of images and latents (B, latent_dim)."""
        levels = log_probability_of_level(x.float(), self.decoder(z).float(), self.log_scale.float())
        return levels.flatten(1).sum(dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """The bound (B,)."""
        mean, scale = self.posterior(x)
        if self.training:
            z = mean + scale * torch.randn_like(mean)
            return self.log_likelihood(x, z) - kl_from_standard(mean, scale)
        bounds = []
        for draw in self.draws.unbind():
            z = mean + scale * draw
            of_prior_and_posterior = (draw.square() - z.square()).sum(dim=1) / 2 + scale.log().sum(dim=1)
            bounds.append(self.log_likelihood(x, z) + of_prior_and_posterior)
        return torch.logsumexp(torch.stack(bounds), dim=0) - math.log(len(bounds))

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Images (n, C, S, S) of the 256 values k / 255; the same ones for the same state of the generator."""
        device = torch.device("cpu") if generator is None else generator.device
        z = torch.randn(n, self.draws.shape[2], generator=generator, device=device).to(self.draws)
        mean = self.decoder(z).float()
        noise = torch.rand(mean.shape, generator=generator, device=device).to(mean)
        drawn = mean + torch.exp(self.log_scale.float()) * torch.logit(noise, eps=1e-6)
        return torch.round(drawn.clamp(0, 1) * (LEVELS - 1)) / (LEVELS - 1)
