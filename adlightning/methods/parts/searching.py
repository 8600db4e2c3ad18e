"""What ADGAN and AnoGAN share: a WGAN of the normal samples that is searched for each sample to be scored."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from adlightning.core.faults import PartSize
from adlightning.methods.parts.inversion import Inversion, pairs_that_fit, starting_latents
from adlightning.methods.parts.wgan import WGANDetector


def mean_over_seeds(values: Tensor, n_seeds: int) -> Tensor:
    """Scores (B,) from the values (B n_seeds,) of a sample's seeds, which follow one another: Algorithm 1, line 9."""
    return values.view(-1, n_seeds).mean(dim=1)


class SearchingDetector(WGANDetector):
    """A WGAN that is searched, from random latents, for what reproduces a sample.

    A sample's score does not depend on its batch: its starting latents are drawn by what is in it.

    Args:
        n_seeds: starting latents for each sample.
        n_steps: steps of Adam in the search.
        lr_latent: learning rate of the latents.
        search_seed: seed of the starting latents.
        chunk_size: pairs of a sample and a seed that are searched at a time; null takes what half of the free memory
            holds. No score depends on it.
        common: the GAN and its training, as in :class:`WGANDetector`; preprocessing and threshold, as in
            :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, or images of a side that the network cannot make.
    """

    score_needs: str | None = "a search by gradients for each sample"

    def __init__(
        self,
        n_seeds: int,
        n_steps: int,
        lr_latent: float,
        search_seed: int = 0,
        chunk_size: int | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        for name, value in (("n_seeds", n_seeds), ("chunk_size", 1 if chunk_size is None else chunk_size)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if n_steps < 0:
            raise ValueError(f"n_steps must not be negative, got {n_steps}")
        if not 0 < lr_latent < math.inf:
            raise ValueError(f"lr_latent must be positive and finite, got {lr_latent}")
        if not 0 <= search_seed < 2**63:
            raise ValueError(f"search_seed must lie in [0, 2^63), got {search_seed}")
        self.n_seeds = n_seeds
        self.n_steps = n_steps
        self.lr_latent = lr_latent
        self.search_seed = search_seed
        self.chunk_size = chunk_size
        self._chunk = PartSize("model.chunk_size")

    @abstractmethod
    def inversion(self) -> Inversion:
        """The search, with its settings."""

    def search(self, x: Tensor, n_seeds: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Final latents (B n_seeds, d), losses (B n_seeds,) and images of raw samples (B, ...), seed by seed.

        From the first `n_seeds` starting latents; None takes all of the detector's.
        """
        n_seeds = n_seeds or self.n_seeds
        prepared = self.preprocess(x)
        starts = starting_latents(x, n_seeds, self.latent_dim, self.search_seed).flatten(0, 1)
        inversion = self.inversion()
        copied = inversion.lr_weights > 0
        chunk_size = self.chunk_size or pairs_that_fit(self.generator, prepared[:1].numel(), x.device, copied)
        pairs = prepared.repeat_interleave(n_seeds, dim=0)
        return self._chunk.run(lambda n: inversion(self.generator, pairs, starts, n), chunk_size)

    def anomaly_score(self, x: Tensor) -> Tensor:
        """Mean over the seeds (B,) of the loss where the search ends."""
        return mean_over_seeds(self.search(x)[1], self.n_seeds)

    def filmstrip(self, x: Tensor) -> Tensor:
        """What the first seed's search makes of raw samples before and after each step, (B, steps + 1, C, H, W)."""
        frames: list[Tensor] = []
        starts = starting_latents(x, 1, self.latent_dim, self.search_seed).flatten(0, 1)
        self.inversion()(self.generator, self.preprocess(x), starts, len(x), lambda _, images: frames.append(images))
        return torch.stack(frames, dim=1)

    def generated(self, n: int) -> Tensor:
        """Images (n, C, H, W) of random latents, the same ones every time, in the preprocessed range."""
        latents = torch.randn(n, self.latent_dim, generator=torch.Generator().manual_seed(self.search_seed))
        images: Tensor = self.generator(latents.to(self.device))
        return images

    def reconstructions(self, x: Tensor) -> Tensor:
        """What the first seed's search makes of raw samples, (B, C, H, W), in the preprocessed range."""
        return self.search(x, n_seeds=1)[2]
