"""AMA: equations 1 to 6, the penalty on the critic, negatives from atypical latents or known anomalies."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from reference.calculus import Array, Found, Given, Weights, drawn_network, magnitude, network, norm, sgd
from reference.gan import (
    PENALTY,
    PIXELS,
    RATE,
    between,
    critic,
    features,
    generator,
    gradient_penalty,
    images,
    length as length_of,
    prepared,
)

B, LATENT, SHARE, TURNS = 10, 3, 0.3, 2
POSITIONS = [7, 2, 7]  # of negatives: the second draw of 7 overwrites the first
INTER, NEG, REG = 0.5, 5.0, 1.0  # the paper's weights

CASES: dict[str, dict[str, Any]] = {
    "ama": {},
    "ama as released": {
        "simplex": "remainder",
        "gradient": "none",
        "kind": "scaled",
        "mode": "per_pixel",
        "score_type": "R",
        "inter": 0.2,
    },
    "ama outward": {
        "gradient": "EG",
        "points": 2,
        "direction": "outward",
        "radius": "empirical",
        "delta": 0.4,
        "neg": 2.0,
        "reg": 0.3,
        "penalty": 3.0,
    },
    "ama of single images": {"mirrored": False, "kind": "sipple", "inter": 0.0},
    "semi_supervised_ama": {"score_type": "R"},
}


def given(case: str) -> Given:
    """Ten images; of the semi-supervised case two are known anomalies. Draws in their order."""
    options, rng = CASES[case], np.random.default_rng(3)
    seen = PIXELS if options.get("mirrored") is False else 2 * PIXELS
    weights = drawn_network(rng, "encoder", (PIXELS, 4, LATENT))
    weights |= drawn_network(rng, "generator", (LATENT, 4, PIXELS))
    weights |= drawn_network(rng, "critic", (seen, 4, 1))
    x, tested = images(rng, B), images(rng, 3)
    draws: list[Array] = []
    known = (0,) * B
    if case.startswith("semi"):
        known = (0, 1, 0, 0, -1, 0, 0, 0, -1, 1)
    else:
        draws.append(np.array(POSITIONS))
        draws.append(rng.uniform(size=(3, LATENT if options.get("kind") == "sipple" else 1)))
    points = options.get("points", 3)
    if options.get("inter", INTER):
        remainder = options.get("simplex") == "remainder"
        draws.append(rng.uniform(size=(B, points - remainder)))
        draws += [rng.uniform(size=(B, points))] * remainder
        draws.append(rng.uniform(size=(B, points)))
    draws += [rng.uniform(size=(B, 1, 1, 1)) for _ in range(TURNS)]
    return Given(weights, x, known, tested, tuple(draws))


def atypical(z: Array, u: Array, latents: list[Array], options: dict[str, Any]) -> Array:
    """A latent outside of the typical ones.

    In the direction of a real one, with a norm of U(radius - delta, radius), or outward, the radius being sqrt(d) or
    the median norm; `scaled`: a real one times a of U(0, 0.5); `sipple`: uniform in the cube [-1, 1]^d.
    """
    if options.get("kind") == "sipple":
        return 2 * u - 1
    if options.get("kind") == "scaled":
        return 0.5 * (1 - u) * z
    radius = math.sqrt(LATENT)
    if options.get("radius") == "empirical":
        radius = sorted(length_of(latent) for latent in latents)[(len(latents) - 1) // 2]
    outward = options.get("direction") == "outward"
    wanted = radius + (1 if outward else -1) * options.get("delta", 1.0) * float(u[0])
    latent: Array = z / length_of(z) * max(wanted, 0.0)
    return latent


def simplex(case: str, draws: list[Array]) -> Array:
    """Weights (B, k) of the mean: a_i / sum a, a_i ~ U(0, 0.5); released: a_1, a_2 and 1 - a_1 - a_2, in any order."""
    if CASES[case].get("simplex") != "remainder":
        alpha = 0.5 * (1 - draws.pop(0))
        return np.array([row / sum(row) for row in alpha])
    weights = []
    for alpha, keys in zip(0.5 * draws.pop(0), draws.pop(0), strict=True):
        row = [*alpha, 1 - sum(alpha)]
        weights.append([row[i] for i in np.argsort(keys)])
    return np.array(weights)


def with_negatives(case: str, weights: Weights, raw: Array, draws: list[Array]) -> Array:
    """The batch, images of atypical latents in the place of some; the last of two in one place stays."""
    if case.startswith("semi"):
        return raw
    x = raw.copy()
    latents = [network(weights, "encoder", sample) for sample in raw]
    for place, u in zip(POSITIONS, draws.pop(0), strict=True):
        x[place] = generator(weights, atypical(latents[place], u, latents, CASES[case]))
    return x


def partners(normals: list[int], uniform: Array) -> list[list[int]]:
    """Which samples each one is mixed with: itself, then random normals; a negative has a random one in its place."""
    chosen = [[normals[int(u * len(normals))] for u in row] for row in uniform]
    for i in normals:
        chosen[i][0] = i
    return chosen


@dataclass(frozen=True)
class Batch:
    """A batch with its negatives, and how its latents are mixed, if they are."""

    x: Array
    negative: list[bool]
    alphas: Array
    partners: list[list[int]]
    options: dict[str, Any]

    @property
    def normals(self) -> list[int]:
        return [i for i in range(B) if not self.negative[i]]

    def pair(self, x: Array, image: Array) -> Array:
        """What the critic sees: both, or the image alone."""
        return np.concatenate([x, image]) if self.options.get("mirrored", True) else image

    def mixed(self, weights: Weights, of_encoder: Weights) -> list[Array]:
        """Images of mixed latents."""
        images = []
        for alpha, places in zip(self.alphas, self.partners, strict=True):
            latent = sum(a * network(of_encoder, "encoder", self.x[i]) for a, i in zip(alpha, places, strict=True))
            images.append(generator(weights, np.asarray(latent)))
        return images

    def objective(self, weights: Weights, made: list[Array], mixed: list[Array]) -> Any:
        """Equation 2 without the norms: which the critic maximises, encoder and generator minimise."""
        total = 0.0
        for i, x in enumerate(self.x):
            real = critic(weights, self.pair(x, x))
            gain = real - critic(weights, self.pair(x, made[i]))
            total = total + (-self.options.get("neg", NEG) * gain if self.negative[i] else gain) / B
            if mixed and not self.negative[i]:
                gain = real - critic(weights, self.pair(x, mixed[i]))
                total = total + self.options.get("inter", INTER) * gain / len(self.normals)
        return total

    def critic_loss(self, weights: Weights, made: list[Array], mixed: list[Array], shares: Array) -> Any:
        """The penalty on pairs whose second image lies between, minus the objective."""
        middle = [self.pair(x, between(x, image, u)) for x, image, u in zip(self.x, made, shares, strict=True)]
        channels = None
        if self.options.get("mode") == "per_pixel":
            channels = 2 if self.options.get("mirrored", True) else 1
        penalty = gradient_penalty(weights, middle, channels)
        return self.options.get("penalty", PENALTY) * penalty - self.objective(weights, made, mixed)

    def autoencoder_loss(self, weights: Weights, fixed: Weights) -> Any:
        """The objective with mixed images as far as they are learnt from, and the mean norm of normals' latents."""
        latents, learnt = [network(weights, "encoder", x) for x in self.x], self.options.get("gradient", "G")
        mixed = [] if learnt == "none" else self.mixed(weights, weights if learnt == "EG" else fixed)
        size = sum(norm(latents[i]) for i in self.normals) / len(self.normals)
        made = [generator(weights, z) for z in latents]
        return self.objective(weights, made, mixed) + self.options.get("reg", REG) * size

    def r(self, weights: Weights, x: Array) -> float:
        """||f(x, x) - f(x, G(E(x)))||_1: equation 5."""
        made = generator(weights, network(weights, "encoder", x))
        return float(sum(magnitude(features(weights, self.pair(x, x)) - features(weights, self.pair(x, made)))))


def expected(case: str) -> Found:
    """The critic's steps on one batch, then one of encoder and generator; the score is (R - mean R)^2, or R."""
    options, fixture, found = CASES[case], given(case), Found()
    weights: Weights = fixture.weights
    draws, raw = list(fixture.draws), prepared(fixture.x)
    negative = [label < 0 for label in fixture.known]
    if not case.startswith("semi"):
        negative = [i in POSITIONS for i in range(B)]
        del draws[0]
    x = with_negatives(case, weights, raw, draws)
    normals = [i for i in range(B) if not negative[i]]
    alphas, chosen = np.empty((0, 0)), list[list[int]]()
    if options.get("inter", INTER):
        alphas, chosen = simplex(case, draws), partners(normals, draws.pop(0))
    batch = Batch(x, negative, alphas, chosen, options)

    made = [generator(weights, network(weights, "encoder", sample)) for sample in x]
    mixed = batch.mixed(weights, weights)
    for _ in range(TURNS):
        loss = partial(batch.critic_loss, made=made, mixed=mixed, shares=draws.pop(0)[:, 0, 0, 0])
        weights = sgd(weights, found.step(loss, weights, "critic"), RATE)
    loss = partial(batch.autoencoder_loss, fixed=weights)
    weights = sgd(weights, found.step(loss, weights, "encoder", "generator"), RATE)

    scores = [batch.r(weights, sample) for sample in prepared(fixture.tested)]
    if options.get("score_type", "A") == "A":
        typical = [batch.r(weights, sample) for sample, label in zip(raw, fixture.known, strict=True) if label >= 0]
        scores = [(score - sum(typical) / len(typical)) ** 2 for score in scores]
    return found.end(weights, scores)
