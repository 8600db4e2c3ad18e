"""Small images, features and series that a detector is trained on in a second, the same each time."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from adlightning.core.contracts import InputSpec, Kind
from adlightning.core.detector import AnomalyDetector
from adlightning.data.labelled import AnomalyLabelled
from adlightning.data.modules import AnomalyDataModule
from adlightning.data.one_vs_all import OneVsAll
from adlightning.data.sources.base import AnomalySource, ClassSource, Part, Samples
from adlightning.data.unlabelled import TransductiveLabelled, TransductiveOneVsAll


class Stripes(ClassSource):
    """Three classes of images (1, 16, 16), told apart by where a bright bar lies in the noise.

    Args:
        n_train: training images of each class.
        n_test: test images of each class.
    """

    name = "stripes"
    classes = ("left", "middle", "right")

    def __init__(self, n_train: int = 60, n_test: int = 30) -> None:
        self.sizes = {"train": n_train, "test": n_test}

    def input_spec(self) -> InputSpec:
        """Images of one channel."""
        return InputSpec("image", (1, 16, 16))

    def load(self, part: Part) -> Samples:
        """Class by class."""
        n = self.sizes[part]
        rng = np.random.default_rng(len(part))
        x = rng.integers(0, 60, (3 * n, 1, 16, 16))
        y = np.repeat(np.arange(3), n)
        for label in range(3):
            x[y == label, :, :, 5 * label : 5 * label + 5] += 180
        return Samples(torch.from_numpy(x.astype(np.uint8)), y, tuple(f"{part}/{i}" for i in range(3 * n)))


class Blobs(AnomalySource):
    """Rows of six features on very different scales: 200 around zero are normal, 40 far from it are anomalies."""

    name = "blobs"

    def input_spec(self) -> InputSpec:
        """Columns `a` to `f`."""
        return InputSpec("table", (6,), features=tuple("abcdef"))

    def load(self, part: Part) -> Samples | None:
        """All rows; there is no test part of its own."""
        if part == "test":
            return None
        rng = np.random.default_rng(0)
        scale = np.array([1, 10, 100, 0.1, 1, 5])
        x = np.concatenate([rng.normal(size=(200, 6)), rng.normal(size=(40, 6)) * 0.5 + 6]) * scale
        y = np.repeat([0, 1], [200, 40])
        return Samples(torch.from_numpy(x.astype(np.float32)), y, tuple(str(i) for i in range(240)))


class Waves(AnomalySource):
    """Series of six steps and two features: 80 are normal, 20 are four times as loud."""

    name = "waves"

    def input_spec(self) -> InputSpec:
        """Series (6, 2)."""
        return InputSpec("series", (6, 2))

    def load(self, part: Part) -> Samples | None:
        """All series; there is no test part of its own."""
        if part == "test":
            return None
        y = np.repeat([0, 1], [80, 20])
        x = np.random.default_rng(0).normal(size=(100, 6, 2)) * (1 + 3 * y[:, None, None])
        return Samples(torch.from_numpy(x.astype(np.float32)), y, tuple(map(str, range(100))))


def small_data(kind: Kind, detector: type[AnomalyDetector] = AnomalyDetector, **options: Any) -> AnomalyDataModule:
    """A datamodule of a kind, with what a detector's class needs: known anomalies, unlabelled samples.

    Args:
        kind: `image` (one class of :class:`Stripes` is normal), `table` (:class:`Blobs`) or `series` (:class:`Waves`).
        detector: whose data they are; with `needs_unlabelled` the test set is among them without its labels.
        options: of the datamodule, `batch_size` for one.

    Example:
        >>> small_data("table").batch_size
        32
    """
    given: dict[str, Any] = {"seed": 0, "labelled_anomaly_ratio": 0.1, "batch_size": 32}
    if kind == "image":
        images = TransductiveOneVsAll if detector.needs_unlabelled else OneVsAll
        given |= {"batch_size": 16, "labelled_classes": ["middle"]}
        return images(source=Stripes(), normal_class="left", **{**given, **options})
    rows = TransductiveLabelled if detector.needs_unlabelled else AnomalyLabelled
    return rows(source=Blobs() if kind == "table" else Waves(), **{**given, **options})
