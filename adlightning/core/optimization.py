"""One optimiser with a learning-rate schedule, as Lightning takes them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

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
) -> dict[str, Any]:
    """What `configure_optimizers` returns for an optimiser and its schedule.

    Args:
        parameters: what is trained, or groups of it.
        optimizer: made with them.
        scheduler: made with the optimiser; one that watches a metric watches its `monitor`, or the training loss.
        interval: whether the schedule goes on after each epoch or after each step.
    """
    made = _made("optimizer", optimizer, parameters)
    if scheduler is None:
        return {"optimizer": made}
    schedule = _made("lr_scheduler", scheduler, made)
    config: dict[str, Any] = {"scheduler": schedule, "interval": interval}
    if isinstance(schedule, ReduceLROnPlateau):
        config["monitor"] = getattr(schedule, "monitor", MONITOR)
    return {"optimizer": made, "lr_scheduler": config}


def _made(argument: str, part: partial[Any], of: Any) -> Any:
    """What a part makes; the class's own words name neither it nor the argument."""
    try:
        return part(of)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{argument}: {error} ({part.func.__name__})") from error
