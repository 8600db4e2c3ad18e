"""What a run says of itself: the report that `metrics.json` holds, and the rows of `scores.csv`."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray

import adlightning
from adlightning.callbacks.defects import columns_of, describe_defects
from adlightning.callbacks.timing import peak_memory_mb
from adlightning.core.conformal import p_values
from adlightning.core.detector import AnomalyDetector
from adlightning.core.metrics import NoRanking, ScoredSamples, bootstrap_intervals, ranking_metrics
from adlightning.core.phases import untrained
from adlightning.core.scoring import without_p_values, without_verdict


def describe_run(
    trainer: pl.Trainer,
    detector: AnomalyDetector,
    selection: str,
    notes: Sequence[str],
    seconds: Mapping[str, float],
    code: str | None = None,
) -> dict[str, Any]:
    """What there is to say of a run, as `metrics.json` has it: plain values by name.

    Args:
        trainer: that fitted or tested it.
        detector: what was fitted or tested, with its results.
        selection: how the checkpoint was chosen; a detector that chose on test data says so itself.
        notes: what else a reader of the results has to know.
        seconds: of the fit and the test.
        code: version of the code behind it, where it is known.
    """
    data = detector.data
    threshold = finite(detector.threshold.item())
    return {
        "detector": type(detector).__name__,
        "data": data.input_spec.description,
        "input": str(data.input_spec),
        "protocol": data.protocol,
        "notes": [
            *notes,
            *_scored_with(detector),
            *_left_out(trainer, detector),
            *_doubts(detector),
            *detector.remarks(),
        ],
        "selection": "oracle" if detector.selection == "oracle" else selection,
        "not_tested": untrained(detector) or _not_tested(detector),
        "test_sets": {
            name: describe_scores(scored, detector.threshold_over(scored.scores))
            | data.range_metrics(scored)
            | describe_defects(detector, name)
            for name, scored in detector.results.items()
        },
        "threshold": {
            "rule": type(detector.threshold_rule).__name__,
            **vars(detector.threshold_rule),
            "score": threshold,
            "fitted_on": detector.training_record.get("threshold_from"),
        },
        "p_values": _p_values(detector),
        "samples": data.counts(),
        "split": data.split_fingerprint(),
        "seed": data.effective_seed(),
        "epochs": detector.training_record.get("epochs", trainer.current_epoch),
        "precision": str(trainer.precision),
        "device": str(detector.device),
        "devices": trainer.world_size,
        "seconds": dict(seconds),
        "peak_memory_mb": peak_memory_mb(),
        "versions": {
            "adlightning": adlightning.__version__,
            "torch": torch.__version__,
            "pytorch_lightning": version("pytorch-lightning"),
            "python": platform.python_version(),
            **({} if code is None else {"code": code}),
        },
    }


def _scored_with(detector: AnomalyDetector) -> list[str]:
    """What its scores take otherwise than training did."""
    return [f"scored with {difference}" for difference in detector.rescored]


def _doubts(detector: AnomalyDetector) -> list[str]:
    """That few held-out samples are behind the threshold, and what else a detector can do."""
    if detector.training_record.get("threshold_from") != "validation":
        return []
    doubt = detector.threshold_rule.doubt(len(detector.held_out_scores))
    if doubt is None:
        return []
    other = ", or nothing (0): the threshold is then by training samples, each scored by a fit without it"
    return [doubt + other if detector.scores_left_out else doubt]


def _left_out(trainer: pl.Trainer, detector: AnomalyDetector) -> list[str]:
    """That a limit of the Trainer kept samples from the training, or from the test."""
    notes = []
    if batches := detector.training_record.get("batches"):
        notes.append(f"trained on {batches[0]} of an epoch's {batches[1]} batches (trainer.limit_train_batches)")
    if not detector.results:
        return notes
    loaders = trainer.test_dataloaders
    there = sum(len(loader) for loader in loaders) if isinstance(loaders, list) else len(loaders or ())
    taken = sum(trainer.num_test_batches)
    if taken >= there:
        return notes
    limit = f"trainer.limit_test_batches={trainer.limit_test_batches}"
    return [*notes, f"tested on {taken:g} of {there} batches ({limit})"]


def _p_values(detector: AnomalyDetector) -> dict[str, Any] | None:
    """By how many held-out normal samples there are p-values, and the smallest that there is; None for no p-values."""
    n = len(detector.held_out_scores)
    return {"held_out": n, "smallest": 1 / (n + 1)} if n else None


def describe_scores(scored: ScoredSamples, threshold: float) -> dict[str, Any]:
    """Ranking metrics with 95 % bootstrap intervals, and rates at the threshold; a note where something is missing.

    Args:
        scored: of a test set.
        threshold: infinite for one that no sample exceeds, NaN for none.
    """
    labels, scores = scored.labels, scored.scores
    described: dict[str, Any] = {"normal": int((labels == 0).sum()), "anomalies": int((labels == 1).sum())}
    try:
        values = ranking_metrics(scores, labels)
        intervals = bootstrap_intervals(scores, labels)
        described["metrics"] = {k: {"value": v, "interval": list(intervals[k])} for k, v in values.items()}
    except NoRanking as error:
        described["metrics"] = {}
        described["note"] = f"no ranking metrics: {error}"
    if not math.isnan(threshold):
        flagged = scores > threshold
        rates = {"false_positive_rate": labels == 0, "recall": labels == 1}
        described["at_threshold"] = {k: float(flagged[of].mean()) for k, of in rates.items() if of.any()}
        described["at_threshold"]["flagged"] = int(flagged.sum())
    return described


def test_frame(detector: AnomalyDetector) -> pd.DataFrame | None:
    """The rows of all test sets that were scored, with what the data say of each sample; None where nothing was."""
    data = detector.data
    parts = [
        score_frame(scored, data.sample_names(name), detector, data.sample_columns(name)).assign(
            **columns_of(detector, name), test_set=name
        )
        for name, scored in detector.results.items()
    ]
    return pd.concat(parts) if parts else None


def score_frame(
    scored: ScoredSamples,
    names: Sequence[str],
    detector: AnomalyDetector,
    columns: Mapping[str, Sequence[str]] | None = None,
) -> pd.DataFrame:
    """One row a sample: index, name, label (empty where unknown), score, p_value, verdict.

    Without held-out normals there is no p-value, without a threshold no verdict: the columns are empty then.

    Args:
        scored: the samples.
        names: of all samples, into which `index` points.
        detector: that scored them.
        columns: what else is said of all samples, by its name; it comes after `name`.
    """
    return pd.DataFrame(
        {
            "index": scored.index,
            "name": [str(i) if names is None else names[i] for i in scored.index],
            **{name: [values[i] for i in scored.index] for name, values in (columns or {}).items()},
            "label": pd.Series(scored.labels).where(lambda y: y >= 0).astype("Int64"),
            "score": scored.scores,
            **judged(scored.scores, detector),
        }
    )


def held_out_frame(detector: AnomalyDetector) -> pd.DataFrame | None:
    """One row a held-out sample: index, name, score; None where the threshold was fitted to others."""
    scored = detector.threshold_samples
    if scored is None or not np.isin(scored.index, detector.data.held_out_index()).all():
        return None
    data = detector.data
    names = data.train_samples.names if data.input_spec.windows is None else None  # of windows, rows by their numbers
    return pd.DataFrame(
        {
            "index": scored.index,
            "name": [str(i) if names is None else names[i] for i in scored.index],
            "score": scored.scores,
        }
    )


def judged(scores: NDArray[np.float64], detector: AnomalyDetector) -> dict[str, Any]:
    """What a detector says of scores (N,) of samples that are judged together: columns `p_value` and `verdict`."""
    n, threshold = len(scores), detector.threshold_over(scores)
    no_verdict = without_verdict(detector) or math.isnan(threshold)
    return {
        "p_value": np.full(n, math.nan) if without_p_values(detector) else p_values(scores, detector.held_out()),
        "verdict": [""] * n if no_verdict else np.where(scores > threshold, "anomaly", "normal"),
    }


def _not_tested(detector: AnomalyDetector) -> str | None:
    """Why a trained detector has no test results; None when it has."""
    if detector.results:
        return None
    return "no test was run" if detector.data.test_names else "the data have no test samples"


def finite(value: float) -> float | None:
    """The value, or None where it is none: JSON has neither NaN nor infinity."""
    return value if math.isfinite(value) else None
