"""What AMA and ADGAN have in common: small networks of images (1, 2, 2), and a penalty on a critic's gradient."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from reference.calculus import Array, Weights, leaky, linear, norm

SIDE = 2
PIXELS = SIDE * SIDE
RATE = 0.05
PENALTY = 10.0


def images(rng: np.random.Generator, n: int) -> Array:
    """Raw images (n, 1, 2, 2) of values 0 to 255."""
    return rng.integers(0, 256, (n, 1, SIDE, SIDE))


def prepared(raw: Array) -> Array:
    """Images as rows of values in [-1, 1]."""
    values: Array = raw.reshape(len(raw), -1) / 127.5 - 1
    return values


def generator(weights: Weights, z: Array) -> Array:
    """Linear, leaky ReLU, linear, tanh."""
    return np.tanh(linear(weights, "generator.second", leaky(linear(weights, "generator.first", z))))


def features(weights: Weights, seen: Array) -> Array:
    """Linear, tanh of what a critic sees."""
    return np.tanh(linear(weights, "critic.first", seen))


def critic(weights: Weights, seen: Array) -> Any:
    """A number for what a critic sees."""
    return linear(weights, "critic.second", features(weights, seen))[0]


def critic_slope(weights: Weights, seen: Array) -> Array:
    """d critic / d seen, by the chain rule: itself a function of the weights."""
    inner = (1 - features(weights, seen) ** 2) * weights["critic.second.weight"][0]
    slope: Array = weights["critic.first.weight"].T @ inner
    return slope


def gradient_penalty(weights: Weights, seen: list[Array], channels: int | None = None) -> Any:
    """The mean of (||d critic / d seen|| - 1)^2 over samples; by pixel over the channels, where their number is given.

    Gulrajani et al. 2017, equation 3, without its weight.
    """
    total, n = 0.0, 0
    for sample in seen:
        slope = critic_slope(weights, sample)
        parts = [slope] if channels is None else list(slope.reshape(channels, -1).T)
        for part in parts:
            total, n = total + (norm(part) - 1) ** 2, n + 1
    return total / n


def between(real: Array, made: Array, share: float) -> Array:
    """A point on the line between the two."""
    return share * real + (1 - share) * made


def length(z: Array) -> float:
    """||z||_2."""
    return math.sqrt(sum(float(value) ** 2 for value in z))
