"""What the references have in common: derivatives without a backward pass, two optimisers, a small network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Weights = Mapping[str, Array]

STEP = 1e-30
SLOPE = 0.1  # of the leaky ReLU below zero


@dataclass(frozen=True)
class Given:
    """What a detector is given: weights by network and layer, raw samples, and whatever is drawn, in its order."""

    weights: dict[str, Array]
    x: Array
    known: tuple[int, ...]
    tested: Array
    draws: tuple[Array, ...] = ()


@dataclass
class Found:
    """What comes of it: losses and gradient norms by step, the norms of the last weights, scores of the tested."""

    losses: list[float] = field(default_factory=list)
    gradients: list[dict[str, float]] = field(default_factory=list)
    weights: dict[str, float] = field(default_factory=dict)
    scores: list[float] = field(default_factory=list)

    def step(self, loss: Callable[[Weights], Any], weights: Weights, *moving: str) -> dict[str, Array]:
        """Note loss and gradients with respect to the weights of these networks, which it gives."""
        chosen = {name: value for name, value in weights.items() if name.startswith(moving)}
        slopes = gradients(lambda moved: loss({**weights, **moved}), chosen)
        self.losses.append(float(np.real(loss(weights))))
        self.gradients.append(norms(slopes))
        return slopes

    def end(self, weights: Weights, scores: list[float]) -> Found:
        """Note what is left after the last step."""
        self.weights, self.scores = norms(weights), [float(score) for score in scores]
        return self


def gradients(loss: Callable[[dict[str, Array]], Any], weights: Weights) -> dict[str, Array]:
    """d loss / d weights by complex steps: Im loss(w + ih) / h, exact to rounding where the loss is analytic."""
    slopes = {name: np.zeros(value.shape) for name, value in weights.items()}
    for name, value in weights.items():
        for place in np.ndindex(value.shape):
            moved = value.astype(complex)
            moved[place] += STEP * 1j
            slopes[name][place] = np.imag(loss({**weights, name: moved})) / STEP
    return slopes


def gradient(value: Callable[[Array], Any], x: Array) -> Array:
    """d value / d x of one sample (D,)."""
    return gradients(lambda moved: value(moved["x"]), {"x": x})["x"]


def norms(arrays: Weights) -> dict[str, float]:
    """The Euclidean norm of each."""
    return {name: float(np.sqrt(np.sum(value**2))) for name, value in arrays.items()}


def sgd(weights: Weights, slopes: Weights, lr: float, weight_decay: float = 0.0) -> dict[str, Array]:
    """Weights after a step; the decay is the gradient of (weight_decay / 2) ||w||^2. Others stay."""
    moved = dict(weights)
    for name, slope in slopes.items():
        moved[name] = weights[name] - lr * (slope + weight_decay * weights[name])
    return moved


class Adam:
    """Adam (Kingma and Ba 2015, Algorithm 1) of one array."""

    def __init__(self, lr: float, betas: tuple[float, float], eps: float = 1e-8) -> None:
        self.lr, self.betas, self.eps = lr, betas, eps
        self.first: Any = 0.0
        self.second: Any = 0.0
        self.steps = 0

    def step(self, value: Array, slope: Array) -> Array:
        """The array after a step."""
        self.steps += 1
        b1, b2 = self.betas
        self.first = b1 * self.first + (1 - b1) * slope
        self.second = b2 * self.second + (1 - b2) * slope**2
        first, second = self.first / (1 - b1**self.steps), self.second / (1 - b2**self.steps)
        moved: Array = value - self.lr * first / (np.sqrt(second) + self.eps)
        return moved


def leaky(z: Array) -> Array:
    """The leaky ReLU."""
    return np.where(np.real(z) > 0, z, SLOPE * z)


def softplus(z: Any) -> Any:
    """log(1 + e^z), to the last digit for very negative z too; NumPy's complex log1p is not."""
    real = np.real(z)
    value, slope = np.log1p(np.exp(-abs(real))) + max(real, 0.0), 1 / (1 + np.exp(-real))
    return value + 1j * slope * np.imag(z) if np.iscomplexobj(z) else value


def norm(z: Array) -> Any:
    """||z||, analytic: no absolute values."""
    return np.sqrt(np.sum(z**2))


def magnitude(z: Array) -> Array:
    """|z| of each, analytic."""
    return np.where(np.real(z) < 0, -z, z)


def linear(weights: Weights, name: str, x: Array) -> Array:
    """A layer of one sample, with a bias where it has one."""
    y: Array = weights[f"{name}.weight"] @ x + weights.get(f"{name}.bias", np.zeros(1))
    return y


def network(weights: Weights, name: str, x: Array) -> Array:
    """Linear, leaky ReLU, linear, of one sample (D,)."""
    return linear(weights, f"{name}.second", leaky(linear(weights, f"{name}.first", x)))


def drawn_network(
    rng: np.random.Generator, name: str, sizes: tuple[int, int, int], bias: bool = True, scale: float = 0.6
) -> dict[str, Array]:
    """Weights of such a network."""
    drawn = {}
    for layer, n_in, n_out in (("first", *sizes[:2]), ("second", *sizes[1:])):
        drawn[f"{name}.{layer}.weight"] = scale * rng.normal(size=(n_out, n_in))
        if bias:
            drawn[f"{name}.{layer}.bias"] = scale * rng.normal(size=n_out)
    return drawn


def rows(rng: np.random.Generator, n: int, d: int) -> Array:
    """Rows of a table (n, d) that float32 holds without rounding, as raw tables are float32."""
    return rng.normal(size=(n, d)).astype(np.float32).astype(np.float64)
