"""ADGAN: how well a GAN of normal samples can reproduce a sample (Deecke et al., ECML-PKDD 2018)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

from torch import Tensor

from adlightning.methods.parts.inversion import Inversion
from adlightning.methods.parts.searching import SearchingDetector, mean_over_seeds

Score = Literal["inversion", "critic", "prior"]


def prior_surprise(latents: Tensor) -> Tensor:
    """||z||^2 / 2 (N,) of latents (N, d): -log p(z) under N(0, I) without its constant."""
    return latents.float().square().sum(dim=1) / 2


class ADGAN(SearchingDetector):
    """A WGAN of the normal samples, and for each sample a search for the latent and the weights that reproduce it.

    From each of `n_seeds` random latents, and with a copy of the generator of its own, k steps of Adam move latent and
    weights down ||G(z) - x||^2; the score is the mean over the seeds of that distance in the end.

    Args:
        n_seeds: starting latents for each sample; 8 in the paper, and 1 in its comparison.
        n_steps: k, steps of the search; 5 in the paper, 100 in its pictures.
        lr_latent: learning rate of the latents in the search.
        lr_weights: learning rate of the copies of the generator; 0 leaves the generator as it is (`gamma_theta=0`).
        search_betas: Adam's betas in the search.
        alternating: the latent is moved first and the weights then, in place of both at once (Algorithm 1).
        score_type: `inversion`; or what the paper tries and rejects: `critic`, the negative of the critic's value, or
            `prior`, how unlikely the latents are that the search ends at.
        common: seed and chunks of the search, as in :class:`SearchingDetector`; the GAN and its training, as in
            :class:`WGANDetector`; preprocessing and threshold, as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, or images of a side that the network cannot make.
    """

    def __init__(
        self,
        n_seeds: int = 8,
        n_steps: int = 5,
        lr_latent: float = 0.25,
        lr_weights: float = 5e-5,
        search_betas: Sequence[float] = (0.5, 0.999),
        alternating: bool = False,
        score_type: Score = "inversion",
        **common: Any,
    ) -> None:
        super().__init__(n_seeds=n_seeds, n_steps=n_steps, lr_latent=lr_latent, **common)
        if not 0 <= lr_weights < math.inf:
            raise ValueError(f"lr_weights must not be negative and be finite, got {lr_weights}")
        if len(search_betas) != 2 or not all(0 <= beta < 1 for beta in search_betas):
            raise ValueError(f"search_betas must be two numbers in [0, 1), got {list(search_betas)}")
        if score_type not in get_args(Score):
            raise ValueError(f"score_type must be one of {', '.join(get_args(Score))}, got {score_type!r}")
        self.lr_weights = lr_weights
        self.search_betas = list(search_betas)
        self.alternating = alternating
        self.score_type = score_type
        if score_type == "critic":
            self.score_needs = None

    def inversion(self) -> Inversion:
        """Of latents and weights."""
        betas = (self.search_betas[0], self.search_betas[1])
        return Inversion(self.n_steps, self.lr_latent, self.lr_weights, betas, self.alternating)

    def anomaly_score(self, x: Tensor) -> Tensor:
        """Mean over the seeds (B,) of ||G(z_k) - x||^2, or one of the other scores."""
        if self.score_type == "critic":
            values: Tensor = self.critic(self.preprocess(x))
            return -values.float()
        if self.score_type == "prior":
            return mean_over_seeds(prior_surprise(self.search(x)[0]), self.n_seeds)
        return super().anomaly_score(x)
