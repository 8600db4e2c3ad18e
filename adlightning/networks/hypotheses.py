"""Networks of ConAD (Nguyen et al., ICML 2019): a decoder of several hypotheses, and a discriminator of groups.

Both are a DCGAN's, which the paper names; their sizes are ours.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adlightning.networks.gan import ACTIVATIONS, DCGANCritic, DCGANGenerator, square_side, stages
from adlightning.networks.mlp import Output, check_positive


class HypothesesDecoder(nn.Module):
    """Latents (B, latent_dim) to H hypotheses of the image each: means and scales, both (B, H, C, S, S).

    A DCGAN's generator. Hypotheses share every layer but the last.

    Args:
        latent_dim: dimension of the latents.
        shape: (C, S, S) of an image.
        output: the means' range.
        n_hypotheses: H.
        width: channels of the last feature map.
        learnt_scale: each value of a hypothesis has a standard deviation of its own; else all are 1.
        min_scale: the least standard deviation that is learnt.

    Raises:
        ValueError: images that are not square or of a side it cannot make, a size below 1, or a scale that is not
            positive.
    """

    def __init__(
        self,
        latent_dim: int,
        shape: tuple[int, ...],
        output: Output = "tanh",
        n_hypotheses: int = 16,
        width: int = 64,
        learnt_scale: bool = True,
        min_scale: float = 0.1,
    ) -> None:
        super().__init__()
        side = square_side(shape)
        check_positive("n_hypotheses", (n_hypotheses,))
        if not min_scale > 0:
            raise ValueError(f"min_scale must be positive, got {min_scale}")
        self.n_hypotheses, self.learnt_scale, self.min_scale = n_hypotheses, learnt_scale, min_scale
        n_maps = n_hypotheses * shape[0] * (2 if learnt_scale else 1)
        self.layers = DCGANGenerator(latent_dim, (n_maps, side, side), "linear", width).layers
        self.activation = ACTIVATIONS[output]()

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Means and scales."""
        maps = self.layers(z[:, :, None, None]).unflatten(1, (self.n_hypotheses, -1))
        if not self.learnt_scale:
            means: Tensor = self.activation(maps)
            return means, torch.ones_like(means)
        means, scales = maps.chunk(2, dim=2)
        return self.activation(means), F.softplus(scales) + self.min_scale


class GroupDiscriminator(nn.Module):
    """Groups of images (N, K, C, S, S) to a logit for each image (N, K), high for the data's.

    A DCGAN's discriminator, whose last layer also sees how close an image is to the others of its group: hypotheses of
    one image that are alike are told from images of the data, which are not.

    Args:
        shape: (C, S, S) of an image.
        width: channels of the first feature map.
        n_kernels: number of projections in which closeness is measured; 0 looks at each image alone.
        kernel_dim: dimension of each.

    Raises:
        ValueError: images that are not square or of a side it does not take, or a size out of its range.
    """

    def __init__(self, shape: tuple[int, ...], width: int = 64, n_kernels: int = 50, kernel_dim: int = 5) -> None:
        super().__init__()
        check_positive("kernel_dim", (kernel_dim,))
        if n_kernels < 0:
            raise ValueError(f"n_kernels must not be negative, got {n_kernels}")
        first, doublings = stages(square_side(shape))
        n_features = width * 2 ** (doublings - 1) * first**2
        self.features = nn.Sequential(DCGANCritic(shape, width=width).features, nn.Flatten())
        self.projection = nn.Linear(n_features, n_kernels * kernel_dim, bias=False) if n_kernels else None
        self.kernel_dim = kernel_dim
        self.last = nn.Linear(n_features + n_kernels, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, K)."""
        features: Tensor = self.features(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        if self.projection is not None:
            projected = self.projection(features).unflatten(2, (-1, self.kernel_dim))
            features = torch.cat([features, closeness(projected)], dim=2)
        logits: Tensor = self.last(features)
        return logits.squeeze(2)


def closeness(projected: Tensor) -> Tensor:
    """Sum over the others of a group of exp(-||M_i - M_j||_1), (N, K, b), of projections (N, K, b, d).

    Salimans et al., "Improved techniques for training GANs" (NeurIPS 2016), Section 3.2.
    """
    distances = (projected[:, :, None] - projected[:, None]).abs().sum(dim=4)
    return torch.exp(-distances).sum(dim=2) - 1  # an image is no other of its group
