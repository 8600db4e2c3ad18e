"""The most and the least anomalous images within each class: ADGAN, Figures 3 to 8."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from adlightning.callbacks.plots import COLOURS, titled_figure
from adlightning.core.metrics import ScoredSamples
from adlightning.data.modules import AnomalyDataModule
from adlightning.data.one_vs_all import OneVsAll
from adlightning.labels import ANOMALY, NORMAL

_IN_ROW = 8
_ROWS_OF_NORMALS = 3  # as many as the paper shows of a scene
_MOST_CLASSES = 12
_GAP = 0.6  # between halves and between classes, in widths and heights of an image


def kinds_of(data: AnomalyDataModule, scored: ScoredSamples) -> list[str]:
    """The class of each scored test sample (N,), in words; or, of data without classes, whether it is normal."""
    if isinstance(data, OneVsAll):
        return [data.source.classes[i] for i in data.test_samples.y[scored.index]]
    return [{NORMAL: "normal", ANOMALY: "anomaly"}.get(label, "not labelled") for label in scored.labels.tolist()]


def extremes(scores: NDArray[np.float64], n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of up to `n` highest finite scores, falling, and of up to `n` lowest, rising; none is in both."""
    ascending = np.argsort(scores, kind="stable")
    ascending = ascending[np.isfinite(scores[ascending])]
    n_most = min(n, (len(ascending) + 1) // 2)
    return ascending[::-1][:n_most], ascending[: min(n, len(ascending) - n_most)]


def write_extremes(
    path: Path,
    scored: ScoredSamples,
    kinds: Sequence[str],
    images: Callable[[NDArray[np.int64]], Tensor],
    title: str,
) -> list[Path]:
    """A block of images a class, the most anomalous left and the least right, those of normal classes first.

    Args:
        path: the PNG that is written.
        scored: scores, labels and indices (N,) of the test samples.
        kinds: each one's class (N,), in words.
        images: from indices (K,) to raw uint8 images (K, C, H, W), of 1 or 3 channels.
        title: of the figure.

    Returns:
        The path; nothing for fewer than two classes, which other plots show, or images of other channels.
    """
    of = np.array(kinds)
    normal = sorted(set(of[scored.labels == NORMAL].tolist()))
    classes = [*normal, *sorted(set(of.tolist()) - set(normal))]
    blocks = []
    for kind in classes[:_MOST_CLASSES]:
        rows = np.flatnonzero(of == kind)
        halves = extremes(scored.scores[rows], _IN_ROW * (_ROWS_OF_NORMALS if kind in normal else 1))
        if all(map(len, halves)):
            blocks.append((kind, [rows[half] for half in halves]))
    if len(classes) < 2 or not blocks or images(scored.index[:1]).shape[1] not in (1, 3):
        return []
    pictures = [(kind, [(scored.scores[half], images(scored.index[half])) for half in both]) for kind, both in blocks]
    tall = [max(-(-len(shown) // _IN_ROW) for _, shown in both) + _GAP for _, both in pictures]
    wide = 2 * _IN_ROW + _GAP
    with titled_figure(path, (8.5, 8.5 * sum(tall) / (wide + 3) + 0.8), title) as figure:
        axes = figure.add_subplot(xlim=(-3, wide), ylim=(-sum(tall), 0), aspect="auto")
        axes.axis("off")
        top = 0.0
        for (kind, both), height in zip(pictures, tall, strict=True):
            top -= _GAP
            colour = COLOURS[NORMAL] if kind in normal else "black"
            name = textwrap.shorten(kind, 24, placeholder=" ...")
            axes.text(-0.3, top, name, ha="right", va="top", fontsize=9, color=colour, parse_math=False)
            for left, (scores, shown) in zip((0.0, _IN_ROW + _GAP), both, strict=True):
                which = "most" if left == 0 else "least"
                words = f"{which} anomalous: {scores[0]:.3g} to {scores[-1]:.3g}"
                axes.text(left, top + 0.06, words, va="bottom", fontsize=7)
                pixels, n_rows = mosaic(shown), -(-len(shown) // _IN_ROW)
                axes.imshow(
                    pixels[:, :, 0] if pixels.shape[2] == 1 else pixels,
                    extent=(left, left + _IN_ROW, top - n_rows, top),
                    cmap="gray",
                    vmin=0,
                    vmax=255,
                    interpolation="nearest" if shown.shape[2] <= 64 else "auto",
                    aspect="auto",
                )
            top -= height - _GAP
    return [path]


def mosaic(images: Tensor) -> NDArray[np.uint8]:
    """Images (K, C, H, W) side by side, eight in a row, each with a white line right and below: (rows, columns, C)."""
    x = images.cpu().numpy()
    n_rows = -(-len(x) // _IN_ROW)
    framed = np.full((n_rows * _IN_ROW, x.shape[1], x.shape[2] + 1, x.shape[3] + 1), 255, dtype=np.uint8)
    framed[: len(x), :, :-1, :-1] = x
    _, channels, height, width = framed.shape
    by_row = framed.reshape(n_rows, _IN_ROW, channels, height, width).transpose(0, 3, 1, 4, 2)
    return by_row.reshape(n_rows * height, _IN_ROW * width, channels)
