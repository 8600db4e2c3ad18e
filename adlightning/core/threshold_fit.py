"""The threshold of a detector, fitted to the scores of its weights as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from adlightning.core.collapse import check_finite
from adlightning.core.metrics import ScoredSamples
from adlightning.core.thresholds import fit_threshold, normal_scores
from adlightning.labels import KNOWN_ANOMALY, KNOWN_NORMAL, NO_LABEL, NORMAL

if TYPE_CHECKING:
    from adlightning.core.detector import AnomalyDetector


def require_enough_held_out(detector: AnomalyDetector) -> None:
    """Refuse a rule that the held-out samples are too few for. Raises ValueError."""
    split = detector.data.split
    scored = ScoredSamples(np.zeros(len(split.validation)), split.validation_labels, split.validation)
    scored = detector.data.as_reported(scored, "train")
    if reason := detector.threshold_rule.refusal(len(normal_scores(scored.scores, scored.labels))):
        raise ValueError(reason)


def score_and_fit(detector: AnomalyDetector) -> None:
    """Fit the threshold to held-out samples where there are any and the rule asks for them, else to training samples.

    Raises:
        TrainingCollapse: scores that are not finite, or (nearly) all the same.
    """
    data = detector.data
    if data.has_validation:
        scores = detector.scores_of(batch.x for batch in data.held_out_batches(detector.device))
        held_out = ScoredSamples(scores, data.split.validation_labels, data.split.validation)
        reported = data.as_reported(held_out, "train")
        keep_held_out(detector, reported)
        if detector.threshold_rule.uses_held_out:
            fit_to(detector, held_out, reported, "validation")
            return
    rows, known = data.training_rows()
    rows, known = rows[known != KNOWN_ANOMALY], known[known != KNOWN_ANOMALY]
    labels = np.where(known == KNOWN_NORMAL, NORMAL, NO_LABEL)
    scored = ScoredSamples(detector.training_scores(), labels, rows)
    fit_to(detector, scored, data.as_reported(scored, "train"), "training")


def keep_held_out(detector: AnomalyDetector, reported: ScoredSamples) -> None:
    """Keep the scores of held-out normal samples, sorted: p-values rank among them. Raises TrainingCollapse for NaN."""
    kept = np.sort(normal_scores(reported.scores, reported.labels))
    if np.isnan(kept).any():  # nothing ranks among such, whatever the threshold is fitted to
        check_finite(kept, detector.trainer.current_epoch, detector.likely_cause())
    detector.held_out_scores = torch.from_numpy(kept).float().to(detector.device)


def fit_to(detector: AnomalyDetector, scored: ScoredSamples, reported: ScoredSamples, source: str) -> None:
    """Fit the threshold to what is reported of scored samples: of windows, their rows.

    Args:
        scored: samples of the `source`, which the detector scored.
        reported: what a report says of them.
        source: `validation` or `training`.
    """
    detector.check_scores(scored.scores)
    few = len(scored.scores) < len(detector.data.split.validation)
    rule, scores, labels = detector.threshold_rule, reported.scores, reported.labels
    if few and rule.refusal(len(normal_scores(scores, labels))):
        detector.threshold.fill_(scores.max())  # a trial, or a limit of batches until the fit ends: too few to count
    else:
        detector.threshold.fill_(fit_threshold(rule, scores, labels))
    detector.threshold_samples = reported
    detector.training_record["threshold_from"] = "given" if rule.is_given else source
