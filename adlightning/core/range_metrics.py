"""Metrics of scores over time, for which a detection a little before or after an event is worth something.

Labels are 0 normal and 1 anomaly, a score is higher for more anomalous. An event is a run of anomalous rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

N_THRESHOLDS = 250
"""Of a curve, as in the authors' code: at ranks that lie equally far apart."""

_Floats = NDArray[np.float64]
_Span = tuple[int, int]


def volumes_under_surface(
    scores: ArrayLike, labels: ArrayLike, buffer: int, stretches: Sequence[_Span] | None = None
) -> dict[str, float]:
    """`vus_roc` and `vus_pr`: areas under range-aware ROC and precision-recall curves, mean over buffers 0..`buffer`.

    With a buffer of w rows, rows at a distance d of at most w // 2 from an event count as anomalous by
    sqrt(1 - d / w). P counts the rows of events and half of what detected rows of the buffers count. Recall is
    multiplied by the share of events, with their buffers, of which a row is detected. Source: Paparrizos et al., Volume
    Under the Surface, PVLDB 15(11), 2022, Section 4, and the code of its authors (TSB-AD), whose values these are.

    Args:
        scores: finite, (N,).
        labels: (N,) in {0, 1}, with both of them.
        buffer: largest buffer, at least 0, in rows.
        stretches: `(start, stop)` of the rows that follow one another in time, such as those of a machine, which no
            buffer leaves; None for all rows.

    Raises:
        ValueError: shapes, labels, scores or a buffer that are not as said.
    """
    s, y = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    if s.ndim != 1 or s.shape != y.shape:
        raise ValueError(f"scores and labels must both have shape (N,), got {s.shape} and {y.shape}")
    if set(np.unique(y).tolist()) != {0, 1}:
        raise ValueError(f"labels must be 0 and 1, and both be there, got {np.unique(y).tolist()}")
    if not np.isfinite(s).all():
        raise ValueError("scores must be finite")
    if buffer < 0:
        raise ValueError(f"buffer must not be negative, got {buffer}")
    spans = [(0, len(s))] if stretches is None else list(stretches)
    order = np.argsort(-s, kind="stable")
    ascending = s[order[::-1]]
    thresholds = s[order][np.linspace(0, len(s) - 1, N_THRESHOLDS).astype(np.int64)]
    n_detected = len(s) - np.searchsorted(ascending, thresholds, side="left")  # those at the threshold are
    events = [(a, b, span) for span in spans for a, b in _events(y, span)]
    areas = np.array(
        [_areas(s, y, events, window, thresholds, n_detected, order) for window in range(buffer + 1)]
    ).mean(axis=0)
    return {"vus_roc": float(areas[0]), "vus_pr": float(areas[1])}


def _areas(
    s: _Floats,
    y: NDArray[np.int64],
    events: Sequence[tuple[int, int, _Span]],
    window: int,
    thresholds: _Floats,
    n_detected: NDArray[np.int64],
    order: NDArray[np.int64],
) -> tuple[float, float]:
    """Areas under the two curves with a buffer of `window` rows."""
    weights, zones = _extended(y, events, window)
    detected = np.concatenate([[0.0], np.cumsum(weights[order])])[n_detected]
    in_buffers = np.concatenate([[0.0], np.cumsum(np.where(y == 1, 0.0, weights)[order])])[n_detected]
    n_anomalous = np.sum(y == 1) + in_buffers / 2
    highest = np.array([s[a:b].max() for a, b in zones])
    found = (highest[None] >= thresholds[:, None]).mean(axis=1)
    recall = np.minimum(detected / n_anomalous, 1) * found
    false_positives = (n_detected - detected) / (len(s) - n_anomalous)
    tpr, fpr = (np.concatenate([[0.0], values, [1.0]]) for values in (recall, false_positives))
    roc = np.sum(np.diff(fpr) * (tpr[1:] + tpr[:-1]) / 2)
    precision_recall = np.sum(np.diff(tpr[:-1]) * detected / n_detected)
    return float(roc), float(precision_recall)


def _events(y: NDArray[np.int64], span: _Span) -> list[_Span]:
    """Runs of anomalous rows within a stretch, `(start, stop)`."""
    start, stop = span
    edges = np.flatnonzero(np.diff(np.concatenate([[0], y[start:stop] == 1, [0]])))
    return [(start + int(a), start + int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _extended(
    y: NDArray[np.int64], events: Sequence[tuple[int, int, _Span]], window: int
) -> tuple[_Floats, list[_Span]]:
    """What each row counts (N,), and the events with their buffers; those that overlap are one."""
    weights, reach = (y == 1).astype(np.float64), window // 2
    fade = np.sqrt(1 - np.arange(1, reach + 1) / window) if reach else np.empty(0)
    zones: list[tuple[int, int, _Span]] = []
    for start, stop, span in events:
        n_after, n_before = min(reach, span[1] - stop), min(reach, start - span[0])
        weights[stop : stop + n_after] += fade[:n_after]
        weights[start - n_before : start] += fade[:n_before][::-1]
        zone = (start - n_before, stop + n_after)
        if zones and zones[-1][2] == span and zone[0] < zones[-1][1]:
            zones[-1] = (zones[-1][0], zone[1], span)
        else:
            zones.append((*zone, span))
    return np.minimum(weights, 1), [(a, b) for a, b, _ in zones]
