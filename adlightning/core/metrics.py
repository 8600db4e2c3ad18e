"""Ranking metrics on raw anomaly scores, and their uncertainty.

A score is higher for more anomalous; the positive class is the anomaly (label 1) unless a metric says that it is the
normal sample. Everything depends on the ranks of the scores only. torchmetrics' own curve metrics do not: they squash
scores outside [0, 1] with a sigmoid.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adlightning.labels import ANOMALY, NO_LABEL, NORMAL

_Floats = NDArray[np.float64]
_Counts = NDArray[np.int64]
_AT_ONCE = 50_000
"""Numbers in an array of resamples that are measured together: few calls for few samples, and a cache's worth."""


class NoRanking(ValueError):
    """Labels that allow no ranking metric, because one of the two classes is absent."""


def ranking_metrics(scores: ArrayLike, labels: ArrayLike) -> dict[str, float]:
    """How well scores rank anomalies above normal samples; all values lie in [0, 1].

    - `auroc`: area under the ROC curve; ties count half.
    - `average_precision`: sum over thresholds of precision times gain in recall (not the trapezoidal area).
    - `fpr_at_95_tpr`: smallest false positive rate at a true positive rate of at least 95 %.
    - `recall_at_3_fpr`, `recall_at_5_fpr`: largest true positive rate at a false positive rate of at most 3 % and 5 %.
    - `normal_recall_at_3_fpr`, `normal_recall_at_5_fpr`: positive is the normal sample. Share of normal samples scoring
      strictly below the threshold, which is the k-th highest score of the M anomalies, k = int(0.97 M) + 1 (0.95): at
      most 3 % (5 %) of them are accepted as normal. Source: DROCC-LF, Section 5.2.1 and its code,
      `thr = sorted_negatives[int((1 - fpr) * M)]` of scores that are higher for more normal.
    - `f1_at_contamination`: F1 when as many samples are called anomalies as there are, ties with the last one included.
    - `f1_drocc_release`: F1 of DROCC's released code: positive is the normal sample, and all samples are called normal
      but the most anomalous fifth (20th percentile of the normality, linearly interpolated, ties called normal). A
      perfect detector on equally many of both gets only about 0.77: never set it beside `f1_at_contamination`. Source:
      Microsoft EdgeML, DROCC.

    `scores` (N,) are finite, `labels` (N,) are 0, 1, or -1 for samples to leave out. Raises :class:`NoRanking` when a
    class is absent and ValueError for other bad input.
    """
    n_levels, *at = _levels(*_by_class(scores, labels))
    normals, anomalies = (np.bincount(a, minlength=n_levels)[None] for a in at)
    return {name: float(values[0]) for name, values in _from_counts(normals, anomalies).items()}


def bootstrap_intervals(
    scores: ArrayLike, labels: ArrayLike, n_resamples: int = 200, confidence: float = 0.95, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap intervals of :func:`ranking_metrics`, resampled within each class.

    Raises what :func:`ranking_metrics` raises, and ValueError unless n_resamples >= 1 and confidence lies in (0, 1).
    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    if n_resamples < 1:
        raise ValueError(f"n_resamples must be at least 1, got {n_resamples}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1), got {confidence}")
    n_levels, *at = _levels(*_by_class(scores, labels))
    rng = np.random.default_rng(seed)
    at_once = max(1, _AT_ONCE // n_levels)
    parts = []
    for first in range(0, n_resamples, at_once):
        counts = np.empty((2, min(at_once, n_resamples - first), n_levels), dtype=np.int64)
        for row in range(counts.shape[1]):
            for of_class, a in zip(counts, at, strict=True):
                of_class[row] = np.bincount(rng.choice(a, len(a)), minlength=n_levels)
        parts.append(_from_counts(*counts))
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(
        [np.concatenate([part[name] for part in parts]) for name in parts[0]], [tail, 100 - tail], axis=1
    )
    return dict(zip(parts[0], zip(low.tolist(), high.tolist(), strict=True), strict=True))


class ScoredSamples(NamedTuple):
    """Scores (N,) as they were computed, labels (N,) in {0, 1, -1} and sample indices (N,), ascending and unique."""

    scores: _Floats
    labels: _Counts
    index: _Counts  # type: ignore[assignment]  # hides tuple.index, which nobody needs

    def of(self, index: _Counts) -> ScoredSamples:
        """Those of the samples whose index is among these."""
        among = np.isin(self.index, index)
        return ScoredSamples(self.scores[among], self.labels[among], self.index[among])


def _by_class(scores: ArrayLike, labels: ArrayLike) -> tuple[_Floats, _Floats]:
    """Checked scores of the normal and of the anomalous samples."""
    s, y = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    if s.ndim != 1 or s.shape != y.shape:
        raise ValueError(f"scores and labels must both have shape (N,), got {s.shape} and {y.shape}")
    if n_wrong := int(np.sum(~np.isin(y, (NORMAL, ANOMALY, NO_LABEL)))):
        raise ValueError(f"labels must be 0, 1 or -1, got {n_wrong} others among {len(y)}")
    if n_wrong := int(np.sum(~np.isfinite(s[y != NO_LABEL]))):
        raise ValueError(f"scores must be finite, {n_wrong} of {np.sum(y != NO_LABEL)} are not")
    normal, anomalous = s[y == NORMAL], s[y == ANOMALY]
    for name, part in ("normal samples (label 0)", normal), ("anomalies (label 1)", anomalous):
        if not len(part):
            raise NoRanking(f"ranking metrics need both classes, there are no {name} among {len(y)} samples")
    return normal, anomalous


def _levels(normal: _Floats, anomalous: _Floats) -> tuple[int, _Counts, _Counts]:
    """The number of distinct scores, and which of them each normal and each anomalous sample has; 0 is the highest."""
    levels, ascending = np.unique(np.concatenate([normal, anomalous]), return_inverse=True)
    level = len(levels) - 1 - ascending
    return len(levels), level[: len(normal)], level[len(normal) :]


def _from_counts(normals: _Counts, anomalies: _Counts) -> dict[str, _Floats]:
    """The metrics (R,) from the counts (R, L) at each score level, highest first.

    Each row is a sample of its own, a bootstrap's for instance, in which a level may be empty.
    """
    rows = np.arange(len(normals))
    tp, fp = np.cumsum(anomalies, axis=1), np.cumsum(normals, axis=1)
    called = tp + fp  # anomalies, when the threshold is a level's score
    n_anomalies, n_normals = int(tp[0, -1]), int(fp[0, -1])

    def level(counts: _Counts, at_least: int) -> _Counts:
        """The first level of each row by which there are that many."""
        return np.array([row.searchsorted(at_least) for row in counts])

    def before(counts: _Counts, levels: _Counts) -> _Counts:
        return np.where(levels > 0, counts[rows, levels - 1], 0)

    def recall_at(percent: int) -> _Floats:
        return before(tp, level(fp, percent * n_normals // 100 + 1)) / n_anomalies

    def normal_recall_at(q: float) -> _Floats:
        at_threshold = level(tp, int((1 - q) * n_anomalies) + 1)  # who has the threshold's score is rejected
        return (n_normals - fp[rows, at_threshold]) / n_normals

    at_95_tpr = level(tp, -(-95 * n_anomalies // 100))
    at_k = level(called, n_anomalies)  # the level of the k-th highest score, k the number of anomalies
    # the level of the least normal sample called normal: the interpolated percentile lies on it, or just before it
    least = level(called, -(-(n_anomalies + n_normals - 1) // 5) + 1)
    rejected, lost = before(tp, least), before(fp, least)
    called_normal = n_anomalies - rejected + n_normals - lost

    return {
        "auroc": np.sum(normals * (2 * tp - anomalies), axis=1) / (2 * n_anomalies * n_normals),
        "average_precision": np.sum(anomalies * (tp / np.maximum(called, 1)), axis=1) / n_anomalies,
        "fpr_at_95_tpr": fp[rows, at_95_tpr] / n_normals,
        "recall_at_3_fpr": recall_at(3),
        "recall_at_5_fpr": recall_at(5),
        "normal_recall_at_3_fpr": normal_recall_at(0.03),
        "normal_recall_at_5_fpr": normal_recall_at(0.05),
        "f1_at_contamination": 2 * tp[rows, at_k] / (called[rows, at_k] + n_anomalies),
        "f1_drocc_release": 2 * (n_normals - lost) / (called_normal + n_normals),
    }
