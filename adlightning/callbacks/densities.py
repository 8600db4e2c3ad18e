"""How scores, and norms of latents, of normal samples and of each kind of anomaly are spread (AMA, Figures 4 and 3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import gaussian_kde
from torch import Tensor

from adlightning.callbacks.plots import COLOURS, left_out, score_axis, titled_figure, without_bound
from adlightning.core.detector import AnomalyDetector
from adlightning.core.metrics import ScoredSamples
from adlightning.core.scoring import scoring
from adlightning.labels import ANOMALY, NO_LABEL, NORMAL

Groups = Mapping[str, NDArray[np.float64]]
Images = Callable[[NDArray[np.int64]], Tensor]

TRAINING = "training"
_OTHERS = (COLOURS[ANOMALY], "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito
_MOST, _BATCH = 2000, 250


@runtime_checkable
class Comparing(Protocol):
    """A detector that compares samples (B, ...) with what it makes of them; its anomaly score folds that at a mean."""

    def r_scores(self, x: Tensor) -> Tensor:
        """R (B,)."""
        ...


@runtime_checkable
class Encoding(Protocol):
    """A detector whose latents are thought to lie at some distance from the origin."""

    def latent_norms(self, x: Tensor) -> Tensor:
        """Norms (B,) of the latents of samples (B, ...)."""
        ...

    def expected_norms(self) -> dict[str, float]:
        """Where the latents are thought to lie, in words and numbers."""
        ...


def densities_plot(path: Path, groups: Groups, axis: str, title: str, marks: Mapping[str, float] | None = None) -> Path:
    """Kernel densities (Scott's bandwidth) of each group's scores, a line a group; the first group is that of normals.

    That of training samples is grey and dashed. `marks` are vertical lines, which the axis takes in.

    The axis is logarithmic where positive scores span more than two decades, the density is that of the logarithm then.
    Groups without two different finite scores are named in the legend only. Raises ValueError when no score is finite.
    """
    groups = {name: without_bound(scores) for name, scores in groups.items()}
    everything = np.concatenate(list(groups.values()))
    finite = everything[np.isfinite(everything)]
    if not len(finite):
        raise ValueError(f"densities need a finite score, there is none among {len(everything)}")
    low, high, log = score_axis(finite, None)
    if marks:
        margin = 0.03 * (high - low)
        low, high, log = min(low, *marks.values()) - margin, max(high, *marks.values()) + margin, False
    at = np.geomspace(low, high, 400) if log else np.linspace(low, high, 400)
    with titled_figure(path, (6.4, 4.4), title) as figure:
        axes = figure.add_subplot()
        for i, (name, scores) in enumerate(groups.items()):
            shown = scores[np.isfinite(scores)]
            values, points = (np.log10(shown), np.log10(at)) if log else (shown, at)
            flat = len(values) < 2 or np.ptp(values) == 0
            density = np.full(len(at), np.nan) if flat else gaussian_kde(values)(points)
            trained = name == TRAINING and i > 0
            colour = COLOURS[NORMAL] if i == 0 else _OTHERS[(i - 1 - (TRAINING in groups)) % len(_OTHERS)]
            look: dict[str, Any] = {"color": COLOURS[NO_LABEL] if trained else colour}
            dashes = "--" if trained else "-"
            axes.plot(at, density, linewidth=1.6, linestyle=dashes, label=f"{name} ({len(scores):,})", **look)
            axes.fill_between(at, density, alpha=0.15, linewidth=0, **look)
        for words, place in (marks or {}).items():
            axes.axvline(place, color="black", linestyle=":", linewidth=1.2, label=f"{words}: {place:.3g}")
        axes.set(xlim=(low, high), ylim=(0, None), ylabel="density")
        if log:
            axes.set_xscale("log")
        axes.set_xlabel("\n".join([axis + (" (logarithmic axis)" if log else ""), *left_out(everything, low, high)]))
        figure.legend(loc="outside lower center", ncols=3)
    return path


def write_densities(
    path: Path,
    detector: AnomalyDetector,
    results: Mapping[str, ScoredSamples],
    images: Mapping[str, Images | None],
    training: tuple[NDArray[np.int64], Images] | None = None,
) -> list[Path]:
    """Densities of the normal test samples' scores and of each test set's anomalies; of R for AMA, training too.

    Nothing for a single test set of a detector without R: its histogram shows the same. R is computed anew, of at most
    2,000 samples of a group, evenly spread. Where a detector has norms of latents, these are drawn beside it, as
    `latent_norms.png`.

    Args:
        path: the PNG that is written.
        detector: what has scored.
        results: scores of each test set.
        images: reads raw images of a test set by index, None where there are none.
        training: indices of training samples that are no known anomalies, and what reads their raw images.
    """
    all_read = all(read is not None for read in images.values())
    of_r, encodes = isinstance(detector, Comparing) and all_read, isinstance(detector, Encoding) and all_read
    if len(results) < 2 and not of_r:
        return []
    title = f"{type(detector).__name__} on {detector.data.input_spec.description}"
    written = []
    if encodes:
        assert isinstance(detector, Encoding)
        norms = _computed(detector, detector.latent_norms, results, images, training)
        if _has_finite(norms):
            beside, about = path.with_name("latent_norms.png"), f"{title}: norms of latents"
            written.append(densities_plot(beside, norms, "norm of the latent", about, detector.expected_norms()))
    if of_r:
        assert isinstance(detector, Comparing)
        groups = _computed(detector, detector.r_scores, results, images, training)
    else:
        groups = {words: results[name].scores[rows] for words, (name, rows) in _kinds(results).items()}
    if _has_finite(groups):
        axis = "R-score" if of_r else "anomaly score"
        written.append(densities_plot(path, groups, axis, f"{title}: {axis}s" if of_r else title))
    return written


def _has_finite(groups: Groups) -> bool:
    return any(np.isfinite(values).any() for values in groups.values())


def _kinds(results: Mapping[str, ScoredSamples]) -> dict[str, tuple[str, NDArray[np.int64]]]:
    """Test set and rows of the normals, which all test sets share, and of each one's anomalies."""
    kinds: dict[str, tuple[str, NDArray[np.int64]]] = {}
    for name, scored in results.items():
        for label, words in ((NORMAL, "normal"), (ANOMALY, name if len(results) > 1 else "anomaly")):
            rows = np.flatnonzero(scored.labels == label)
            if len(rows) and words not in kinds:
                kinds[words] = (name, rows)
    return kinds


def _computed(
    detector: AnomalyDetector,
    values: Callable[[Tensor], Tensor],
    results: Mapping[str, ScoredSamples],
    images: Mapping[str, Images | None],
    training: tuple[NDArray[np.int64], Images] | None,
) -> Groups:
    """What a detector computes of raw images, by kind, at most 2,000 of each; training samples follow the normals."""
    wanted = {words: (results[name].index[rows], images[name]) for words, (name, rows) in _kinds(results).items()}
    if training is not None and TRAINING not in wanted:
        (first, normals), *rest = wanted.items()
        wanted = {first: normals, TRAINING: training, **dict(rest)}
    groups = {}
    for words, (index, read) in wanted.items():
        assert read is not None
        chosen = index[np.linspace(0, len(index) - 1, min(len(index), _MOST)).astype(int)]
        batches = (read(chosen[i : i + _BATCH]).to(detector.device) for i in range(0, len(chosen), _BATCH))
        with scoring(detector):
            groups[words] = torch.cat([values(batch) for batch in batches]).double().cpu().numpy()
    return groups
