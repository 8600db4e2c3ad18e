"""What a source is: raw arrays, labels and names. A source knows nothing of protocols."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from adlightning.core.contracts import InputSpec

Part = Literal["train", "test"]


class LazyImages(Protocol):
    """Images that are decoded when asked for: what does not fit the memory budget."""

    def __len__(self) -> int:
        """Number of images."""
        ...

    def __getitem__(self, index: int) -> Tensor:
        """One image, uint8 (C, H, W). Raises :class:`SourceError` naming the file when it cannot be decoded."""
        ...


@dataclass(frozen=True)
class Samples:
    """One part of a source.

    Args:
        x: uint8 images (N, C, H, W), features (N, D) or series (N, T, D) in float32 or float64, or :class:`LazyImages`.
        y: int64 (N,). The class index, or, in an anomaly-labelled source, 0 normal, 1 anomaly, -1 not labelled.
        names: one name a sample, for score tables: a file's relative path, a row's number, `test/123`.
    """

    x: Tensor | LazyImages
    y: NDArray[np.int64]
    names: Sequence[str]

    def __post_init__(self) -> None:
        if not len(self.x) == len(self.y) == len(self.names):
            raise ValueError(f"x, y and names differ in length: {len(self.x)}, {len(self.y)}, {len(self.names)}")


class Source(ABC):
    """Where samples come from. Nothing is read or downloaded by the constructor, which only validates arguments."""

    name: str
    """In words, for messages and run descriptions: `MNIST`."""

    def prepare(self) -> None:
        """Download what is missing, when asked to. Called on one process only."""
        return

    @abstractmethod
    def input_spec(self) -> InputSpec:
        """Kind and shape of a sample."""


class ClassSource(Source):
    """A source whose samples belong to named classes, with official training and test parts."""

    classes: tuple[str, ...]
    """Class names; `y` indexes them. May be filled on first load."""

    @abstractmethod
    def load(self, part: Part) -> Samples:
        """One official part. Raises :class:`SourceError`."""


class AnomalySource(Source):
    """A source whose samples come labelled as normal (0), anomaly (1) or not at all (-1)."""

    @abstractmethod
    def load(self, part: Part) -> Samples | None:
        """One part; None for a test part that the source does not have. Raises :class:`SourceError`."""
