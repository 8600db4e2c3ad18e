"""Pictures of a scored data set: ROC curve, score histogram, and the most and the least anomalous images.

Each function writes one PNG and returns its path. matplotlib is imported only when something is drawn, and without
pyplot, so that no display and no global figure is involved. Labels are 0 normal, 1 anomaly, -1 not labelled.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_curve
from torch import Tensor

from adlightning.core.metrics import ScoredSamples, ranking_metrics
from adlightning.files.disk import write_atomically
from adlightning.labels import ANOMALY, NO_LABEL, NORMAL

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# From the palette of Okabe and Ito, which colour-blind readers can tell apart.
COLOURS = {NORMAL: "#0072B2", ANOMALY: "#D55E00", NO_LABEL: "#7F7F7F"}
_WORDS = {NORMAL: "normal", ANOMALY: "anomaly", NO_LABEL: "not labelled"}
_STYLE: dict[Any, Any] = {
    "font.size": 11,
    "axes.formatter.limits": (-4, 5),
    "figure.titlesize": 12,
    "figure.constrained_layout.w_pad": 0.07,
    "figure.constrained_layout.h_pad": 0.07,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}
_MAX_IMAGES = 40
_N_EXTREME = 36
_kept: ContextVar[dict[str, Figure] | None] = ContextVar("kept", default=None)
_CENTRAL = (0.5, 99.5)  # percentiles between which the bulk of the scores lies


def roc_plot(path: Path, scores: ArrayLike, labels: ArrayLike, title: str) -> Path:
    """ROC curve with its AUROC and the recall at 5 % false positives; samples without label are left out.

    Arguments and errors are those of :func:`adlightning.core.metrics.ranking_metrics`.
    """
    metrics = ranking_metrics(scores, labels)
    s, y = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    fpr, tpr, _ = roc_curve(y[y != NO_LABEL], s[y != NO_LABEL])
    with titled_figure(path, (5.2, 5.4), title) as figure:
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=1, label="chance")
        axes.plot(fpr, tpr, color="0.1", linewidth=2, clip_on=False, label=f"AUROC {metrics['auroc']:.4f}")
        recall = metrics["recall_at_5_fpr"]
        axes.plot([0.05, 0.05], [0, recall], color=COLOURS[ANOMALY], linestyle=":", linewidth=1.5)
        mark: dict[str, Any] = {"marker": "o", "markersize": 6, "linestyle": ":", "clip_on": False, "zorder": 3}
        axes.plot([0.05], [recall], color=COLOURS[ANOMALY], label=f"TPR {recall:.3f} at 5 % FPR", **mark)
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axes.set(xlabel="false positive rate", ylabel="true positive rate")
        axes.legend(loc="lower right")
    return path


def without_bound(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores in which those at the end of float32, given to what overflowed or lay too far out, are infinite.

    Where there are no others they stay.
    """
    at_end = np.abs(scores) >= float(np.finfo(np.float32).max)
    return scores if at_end.all() else np.where(at_end, np.copysign(np.inf, scores), scores)


def histogram_plot(path: Path, scores: ArrayLike, labels: ArrayLike, threshold: float | None, title: str) -> Path:
    """Histogram of the scores of each kind of sample, each normalised to its own number, and the threshold.

    The axis is logarithmic where positive scores span more than two decades, and shows the bulk only where a few
    scores lie far out; the axis says so. Scores that are not finite are counted there too. Raises ValueError when no
    score is finite.
    """
    s, y = without_bound(np.asarray(scores, dtype=np.float64)), np.asarray(labels)
    finite = np.isfinite(s)
    if not finite.any():
        raise ValueError(f"a histogram needs a finite score, there is none among {len(s)}")
    low, high, log = score_axis(s[finite], threshold)
    n_bins = int(np.clip(math.sqrt(finite.sum()), 10, 50))
    edges = np.geomspace(low, high, n_bins + 1) if log else np.linspace(low, high, n_bins + 1)
    with titled_figure(path, (6.4, 4.6), title) as figure:
        axes = figure.add_subplot()
        for label in (NORMAL, ANOMALY, NO_LABEL):
            if not (n := int(np.sum(y == label))):
                continue
            of_kind = s[finite & (y == label)]
            style: dict[str, Any] = {"bins": edges, "weights": np.full(len(of_kind), 100 / n)}
            axes.hist(of_kind, color=COLOURS[label], alpha=0.35, label=f"{_WORDS[label]} ({n:,})", **style)
            axes.hist(of_kind, color=COLOURS[label], histtype="step", linewidth=1.2, **style)
        shown = threshold is not None and low <= threshold <= high
        if threshold is not None and shown:
            axes.axvline(threshold, color="black", linestyle="--", linewidth=1.3, label=f"threshold {threshold:.4g}")
        notes = left_out(s, low, high) + (
            [] if shown or threshold is None else [f"beyond this axis: the threshold, {threshold:.4g}"]
        )
        axes.set(xlim=(low, high), ylabel="share of its kind per bin (%)")
        if log:
            axes.set_xscale("log")
        else:
            axes.locator_params(axis="x", nbins=7)
        axes.set_xlabel("\n".join(["anomaly score" + (" (logarithmic axis)" if log else ""), *notes]))
        figure.legend(loc="outside lower center", ncols=3 if len(axes.get_legend_handles_labels()[0]) <= 3 else 2)
    return path


def image_grid(
    path: Path, images: Tensor | NDArray[np.uint8], captions: Sequence[str], labels: ArrayLike, title: str
) -> Path:
    """A grid of images, row by row, each with its caption and in a frame coloured by its label.

    `images` are uint8 (K, C, H, W) with 1 or 3 channels and K in 1..40; `captions` and `labels` have K entries. Raises
    ValueError for anything else.
    """
    x, y = images.cpu().numpy() if isinstance(images, Tensor) else images, np.asarray(labels)
    if x.dtype != np.uint8 or x.ndim != 4:
        raise ValueError(f"images must be uint8 of shape (K, C, H, W), got {x.dtype} of shape {x.shape}")
    if x.shape[1] not in (1, 3):
        raise ValueError(f"images must have 1 or 3 channels to be shown, got {x.shape[1]}")
    if not 1 <= len(x) <= _MAX_IMAGES:
        raise ValueError(f"images must be 1 to {_MAX_IMAGES}, got {len(x)}")
    if not len(x) == len(captions) == len(y):
        raise ValueError(f"images, captions and labels differ in length: {len(x)}, {len(captions)}, {len(y)}")
    if not np.isin(y, list(COLOURS)).all():
        raise ValueError(f"labels must be 0, 1 or -1, got {sorted(set(y.tolist()) - set(COLOURS))}")
    n_columns = min(len(x), max(4, math.ceil(math.sqrt(len(x) * 2))))
    colours = [COLOURS[label] for label in y.tolist()]
    shown = [ShownImage(*cell) for cell in zip(x, captions, colours, strict=True)]
    rows = [shown[first : first + n_columns] for first in range(0, len(shown), n_columns)]
    return image_rows(path, rows, {_WORDS[k]: COLOURS[k] for k in COLOURS if np.any(y == k)}, title)


class ShownImage(NamedTuple):
    """An image (C, H, W), uint8, of 1 or 3 channels, the words above it, and the colour of its frame."""

    pixels: NDArray[np.uint8]
    caption: str
    colour: str


def image_rows(path: Path, rows: Sequence[Sequence[ShownImage]], legend: dict[str, str], title: str) -> Path:
    """Rows of images of one shape; `legend` has the colour of each word below them, if any.

    All lie on one pair of axes, of an inch a unit: axes for each would take most of the time.
    """
    height, width = rows[0][0].pixels.shape[1:]
    wide = min(1.05, 2.6 * width / height)  # inches
    tall = wide * height / width
    step, n_columns = 1.15, max(map(len, rows))
    lines = [max(image.caption.count("\n") + 1 if image.caption else 0 for image in row) for row in rows]
    heights = [tall + 0.16 * n + 0.08 for n in lines]
    with titled_figure(path, (max(step * n_columns, 5.0), sum(heights) + (0.9 if legend else 0.55)), title) as figure:
        from matplotlib.patches import Patch, Rectangle

        axes = figure.add_subplot(xlim=(0, step * n_columns), ylim=(-sum(heights), 0), aspect="equal")
        axes.axis("off")
        bottom = 0.0
        for row, row_height in zip(rows, heights, strict=True):
            bottom -= row_height
            for column, (pixels, caption, colour) in enumerate(row):
                left = step * (column + 0.5) - wide / 2
                # Smoothing would invent detail in 8x8 pixels; large photographs are shrunk and need it.
                axes.imshow(
                    pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0),
                    extent=(left, left + wide, bottom, bottom + tall),
                    cmap="gray",
                    vmin=0,
                    vmax=255,
                    interpolation="nearest" if height <= 64 else "auto",
                )
                frame = Rectangle((left, bottom), wide, tall, fill=False, edgecolor=colour, linewidth=2.5)
                axes.add_patch(frame).set_clip_on(False)
                text = axes.annotate(
                    caption,
                    (left + wide / 2, bottom + tall),
                    xytext=(0, 3),
                    textcoords="offset points",
                    ha="center",
                    va="bottom",
                    fontsize=7.5,
                    parse_math=False,  # a file's name may hold dollar signs
                )
                text.set_in_layout(False)
        if legend:
            patches = [Patch(color=colour, label=word) for word, colour in legend.items()]
            figure.legend(handles=patches, loc="outside lower center", ncols=len(patches), fontsize=10)
    return path


def write_plots(
    folder: Path,
    scored: ScoredSamples,
    images: Callable[[NDArray[np.int64]], Tensor] | None,
    threshold: float | None,
    names: Sequence[str],
    title_prefix: str,
) -> list[Path]:
    """Everything there is to see of a scored data set, as PNG files in `folder`; returns their paths.

    `scores.png` always; `roc.png` when both classes are there and their scores finite; `most_anomalous.png` and
    `least_anomalous.png`, 36 images each and no image in both, when `images` is given and returns images of 1 or 3
    channels; with a threshold each has its verdict. `images` maps indices (K,) to raw uint8 images (K, C, H, W);
    `names[i]` is the name of the sample with index i. Raises ValueError when no score is finite.
    """
    scores, labels, index = scored
    written = []
    if {NORMAL, ANOMALY} <= set(labels.tolist()) and np.isfinite(scores[labels != NO_LABEL]).all():
        written.append(roc_plot(folder / "roc.png", scores, labels, f"{title_prefix}: ROC curve"))
    written.append(histogram_plot(folder / "scores.png", scores, labels, threshold, f"{title_prefix}: anomaly scores"))
    if images is None:
        return written
    ascending = np.argsort(scores, kind="stable")
    ascending = ascending[np.isfinite(scores[ascending])]
    n_most = min(_N_EXTREME, (len(ascending) + 1) // 2)
    n_least = min(_N_EXTREME, len(ascending) - n_most)
    for which, chosen in ("most", ascending[::-1][:n_most]), ("least", ascending[:n_least]):
        if not len(chosen) or (pictures := images(index[chosen])).shape[1] not in (1, 3):
            break
        captions = [
            _caption(names[i], score, threshold) for i, score in zip(index[chosen], scores[chosen], strict=True)
        ]
        title = f"{title_prefix}: the {len(chosen)} {which} anomalous of {len(scores)} samples, and their scores"
        written.append(image_grid(folder / f"{which}_anomalous.png", pictures, captions, labels[chosen], title))
    return written


@contextmanager
def kept_as_figures() -> Iterator[dict[str, Figure]]:
    """Within, pictures are not written: they are kept as figures, by their path without its suffix."""
    figures: dict[str, Figure] = {}
    token = _kept.set(figures)
    try:
        yield figures
    finally:
        _kept.reset(token)


@contextmanager
def titled_figure(path: Path, size: tuple[float, float], title: str) -> Iterator[Figure]:
    """A titled figure of `size` inches to draw on, written to `path` at the end, whose folder is made."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(textwrap.fill(title, round(10.5 * size[0])), parse_math=False)
        yield figure
        if (kept := _kept.get()) is not None:
            kept[path.with_suffix("").as_posix()] = figure
            return
        drawn = io.BytesIO()
        figure.savefig(drawn, dpi=150, facecolor="white", format="png")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, drawn.getvalue())


def score_axis(scores: NDArray[np.float64], threshold: float | None) -> tuple[float, float, bool]:
    """Ends of the score axis and whether it is logarithmic."""
    q_low, q_high = np.percentile(scores, _CENTRAL)
    log = bool(scores.min() > 0 and q_high > 100 * q_low)
    ends = np.array([scores.min(), scores.max(), q_low, q_high])
    low, high, q_low, q_high = np.log10(ends) if log else ends
    if q_low < q_high and high - low > 2 * (q_high - q_low):
        margin = 0.1 * (q_high - q_low)
        low, high = max(low, q_low - margin), min(high, q_high + margin)
    if low == high:  # constant scores
        low, high = low - 0.5 * max(abs(low), 1e-3), high + 0.5 * max(abs(high), 1e-3)
    if threshold is not None and (not log or threshold > 0):
        t, width = math.log10(threshold) if log else threshold, high - low
        if low - width < t < high + width:  # a threshold further out would squeeze the scores into a corner
            low, high = min(low, t - 0.02 * width), max(high, t + 0.02 * width)
    # Widened by a rounding error, so that an extreme score does not fall off the end of a logarithmic axis.
    return (10.0 ** (low - 1e-9), 10.0 ** (high + 1e-9), True) if log else (float(low), float(high), False)


def left_out(scores: NDArray[np.float64], low: float, high: float) -> list[str]:
    """What the axis does not show, in words."""
    n_not_finite = int(np.sum(~np.isfinite(scores)))
    n_beyond = len(scores) - n_not_finite - int(np.sum((scores >= low) & (scores <= high)))
    counts = {"beyond this axis": n_beyond, "not finite or too large": n_not_finite}
    return [f"{what}: {n:,} of {len(scores):,} scores" for what, n in counts.items() if n]


def _caption(name: str, score: float, threshold: float | None) -> str:
    verdict = "" if threshold is None else f"\ncalled {_WORDS[ANOMALY if score > threshold else NORMAL]}"
    return f"{shortened(name)}\n{score:.4g}{verdict}"


def shortened(name: str) -> str:
    """The end of a name, as much as fits above a small image."""
    return name if len(name) <= 16 else f"…{name[-15:]}"
