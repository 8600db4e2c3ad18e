"""What a test says of each kind of defect, and of where it found them."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import numpy as np

from adlightning.core.detector import AnomalyDetector
from adlightning.core.metrics import NoRanking, ranking_metrics
from adlightning.data.mvtec import MVTecLayout
from adlightning.labels import NORMAL


def describe_defects(detector: AnomalyDetector, name: str) -> dict[str, Any]:
    """Of a test set: `pixel_metrics` where there are masks and maps, and `defects`, with each kind's metrics.

    A kind's `auroc` is that of its images against the good ones, `recall` the share of them above the threshold. Its
    `pixel_auroc` and `aupro` are of its pixels and regions, against the normal pixels of all test images. Nothing for
    data without kinds.
    """
    data, scored, located = detector.data, detector.results[name], detector.located.get(name)
    if not isinstance(data, MVTecLayout):
        return {}
    described: dict[str, Any] = {}
    if located is not None and len(located.image):
        described["pixel_metrics"] = {**located.of(), "regions": len(located.image)}
    kinds = np.array(data.defects, dtype=object)[scored.index]
    threshold = detector.threshold_over(scored.scores)
    defects = {}
    for kind in sorted(set(kinds[scored.labels != NORMAL])):
        of_kind = kinds == kind
        one: dict[str, Any] = {"images": int(of_kind.sum())}
        among = of_kind | (scored.labels == NORMAL)
        with contextlib.suppress(NoRanking):  # without good test images, which the test set's note says
            one["auroc"] = ranking_metrics(scored.scores[among], scored.labels[among])["auroc"]
        if not math.isnan(threshold):
            one["recall"] = float((scored.scores[of_kind] > threshold).mean())
        if located is not None:
            one |= located.of(scored.index[of_kind])
        defects[kind] = one
    return described | ({"defects": defects} if defects else {})


def columns_of(detector: AnomalyDetector, name: str) -> dict[str, list[float]]:
    """Columns `pixel_auroc` and `aupro` of a test set's score table, NaN for good images; none without maps."""
    located = detector.located.get(name)
    if located is None:
        return {}
    found = [located.of([int(row)]) for row in detector.results[name].index]
    return {key: [one.get(key, math.nan) for one in found] for key in ("pixel_auroc", "aupro")}
