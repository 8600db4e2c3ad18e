"""Synthetic manifolds on which DROCC is shown: a sine wave, a ball, and a sine wave among noise."""

from __future__ import annotations

import math
from abc import abstractmethod

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray

from adlightning.core.contracts import InputSpec
from adlightning.data.sources.base import AnomalySource, Part, Samples
from adlightning.labels import ANOMALY, NORMAL

Points = NDArray[np.float64]


class _Synthetic(AnomalySource):
    """What the sets share: sizes, seed, names of features `x0`, `x1`, ... and of samples `train/0`, `test/0`, ...

    Args:
        dimension: number of features.
        n_train: number of normal training samples.
        n_test: number of normal test samples, and of test anomalies.
        seed: of all draws, which do not depend on the run's seed.
    """

    def __init__(self, dimension: int, n_train: int, n_test: int, seed: int) -> None:
        for argument, n in (("n_train", n_train), ("n_test", n_test)):
            if n < 1:
                raise ValueError(f"{argument} must be at least 1, got {n}")
        if seed < 0:
            raise ValueError(f"seed must not be negative, got {seed}")
        self._dimension = dimension
        self.n_train = n_train
        self.n_test = n_test
        self.seed = seed

    def input_spec(self) -> InputSpec:
        """A table of the coordinates."""
        features = tuple(f"x{i}" for i in range(self._dimension))
        return InputSpec("table", (self._dimension,), self.name, features=features)

    def load(self, part: Part) -> Samples:
        """One part, float32 (N, D), normals first; the same for the same arguments."""
        # the parts have their own generators: more training samples leave the test part as it was
        normal, anomalous = self._draw(part, np.random.default_rng([self.seed, int(part == "test")]))
        x = torch.from_numpy(np.concatenate([normal, anomalous]).astype(np.float32))
        y = np.repeat(np.array([NORMAL, ANOMALY], dtype=np.int64), [len(normal), len(anomalous)])
        return Samples(x, y, tuple(f"{part}/{i}" for i in range(len(y))))

    @abstractmethod
    def _draw(self, part: Part, rng: Generator) -> tuple[Points, Points]:
        """Normal samples and anomalies of a part, (N, D) each."""


class Sine(_Synthetic):
    """Points (N, 2) uniform along x on a sine wave of amplitude 1; test anomalies lie on the wave moved up or down.

    Goyal et al. (DROCC, ICML 2020), Section 5.1.1 and Table 7: a half of the test anomalies is moved up by
    `displacement`, the other half down. The training part holds normals only. The paper's text gives neither the number
    of periods, nor their length, nor the numbers of test points.

    Args:
        displacement: vertical distance of the anomalies' waves from the normal one, positive (the paper: 0.2 to 2).
        n_train: number of normal training samples.
        n_test: number of normal test samples, and of test anomalies; not stated in the paper.
        periods: number of periods that x covers, from 0 on; not stated in the paper.
        wavelength: length of a period along x; not stated in the paper, here that of sin(x).
        noise: standard deviation of Gaussian noise on the second coordinate of every sample; the paper has none.
        seed: of all draws, which do not depend on the run's seed.

    Raises:
        ValueError: an argument outside its range.
    """

    def __init__(
        self,
        displacement: float = 1.0,
        n_train: int = 1024,
        n_test: int = 1024,
        periods: float = 2.0,
        wavelength: float = 2 * math.pi,
        noise: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__(2, n_train, n_test, seed)
        for argument, value in (("displacement", displacement), ("periods", periods), ("wavelength", wavelength)):
            if not value > 0:
                raise ValueError(f"{argument} must be positive, got {value}")
        if not noise >= 0:
            raise ValueError(f"noise must not be negative, got {noise}")
        self.displacement = displacement
        self.periods = periods
        self.wavelength = wavelength
        self.noise = noise
        self.name = f"sine displaced by {displacement:g}"

    def _draw(self, part: Part, rng: Generator) -> tuple[Points, Points]:
        if part == "train":
            return self._wave(rng, self.n_train), np.empty((0, 2))
        return self._wave(rng, self.n_test), self._wave(rng, self.n_test, self.displacement)

    def _wave(self, rng: Generator, n: int, displacement: float = 0.0) -> Points:
        """Points (n, 2) of the wave, moved up and down in turn."""
        x = rng.uniform(0, self.periods * self.wavelength, n)
        moved = np.where(np.arange(n) % 2, -displacement, displacement)
        y = np.sin(2 * math.pi * x / self.wavelength) + self.noise * rng.normal(size=n)
        return np.stack([x, y + moved], axis=1)


class NoisySine(Sine):
    """A sine wave in the first two of (N, 10) coordinates, standard normal noise in the others; with known anomalies.

    Goyal et al. (DROCC, ICML 2020), Section 5.2.1: DROCC-LF learns from labelled negatives that only two coordinates
    matter. The training part holds `n_train` normals and `n_train_anomalies` anomalies. The paper leaves open where its
    training negatives lie and how many there are. Here they lie on displaced waves as well, by default further away
    than the test anomalies are: negatives close to the normals are met in the test only, as in its other experiments.

    Args:
        displacement: vertical distance of the test anomalies' waves from the normal one, positive.
        train_displacement: that of the training anomalies; not stated in the paper.
        n_train: number of normal training samples.
        n_train_anomalies: number of training anomalies; not stated in the paper.
        n_test: number of normal test samples, and of test anomalies; not stated in the paper.
        n_features: number of coordinates, above 2.
        periods: number of periods that x covers, from 0 on; not stated in the paper.
        wavelength: length of a period along x; not stated in the paper, here that of sin(x).
        seed: of all draws, which do not depend on the run's seed.

    Raises:
        ValueError: an argument outside its range.
    """

    def __init__(
        self,
        displacement: float = 1.0,
        train_displacement: float = 2.0,
        n_train: int = 1024,
        n_train_anomalies: int = 1024,
        n_test: int = 1024,
        n_features: int = 10,
        periods: float = 2.0,
        wavelength: float = 2 * math.pi,
        seed: int = 0,
    ) -> None:
        super().__init__(displacement, n_train, n_test, periods, wavelength, seed=seed)
        if not train_displacement > 0:
            raise ValueError(f"train_displacement must be positive, got {train_displacement}")
        if n_train_anomalies < 1:
            raise ValueError(f"n_train_anomalies must be at least 1, got {n_train_anomalies}")
        if n_features <= 2:
            raise ValueError(f"n_features must be above 2, the wave's own coordinates, got {n_features}")
        self.train_displacement = train_displacement
        self.n_train_anomalies = n_train_anomalies
        self.n_features = self._dimension = n_features
        self.name = f"noisy {self.name}"

    def _draw(self, part: Part, rng: Generator) -> tuple[Points, Points]:
        normal, anomalous = super()._draw(part, rng)
        if part == "train":
            anomalous = self._wave(rng, self.n_train_anomalies, self.train_displacement)
        normal, anomalous = (
            np.hstack([points, rng.normal(size=(len(points), self.n_features - 2))]) for points in (normal, anomalous)
        )
        return normal, anomalous


class Sphere(_Synthetic):
    """Points (N, D) uniform in the volume of the unit ball; test anomalies uniform on a larger sphere around it.

    Goyal et al. (DROCC, ICML 2020), Appendix B.2 and Table 6. The training part holds normals only.

    Args:
        radius: of the anomalies' sphere, above 1 (the paper: 1.2 to 2).
        dimension: number of coordinates; not stated in the paper's text.
        n_train: number of normal training samples; not stated in the paper, here as for the sine wave.
        n_test: number of normal test samples, and of test anomalies; not stated in the paper.
        seed: of all draws, which do not depend on the run's seed.

    Raises:
        ValueError: an argument outside its range.
    """

    def __init__(
        self, radius: float = 1.2, dimension: int = 3, n_train: int = 1024, n_test: int = 1024, seed: int = 0
    ) -> None:
        super().__init__(dimension, n_train, n_test, seed)
        if not radius > 1:
            raise ValueError(f"radius must be above 1, the radius of the normals' ball, got {radius}")
        if dimension < 2:
            raise ValueError(f"dimension must be at least 2, got {dimension}")
        self.radius = radius
        self.dimension = dimension
        self.name = f"sphere of radius {radius:g}"

    def _draw(self, part: Part, rng: Generator) -> tuple[Points, Points]:
        n_normal, n_anomalous = (self.n_train, 0) if part == "train" else (self.n_test, self.n_test)
        # the volume within a radius grows with its D-th power
        radii = rng.uniform(size=(n_normal, 1)) ** (1 / self.dimension)
        return self._directions(rng, n_normal) * radii, self._directions(rng, n_anomalous) * self.radius

    def _directions(self, rng: Generator, n: int) -> Points:
        """Points (n, D) uniform on the unit sphere."""
        points = rng.normal(size=(n, self.dimension))
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        return points
