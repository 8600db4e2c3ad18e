"""How the scores of normal samples and of each kind of anomaly are spread (AMA, Figure 4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import gaussian_kde
from torch import Tensor

from adlightning.callbacks.plots import COLOURS, left_out, score_axis, titled_figure, without_bound
from adlightning.core.detector import AnomalyDetector
from adlightning.core.metrics import ScoredSamples
from adlightning.core.scoring import scoring
from adlightning.labels import ANOMALY, NORMAL

Groups = Mapping[str, NDArray[np.float64]]
Images = Callable[[NDArray[np.int64]], Tensor]

_OTHERS = (COLOURS[ANOMALY], "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito
_MOST, _BATCH = 2000, 250


@runtime_checkable
class Comparing(Protocol):
    """A detector that compares samples (B, ...) with what it makes of them; its anomaly score folds that at a mean."""

    def r_scores(self, x: Tensor) -> Tensor:
        """R (B,)."""
        ...


def densities_plot(path: Path, groups: Groups, axis: str, title: str) -> Path:
    """Kernel densities (Scott's bandwidth) of each group's scores, a line a group; the first group is that of normals.

    The axis is logarithmic where positive scores span more than two decades, the density is that of the logarithm then.
    Groups without two different finite scores are named in the legend only. Raises ValueError when no score is finite.
    """
    groups = {name: without_bound(scores) for name, scores in groups.items()}
    everything = np.concatenate(list(groups.values()))
    finite = everything[np.isfinite(everything)]
    if not len(finite):
        raise ValueError(f"densities need a finite score, there is none among {len(everything)}")
    low, high, log = score_axis(finite, None)
    at = np.geomspace(low, high, 400) if log else np.linspace(low, high, 400)
    with titled_figure(path, (6.4, 4.4), title) as figure:
        axes = figure.add_subplot()
        for i, (name, scores) in enumerate(groups.items()):
            shown = scores[np.isfinite(scores)]
            values, points = (np.log10(shown), np.log10(at)) if log else (shown, at)
            flat = len(values) < 2 or np.ptp(values) == 0
            density = np.full(len(at), np.nan) if flat else gaussian_kde(values)(points)
            colour = COLOURS[NORMAL] if i == 0 else _OTHERS[(i - 1) % len(_OTHERS)]
            axes.plot(at, density, color=colour, linewidth=1.6, label=f"{name} ({len(scores):,})")
            axes.fill_between(at, density, color=colour, alpha=0.15, linewidth=0)
        axes.set(xlim=(low, high), ylim=(0, None), ylabel="density")
        if log:
            axes.set_xscale("log")
        axes.set_xlabel("\n".join([axis + (" (logarithmic axis)" if log else ""), *left_out(everything, low, high)]))
        figure.legend(loc="outside lower center", ncols=3)
    return path


def write_densities(
    path: Path, detector: AnomalyDetector, results: Mapping[str, ScoredSamples], images: Mapping[str, Images | None]
) -> list[Path]:
    """Densities of the normal test samples' scores and of each test set's anomalies; of R for AMA.

    Nothing for a single test set of a detector without R: its histogram shows the same. R is computed anew, of at most
    2,000 samples of a group, evenly spread.
    """
    of_r = isinstance(detector, Comparing) and all(read is not None for read in images.values())
    if len(results) < 2 and not of_r:
        return []
    chosen: dict[str, tuple[str, NDArray[np.int64]]] = {}
    for name, scored in results.items():
        for label, words in ((NORMAL, "normal"), (ANOMALY, name if len(results) > 1 else "anomaly")):
            rows = np.flatnonzero(scored.labels == label)
            if len(rows) and words not in chosen:
                spread = np.linspace(0, len(rows) - 1, min(len(rows), _MOST)).astype(int)
                chosen[words] = (name, rows[spread] if of_r else rows)
    groups = {
        words: _r_scores(detector, images[name], results[name].index[rows]) if of_r else results[name].scores[rows]
        for words, (name, rows) in chosen.items()
    }
    if not any(np.isfinite(values).any() for values in groups.values()):
        return []
    axis = "R-score" if of_r else "anomaly score"
    return [densities_plot(path, groups, axis, f"{type(detector).__name__} on {detector.data.input_spec.description}")]


def _r_scores(detector: AnomalyDetector, images: Images | None, index: NDArray[np.int64]) -> NDArray[np.float64]:
    assert isinstance(detector, Comparing)
    assert images is not None
    batches = (images(index[i : i + _BATCH]).to(detector.device) for i in range(0, len(index), _BATCH))
    with scoring(detector):
        parts = [detector.r_scores(batch) for batch in batches]
    return torch.cat(parts).double().cpu().numpy()
