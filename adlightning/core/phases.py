"""How far a fit must go before there is a detector, and what is said of one that ends before.

A first phase (pre-training, a warm-up) trains what is not scored: of it there is no metric, threshold or test.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from pytorch_lightning.callbacks import GradientAccumulationScheduler, Timer

from adlightning.core.scoring import without_verdict
from adlightning.core.training_state.callbacks import callbacks_of

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

    from adlightning.core.detector import AnomalyDetector


class FirstPhase(NamedTuple):
    """Epochs at the start of a fit whose scores mean nothing, and the argument of the model that says how many."""

    argument: str
    epochs: int


def epochs_before_objective(detector: AnomalyDetector) -> int:
    """How many epochs come before those that train what is scored."""
    phase = detector.first_phase()
    return 0 if phase is None else phase.epochs


def batches_of(limit: float, length: int) -> int:
    """How many of `length` batches are taken by Lightning's `limit`, a number of them or a share."""
    return min(limit, length) if isinstance(limit, int) else int(length * limit)


def require_training(detector: AnomalyDetector) -> None:
    """Refuse a fit that would train nothing, or end in its first phase, as far as it can be known before it begins.

    Raises:
        ValueError: naming the option of the trainer that ends it.
    """
    trainer, phase = detector.trainer, detector.first_phase()
    if detector.is_trial:
        return
    batches = _training_batches(detector)
    for name in ("max_epochs", "max_steps"):
        if getattr(trainer, name) == 0:
            raise ValueError(f"trainer.{name} must be at least 1, got 0: nothing would be trained")
    if phase is None or phase.epochs == 0:
        return
    before = f"model.{phase.argument}={phase.epochs}"
    if trainer.max_epochs is not None and 0 < trainer.max_epochs <= phase.epochs:
        raise ValueError(
            f"trainer.max_epochs counts the first phase and must exceed {before}, got {trainer.max_epochs}: give "
            f"--trainer.max_epochs={2 * phase.epochs} or --model.{phase.argument}={trainer.max_epochs // 2}"
        )
    steps = phase.epochs * math.ceil(batches / _accumulated(trainer))
    if 0 < trainer.max_steps <= steps:
        raise ValueError(
            f"trainer.max_steps must exceed the {steps} steps of {before} epochs, got {trainer.max_steps}: the fit "
            "would end in its first phase, and nothing could be scored"
        )


def note_limit(detector: AnomalyDetector) -> None:
    """Record that training takes fewer batches than an epoch has: the row of its results says so."""
    trainer = detector.trainer
    if detector.is_trial:
        return
    taken, there = int(trainer.num_training_batches), len(detector.data.train_dataloader())
    if taken < there:
        detector.training_record["batches"] = [taken, there]
    else:
        detector.training_record.pop("batches", None)


def require_weights_to_train(detector: AnomalyDetector) -> None:
    """Refuse a fit by gradient whose every weight is frozen, and changes of batches where no step is taken with them.

    Raises:
        ValueError: naming the detector, `data.train_transforms` or `data.synthetic_anomalies`.
    """
    name, by_gradient = type(detector).__name__, detector.trains_by_gradient()
    if by_gradient and not any(weight.requires_grad for weight in detector.parameters()):
        raise ValueError(f"{name} has nothing to train: all its weights are frozen (frozen: true)")
    data = detector.data
    given = {"train_transforms": data.train_transforms, "synthetic_anomalies": data.synthetic_anomalies}
    if not by_gradient and (idle := [argument for argument, value in given.items() if value]):
        raise ValueError(
            f"data.{idle[0]} would change nothing: this {name} takes no training steps, and is fitted to the "
            "data as they are"
        )
    if data.synthetic_anomalies is not None and (detector.needs_unlabelled or not detector.uses_known_anomalies):
        raise ValueError(
            f"data.synthetic_anomalies must be null for {name}, which learns of no known anomalies, got "
            f"{data.synthetic_anomalies}"
        )


def _training_batches(detector: AnomalyDetector) -> int:
    """Batches of an epoch. Raises ValueError where there are none, or none of validation where a share is asked for."""
    trainer, data = detector.trainer, detector.data
    overfits = bool(getattr(trainer, "overfit_batches", 0))  # set by one of its connectors; it sets the others
    lengths = {"train": len(data.train_dataloader())}
    if data.has_validation:
        lengths["val"] = len(data.val_dataloader()[0])
    for part, length in lengths.items():
        limit = getattr(trainer, f"limit_{part}_batches")
        if not batches_of(limit, length) and (part == "train" or limit > 0):
            name = "overfit_batches" if overfits else f"limit_{part}_batches"
            what = "train on" if part == "train" else "validate with"
            raise ValueError(f"trainer.{name}={limit} leaves none of an epoch's {length} batches to {what}")
    return batches_of(trainer.limit_train_batches, lengths["train"])


def _accumulated(trainer: Trainer) -> int:
    """How many batches at most make a step."""
    schedules = [c.scheduling for c in callbacks_of(trainer) if isinstance(c, GradientAccumulationScheduler)]
    return max(trainer.accumulate_grad_batches, *[n for schedule in schedules for n in schedule.values()], 1)


def untrained(detector: AnomalyDetector) -> str | None:
    """Why nothing of a fit that has ended can be tested; None when it can."""
    reason, trainer = without_verdict(detector), detector.trainer
    if reason is None:
        return None
    phase, ended = detector.first_phase(), _ended_by(trainer)
    if detector.is_trial:
        return f"a trial (trainer.fast_dev_run) has no results: {reason}"
    if trainer.global_step == 0:
        return f"the fit took no step ({ended}): {type(detector).__name__} is not trained"
    if phase is None or trainer.current_epoch > phase.epochs:
        return f"the fit ended ({ended}) before {type(detector).__name__} could score: {reason}"
    return (
        f"the fit ended in its first phase (model.{phase.argument}={phase.epochs}; {ended} after "
        f"{trainer.global_step} steps): {type(detector).__name__} is not trained yet"
    )


def _ended_by(trainer: Trainer) -> str:
    if 0 <= trainer.max_steps <= trainer.global_step:
        return f"trainer.max_steps={trainer.max_steps}"
    for callback in callbacks_of(trainer):
        left = callback.time_remaining() if isinstance(callback, Timer) else None
        if left is not None and left <= 0:
            return "trainer.max_time"
    stoppers = [type(c).__name__ for c in callbacks_of(trainer) if getattr(c, "stopped_epoch", 0)]
    if trainer.should_stop or stoppers:
        return f"stopped by {stoppers[0] if stoppers else 'a callback'}"
    return f"trainer.max_epochs={trainer.max_epochs}"
