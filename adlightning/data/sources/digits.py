"""scikit-learn's bundled handwritten digits: real images that need no download."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from adlightning.core.contracts import InputSpec
from adlightning.data.sources.base import ClassSource, Part, Samples


class Digits(ClassSource):
    """The 1,797 handwritten 8x8 digits that come with scikit-learn, uint8 (N, 1, 8, 8), classes `0` to `9`.

    The set has no official parts. Here every third image of each class, in the order of scikit-learn, is a test
    image (596), the others are for training (1,201): stratified, and the same for every seed and library version.
    Grey values 0..16 are rescaled to 0..255.
    """

    name = "Digits"
    classes = tuple("0123456789")

    def input_spec(self) -> InputSpec:
        """Images of 1x8x8."""
        return InputSpec("image", (1, 8, 8), self.name)

    def load(self, part: Part) -> Samples:
        """One part; names are `digits/` and the position in scikit-learn's set."""
        images, y = _bundled()
        in_test = np.zeros(len(y), dtype=bool)
        for label in range(10):
            in_test[np.flatnonzero(y == label)[2::3]] = True
        rows = np.flatnonzero(in_test == (part == "test"))
        x = np.rint(images[rows] * (255 / 16)).astype(np.uint8)
        return Samples(torch.from_numpy(x[:, None]), y[rows], tuple(f"digits/{row}" for row in rows))


@cache
def _bundled() -> tuple[NDArray[Any], NDArray[Any]]:
    """Images and classes, read once in a process; they are not written to."""
    bunch = load_digits()
    return bunch.images, bunch.target.astype(np.int64)
