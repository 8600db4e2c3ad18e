"""The supervised deep binary classifier: a baseline of Deep SAD (Appendix E) and of DROCC (Section 5.2)."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from adlightning.core.contracts import KNOWN_ANOMALY, TrainBatch
from adlightning.methods.parts.logit import LogitDetector


def classification_loss(logits: Tensor, known: Tensor) -> Tensor:
    """Mean binary cross-entropy, in float32; whatever is not a known anomaly counts as normal.

    Args:
        logits: (B,), log-odds of an anomaly.
        known: (B,), +1 known normal, 0 unlabelled, -1 known anomaly.
    """
    return F.binary_cross_entropy_with_logits(logits.float(), (known == KNOWN_ANOMALY).float())


class BinaryClassifier(LogitDetector):
    """The supervised baseline: normal against known anomaly, every unlabelled sample taken for normal.

    The encoder of the other methods with a head on it, whose logit is the score.

    Args:
        common: head, as in :class:`LogitDetector`; networks, optimisation, preprocessing and threshold, as in
            :class:`EncoderDetector`.

    Raises:
        ValueError: training data without a known anomaly.
    """

    needs_known_anomalies = True

    def __init__(self, **common: Any) -> None:
        super().__init__(**common)

    def training_step(self, batch: TrainBatch, batch_idx: int) -> Tensor:
        """Binary cross-entropy of the batch."""
        return self.log_loss(classification_loss(self.anomaly_score(batch.x), batch.known), batch)

    def anomaly_score(self, x: Tensor) -> Tensor:
        """Log-odds (B,) of an anomaly."""
        return self.logits(self.preprocess(x))
