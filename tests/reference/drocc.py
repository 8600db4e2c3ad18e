"""DROCC, DROCC-Rand, DROCC-OE and DROCC-LF: cross-entropy, the search for negatives, and the shells they lie in."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from reference.calculus import (
    Array,
    Found,
    Given,
    Weights,
    drawn_network,
    gradient,
    leaky,
    linear,
    network,
    rows,
    sgd,
    softplus,
)

D, RATE, EPOCHS, WARM_UP = 4, 0.1, 2, 1
DRAWS = 40
STEPS, STEP_SIZE, PROJECT_EVERY = 7, 0.3, 3

# gamma = 2 and mu = 1 unless said otherwise; the paper's radius is sqrt(d) / 2
CASES: dict[str, dict[str, Any]] = {
    "drocc": {},
    "drocc options": {"radius": 2.5, "gamma": 1.0, "mu": 0.5, "noise": "shifted"},
    "drocc projected at the end": {"radius": 0.4, "gamma": 1.5, "project_every": "end"},
    "drocc_rand": {"radius": 2.0, "gamma": 1.2},
    "drocc_oe": {"radius": 1.5, "gamma": 1.3},
    "drocc_lf": {"radius": 2.4, "gamma": 1.1, "mu": 0.5},
    "drocc_lf wide": {"radius": 0.8, "gamma": 1.5},
    "drocc_lf random40": {"radius": 2.0, "gamma": 1.2, "projection_search": "random40"},
}


def given(case: str) -> Given:
    """Eight rows, two known anomalies among them where the method has such, and the noise of the second epoch."""
    rng = np.random.default_rng(2)
    weights = drawn_network(rng, "encoder", (D, 5, 3))
    weights |= {"head.weight": rng.normal(size=(1, 3)), "head.bias": rng.normal(size=1)}
    known = (0, 1, 0, -1, 0, 0, -1, 0) if case.startswith(("drocc_lf", "drocc_oe")) else (0,) * 8
    x, tested = rows(rng, 8, D), rows(rng, 3, D)
    n = sum(label >= 0 for label in known)
    draws = [1.2 * rng.normal(size=(n, D))]
    if CASES[case].get("projection_search") == "random40":
        draws += [rng.uniform(size=(DRAWS, n, 1)) for _ in range(-(-STEPS // PROJECT_EVERY))]
    return Given(weights, x, known, tested, tuple(draws))


def logit(weights: Weights, x: Array) -> Any:
    """f(x), high for normal."""
    return linear(weights, "head", leaky(network(weights, "encoder", x)))[0]


def cross_entropy(z: Any, target: int) -> Any:
    """-log sigma(z) of a normal sample (1), -log(1 - sigma(z)) of a negative (0)."""
    return softplus(-z) if target == 1 else softplus(z)


def euclidean(h: Array, radius: float, gamma: float) -> Array:
    """The nearest point with radius <= ||h|| <= gamma radius."""
    length = math.sqrt(sum(value**2 for value in h))
    return h * (min(max(length, radius), gamma * radius) / length)


def influence(weights: Weights, x: Array) -> Array:
    """sigma_j = |d loss(f(x), 1) / d x_j|, scaled to a sum of D."""
    slopes = abs(gradient(lambda point: cross_entropy(logit(weights, point), 1), x))
    scaled: Array = slopes * D / sum(slopes)
    return scaled


def squared_length(h: Array, sigma: Array) -> float:
    """||h||_sigma^2 = sum_j sigma_j h_j^2: equation 2."""
    return float(sum(s * value**2 for s, value in zip(sigma, h, strict=True)))


def moved(h: Array, sigma: Array, tau: float) -> Array:
    """h_j / (1 + tau sigma_j): Proposition 1."""
    return np.array([value / (1 + tau * s) for s, value in zip(sigma, h, strict=True)])


def mahalanobis(h: Array, sigma: Array, radius: float, gamma: float, uniform: Array | None) -> Array:
    """The nearest point (in L2) with radius <= ||h||_sigma <= gamma radius.

    tau of h that is too close lies between -1 / max sigma + 1e-4 min sigma and 0; of one that is too far it is 1 / nu,
    nu between 0 and a / (1 - a) max sigma with a = gamma radius / ||h||_sigma. Of 40 uniform draws in there the one
    that moves h least, of those that reach the shell; where none does, h stays. Without draws a grid, see below.
    """
    length, largest = math.sqrt(squared_length(h, sigma)), float(max(sigma))
    if radius <= length <= gamma * radius:
        return h
    is_close = length < radius
    border = radius if is_close else gamma * radius
    smallest = min(max(1e-4 * float(min(sigma)) * largest, 1e-6), 0.5) if is_close else 1e-6

    def at(q: float) -> Array:
        """The point of a multiplier, which is 0 for q = 1 (too close) and at its end for q = 0."""
        if is_close:
            return moved(h, sigma, -(1 - q) / largest)
        a = border / length
        return moved(h, sigma, 1 / (q * a / (1 - a) * largest))

    def reaches(q: float) -> bool:
        squared = squared_length(at(q), sigma)
        return squared >= border**2 if is_close else squared <= border**2

    if uniform is None:
        q = on_grid(reaches, smallest)
        return h * border / length if q is None else at(q)
    points = [at(q) for q in [1 - float(u) * (1 - smallest) for u in uniform] if reaches(q)]
    return min(points, key=lambda point: float(sum((point - h) ** 2)), default=h)


def on_grid(reaches: Callable[[float], bool], smallest: float) -> float | None:
    """The first q of a grid from 1 down to the smallest that reaches: five times, each in an eighth of the one before.

    The grid is even in log q; each time it lies between the last q that failed and the first that did not.
    """
    low, high = 0.0, -math.log(smallest)
    for _ in range(5):
        step, failures = (high - low) / 8, 0
        for i in range(1, 8):
            failures += not reaches(math.exp(-(low + i * step)))
        low, high = low + failures * step, low + (failures + 1) * step
    return math.exp(-high) if reaches(math.exp(-high)) else None


def search(weights: Weights, x: Array, h: Array, every: int, project: Callable[[Array], Array]) -> Array:
    """Ascent of the loss towards label 0 from x + h in steps of one length, projected at times and at the end."""
    for step in range(1, STEPS + 1):
        slope = gradient(lambda point: cross_entropy(logit(weights, point), 0), x + h)
        h = h + STEP_SIZE * slope / math.sqrt(sum(slope**2))
        if step % every == 0 and step < STEPS:
            h = project(h)
    return project(h)


def negative(case: str, weights: Weights, x: Array, draws: list[Array]) -> Array:
    """A negative of a normal sample, from its own noise and, with random40, its own uniform draws."""
    options = CASES[case]
    radius, gamma = options.get("radius", math.sqrt(D) / 2), options.get("gamma", 2.0)
    every = options.get("project_every", PROJECT_EVERY)
    h, uniform = draws[0], iter(draws[1:])
    if options.get("noise") == "shifted":
        h = 2 * h - 1
    sigma = influence(weights, x) if case.startswith("drocc_lf") else None

    def project(h: Array) -> Array:
        if sigma is None:
            return euclidean(h, radius, gamma)
        return mahalanobis(h, sigma, radius, gamma, next(uniform, None))

    if case == "drocc_rand":
        return x + project(h)
    return x + search(weights, x, h, STEPS if every == "end" else every, project)


def loss(weights: Weights, x: Array, known: tuple[int, ...], mu: float, worst: list[Array]) -> Any:
    """Mean cross-entropy of the samples + mu times that of the negatives."""
    total = 0.0
    for sample, label in zip(x, known, strict=True):
        total = total + cross_entropy(logit(weights, sample), int(label >= 0)) / len(x)
    for sample in worst:
        total = total + mu * cross_entropy(logit(weights, sample), 0) / len(worst)
    return total


def expected(case: str) -> Found:
    """A step without negatives and one with them; the score is -f."""
    fixture, found, mu = given(case), Found(), CASES[case].get("mu", 1.0)
    weights: Weights = fixture.weights
    normal = fixture.x[[label >= 0 for label in fixture.known]]
    for epoch in range(EPOCHS):
        worst: list[Array] = []
        if epoch >= WARM_UP:
            draws = [[draw[..., i, :].squeeze() for draw in fixture.draws] for i in range(len(normal))]
            worst = [negative(case, weights, x, own) for x, own in zip(normal, draws, strict=True)]
        objective = partial(loss, x=fixture.x, known=fixture.known, mu=mu, worst=worst)
        weights = sgd(weights, found.step(objective, weights, "encoder", "head"), RATE)
    return found.end(weights, [-logit(weights, sample) for sample in fixture.tested])
