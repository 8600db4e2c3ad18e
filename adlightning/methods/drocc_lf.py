"""DROCC-LF: DROCC-OE in a shell whose distance weighs features by their influence (Section 4, Proposition 1)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Adam
from torch.optim.lr_scheduler import MultiStepLR

from adlightning.core.optimization import Interval
from adlightning.core.parts import EncoderFactory, OptimizerFactory, PreprocessingFactory, SchedulerFactory
from adlightning.core.thresholds import NormalQuantile, ThresholdRule
from adlightning.methods.drocc import DROCC, OWN_ASCENT, Noise, Radius, Selection
from adlightning.methods.parts.ascent import Ascent
from adlightning.methods.parts.head import Head
from adlightning.networks.encoders import WeightInit

Search = Literal["grid", "random40"]

_ROUNDS, _POINTS = 5, 8  # 40 multipliers, as many as the released code draws; each round zooms in 8 times
_RANDOM_DRAWS = 40


def influence(logits_of: Callable[[Tensor], Tensor], x: Tensor, coupled: bool = False) -> Tensor:
    """Weights sigma (B, D) of the D features of each sample: |df / dx_j|, scaled to a mean of 1.

    The released code takes the gradient of the loss towards label 1, which is that of f times a number for each sample:
    the same once scaled, unless batch statistics couple the samples; `coupled` then takes the loss. A sample whose
    gradient is zero gets weights of 1, the Euclidean distance. Source: below equation 2.
    """
    x = x.detach().requires_grad_()
    logits = logits_of(x).float()
    (gradient,) = torch.autograd.grad((F.softplus(-logits) if coupled else logits).sum(), x)
    sigma = gradient.flatten(1).abs()
    total = sigma.sum(dim=1, keepdim=True)
    return torch.where(total > 0, sigma * (sigma.shape[1] / torch.where(total > 0, total, 1.0)), 1.0)


def mahalanobis_norm(h: Tensor, sigma: Tensor) -> Tensor:
    """sqrt(sum_j sigma_j h_j^2) of offsets (..., D), as (..., 1): equation 2.

    sigma is a factor, as in Proposition 1 (docs/methods/drocc_lf.md, R17).
    """
    return (sigma * h.square()).sum(dim=-1, keepdim=True).sqrt()


def project_to_mahalanobis_shell(
    h: Tensor, sigma: Tensor, radius: float, gamma: float, search: Search = "grid"
) -> Tensor:
    """The points nearest (in L2) to offsets h (B, D) with radius <= ||h||_sigma <= gamma radius: Proposition 1.

    The projection of an offset outside is h_j / (1 + tau sigma_j), with tau < 0 for one that is too close and tau > 0
    for one too far; the larger |tau|, the further from h, and the further into the shell. So the nearest allowed point
    has the smallest |tau| that reaches it.

    Args:
        h: offsets (B, D).
        sigma: weights (B, D), not negative, of mean 1.
        radius: inner radius r.
        gamma: outer over inner radius, at least 1.
        search: `grid` tries 40 multipliers, eight at a time, between the last that fails and the first that succeeds,
            and ends within 0.05 % of the shell's border. `random40` is the released code's: the best of 40 uniform
            draws; an offset for which none succeeds stays outside.
    """
    distance = mahalanobis_norm(h, sigma)
    is_close, is_inside = distance < radius, (distance >= radius) & (distance <= gamma * radius)
    lengths, border = torch.where(distance > 0, distance, 1.0), torch.where(is_close, radius, gamma * radius)
    largest = sigma.max(dim=1, keepdim=True).values
    # too close: tau = -(1 - q) / max sigma; the distance grows as q falls from 1 to its limit
    limit = (1e-4 * sigma.min(dim=1, keepdim=True).values * largest).clamp(1e-6, 0.5)
    limit = torch.where(is_close, limit, 1e-6)
    # too far: tau = 1 / (q upper) with upper = a / (1 - a) max sigma; the distance falls with q
    a = (gamma * radius / lengths).clamp(max=1 - 1e-6)
    upper = a / (1 - a) * largest

    def factors(q: Tensor) -> Tensor:
        # 1 / (1 + tau sigma), written so that nothing is lost where 1 + tau sigma is nearly 0
        kept = torch.where(is_close, largest, q * upper)
        return kept / torch.where(is_close, largest - sigma + q * sigma, kept + sigma)

    weights = sigma * h.square()

    def reaches(q: Tensor) -> Tensor:
        squared = (weights * factors(q).square()).sum(dim=-1, keepdim=True)
        return torch.where(is_close, squared >= radius**2, squared <= (gamma * radius) ** 2)

    q = _first_on_grid(reaches, limit) if search == "grid" else _first_of_random(reaches, limit)
    # without any part along the largest weight no tau reaches; the released code leaves such an offset where it is
    otherwise = h * (border / lengths) if search == "grid" else h
    moved = torch.where(q > 0, h * factors(q.clamp_min(1e-6)), otherwise)
    return torch.where(is_inside, h, moved)


def _first_on_grid(reaches: Callable[[Tensor], Tensor], limit: Tensor) -> Tensor:
    """The largest q (B, 1) in [limit, 1) that reaches, by a grid on a logarithmic scale; 0 where none does."""
    low, high = torch.zeros_like(limit), -limit.log()  # q = exp(-v), v from 0 to high; once reached, reached beyond
    inner = torch.arange(1, _POINTS, device=limit.device).view(-1, 1, 1)
    for _ in range(_ROUNDS):
        step = (high - low) / _POINTS
        failures = (~reaches((-low - step * inner).exp())).sum(dim=0)
        low, high = low + failures * step, low + (failures + 1) * step
    q = (-high).exp()
    return torch.where(reaches(q), q, 0.0)


def _first_of_random(reaches: Callable[[Tensor], Tensor], limit: Tensor) -> Tensor:
    """The largest of 40 uniform draws of q that reaches; 0 where none does."""
    q = 1 - torch.rand(_RANDOM_DRAWS, *limit.shape, device=limit.device) * (1 - limit)
    return torch.where(reaches(q), q, 0.0).amax(dim=0)


class DROCCLF(DROCC):
    """DROCC-LF: DROCC-OE with negatives in a shell of Mahalanobis distance, which known anomalies help to learn.

    The distance weighs each feature by its influence on the logit of the sample, taken anew for every batch (the
    paper: every epoch).

    Args:
        projection_search: how the projection finds its multiplier: `grid`, exact and deterministic, or `random40`, the
            released code's 40 random draws.
        encoder, head, radius, gamma, mu: as in :class:`DROCC`.
        ascent: as in :class:`DROCC`; the released code projects every 5 of 50 steps.
        noise, joint_batches, warm_up_epochs, selection, weight_init: as in :class:`DROCC`.
        optimizer, lr_scheduler, lr_scheduler_interval: as in :class:`DROCC`.
        preprocessing: as in :class:`AnomalyDetector`.
        threshold: as in :class:`AnomalyDetector`.

    Raises:
        ValueError: an argument outside its range, or training data without a known anomaly.
    """

    uses_known_anomalies = True
    needs_known_anomalies = True

    def __init__(
        self,
        projection_search: Search = "grid",
        encoder: EncoderFactory | None = None,
        head: Head = Head(activation="leaky_relu", leakiness=0),
        radius: Radius | None = "neighbors",
        gamma: float = 2.0,
        mu: float = 1.0,
        ascent: Ascent = OWN_ASCENT,
        noise: Noise = "normal",
        joint_batches: bool = False,
        warm_up_epochs: int = 0,
        selection: Selection = "none",
        weight_init: WeightInit = "framework",
        optimizer: OptimizerFactory = partial(Adam, lr=1e-3),
        lr_scheduler: SchedulerFactory | None = partial(MultiStepLR, milestones=[40]),
        lr_scheduler_interval: Interval = "epoch",
        preprocessing: PreprocessingFactory | None = None,
        threshold: ThresholdRule = NormalQuantile(quantile=0.95),
    ) -> None:
        super().__init__(
            encoder,
            head,
            radius,
            gamma,
            mu,
            ascent,
            noise=noise,
            joint_batches=joint_batches,
            warm_up_epochs=warm_up_epochs,
            selection=selection,
            weight_init=weight_init,
            optimizer=optimizer,
            lr_scheduler=lr_scheduler,
            lr_scheduler_interval=lr_scheduler_interval,
            preprocessing=preprocessing,
            threshold=threshold,
        )
        self.projection_search = projection_search

    def projection(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        """What projects offsets (B, ...) from x into the shell of x's own influence."""
        sigma = influence(self.logits, x, coupled=self.ascent.batch_norm == "train")

        def project(h: Tensor) -> Tensor:
            flat = project_to_mahalanobis_shell(
                h.flatten(1), sigma, self.shell_radius, self.gamma, self.projection_search
            )
            return flat.view_as(h)

        return project
