"""The negatives that a detector generates around its training samples (DROCC, Figure 1a).

matplotlib is imported only when something is drawn.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from adlightning.callbacks.generated import rows_of_images
from adlightning.callbacks.plots import COLOURS, titled_figure
from adlightning.core.detector import AnomalyDetector
from adlightning.core.scoring import scoring
from adlightning.labels import ANOMALY, KNOWN_ANOMALY, NORMAL

_MAX_POINTS = 1000
_MAX_IMAGES = 10


@runtime_checkable
class GeneratingNegatives(Protocol):
    """A detector that makes negatives of normal samples."""

    def negatives(self, x: Tensor) -> Tensor:
        """Of raw samples (B, ...) a negative each, preprocessed."""
        ...


def write_negatives(
    path: Path, detector: AnomalyDetector, axes: tuple[int, int] | None, title_prefix: str
) -> list[Path]:
    """Draw normal training samples and the negatives that they have now; returns what was written.

    Of images up to ten, each above its negative; of a table the two features of `axes`, as the network gets them, so
    that distances are those of the search. Nothing for a detector that makes no negatives, for series, and for a table
    without axes.
    """
    data = detector.data
    if not isinstance(detector, GeneratingNegatives) or (axes is None and data.input_spec.kind != "image"):
        return []
    rows, known = data.training_rows()
    normal = rows[known != KNOWN_ANOMALY]
    limit = _MAX_POINTS if axes is not None else _MAX_IMAGES
    chosen = normal[np.linspace(0, len(normal) - 1, min(len(normal), limit)).astype(int)]
    x = data.train_samples.x
    raw = (x[chosen] if isinstance(x, Tensor) else data.train_images(chosen)).to(detector.device)
    with scoring(detector):
        samples, negatives = detector.preprocess(raw), detector.negatives(raw)
    if axes is None:
        title = f"{title_prefix}: training images, each above the negative that it has now"
        captions = [[""] * len(raw)] * 2
        colours = [COLOURS[NORMAL], COLOURS[ANOMALY]]
        return [rows_of_images(path, [samples, negatives], captions, colours, detector.preprocess.output, title)]
    points, generated = (part[:, axes].float().cpu().numpy() for part in (samples, negatives))
    names = [data.input_spec.features[i] if data.input_spec.features else f"feature {i}" for i in axes]
    with titled_figure(path, (6.6, 6.3), f"{title_prefix}: negatives around the training samples") as figure:
        panel = figure.add_subplot(aspect="equal")
        for xy, kind, what in ((generated, ANOMALY, "negatives"), (points, NORMAL, "training samples")):
            label = f"{what} ({len(xy):,})"
            panel.scatter(xy[:, 0], xy[:, 1], s=8, color=COLOURS[kind], linewidths=0, label=label)
        labels = [f"{textwrap.shorten(name, 45, placeholder='…')}, preprocessed" for name in names]
        panel.set_xlabel(labels[0], parse_math=False)
        panel.set_ylabel(labels[1], parse_math=False)
        figure.legend(loc="outside lower center", ncols=2)
    return [path]
