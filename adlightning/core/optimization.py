"""One optimiser with a learning-rate schedule, as Lightning takes them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Literal

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from adlightning.core.faults import TrainingFault
from adlightning.core.parts import OptimizerFactory, SchedulerFactory, as_part

Interval = Literal["epoch", "step"]

MONITOR = "train/loss"
"""What a schedule watches that does not say what."""


def optimizer_part(argument: str, optimizer: OptimizerFactory) -> partial[Optimizer]:
    """An optimiser as a part. Raises ValueError for anything else."""
    return as_part(argument, optimizer, Optimizer)


def scheduler_part(argument: str, scheduler: SchedulerFactory | None) -> partial[LRScheduler] | None:
    """A schedule as a part, or None for a constant learning rate. Raises ValueError for anything else."""
    return None if scheduler is None else as_part(argument, scheduler, LRScheduler)


def one_optimizer(
    parameters: Iterable[Any],
    optimizer: partial[Optimizer],
    scheduler: partial[LRScheduler] | None,
    interval: Interval = "epoch",
    place: str = "",
) -> dict[str, Any]:
    """What `configure_optimizers` returns for an optimiser and its schedule.

    Args:
        parameters: what is trained, or groups of it.
        optimizer: made with them.
        scheduler: made with the optimiser; one that watches a metric watches its `monitor`, or the training loss.
        interval: whether the schedule goes on after each epoch or after each step.
        place: what comes before `optimizer` and `lr_scheduler` in the names of the arguments, for messages.

    Raises:
        ValueError: one of the two refuses its arguments, or fails in its first step.
    """
    made, schedule = with_schedule(f"{place}optimizer", optimizer, f"{place}lr_scheduler", scheduler, parameters)
    if schedule is None:
        return {"optimizer": made}
    config: dict[str, Any] = {"scheduler": schedule, "interval": interval}
    if isinstance(schedule, ReduceLROnPlateau):
        config["monitor"] = getattr(schedule, "monitor", MONITOR)
    return {"optimizer": made, "lr_scheduler": config}


def with_schedule(
    argument: str,
    optimizer: partial[Optimizer],
    of_schedule: str,
    scheduler: partial[LRScheduler] | None,
    parameters: Iterable[Any],
) -> tuple[Optimizer, LRScheduler | None]:
    """An optimiser of parameters and its schedule, once both have taken a step with weights that nobody needs.

    Many of their arguments are looked at in the first step only, which for a second phase comes late.

    Args:
        argument: what the optimiser is called, for messages.
        optimizer: made with the parameters.
        of_schedule: what the schedule is called.
        scheduler: made with the optimiser; None for a constant learning rate.
        parameters: what is trained, or groups of it.

    Raises:
        ValueError: one of the two refuses its arguments, fails in its first step, or sets no learning rate.
    """
    weights = list(parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trial = _made(argument, optimizer, lambda: optimizer(_stand_ins(weights)))
        _made(argument, optimizer, lambda: trial.step(lambda: 0.0))
        if scheduler is not None:
            if any("lr" not in group for group in trial.param_groups):
                raise ValueError(
                    f"{of_schedule} must be null with {optimizer.func.__name__}, which has no learning rate `lr`, got "
                    f"{scheduler.func.__name__}"
                )
            schedule = _made(of_schedule, scheduler, lambda: scheduler(trial))
            metric = (0.0,) if isinstance(schedule, ReduceLROnPlateau) else ()
            _made(of_schedule, scheduler, lambda: schedule.step(*metric))
            _require_rates(of_schedule, scheduler, trial)
    made: Optimizer = _made(argument, optimizer, lambda: optimizer(weights))
    return made, None if scheduler is None else _made(of_schedule, scheduler, lambda: scheduler(made))


def go_on(schedule: LRScheduler, *metric: Any) -> None:
    """A step of a schedule in training.

    Raises:
        TrainingFault: it fails: it is made for fewer steps, say.
    """
    try:
        schedule.step(*metric)
    except Exception as error:  # a schedule may be anybody's, and fail in any way
        said = str(error) or type(error).__name__
        raise TrainingFault(f"lr_scheduler: {said} ({type(schedule).__name__})") from error


def _stand_ins(weights: list[Any]) -> list[Any]:
    """Weights of one value each, with gradients, of as many dimensions; groups stay groups."""
    if weights and isinstance(weights[0], Mapping):
        return [{**group, "params": _stand_ins(list(group["params"]))} for group in weights]
    stand_ins = [torch.zeros([1] * w.dim(), dtype=w.dtype, device=w.device, requires_grad=True) for w in weights]
    for weight in stand_ins:
        weight.grad = torch.zeros_like(weight)
    return stand_ins


def _require_rates(argument: str, scheduler: partial[LRScheduler], optimizer: Optimizer) -> None:
    for rate in (float(group["lr"]) for group in optimizer.param_groups):
        if not 0 <= rate < math.inf:
            raise ValueError(
                f"{argument} must give learning rates that are finite and not negative, got {rate:g} after its first "
                f"step ({scheduler.func.__name__})"
            )


def _made(argument: str, part: partial[Any], make: Callable[[], Any]) -> Any:
    """What a part makes or does; its own words name neither it nor the argument, and may be of any type."""
    try:
        return make()
    except Exception as error:
        said = str(error) or f"it fails with {type(error).__name__}"
        raise ValueError(f"{argument}: {said} ({part.func.__name__})") from error
