"""Optimisers and learning-rate schedules: the detector's own; a checkpoint says only how far they have come."""

from __future__ import annotations

import inspect
import warnings
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import _init_optimizers_and_lr_schedulers
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from adlightning.core.training_state.schema import alike, count, mapping, number, require, tensor

MOST_STEPS = 100_000
"""Schedules are gone through again up to here; one step takes about ten microseconds."""

_CYCLED = ("momentum", "betas")  # what some schedulers move beside the learning rate
_SQUARES = ("exp_avg_sq", "max_exp_avg_sq", "square_avg", "acc_delta", "sum")
"""Means of squares, whose root is taken."""


def checked_optimizers(checkpoint: Mapping[str, Any], module: pl.LightningModule) -> tuple[list[Any], list[Any]]:
    """States of optimisers and schedulers, as those that the detector makes leave them.

    Raises:
        ValueError: another number of them, or states that do not fit.
    """
    optimizers, configs = _init_optimizers_and_lr_schedulers(module)
    schedulers = [config.scheduler for config in configs]
    states, schedules = checkpoint["optimizer_states"], checkpoint["lr_schedulers"]
    for name, given, own in (("optimizer_states", states, optimizers), ("lr_schedulers", schedules, schedulers)):
        require(isinstance(given, list) and len(given) == len(own), name, f"be a list of {len(own)}", given)
    steps = checkpoint["global_step"]
    pairs = enumerate(zip(schedules, schedulers, strict=True))
    schedules = [_schedule(given, own, steps, f"lr_schedulers[{i}]") for i, (given, own) in pairs]
    rates = _scheduled_rates(schedulers)
    cycles = any(getattr(scheduler, "cycle_momentum", False) for scheduler in schedulers)
    built = [
        _optimizer(given, own, rates.get(id(own)), cycles, steps, f"optimizer_states[{i}]")
        for i, (given, own) in enumerate(zip(states, optimizers, strict=True))
    ]
    return built, schedules


def _schedule(given: Any, own: LRScheduler, steps: int, where: str) -> dict[str, Any]:
    """A schedule's state; where it follows from how often it went on, that number is all that is taken."""
    fresh = own.state_dict()
    state: dict[str, Any] = alike(given, fresh, where)
    if isinstance(own, ReduceLROnPlateau):
        return state
    gone = count(given["last_epoch"], f"{where}.last_epoch", max(steps, MOST_STEPS))
    if gone > MOST_STEPS:
        return state
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no optimiser is stepped here
        for _ in range(gone):
            own.step()
    replayed = own.state_dict()
    for name, value in replayed.items():
        require(_same(given[name], value), f"{where}.{name}", f"be as {gone} goings on of the detector's own schedule")
    return replayed


def _scheduled_rates(schedulers: list[Any]) -> dict[int, list[Any]]:
    """Learning rates of each optimiser whose schedule was gone through, by its identity."""
    followed = [own for own in schedulers if not isinstance(own, ReduceLROnPlateau) and own.last_epoch > 0]
    return {id(own.optimizer): [group["lr"] for group in own.optimizer.param_groups] for own in followed}


def _same(given: Any, own: Any) -> bool:
    """Equal, and of equal types: `True` is no 1, and a tensor is neither equal nor not."""
    if isinstance(own, (list, tuple)):
        return type(given) is type(own) and len(given) == len(own) and all(map(_same, given, own))
    if isinstance(own, dict):
        return isinstance(given, dict) and given.keys() == own.keys() and all(_same(given[k], own[k]) for k in own)
    return type(given) is type(own) and bool(given == own)


def _optimizer(
    given: Any, own: Optimizer, rates: list[Any] | None, cycles: bool, steps: int, where: str
) -> dict[str, Any]:
    fresh = own.state_dict()
    state = mapping(given, where, list(fresh))
    if not fresh:  # Lightning's stand-in for a detector that trains nothing
        return {}
    groups = state["param_groups"]
    require(
        isinstance(groups, list) and len(groups) == len(fresh["param_groups"]),
        f"{where}.param_groups",
        f"be a list of {len(fresh['param_groups'])}",
        groups,
    )
    built = [
        _group(group, own_group, None if rates is None else rates[i], cycles, f"{where}.param_groups[{i}]")
        for i, (group, own_group) in enumerate(zip(groups, fresh["param_groups"], strict=True))
    ]
    _require_ranges(own, built, where)
    of_parameters = mapping(state["state"], f"{where}.state")
    parameters = [parameter for group in own.param_groups for parameter in group["params"]]
    forms = _forms(own, where)
    kept: dict[int, Any] = {}
    for index, value in of_parameters.items():
        count(index, f"{where}.state", len(parameters) - 1)
        form = None if forms is None else forms[index]
        kept[index] = _moments(value, parameters[index], form, steps, f"{where}.state[{index}]")
    return {"state": kept, "param_groups": built}


def _group(given: Any, own: Mapping[str, Any], rate: float | None, cycles: bool, where: str) -> dict[str, Any]:
    """A group's options: the detector's own, but for the learning rate (and what a cycle moves with it)."""
    group = dict(mapping(given, where, list(own)))
    for name, value in own.items():
        if name == "lr":
            number(group["lr"], f"{where}.lr")
            require(group["lr"] >= 0, f"{where}.lr", "not be negative", group["lr"])
            require(rate is None or group["lr"] == rate, f"{where}.lr", f"be the schedule's {rate}", group["lr"])
        elif cycles and name in _CYCLED:
            group[name] = alike(group[name], value, f"{where}.{name}")
        else:
            require(_equal(group[name], value), f"{where}.{name}", f"be the detector's {value}", group[name])
            group[name] = value
    return group


def _equal(given: Any, own: Any) -> bool:
    if isinstance(own, (list, tuple)):
        return isinstance(given, (list, tuple)) and len(given) == len(own) and all(map(_equal, given, own))
    numbers = (int, float)
    alike_types = type(given) is type(own) or (type(given) in numbers and type(own) in numbers)
    return alike_types and bool(given == own)


def _require_ranges(own: Optimizer, groups: list[dict[str, Any]], where: str) -> None:
    """What the optimiser's own constructor says of its options, those without a default as the detector gives them."""
    signature = inspect.signature(type(own)).parameters.values()
    needed = [one.name for one in signature if one.default is one.empty and one.name in own.defaults]
    for i, group in enumerate(groups):
        options = {name: group[name] for name in own.defaults if name in ("lr", *_CYCLED, *needed)}
        try:
            type(own)([nn.Parameter(torch.zeros(1))], **options)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{where}.param_groups[{i}]: {error}") from error


def _forms(own: Optimizer, where: str) -> list[dict[str, Any]] | None:
    """What an optimiser keeps of each parameter after a step, found by a step without memory; None if not so.

    Raises:
        ValueError: a step needs a closure: what it keeps is then not of each parameter.
    """
    closure = inspect.signature(type(own).step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        name = type(own).__name__
        raise ValueError(f"{where}: a fit by {name} cannot go on from a checkpoint, since its steps need a closure")
    twin = type(own).__new__(type(own))
    vars(twin).update({name: value for name, value in vars(own).items() if name != "step"})  # a scheduler wraps it
    twin.state, twin.param_groups = defaultdict(dict), []
    for group in own.param_groups:
        parameters = [nn.Parameter(torch.empty_like(parameter, device="meta")) for parameter in group["params"]]
        for parameter, real in zip(parameters, group["params"], strict=True):
            parameter.grad = torch.empty_like(parameter)
            if real in own.state:  # made at once, as Adagrad does
                twin.state[parameter] = {
                    name: value.clone() if value.dim() == 0 else torch.empty_like(value, device="meta")
                    for name, value in own.state[real].items()
                }
        twin.param_groups.append({**group, "params": parameters})
    try:
        twin.step()
    except (RuntimeError, NotImplementedError):  # the step looks at values, and weights on `meta` have none: no form
        return None
    return [dict(twin.state[parameter]) for group in twin.param_groups for parameter in group["params"]]


def _moments(given: Any, parameter: Tensor, form: dict[str, Any] | None, steps: int, where: str) -> dict[str, Any]:
    """What an optimiser keeps of a parameter, in memory of its own: it is changed in place."""
    values = mapping(given, where, None if form is None else list(form))
    built: dict[str, Any] = {}
    for name, value in values.items():
        require(isinstance(name, str), where, "have names", name)
        place = f"{where}.{name}"
        like = parameter if form is None else form[name]
        if form is None and isinstance(value, Tensor) and value.dim() == 0:
            like = value
        if isinstance(like, Tensor):
            built[name] = tensor(value, like, place)
        elif like is None:
            require(value is None, place, "be none", value)
            built[name] = None
        else:
            built[name] = number(value, place)
        if name in _SQUARES:
            require(not bool((built[name] < 0).any()), place, "not be negative")
        if name == "step":
            step = float(built[name])
            require(0 <= step <= steps and step.is_integer(), place, f"be a whole number from 0 to {steps}", step)
    return built
