"""Noise images: anomalies that look like nothing at all, drawn when asked for."""

from __future__ import annotations

import copy
from abc import abstractmethod

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from adlightning.core.contracts import InputSpec, SourceError
from adlightning.data.sources.base import ClassSource, Part, Samples

Shape = tuple[int, int, int]


class Noise(ClassSource):
    """Images whose values are drawn independently, uint8 (N, C, H, W); a test part alone, of one class.

    The i-th image depends on its number, the seed and the shape only: more images leave the others as they were.

    Args:
        n: number of images.
        shape: `[C, H, W]`; null takes that of the normal images, in `OutOfDistribution`.
        seed: of all draws, which do not depend on the run's seed.

    Raises:
        ValueError: an argument outside its range.
    """

    classes = ("noise",)

    def __init__(self, n: int = 10_000, shape: Shape | None = None, seed: int = 0) -> None:
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        if shape is not None and (len(shape) != 3 or min(shape) < 1):
            raise ValueError(f"shape must be three positive numbers, channels, height and width, got {list(shape)}")
        if seed < 0:
            raise ValueError(f"seed must not be negative, got {seed}")
        self.n = n
        self.shape: Shape | None = None if shape is None else (shape[0], shape[1], shape[2])
        self.seed = seed

    def of_shape(self, shape: Shape) -> Noise:
        """The same noise as images (C, H, W) of this shape, unless it has one of its own."""
        shaped = copy.copy(self)
        shaped.shape = self.shape or shape
        return shaped

    def input_spec(self) -> InputSpec:
        """Images of the shape. Raises ValueError while there is none."""
        return InputSpec("image", self._shape(), self.name)

    def load(self, part: Part) -> Samples:
        """The test part, drawn image by image when asked for; names are `test/0`, `test/1`, ...

        Raises:
            SourceError: the training part, which there is not.
        """
        if part == "train":
            raise SourceError(f"{self.name} is for testing only, it has no training part")
        images = _NoiseImages(self, self._shape())
        return Samples(images, np.zeros(self.n, dtype=np.int64), tuple(f"test/{i}" for i in range(self.n)))

    def _shape(self) -> Shape:
        if self.shape is None:
            raise ValueError(f"shape must be given where there are no normal images to take it from, for {self.name}")
        return self.shape

    @abstractmethod
    def draw(self, rng: Generator, shape: Shape) -> NDArray[np.uint8]:
        """One image."""


class UniformNoise(Noise):
    """Images whose values are uniform on 0..255: the uniform noise of ODIN (Liang et al., ICLR 2018).

    Args:
        n: number of images.
        shape: `[C, H, W]`; null takes that of the normal images, in `OutOfDistribution`.
        seed: of all draws, which do not depend on the run's seed.

    Raises:
        ValueError: an argument outside its range.
    """

    name = "uniform noise"

    def draw(self, rng: Generator, shape: Shape) -> NDArray[np.uint8]:
        """One image."""
        return rng.integers(0, 256, shape, dtype=np.uint8)


class GaussianNoise(Noise):
    """Images whose values are normal with mean 127.5, rounded and clipped to 0..255.

    With the standard deviation 255, one in units of [0, 1], it is the Gaussian noise of ODIN (Liang et al., ICLR 2018),
    in which about 62 % of the values are clipped.

    Args:
        n: number of images.
        std: standard deviation before clipping, in units of pixel values.
        shape: `[C, H, W]`; null takes that of the normal images, in `OutOfDistribution`.
        seed: of all draws, which do not depend on the run's seed.

    Raises:
        ValueError: an argument outside its range.
    """

    name = "Gaussian noise"

    def __init__(self, n: int = 10_000, std: float = 255.0, shape: Shape | None = None, seed: int = 0) -> None:
        super().__init__(n, shape, seed)
        if not std > 0:
            raise ValueError(f"std must be positive, got {std}")
        self.std = std

    def draw(self, rng: Generator, shape: Shape) -> NDArray[np.uint8]:
        """One image."""
        return np.rint(rng.normal(127.5, self.std, shape)).clip(0, 255).astype(np.uint8)


class _NoiseImages:
    """Images of some noise, drawn when asked for."""

    def __init__(self, noise: Noise, shape: Shape) -> None:
        self.noise, self.shape = noise, shape

    def __len__(self) -> int:
        return self.noise.n

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(self.noise.draw(np.random.default_rng([self.noise.seed, index]), self.shape))
