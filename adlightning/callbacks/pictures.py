"""All pictures of a run: of its test sets, or, where nothing is tested, of what the threshold was fitted to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from adlightning.callbacks.boundary import boundary_axes, write_boundary
from adlightning.callbacks.densities import write_densities
from adlightning.callbacks.description import finite
from adlightning.callbacks.events import write_events
from adlightning.callbacks.extremes import kinds_of, write_extremes
from adlightning.callbacks.generated import write_generated
from adlightning.callbacks.heatmaps import write_heatmaps
from adlightning.callbacks.negatives import write_negatives
from adlightning.callbacks.plots import write_plots
from adlightning.core.detector import AnomalyDetector
from adlightning.data.windows import Windows
from adlightning.labels import KNOWN_ANOMALY


def write_test_pictures(
    folder: Path, detector: AnomalyDetector, boundary_features: Sequence[str | int] | None = None
) -> list[Path]:
    """Pictures of every test set that was scored, and what the method has of its own; their paths.

    Args:
        folder: for the pictures; of several test sets each has a folder in it.
        detector: with its results, and the trainer that tested it.
        boundary_features: two features, by name or index, over which the decision boundary is drawn; None draws it for
            a table of two features.
    """
    several = len(detector.results) > 1
    title = f"{type(detector).__name__} on {detector.data.input_spec.description}"
    axes = boundary_axes(detector.data.input_spec, boundary_features)
    written: list[Path] = []
    for name, scored in detector.results.items():
        own = folder / name if several else folder
        words = f"{title}, test set {name}" if several else title
        read = _image_reader(detector, name)
        written += write_plots(
            own,
            scored,
            images=read,
            threshold=finite(detector.threshold_over(scored.scores)),
            names=detector.data.sample_names(name),
            title_prefix=words,
        )
        if read is not None:
            kinds, about = kinds_of(detector.data, scored), f"{words}: the extremes of each class"
            written += write_extremes(own / "extremes.png", scored, kinds, read, about)
            written += write_generated(own, detector, scored, read, words)
            about = f"{words}: the most anomalous images of each kind, and where"
            written += write_heatmaps(
                own / "heatmaps.png", detector, scored, read, detector.data.sample_names(name), about
            )
        if isinstance(detector.data, Windows):
            about = f"{words}: scores over time"
            written += write_events(own / "events.png", detector.data, scored, finite(detector.threshold.item()), about)
        if axes is not None:
            written.append(write_boundary(own / "boundary.png", detector, scored, axes, words))
    readers = {name: _image_reader(detector, name) for name in detector.results}
    written += write_negatives(folder / "negatives.png", detector, axes, title)
    split = detector.data.split
    training = (split.train[split.known != KNOWN_ANOMALY], detector.data.train_images)
    return written + write_densities(folder / "densities.png", detector, detector.results, readers, training)


def write_fit_pictures(folder: Path, detector: AnomalyDetector) -> list[Path]:
    """Pictures of the samples that the threshold was fitted to; their paths, none where there are no such samples."""
    data, scored = detector.data, detector.threshold_samples
    if scored is None:
        return []
    which = "held-out" if np.isin(scored.index, data.held_out_index()).all() else "training"
    return write_plots(
        folder,
        scored,
        images=None if data.input_spec.kind != "image" else data.train_images,
        threshold=finite(detector.threshold.item()),
        names=data.train_samples.names,
        title_prefix=f"{type(detector).__name__} on {data.input_spec.description}, {which} samples",
    )


def _image_reader(detector: AnomalyDetector, name: str) -> Callable[[NDArray[np.int64]], torch.Tensor] | None:
    if detector.data.input_spec.kind != "image":
        return None

    def read(index: NDArray[np.int64]) -> torch.Tensor:
        images = detector.data.test_images(name, index)
        assert images is not None
        return images

    return read
