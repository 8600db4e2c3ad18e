"""Density ratio: the BA divergence of equation 8, KLIEP's of equation 11, and the bounded loss of Kato and Teshima."""

from __future__ import annotations

from typing import Any

import numpy as np

from reference.calculus import (
    Array,
    Found,
    Given,
    Weights,
    drawn_network,
    linear,
    network,
    rows,
    sgd,
    softplus,
)

N, DECAY, RATE, STEPS = 6, 1e-3, 0.02, 2  # the paper's weight decay and rate

CASES: dict[str, dict[str, Any]] = {
    "kliep": {},
    "ba": {"alpha": 0.5},
    "ulsif": {"alpha": 1.0},
    "kliep bounded": {"max_ratio": 0.6},
    "kliep within bounds": {"max_ratio": 4.0},
    "ba bounded": {"alpha": 0.5, "max_ratio": 0.5},
    "far": {},
}


def given(case: str) -> Given:
    """Six normals, then six unlabelled samples; in `far` the ratio is e^-40 or so."""
    rng = np.random.default_rng(0)
    weights = drawn_network(rng, "encoder", (4, 5, 3))
    weights |= {"head.weight": rng.normal(size=(1, 3)), "head.bias": np.array([-40.0 if case == "far" else 0.3])}
    return Given(weights, rows(rng, 2 * N, 4), (1,) * N + (0,) * N, rows(rng, 3, 4))


def ratio(weights: Weights, x: Array) -> Any:
    """r(x): the softplus of the logit."""
    return softplus(linear(weights, "head", network(weights, "encoder", x))[0])


def loss(weights: Weights, x: Array, alpha: float, max_ratio: float | None) -> Any:
    """Mean over unlabelled of r^(1 + alpha) - (1 + 1/alpha) mean over normals of r^alpha + 1/alpha."""
    power = 0.0
    least = 0.0
    for sample in x[N:]:
        power = power + ratio(weights, sample) ** (1 + alpha) / N
    if max_ratio is not None:
        for sample in x[:N]:
            least = least + ratio(weights, sample) ** (1 + alpha) / (N * max_ratio)
    if np.real(power) < np.real(least):
        power = least  # max(0, power - least) + least
    gain = 0.0
    for sample in x[:N]:
        r = ratio(weights, sample)
        gain = gain + (np.log(r) if alpha == 0 else (1 + 1 / alpha) * r**alpha) / N
    return power - gain + (0 if alpha == 0 else 1 / alpha)


def expected(case: str) -> Found:
    """Two steps of SGD; the score is -log r."""
    fixture, found = given(case), Found()
    alpha, max_ratio = CASES[case].get("alpha", 0.0), CASES[case].get("max_ratio")
    weights: Weights = fixture.weights
    for _ in range(STEPS):
        slopes = found.step(lambda w: loss(w, fixture.x, alpha, max_ratio), weights, "encoder", "head")
        weights = sgd(weights, slopes, RATE, DECAY)
    return found.end(weights, [-np.log(ratio(weights, sample)) for sample in fixture.tested])
