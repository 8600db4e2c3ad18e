"""ADGAN: the Wasserstein GAN's turns, and Algorithm 1's search for a latent and weights that reproduce a sample."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from reference.calculus import Adam, Array, Found, Given, Weights, drawn_network, gradients, sgd
from reference.gan import PENALTY, PIXELS, RATE, between, critic, generator, gradient_penalty, images, prepared

B, LATENT, EPOCHS, BOUND = 6, 3, 2, 0.01
# the paper's search
SEARCH: dict[str, Any] = {
    "n_seeds": 8,
    "n_steps": 5,
    "lr_latent": 0.25,
    "lr_weights": 5e-5,
    "betas": (0.5, 0.999),
    "alternating": False,
}

CASES: dict[str, dict[str, Any]] = {
    "adgan": {},
    "adgan with penalty": {
        "penalty": PENALTY,
        "search": {"n_seeds": 2, "n_steps": 3, "lr_weights": 0.02, "alternating": True},
    },
    "adgan in latents alone": {"bound": 0.4, "search": {"n_seeds": 2, "lr_weights": 0.0, "betas": (0.9, 0.99)}},
    "adgan by prior": {"bound": 0.4, "score_type": "prior", "search": {"n_seeds": 3, "lr_weights": 0.01}},
    "adgan by critic": {"bound": 0.4, "score_type": "critic"},
}


def given(case: str) -> Given:
    """Six images; latents of each step and shares of the penalty, in order, then each tested sample's first latents."""
    options, rng = CASES[case], np.random.default_rng(4)
    weights = drawn_network(rng, "critic", (PIXELS, 4, 1)) | drawn_network(rng, "generator", (LATENT, 4, PIXELS))
    x, tested = images(rng, B), images(rng, 2)
    draws: list[Array] = []
    for _ in range(EPOCHS):
        draws.append(rng.normal(size=(B, LATENT)))
        draws += [rng.uniform(size=(B, 1, 1, 1))] * ("penalty" in options)
        draws.append(rng.normal(size=(B, LATENT)))
    return Given(weights, x, (0,) * B, tested, (*draws, starts(options, rng)))


def starts(options: dict[str, Any], rng: np.random.Generator) -> Array:
    """The first latents of a sample's seeds (n_seeds, LATENT): the same ones for each sample."""
    return rng.normal(size=({**SEARCH, **options.get("search", {})}["n_seeds"], LATENT))


def distance(weights: Weights, z: Array, x: Array) -> Any:
    """||G(z) - x||_2^2."""
    return np.sum((generator(weights, z) - x) ** 2)


def distance_of(moved: Weights, rest: Weights, x: Array) -> Any:
    """The distance as a function of what moves, latent (`z`) or weights."""
    both = {**rest, **moved}
    return distance(both, both["z"], x)


def searched(weights: Weights, start: Array, x: Array, search: dict[str, Any]) -> tuple[Array, float]:
    """The last latent, and its distance by weights of its own: one seed of Algorithm 1, with Adam (footnote 5)."""
    moving = {"z": start} | {name: value for name, value in weights.items() if name.startswith("generator")}
    rates = {name: search["lr_latent"] if name == "z" else search["lr_weights"] for name in moving}
    optimizers = {name: Adam(rates[name], search["betas"]) for name in moving}
    generators = [name for name in moving if name != "z"]
    turns = [["z"], generators] if search["alternating"] else [["z", *generators]]
    for _ in range(search["n_steps"]):
        for turn in turns:
            at = partial(distance_of, rest=dict(moving), x=x)
            for name, slope in gradients(at, {name: moving[name] for name in turn}).items():
                moving[name] = optimizers[name].step(moving[name], slope)
    return moving["z"], float(distance(moving, moving["z"], x))


def score(weights: Weights, x: Array, first: Array, options: dict[str, Any]) -> float:
    """The mean distance over the seeds; or ||z||^2 / 2 of the last latents, or -D(x)."""
    kind, search = options.get("score_type", "inversion"), {**SEARCH, **options.get("search", {})}
    if kind == "critic":
        return -float(critic(weights, x))
    total = 0.0
    for start in first:
        z, away = searched(weights, start, x, search)
        total += (sum(value**2 for value in z) / 2 if kind == "prior" else away) / len(first)
    return total


def critic_loss(weights: Weights, x: Array, made: list[Array], middle: list[Array]) -> Any:
    """-(mean D(x) - mean D(G(z))), and the penalty at the points between, if there are any."""
    away = sum(critic(weights, sample) for sample in x) / B - sum(critic(weights, sample) for sample in made) / B
    return PENALTY * gradient_penalty(weights, middle) - away if middle else -away


def generator_loss(weights: Weights, latents: Array) -> Any:
    """-mean D(G(z))."""
    return -sum(critic(weights, generator(weights, z)) for z in latents) / B


def expected(case: str) -> Found:
    """A step of the critic and one of the generator, twice: min_G max_D mean D(x) - mean D(G(z))."""
    options, fixture, found = CASES[case], given(case), Found()
    weights, draws = fixture.weights, list(fixture.draws)
    x = prepared(fixture.x)
    for _ in range(EPOCHS):
        made = [generator(weights, z) for z in draws.pop(0)]
        middle: list[Array] = []
        if "penalty" in options:
            shares = draws.pop(0)[:, 0, 0, 0]
            middle = [between(a, b, share) for a, b, share in zip(x, made, shares, strict=True)]

        weights = sgd(weights, found.step(partial(critic_loss, x=x, made=made, middle=middle), weights, "critic"), RATE)
        if not middle:
            bound = options.get("bound", BOUND)
            weights = {n: np.clip(v, -bound, bound) if n.startswith("critic") else v for n, v in weights.items()}
        weights = sgd(weights, found.step(partial(generator_loss, latents=draws.pop(0)), weights, "generator"), RATE)
    scores = [score(weights, sample, fixture.draws[-1], options) for sample in prepared(fixture.tested)]
    return found.end(weights, scores)
