"""Deep SVDD, soft-boundary Deep SVDD and Deep SAD: a centre, distances from it, and what is made of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from reference.calculus import Array, Found, Given, Weights, drawn_network, network, rows, sgd

SMALLEST = 0.1  # of a coordinate of the centre
RATE, DECAY, DECAY_BEFORE = 0.05, 1e-3, 5e-3
EPS = 1e-6

CASES: dict[str, dict[str, Any]] = {
    "deep_svdd": {"epochs": 2},
    "soft_boundary": {"epochs": 4, "nu": 0.3, "warm_up_epochs": 1},
    "deep_sad": {"epochs": 2},
    "deep_sad options": {"epochs": 2, "eta": 0.7, "eps": 1e-3, "center_include_labelled": True},
    "deep_sad pretrained": {"epochs": 3, "pretraining": 1, "eta": 2.0},
}


def given(case: str) -> Given:
    """Ten rows; for Deep SAD some are known normals, some known anomalies."""
    rng = np.random.default_rng(1)
    weights = drawn_network(rng, "encoder", (4, 5, 3), bias=False)
    if "pretraining" in CASES[case]:
        weights |= drawn_network(rng, "decoder", (3, 5, 4))
    known = (0, 0, 0, 0, 1, 1, -1, 0, -1, 0) if case.startswith("deep_sad") else (0,) * 10
    return Given(weights, rows(rng, 10, 4), known, rows(rng, 3, 4))


def center(weights: Weights, x: Array, counts: list[bool]) -> Array:
    """The mean of phi over the samples that count; what is nearer to zero than 0.1 moves there, zero stays."""
    total, n = np.zeros(3), 0
    for sample, counted in zip(x, counts, strict=True):
        if counted:
            total, n = total + network(weights, "encoder", sample), n + 1
    mean = total / n
    for i, value in enumerate(mean):
        if abs(value) < SMALLEST:
            mean[i] = SMALLEST * np.sign(value)
    return mean


def distance(weights: Weights, x: Array, c: Array) -> Any:
    """||phi(x) - c||^2."""
    return np.sum((network(weights, "encoder", x) - c) ** 2)


def reconstruction(weights: Weights, x: Array) -> Any:
    """The first phase: the mean over samples and values of the squared error."""
    total = 0.0
    for sample in x:
        made = network(weights, "decoder", network(weights, "encoder", sample))
        total = total + np.sum((made - sample) ** 2) / (len(sample) * len(x))
    return total


def deep_sad(weights: Weights, x: Array, known: tuple[int, ...], c: Array, eta: float, eps: float) -> Any:
    """1/(n + m) [sum over unlabelled d + eta sum over labelled (d + eps)^y]: equation 7. Deep SVDD without labels."""
    total = 0.0
    for sample, label in zip(x, known, strict=True):
        d = distance(weights, sample, c)
        total = total + (d if label == 0 else eta * (d + eps) ** label) / len(x)
    return total


def soft_boundary(weights: Weights, x: Array, c: Array, radius: float, nu: float) -> Any:
    """R^2 + 1/(nu n) sum max(0, d - R^2)."""
    total = radius**2
    for sample in x:
        excess = distance(weights, sample, c) - radius**2
        total = total + (excess if np.real(excess) > 0 else 0 * excess) / (nu * len(x))
    return total


def quantile(values: list[Any], share: float) -> float:
    """Between the neighbours in order, linearly."""
    ordered = sorted(float(value) for value in values)
    place = share * (len(ordered) - 1)
    low = int(place)
    return ordered[low] + (place - low) * (ordered[min(low + 1, len(ordered) - 1)] - ordered[low])


def expected(case: str) -> Found:
    """The phases of a fit, a step each epoch; the score is d, or d - R^2."""
    options, fixture, found = CASES[case], given(case), Found()
    weights: Weights = fixture.weights
    epochs, before = options["epochs"], options.get("pretraining", 0)
    for _ in range(before):
        slopes = found.step(lambda w: reconstruction(w, fixture.x), weights, "encoder", "decoder")
        weights = sgd(weights, slopes, RATE, DECAY_BEFORE)
    with_labelled = options.get("center_include_labelled", False)
    c = center(weights, fixture.x, [with_labelled or label >= 0 for label in fixture.known])
    radius, nu = 0.0, options.get("nu")

    def objective(w: Weights) -> Any:
        if nu is not None:
            return soft_boundary(w, fixture.x, c, radius, nu)
        return deep_sad(w, fixture.x, fixture.known, c, options.get("eta", 1.0), options.get("eps", EPS))

    for epoch in range(epochs - before):
        slopes = found.step(objective, weights, "encoder")
        distances = [np.sqrt(distance(weights, sample, c)) for sample in fixture.x]
        weights = sgd(weights, slopes, RATE, DECAY)
        if nu is not None and epoch >= options["warm_up_epochs"]:
            radius = quantile(distances, 1 - nu)
    return found.end(weights, [distance(weights, sample, c) - radius**2 for sample in fixture.tested])
