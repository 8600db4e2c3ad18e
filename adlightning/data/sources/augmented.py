"""Another source with flipped and rotated images: a data set whose normals come in many orientations."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import horizontal_flip, rotate

from adlightning.core.contracts import InputSpec
from adlightning.data.sources.base import ClassSource, LazyImages, Part, Samples


class Augmented(ClassSource):
    """The images of another source, each once flipped at random and rotated by a random angle; uint8 (N, C, H, W).

    The augmented CIFAR-10 of DROCC (Goyal et al., 2020), Table 4: the data set itself is changed, its training and its
    test part, and stays as it is from epoch to epoch. What the rotation leaves open is black. Images that the source
    decodes when asked for are changed then.

    Args:
        source: a class-labelled source of images.
        flip: flip horizontally with probability 1/2.
        degrees: the angle is uniform in [-degrees, degrees], in [0, 180].
        seed: of all draws, which do not depend on the run's seed.

    Raises:
        ValueError: an argument outside its range, or, on loading, a source of something other than images.
    """

    def __init__(self, source: ClassSource, flip: bool = True, degrees: float = 30.0, seed: int = 0) -> None:
        if not 0 <= degrees <= 180:
            raise ValueError(f"degrees must lie in [0, 180], got {degrees}")
        if seed < 0:
            raise ValueError(f"seed must not be negative, got {seed}")
        self.source = source
        self.flip = flip
        self.degrees = degrees
        self.seed = seed
        self.name = f"{source.name} (augmented)"
        self.classes = source.classes

    def prepare(self) -> None:
        """What the source prepares."""
        self.source.prepare()

    def input_spec(self) -> InputSpec:
        """That of the source. Raises ValueError when it holds no images."""
        spec = self.source.input_spec()
        if spec.kind != "image":
            raise ValueError(f"source must hold images to be augmented, got {spec}")
        return spec

    def load(self, part: Part) -> Samples:
        """One part of the source with its images changed; names stay."""
        self.input_spec()
        samples = self.source.load(part)
        self.classes = self.source.classes
        rng = np.random.default_rng([self.seed, int(part == "test")])
        n = len(samples.y)
        flips = rng.uniform(size=n) < (0.5 if self.flip else 0.0)
        changed = _Changed(samples.x, flips, rng.uniform(-self.degrees, self.degrees, size=n))
        x: Tensor | LazyImages = changed
        if isinstance(samples.x, Tensor):
            x = torch.empty_like(samples.x)
            for i in range(n):  # every image has an angle of its own: about 0.1 ms for one of 32x32
                x[i] = changed[i]
        return Samples(x, samples.y, samples.names)


class _Changed:
    """Images flipped and rotated when asked for, by `flips` (N,) and `angles` (N,) in degrees."""

    def __init__(self, images: Tensor | LazyImages, flips: NDArray[np.bool_], angles: NDArray[np.float64]) -> None:
        self.images, self.flips, self.angles = images, flips, angles

    def __len__(self) -> int:
        return len(self.angles)

    def __getitem__(self, index: int) -> Tensor:
        image = self.images[index]
        image = horizontal_flip(image) if self.flips[index] else image
        rotated: Tensor = rotate(image, float(self.angles[index]), interpolation=InterpolationMode.BILINEAR, fill=0)
        return rotated
