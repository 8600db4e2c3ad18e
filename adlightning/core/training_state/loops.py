"""How far a fit has come: Lightning's counters, each in its range and all of them of one story."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytorch_lightning as pl

from adlightning.core.training_state.schema import count, mapping, require

_ORDER = ("ready", "started", "processed", "completed")
"""In which Lightning counts a thing on; what is not completed is one at most."""

_EPOCHS, _BATCHES = "epoch_progress", "epoch_loop.batch_progress"
_BY_ITSELF = "epoch_loop.automatic_optimization.optim_progress"
_BY_HAND = "epoch_loop.manual_optimization.optim_step_progress"
_VALIDATION = "epoch_loop.val_loop."
_STEPPED = "_batches_that_stepped"


def checked_loops(checkpoint: Mapping[str, Any], module: pl.LightningModule) -> dict[str, Any]:
    """The state of Lightning's fit loop; those of its other loops are no part of a fit that goes on.

    Raises:
        ValueError: counters that no fit of this detector leaves.
    """
    trainer, where = module.trainer, "loops.fit_loop"
    saved = mapping(checkpoint["loops"], "loops").get("fit_loop")
    fresh = trainer.fit_loop.state_dict()
    given = mapping(saved, where, list(fresh))
    state = {name: _part(given[name], value, f"{where}.{name}", name) for name, value in fresh.items()}
    _require_one_story(state, checkpoint, module)
    _require_something_left(state[_EPOCHS]["current"]["processed"], checkpoint["global_step"], trainer)
    return {"fit_loop": state}


def _require_something_left(epochs: int, steps: int, trainer: pl.Trainer) -> None:
    """Refuse to go on with a fit that is over: it would train nothing, and report as if it had."""
    for option, most, done in (("max_epochs", trainer.max_epochs, epochs), ("max_steps", trainer.max_steps, steps)):
        if most not in (None, -1) and done >= most:
            unit = option.removeprefix("max_")
            raise ValueError(
                f"trainer.{option} must exceed its {done} {unit}, got {most}: nothing is left to train. Give more, or "
                "test it: adlightning test --ckpt_path RUN"
            )


def _part(value: Any, fresh: Any, where: str, name: str) -> Any:
    if name.endswith("state_dict"):
        # the order of an epoch's samples is drawn anew, so that a loader's own state is left out
        known = {key for key in (_STEPPED,) if key in fresh}
        given = mapping(mapping(value, where), where, [*known, *({"combined_loader"} & value.keys())])
        return {key: count(given[key], f"{where}.{key}") for key in known}
    return _progress(value, fresh, where, sums=not name.startswith(_VALIDATION))


def _progress(value: Any, fresh: Any, where: str, sums: bool) -> Any:
    """Counters, in the order in which they are counted on.

    Args:
        value: what is given.
        fresh: of a fit that has not begun.
        where: for messages.
        sums: whether `total` goes on beyond `current`: validation's begins anew in each epoch.
    """
    if not isinstance(fresh, Mapping):  # is_last_batch
        require(type(value) is bool, where, "be true or false", value)
        return value
    given = mapping(value, where, list(fresh))
    state: dict[str, Any] = {}
    if "ready" in fresh:
        state = {name: count(given[name], f"{where}.{name}") for name in fresh}
        counted = [state[name] for name in _ORDER if name in state]
        falls = all(before >= after for before, after in pairwise(counted))
        require(falls and counted[0] - counted[-1] <= 1, where, "count ready, started, processed and completed in turn")
        return state
    state = {name: _progress(given[name], inner, f"{where}.{name}", sums) for name, inner in fresh.items()}
    if sums and "total" in state:
        for name, counted_now in state["current"].items():
            require(counted_now <= state["total"][name], f"{where}.current.{name}", "not exceed its total", counted_now)
    return state


def _require_one_story(state: dict[str, Any], checkpoint: Mapping[str, Any], module: pl.LightningModule) -> None:
    """Epochs, batches and steps that can be of one fit, which is the one that the checkpoint says it is of."""
    epochs, batches = state[_EPOCHS], state[_BATCHES]["total"]["ready"]
    by_itself, by_hand = state[_BY_ITSELF]["optimizer"]["step"]["total"], state[_BY_HAND]["total"]
    mine, other = (by_itself, by_hand) if module.automatic_optimization else (by_hand, by_itself)
    epoch, step = count(checkpoint.get("epoch"), "epoch"), count(checkpoint.get("global_step"), "global_step")
    done = epochs["current"]["completed"]
    require(epoch == done, "epoch", f"be {done}, as its loops say", epoch)
    require(step == mine["completed"], "global_step", f"be {mine['completed']}, as its loops say", step)
    require(other["ready"] == 0, "loops.fit_loop", "count the steps of one way of training only", other["ready"])
    trained = epochs["total"]["processed"]
    require(trained <= batches, "loops.fit_loop.epoch_progress", f"be at most as many as batches, {batches}", trained)
    if module.automatic_optimization:
        require(step <= batches, "global_step", f"be as many as batches ({batches}) at most", step)
    stepped = state["epoch_loop.state_dict"][_STEPPED]
    require(stepped <= batches + 1, f"loops.fit_loop.epoch_loop.{_STEPPED}", f"be {batches} at most", stepped)
    said = count(checkpoint["adlightning"]["training"].get("epochs"), "adlightning.training.epochs")
    require(said == epochs["current"]["ready"], "adlightning.training.epochs", "be as its loops say", said)
