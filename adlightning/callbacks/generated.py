"""Pictures of what a detector makes: reconstructions beside their images, a search step by step, generated samples.

A detector that has `reconstructions`, `filmstrip` or `generated` gets them after a test on images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adlightning.callbacks.plots import COLOURS, ShownImage, image_rows
from adlightning.core.detector import AnomalyDetector
from adlightning.core.metrics import ScoredSamples
from adlightning.core.scoring import scoring
from adlightning.labels import ANOMALY, NORMAL
from adlightning.preprocessing import Output

Images = Callable[[NDArray[np.int64]], Tensor]

_RANGES: dict[Output, tuple[float, float]] = {"tanh": (-1.0, 1.0), "sigmoid": (0.0, 1.0)}
_N_SHOWN = 10
_N_GENERATED = 60
_KINDS = {NORMAL: "normal", ANOMALY: "anomaly"}


@runtime_checkable
class Reconstructing(Protocol):
    """A detector that reproduces raw samples (B, ...), in the preprocessed range."""

    def reconstructions(self, x: Tensor) -> Tensor:
        """Reconstructions (B, C, H, W)."""
        ...


@runtime_checkable
class Searching(Protocol):
    """A detector that searches for what reproduces a raw sample, step by step."""

    def filmstrip(self, x: Tensor) -> Tensor:
        """Images before and after each step, (B, steps + 1, C, H, W), in the preprocessed range."""
        ...


@runtime_checkable
class Generating(Protocol):
    """A detector that makes samples."""

    def generated(self, n: int) -> Tensor:
        """Images (n, C, H, W), in the preprocessed range; fewer where each takes long, none where it makes none."""
        ...


def write_generated(
    folder: Path, detector: AnomalyDetector, scored: ScoredSamples, images: Images, title_prefix: str
) -> list[Path]:
    """What the detector can show of these test images, as PNG files in `folder`; returns their paths.

    `reconstructions.png`: of each kind, images and their reconstructions, from the least to the most anomalous.
    `filmstrip.png`: of each kind, the image of median score and what reproduces it, step by step.
    `generated.png`: samples.
    """
    if not np.isfinite(scored.scores).all():
        return []
    with scoring(detector):
        return _pictures(folder, detector, scored, images, title_prefix)


def _pictures(
    folder: Path, detector: AnomalyDetector, scored: ScoredSamples, images: Images, title_prefix: str
) -> list[Path]:
    written = []
    kinds = [kind for kind in _KINDS if (scored.labels == kind).any()]
    if isinstance(detector, Reconstructing) and kinds:
        rows, captions, colours = [], [], []
        for kind in kinds:
            chosen = _spread(scored, kind, _N_SHOWN)
            raw = images(scored.index[chosen]).to(detector.device)
            rows += [detector.preprocess(raw), detector.reconstructions(raw)]
            captions += [[f"{score:.4g}" for score in scored.scores[chosen]], [""] * len(chosen)]
            colours += [COLOURS[kind]] * 2
        title = f"{title_prefix}: images of rising score, normal and anomalous, each above its reconstruction"
        path = folder / "reconstructions.png"
        written.append(rows_of_images(path, rows, captions, colours, detector.preprocess.output, title))
    if isinstance(detector, Searching) and kinds:
        rows, captions, colours = [], [], []
        for kind in kinds:
            raw = images(scored.index[_spread(scored, kind, 1)]).to(detector.device)
            film = detector.filmstrip(raw)[0]
            steps = np.unique(np.linspace(0, len(film) - 1, min(_N_SHOWN, len(film))).round().astype(int))
            rows.append(torch.cat([detector.preprocess(raw), film[torch.from_numpy(steps).to(film.device)]]))
            captions.append([_KINDS[kind], *(f"step {step}" for step in steps)])
            colours.append(COLOURS[kind])
        title = f"{title_prefix}: the search for a normal and for an anomalous image"
        path = folder / "filmstrip.png"
        written.append(rows_of_images(path, rows, captions, colours, detector.preprocess.output, title))
    if isinstance(detector, Generating) and len(images_made := detector.generated(_N_GENERATED)):
        made = list(images_made.split(_N_SHOWN))
        captions, colours = [[""] * _N_SHOWN] * len(made), ["0.7"] * len(made)
        path, title = folder / "generated.png", f"{title_prefix}: generated samples"
        written.append(rows_of_images(path, made, captions, colours, detector.preprocess.output, title))
    return written


def _spread(scored: ScoredSamples, kind: int, n: int) -> NDArray[np.int64]:
    """Positions of up to `n` samples of a kind, evenly over the ranks of their scores; the median's for one."""
    of_kind = np.flatnonzero(scored.labels == kind)
    ascending = of_kind[np.argsort(scored.scores[of_kind], kind="stable")]
    places = np.linspace(0, len(ascending) - 1, min(n, len(ascending))) if n > 1 else [(len(ascending) - 1) / 2]
    chosen: NDArray[np.int64] = ascending[np.round(places).astype(int)]
    return chosen


def rows_of_images(
    path: Path,
    rows: Sequence[Tensor],
    captions: Sequence[Sequence[str]],
    colours: Sequence[str],
    output: Output,
    title: str,
) -> Path:
    """Rows of preprocessed images (K, C, H, W), of 1 or 3 channels; others show their first channel."""
    shown = []
    for row, words, colour in zip(as_pixels(rows, output), captions, colours, strict=True):
        pixels = (row if row.shape[1] == 3 else row[:, :1]).numpy()
        shown.append([ShownImage(image, caption, colour) for image, caption in zip(pixels, words, strict=True)])
    return image_rows(path, shown, {}, title)


def as_pixels(rows: Sequence[Tensor], output: Output) -> list[Tensor]:
    """Preprocessed images (K, C, H, W) as uint8, each row by the range of the output or, without one, of the first."""
    low, high = _RANGES.get(output) or (float(rows[0].min()), float(rows[0].max()))
    return [((row.float().cpu() - low) / max(high - low, 1e-12)).clamp(0, 1).mul(255).round().byte() for row in rows]
