"""Callbacks that watch a metric: they wait for the phase whose metric it is, or are refused with those there are.

The loss of a first phase is another one, and of held-out samples there is nothing to log in it. Lightning's callbacks
would end the fit in either, with a traceback or without a reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping
from pytorch_lightning.utilities import rank_zero_warn

from adlightning.core.messages import nearest
from adlightning.core.metrics import ranking_metrics
from adlightning.core.phases import batches_of, epochs_before_objective
from adlightning.core.training_state.callbacks import callbacks_of
from adlightning.labels import ANOMALY, NORMAL

if TYPE_CHECKING:
    from adlightning.core.detector import AnomalyDetector

MEAN = "val/score_mean"
RANKINGS = tuple(f"val/{name}" for name in ranking_metrics(np.array([0.0, 1.0]), np.array([NORMAL, ANOMALY])))
LOSS = "train/loss"
_RATE = "lr-"
"""How LearningRateMonitor's names begin."""

_HOOKS = ("on_train_batch_end", "on_train_epoch_end", "on_validation_end")


def watch_the_objective(detector: AnomalyDetector) -> None:
    """Refuse callbacks whose metric will never be there; let the others wait until it is.

    Raises:
        ValueError: naming the callback, the metric, and what there is or why there is none.
    """
    for callback in callbacks_of(detector.trainer):
        monitor = getattr(callback, "monitor", None)
        if not isinstance(monitor, str):
            continue
        if not detector.is_trial and (reason := why_never(monitor, detector)):
            raise ValueError(f"{_option(callback)}={monitor} {reason}")
        if monitor in (MEAN, *RANKINGS) and isinstance(callback, EarlyStopping):
            _warn_of_last_epoch(monitor, detector)
        for hook in _HOOKS:
            if not isinstance(getattr(callback, hook), Waiting):
                setattr(callback, hook, Waiting(callback, hook))


def let_plateaus_wait(detector: AnomalyDetector) -> None:
    """Schedules that watch held-out samples do nothing before the objective; Lightning says so in each epoch.

    Raises:
        ValueError: naming a metric that will not be logged.
    """
    for config in detector.trainer.lr_scheduler_configs:
        by_hand = getattr(config.scheduler, "monitor", None)  # of players' schedules Lightning knows no metric
        monitor = config.monitor if config.reduce_on_plateau else by_hand
        if monitor and monitor.startswith("val/"):
            if not detector.is_trial and (reason := why_never(monitor, detector)):
                raise ValueError(f"configure_optimizers: monitor={monitor} {reason}")
            config.strict = False


def _warn_of_last_epoch(monitor: str, detector: AnomalyDetector) -> None:
    last = (detector.trainer.max_epochs or 0) - 1
    if epochs_before_objective(detector) < detector.first_scored() == last:
        rank_zero_warn(
            f"EarlyStopping stops nothing: {monitor} is known in the last epoch only, since the score of "
            f"{type(detector).__name__} is fitted after the last step"
        )


def why_never(monitor: str, detector: AnomalyDetector) -> str | None:
    """Why a metric that is watched will not be logged; None where it will, or where nobody can know."""
    known = (MEAN, *RANKINGS, *detector.held_out_metrics)
    if monitor not in known:
        own = type(detector).__module__.partition(".")[0] == __name__.partition(".")[0]
        curves = monitor.startswith("train/") and not detector.automatic_optimization
        if not own or curves or monitor == LOSS or monitor.startswith(_RATE):
            return None
        near = nearest(monitor, (LOSS, *known))
        hint = f"; nearest: {', '.join(near)}" if near else ""
        without = ", ".join((LOSS, MEAN, *detector.held_out_metrics))
        return f"is not logged: it must be {without} or, with held-out anomalies, {', '.join(RANKINGS)}{hint}"
    if reason := _why_not_validated(detector):
        return f"needs validation of the trained detector: {reason}"
    if monitor in detector.held_out_metrics and (reason := detector.lacks_for_metrics()):
        return reason
    labels = detector.data.split.validation_labels
    if monitor in RANKINGS and not (labels == ANOMALY).any():
        return "ranks held-out anomalies, and none are: data.validation_anomalies must be above 0"
    if not ((labels == NORMAL) if monitor in RANKINGS else (labels != ANOMALY)).any():
        return "needs held-out normal samples, and there are none: data.validation_fraction must be above 0"
    return None


def _why_not_validated(detector: AnomalyDetector) -> str | None:
    """Why no held-out sample is scored in an epoch whose scores mean something."""
    trainer, data, first = detector.trainer, detector.data, detector.first_scored()
    if not data.has_validation:
        return f"data.validation_fraction must be above 0 and hold out a sample, got {data.validation_fraction}"
    if not batches_of(trainer.limit_val_batches, len(data.val_dataloader()[0])):
        return f"trainer.limit_val_batches={trainer.limit_val_batches} switches it off"
    end = math.inf if trainer.max_epochs in (None, -1) else int(trainer.max_epochs or 0)
    every, interval = trainer.check_val_every_n_epoch, getattr(trainer, "val_check_interval", None)  # none by the clock
    batches = batches_of(trainer.limit_train_batches, len(data.train_dataloader()))
    if interval is None or (every is None and isinstance(interval, float)):
        return None
    if every is None:
        if math.isinf(end) or end * batches // interval * interval > first * batches:
            return None
        return f"trainer.val_check_interval={interval} leaves none in epochs {first} to {end - 1}, of {batches} batches"
    if isinstance(interval, int) and interval > batches:
        return f"trainer.val_check_interval={interval} must not exceed the {batches} batches of an epoch"
    validated = (first + every) // every * every  # epochs done when it next comes
    if validated > end:
        return f"trainer.check_val_every_n_epoch={every} leaves none in epochs {first} to {end - 1}"
    return None


class Waiting:
    """A hook of a callback that does nothing until the metric that the callback watches is the objective's.

    Args:
        callback: watches the metric `monitor`.
        hook: name of the hook, whose place this takes.
    """

    def __init__(self, callback: pl.Callback, hook: str) -> None:
        self.callback, self.hook = callback, hook
        self.run: Callable[..., Any] = getattr(callback, hook)

    def __call__(self, trainer: pl.Trainer, pl_module: AnomalyDetector, *rest: Any) -> None:
        """The hook, once the metric is there. Raises ValueError where it should have been logged by now."""
        monitor: str = self.callback.monitor  # type: ignore[attr-defined]
        fits = trainer.state.fn == "fit" and not trainer.sanity_checking
        if not fits:
            self.run(trainer, pl_module, *rest)
        elif monitor not in trainer.callback_metrics:
            if self._is_late(monitor, pl_module):
                there = ", ".join(map(str, trainer.callback_metrics)) or "nothing"
                raise ValueError(f"{_option(self.callback)}={monitor} is not logged: what is logged is {there}")
        elif pl_module.current_epoch >= epochs_before_objective(pl_module):
            self.run(trainer, pl_module, *rest)

    def _is_late(self, monitor: str, detector: AnomalyDetector) -> bool:
        if detector.is_trial:  # a batch may hold no anomaly
            return False
        if monitor.startswith("val/"):
            return self.hook == "on_validation_end" and detector.ready_to_score()
        begun = detector.current_epoch >= epochs_before_objective(detector)
        return self.hook == "on_train_epoch_end" and begun


def _option(callback: pl.Callback) -> str:
    """What sets a callback's metric: the command line's own option, or an argument of the callback."""
    return getattr(callback, "option", f"trainer.callbacks: {type(callback).__name__}: monitor")
