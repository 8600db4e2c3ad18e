"""The decision boundary over two features of a table: who is called normal where (DROCC, Figures 1 and 5).

matplotlib is imported only when something is drawn.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adlightning.callbacks.plots import COLOURS, titled_figure
from adlightning.core.contracts import InputSpec
from adlightning.core.detector import AnomalyDetector
from adlightning.core.messages import quoted
from adlightning.core.metrics import ScoredSamples
from adlightning.core.scoring import score_batches
from adlightning.files.written_names import number
from adlightning.labels import ANOMALY, KNOWN_ANOMALY, NORMAL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap, Normalize

_Floats = NDArray[np.float64]

_RESOLUTION = 200  # points along each axis
_MARGIN = 0.1  # of the range of the samples, on each side
_MAX_POINTS = 2000  # of a kind; more would hide the plane
# From the palette of Okabe and Ito, as COLOURS; the pale shades are those near the threshold.
_YELLOW = "#F0E442"
_PALE = {NORMAL: "#D3E6F2", ANOMALY: "#FBE3D3"}
_SHARE_SHOWN = (2, 90)  # percentiles of the scores below and above the threshold where the shades end


class Plane(NamedTuple):
    """Scores (Y, X) at the points of a grid: `x` (X,) and `y` (Y,), both ascending, and the names of the two axes."""

    x: _Floats
    y: _Floats
    scores: _Floats
    names: tuple[str, str]


class Points(NamedTuple):
    """Samples on the plane, each (N, 2): training samples, known anomalies among them, and test anomalies."""

    training: _Floats
    known_anomalies: _Floats
    test_anomalies: _Floats


def boundary_axes(spec: InputSpec, features: Sequence[str | int] | None) -> tuple[int, int] | None:
    """The two features that span the plane: those asked for, by name or index, else those of a table of two.

    None when nothing was asked for and the input is no table of two features.

    Raises:
        ValueError: features of an input that is no table, not two different ones, or one that there is not.
    """
    if features is None:
        return (0, 1) if spec.kind == "table" and spec.shape == (2,) and spec.columns is None else None
    if spec.kind != "table":
        raise ValueError(f"boundary_features: only a table has features to choose, the data are {spec}")
    if spec.columns is not None:
        raise ValueError("boundary_features: a plane needs numbers, the data have missing values, categories or dates")
    found = [_feature_index(spec, feature) for feature in features]
    if len(found) != 2 or found[0] == found[1]:
        raise ValueError(f"boundary_features must be two different features, got {list(features)}")
    return found[0], found[1]


def write_boundary(
    path: Path, detector: AnomalyDetector, scored: ScoredSamples, axes: tuple[int, int], title_prefix: str
) -> Path:
    """Score the plane of two features with a tested detector, and draw it; returns `path`.

    The plane holds the training and the scored samples; other features are held at those of a central training sample,
    which the title names. Raises ValueError when no score of the plane is finite.
    """
    data, spec = detector.data, detector.data.input_spec
    rows, known = data.training_rows()
    train, test = data.train_samples.x, data.test_samples.x
    if not isinstance(train, Tensor) or not isinstance(test, Tensor):
        raise TypeError("the samples of a table lie in memory")
    rows, anomalies = rows[known != KNOWN_ANOMALY], train[rows[known == KNOWN_ANOMALY]]
    training = train[rows]
    tested = test[scored.index]
    shown = [part[:, axes].double().numpy() for part in (training, anomalies, tested)]
    names = _feature_name(spec, axes[0]), _feature_name(spec, axes[1])
    others = [i for i in range(spec.shape[0]) if i not in axes]
    central = central_sample(training[:, others].double().numpy())
    plane = score_plane(detector, training[central], axes, np.concatenate(shown), names)
    threshold = float(detector.threshold)
    title = f"{title_prefix}: decision boundary" if np.isfinite(threshold) else f"{title_prefix}: anomaly score"
    if n_held := len(others):
        name = textwrap.shorten(data.train_samples.names[rows[central]], 30, placeholder="…")
        title += f", {n_held} other feature{'s' if n_held > 1 else ''} as in training sample {name}"
    points = Points(shown[0], shown[1], shown[2][scored.labels == ANOMALY])
    return boundary_plot(path, plane, points, threshold if np.isfinite(threshold) else None, title)


def central_sample(samples: _Floats) -> int:
    """The one of `samples` (N, D) nearest to the medians, each feature in units of its deviation.

    A real sample, since a mean may be none: a column of 0 and 1 has a mean in between.
    """
    deviations = samples.std(axis=0)
    units = np.where(deviations > 0, deviations, 1.0)
    return int((((samples - np.median(samples, axis=0)) / units) ** 2).sum(axis=1).argmin())


def score_plane(
    detector: AnomalyDetector, held: Tensor, axes: tuple[int, int], samples: _Floats, names: tuple[str, str]
) -> Plane:
    """Scores over the range of `samples` (N, 2) with a margin, in the run's precision.

    `held` (D,) are the features of every point but for the two of `axes`.
    """
    low, high = samples.min(axis=0), samples.max(axis=0)
    margin = np.where(high > low, _MARGIN * (high - low), np.maximum(0.5 * np.abs(low), 0.5))  # never an empty range
    x, y = (np.linspace(low[i] - margin[i], high[i] + margin[i], _RESOLUTION) for i in range(2))
    points = held.repeat(_RESOLUTION**2, 1)
    for axis, values in zip(axes, np.meshgrid(x, y), strict=True):
        points[:, axis] = torch.from_numpy(values.ravel())
    with detector.trainer.precision_plugin.forward_context():
        scores = score_batches(detector, points.split(detector.data.eval_batch_size))
    return Plane(x, y, scores.reshape(_RESOLUTION, _RESOLUTION), names)


def boundary_plot(path: Path, plane: Plane, points: Points, threshold: float | None, title: str) -> Path:
    """The plane in blue where it is called normal and in red where anomalous, paler towards the threshold, with points.

    Without a threshold it is grey, darker for more anomalous. Raises ValueError when no score of it is finite.
    """
    scores = np.ma.masked_invalid(plane.scores)
    if not scores.count():
        raise ValueError(f"{path.stem} needs a finite score, there is none among {scores.size}")
    with titled_figure(path, (6.6, 6.3), title) as figure:
        axes = figure.add_subplot()
        norm, colours, ticks = _shades(scores.compressed(), threshold)
        half = [(values[1] - values[0]) / 2 for values in (plane.x, plane.y)]  # a pixel is centred on its point
        extent = (plane.x[0] - half[0], plane.x[-1] + half[0], plane.y[0] - half[1], plane.y[-1] + half[1])
        image = axes.imshow(
            scores, origin="lower", extent=extent, aspect="auto", cmap=colours, norm=norm, interpolation="bilinear"
        )
        bar = figure.colorbar(image, ax=axes, extend="both", label="anomaly score")
        bar.set_ticks(ticks, labels=[f"{tick:.3g}" for tick in ticks])
        bar.ax.minorticks_off()
        handles = _region_handles(scores, threshold)
        if threshold is not None and scores.min() < threshold < scores.max():
            # solid: a negative level would be dashed
            line: dict[str, Any] = {"colors": "black", "linewidths": 1.6, "linestyles": "solid"}
            axes.contour(plane.x, plane.y, scores, levels=[threshold], **line)
            bar.ax.axhline(threshold, color="black", linewidth=1.6)
        handles += _draw_points(axes, points)
        axes.set(xlim=extent[:2], ylim=extent[2:])
        x_label, y_label = (textwrap.shorten(name, 45, placeholder="…") for name in plane.names)
        if n_masked := scores.size - scores.count():
            x_label += f"\nwhite: {n_masked:,} of {scores.size:,} points without a finite score"
        axes.set_xlabel(x_label, parse_math=False)
        axes.set_ylabel(y_label, parse_math=False)
        figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return path


# ---- parts -----------------------------------------------------------------------------------------------------------


def _feature_name(spec: InputSpec, index: int) -> str:
    return spec.features[index] if spec.features else f"feature {index}"


def _feature_index(spec: InputSpec, feature: str | int) -> int:
    """A feature by its name, or by its index where no name is a number."""
    (n,), text = spec.shape, str(feature)
    if text in spec.features:
        return spec.features.index(text)
    by_index = all(number(name) is None for name in spec.features)
    if by_index and text.isdecimal() and int(text) < n:
        return int(text)
    indices = f" (or indices 0 to {n - 1})" if by_index else ", by name since names are numbers"
    names = f"{quoted(spec.features)}{indices}" if spec.features else f"0 to {n - 1}, without names"
    raise ValueError(f"boundary_features: there is no feature {feature!r}; features are {names}")


def _shades(scores: _Floats, threshold: float | None) -> tuple[Normalize, Colormap, list[float]]:
    """How scores become colours, and the ticks of the bar; a few scores far out do not decide it."""
    from matplotlib.colors import LinearSegmentedColormap, ListedColormap, Normalize, TwoSlopeNorm

    if threshold is None:
        low, high = np.percentile(scores, (_SHARE_SHOWN[0], 100 - _SHARE_SHOWN[0]))
        pale_to_dark = LinearSegmentedColormap.from_list("score", ["#F2F2F2", "#595959"])
        return Normalize(low, high if high > low else low + 1), pale_to_dark, [low, high]
    halves = [(COLOURS[NORMAL], _PALE[NORMAL]), (_PALE[ANOMALY], COLOURS[ANOMALY])]
    shades = [LinearSegmentedColormap.from_list("half", pair)(np.linspace(0, 1, 128)) for pair in halves]
    below, above = scores[scores <= threshold], scores[scores > threshold]
    least = max(1e-6 * abs(threshold), 1e-12)  # both halves have to be there
    low = min(np.percentile(below, _SHARE_SHOWN[0]), threshold - least) if len(below) else threshold - least
    high = max(np.percentile(above, _SHARE_SHOWN[1]), threshold + least) if len(above) else threshold + least
    ticks = [*([low] if len(below) else []), threshold, *([high] if len(above) else [])]
    return TwoSlopeNorm(threshold, low, high), ListedColormap(np.concatenate(shades)), [float(tick) for tick in ticks]


def _region_handles(scores: np.ma.MaskedArray[Any, Any], threshold: float | None) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    if threshold is None:
        return []
    there = {NORMAL: bool((scores <= threshold).any()), ANOMALY: bool((scores > threshold).any())}
    words = {NORMAL: "called normal", ANOMALY: "called anomaly"}
    handles: list[Any] = [Patch(color=COLOURS[kind], label=words[kind]) for kind in there if there[kind]]
    line = Line2D([], [], color="black", linewidth=1.6, label=f"threshold {threshold:.3g}")
    return [*handles, line] if all(there.values()) else handles


def _draw_points(axes: Axes, points: Points) -> list[Any]:
    """Draw the samples, the training samples on top; returns their entries of the legend."""
    styles: dict[str, dict[str, Any]] = {
        "test anomalies": {"marker": "o", "s": 9, "facecolors": "#222222", "linewidths": 0, "zorder": 3},
        "training samples": {"marker": "o", "s": 20, "facecolors": _YELLOW, "edgecolors": "black", "linewidths": 0.5},
        "known anomalies": {"marker": "^", "s": 34, "facecolors": _YELLOW, "edgecolors": "black", "linewidths": 0.9},
    }
    of_kind = dict(zip(styles, (points.test_anomalies, points.training, points.known_anomalies), strict=True))
    handles = []
    for kind, style in styles.items():
        if not (n := len(of_kind[kind])):
            continue
        chosen = of_kind[kind][np.linspace(0, n - 1, min(n, _MAX_POINTS)).astype(int)]
        count = f"{n:,}" if n <= _MAX_POINTS else f"{_MAX_POINTS:,} of {n:,}"
        handles.append(axes.scatter(chosen[:, 0], chosen[:, 1], label=f"{kind} ({count})", **{"zorder": 4, **style}))
    return handles
