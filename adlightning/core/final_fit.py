"""The fit after the last step: estimators, Dirichlet distributions, moments of a score."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from adlightning.core.collapse import check_weights
from adlightning.core.scoring import evaluating

if TYPE_CHECKING:
    from adlightning.core.detector import AnomalyDetector


def ends_here(detector: AnomalyDetector) -> bool:
    """Whether the step that was just taken is the last one."""
    trainer = detector.trainer
    return (trainer.is_last_batch and detector.in_last_epoch()) or trainer.global_step == trainer.max_steps


def fit_now(detector: AnomalyDetector) -> None:
    """Fit to the training data with the weights as they are; the same on every rank.

    Raises:
        TrainingCollapse: weights that are not finite, to which an estimator would fail without a reason.
    """
    check_weights(detector.parameters(), detector.current_epoch, detector.likely_cause())
    if detector.trainer.world_size > 1:  # each rank has its own BatchNorm statistics until the next step
        for buffer in detector.buffers():
            torch.distributed.broadcast(buffer, src=0)
    with evaluating(detector):
        detector.fit_on_training_data()
