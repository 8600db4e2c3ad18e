"""Mixtures of discretised logistic distributions for the channels of a pixel (Salimans et al., ICLR 2017, Section 2).

A channel has 256 values, here in [-1, 1]: level k is 2 k / 255 - 1, and its probability is that of the interval between
its neighbours' midpoints; the outer levels take what lies beyond them. The channels of a pixel share the component, and
the mean of a later channel moves linearly with the values of the earlier ones (equation 3 of the paper).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from adlightning.networks.density import LEVELS

HALF = 1 / (LEVELS - 1)
"""Half the distance between two levels in [-1, 1]."""

MIN_LOG_SCALE = -7.0
"""Of a component: as in the paper's code, a narrower one gains nothing on 256 levels."""


class Mixture(NamedTuple):
    """A mixture of K components for C channels of each pixel; the last axes (...) are those of the pixels.

    `logits` (B, K, ...) of the components; `means`, in [-1, 1] or beyond, and `log_scales`, each (B, K, C, ...);
    `coefficients` (B, K, C (C - 1) / 2, ...) in (-1, 1), of earlier channels in the mean of a later one: those of the
    second channel, then those of the third, and so on.
    """

    logits: Tensor
    means: Tensor
    log_scales: Tensor
    coefficients: Tensor


def n_parameters(channels: int, components: int) -> int:
    """Numbers that a network gives for each pixel."""
    return components * (1 + 2 * channels + channels * (channels - 1) // 2)


def mixture_of(parameters: Tensor, channels: int) -> Mixture:
    """The mixture (see :class:`Mixture`) of a network's output (B, P, ...), P by :func:`n_parameters`."""
    pairs = channels * (channels - 1) // 2
    by_component = parameters.unflatten(1, (-1, 1 + 2 * channels + pairs))
    logits, means, log_scales, coefficients = by_component.split([1, channels, channels, pairs], dim=2)
    return Mixture(logits.squeeze(2), means, log_scales.clamp(min=MIN_LOG_SCALE), coefficients.tanh())


def conditional_means(mixture: Mixture, x: Tensor) -> Tensor:
    """Means (B, K, C, ...) of each channel, given the earlier channels of x (B, C, ...) in [-1, 1]."""
    means = list(mixture.means.unbind(2))
    coefficients = iter(mixture.coefficients.unbind(2))
    for later in range(1, len(means)):
        for earlier in range(later):
            means[later] = means[later] + next(coefficients) * x[:, earlier].unsqueeze(1)
    return torch.stack(means, dim=2)


def log_probability(mixture: Mixture, x: Tensor) -> Tensor:
    """Natural log-probability (B, ...) of each pixel of x (B, C, ...), whose channels are levels in [-1, 1].

    With a and b the standardised ends of a level's interval, sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b)
    (1 - exp(b - a)): its logarithm is exact where the difference itself would be rounded to nothing.
    """
    at = x.unsqueeze(1)
    precision = (-mixture.log_scales).exp()
    centred = at - conditional_means(mixture, x)
    log_below = F.logsigmoid(precision * (centred + HALF))  # of what lies below the interval's upper end
    log_above = F.logsigmoid(-precision * (centred - HALF))  # of what lies above its lower end
    log_width = torch.log(-torch.expm1(-2 * HALF * precision))
    inner = log_below + log_above + log_width
    lowest, highest = at < HALF - 1, at > 1 - HALF
    by_channel = torch.where(lowest, log_below, torch.where(highest, log_above, inner))
    return torch.logsumexp(mixture.logits.log_softmax(dim=1) + by_channel.sum(dim=2), dim=1)


def draw(mixture: Mixture, generator: torch.Generator | None = None) -> Tensor:
    """Levels (B, C) in [-1, 1] of one pixel, drawn from mixtures without axes of pixels."""
    n, n_channels = mixture.logits.shape[0], mixture.means.shape[2]
    which = torch.multinomial(mixture.logits.softmax(dim=1), 1, generator=generator).squeeze(1)
    chosen = Mixture(*(part[torch.arange(n), which].unsqueeze(1) for part in mixture))
    tiny = torch.finfo(mixture.means.dtype).tiny
    uniform = torch.rand(n, n_channels, generator=generator, device=mixture.means.device).clamp_min(tiny)
    noise = chosen.log_scales[:, 0].exp() * torch.logit(uniform)
    x = torch.zeros_like(noise)
    for channel in range(n_channels):
        x[:, channel] = nearest_level(conditional_means(chosen, x)[:, 0, channel] + noise[:, channel])
    return x


def nearest_level(x: Tensor) -> Tensor:
    """The level in [-1, 1] that is nearest to each value; the outer ones for values beyond them."""
    return ((x.clamp(-1, 1) + 1) / (2 * HALF)).round() * (2 * HALF) - 1
