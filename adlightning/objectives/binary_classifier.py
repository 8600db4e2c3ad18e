"""The supervised deep binary classifier: a baseline of Deep SAD (Appendix E) and of DROCC (Section 5.2)."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from adlightning.contracts import KNOWN_ANOMALY, TrainBatch
from adlightning.detector import AnomalyDetector
from adlightning.objectives.logit import LogitDetector


def classification_loss(logits: Tensor, known: Tensor) -> Tensor:
    """Mean binary cross-entropy, in float32; whatever is not a known anomaly counts as normal.

    Args:
        logits: (B,), log-odds of an anomaly.
        known: (B,), +1 known normal, 0 unlabelled, -1 known anomaly.
    """
    return F.binary_cross_entropy_with_logits(logits.float(), (known == KNOWN_ANOMALY).float())


def require_known_anomalies(detector: AnomalyDetector) -> None:
    """Refuse training data without a known anomaly; for a detector's `setup`, before training.

    Raises:
        ValueError: there is none.
    """
    _, known = detector.data.training_rows()
    if not (known == KNOWN_ANOMALY).any():
        raise ValueError(
            f"{type(detector).__name__} needs known anomalies to train on, got none among {len(known)} training "
            "samples: set data.labelled_anomaly_ratio (and the labelled classes), or give labels"
        )


class BinaryClassifier(LogitDetector):
    """The supervised baseline: normal against known anomaly, every unlabelled sample taken for normal.

    The encoder of the other methods with a head on it, whose logit is the score.

    Args:
        common: head, as in :class:`LogitDetector`; networks, optimisation, preprocessing and threshold, as in
            :class:`EncoderDetector`.

    Raises:
        ValueError: training data without a known anomaly.
    """

    def __init__(self, **common: Any) -> None:
        super().__init__(**common)

    def setup(self, stage: str) -> None:
        """Refuse to train on data without a known anomaly."""
        super().setup(stage)
        if stage == "fit":
            require_known_anomalies(self)

    def training_step(self, batch: TrainBatch, batch_idx: int) -> Tensor:
        """Binary cross-entropy of the batch."""
        return self.log_loss(classification_loss(self.anomaly_score(batch.x), batch.known), batch)

    def anomaly_score(self, x: Tensor) -> Tensor:
        """Log-odds (B,) of an anomaly."""
        return self.logits(self.preprocess(x))
