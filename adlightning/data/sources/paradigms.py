"""The toy on which Deep SAD's paper compares paradigms of learning (Ruff et al. 2020, Figure 1)."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray

from adlightning.core.contracts import InputSpec
from adlightning.data.sources.base import AnomalySource, Part, Samples
from adlightning.labels import ANOMALY, NO_LABEL, NORMAL

Points = NDArray[np.float64]


class Paradigms(AnomalySource):
    """Points (N, 2): unlabelled, mostly normal ones, a few known normals and anomalies; novel anomalies at test.

    Normals lie on a half moon. Known anomalies, and those among the unlabelled samples, are of one cluster at the upper
    right; half of the test anomalies are of it, and half are novel, of a cluster at the lower left. The paper draws
    such data and prints neither places nor numbers: all of them are ours.

    Args:
        n_unlabelled: number of unlabelled training samples.
        contamination: share of anomalies among them, in [0, 1), rounded down.
        n_known_normals: number of training samples that are known to be normal.
        n_known_anomalies: number of training samples that are known anomalies.
        n_test: number of normal test samples, of test anomalies of the known kind, and of novel ones.
        seed: of all draws, which do not depend on the run's seed.

    Raises:
        ValueError: an argument outside its range.
    """

    def __init__(
        self,
        n_unlabelled: int = 400,
        contamination: float = 0.02,
        n_known_normals: int = 20,
        n_known_anomalies: int = 20,
        n_test: int = 200,
        seed: int = 0,
    ) -> None:
        for argument, n, least in (
            ("n_unlabelled", n_unlabelled, 1),
            ("n_known_normals", n_known_normals, 0),
            ("n_known_anomalies", n_known_anomalies, 0),
            ("n_test", n_test, 1),
            ("seed", seed, 0),
        ):
            if n < least:
                raise ValueError(f"{argument} must be at least {least}, got {n}")
        if not 0 <= contamination < 1:
            raise ValueError(f"contamination must lie in [0, 1), got {contamination}")
        self.n_unlabelled = n_unlabelled
        self.contamination = contamination
        self.n_known_normals = n_known_normals
        self.n_known_anomalies = n_known_anomalies
        self.n_test = n_test
        self.seed = seed
        self.name = "toy of known and novel anomalies"

    def input_spec(self) -> InputSpec:
        """A table of the two coordinates."""
        return InputSpec("table", (2,), self.name, features=("x0", "x1"))

    def load(self, part: Part) -> Samples:
        """One part, float32 (N, 2); names begin with what a sample is."""
        rng = np.random.default_rng([self.seed, int(part == "test")])
        if part == "train":
            polluting = int(self.contamination * self.n_unlabelled)
            kinds = [
                ("unlabelled", NO_LABEL, _moon(rng, self.n_unlabelled - polluting)),
                ("unlabelled", NO_LABEL, _known(rng, polluting)),
                ("normal", NORMAL, _moon(rng, self.n_known_normals)),
                ("known", ANOMALY, _known(rng, self.n_known_anomalies)),
            ]
        else:
            kinds = [
                ("normal", NORMAL, _moon(rng, self.n_test)),
                ("known", ANOMALY, _known(rng, self.n_test)),
                ("novel", ANOMALY, _novel(rng, self.n_test)),
            ]
        x = torch.from_numpy(np.concatenate([points for _, _, points in kinds]).astype(np.float32))
        y = np.concatenate([np.full(len(points), label, dtype=np.int64) for _, label, points in kinds])
        words = np.repeat([kind for kind, _, _ in kinds], [len(points) for _, _, points in kinds])
        return Samples(x, y, tuple(f"{part}/{kind}/{i}" for i, kind in enumerate(words)))


def _moon(rng: Generator, n: int) -> Points:
    """Normals (n, 2)."""
    angle = rng.uniform(0, math.pi, n)
    arc: Points = np.stack([np.cos(angle), np.sin(angle)], axis=1) + rng.normal(0, 0.12, (n, 2))
    return arc


def _known(rng: Generator, n: int) -> Points:
    """Anomalies (n, 2) of the known kind."""
    return rng.normal((1.3, 1.3), 0.15, (n, 2))


def _novel(rng: Generator, n: int) -> Points:
    """Anomalies (n, 2) of the novel kind."""
    return rng.normal((-1.2, -0.9), 0.15, (n, 2))
