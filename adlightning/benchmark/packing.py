"""Which fits of a grid are trained together as one batched model, and why the others are not.

Cells of a pack have one method, networks, optimisers, schedules, epochs and batch size. They may differ in their seed,
in arguments of the data that say who is normal, known or held out, and in the method's scalars (:data:`PACKABLE`).
How they are trained is in :mod:`adlightning.benchmark.packed_fit`. What only the data or the networks decide is found
out there: a cell that turns out not to fit the others is then fitted alone, and its row says why.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from adlightning.benchmark.configuration import copied, deciding
from adlightning.benchmark.grid import Cell
from adlightning.benchmark.tasks import Task

PACKABLE: dict[str, tuple[str, ...]] = {
    "Autoencoder": (),
    "BinaryClassifier": (),
    "DeepSAD": ("eta", "eps"),
    "DeepSVDD": (),
}
"""Methods that can be packed, and the scalars in which the cells of a pack may differ."""

_TOP = {"seed_everything", "run_dir", "trainer", "model", "data", "plots", "test_after_fit", "boundary_features"}
_TRAINER = {"max_epochs", "check_val_every_n_epoch", "num_sanity_val_steps", "log_every_n_steps", "precision"}
_TRAINER |= {"accelerator", "devices", "logger", "enable_progress_bar", "enable_model_summary"}
_TRAINER |= {"enable_checkpointing", "default_root_dir"}
_SAME_DATA = ("source", "batch_size", "eval_batch_size", "drop_last")
_SINGLE = (None, 32, "32", "32-true")


class PackBroken(Exception):
    """A pack could not go on for a reason that lies in no cell of it: each of its cells is fitted alone."""


@dataclass(frozen=True)
class Pack:
    """Fits that are trained together.

    Args:
        tasks: two or more, whose cells' configurations can be packed.
    """

    tasks: tuple[Task, ...]

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The cells whose rows come of it."""
        return tuple(cell for task in self.tasks for cell in task.cells)

    def left(self, waiting: Sequence[Cell]) -> list[Task]:
        """The single fits that the cells still need whose rows have not come."""
        keys = {cell.config_hash for cell in waiting}
        parts = [
            replace(
                task,
                wanted=task.wanted and task.trained.config_hash in keys,
                scored=tuple(cell for cell in task.scored if cell.config_hash in keys),
            )
            for task in self.tasks
        ]
        return [part for part in parts if part.cells]


@dataclass(frozen=True)
class Plan:
    """What is run, and why cells are fitted alone.

    Args:
        work: packs and single fits, each where its first cell stands.
        alone: how many fits are alone for which reason.
    """

    work: tuple[Task | Pack, ...]
    alone: Mapping[str, int] = field(default_factory=dict)

    @property
    def together(self) -> list[Cell]:
        """The cells whose fits are in packs."""
        return [task.trained for part in self.work if isinstance(part, Pack) for task in part.tasks]


def packed(tasks: Sequence[Task], size: int) -> Plan:
    """Put fits together that can be trained together.

    Args:
        tasks: the fits.
        size: fits of a pack at most, at least 2. Groups that are larger are divided evenly.
    """
    groups: dict[str, list[Task]] = {}
    alone: Counter[str] = Counter()
    for task in tasks:
        if reason := refusal(task.trained.config):
            alone[reason] += 1
        else:
            groups.setdefault(likeness(task.trained), []).append(task)
    begins: dict[str, Pack] = {}
    together: set[str] = set()
    for group in groups.values():
        if len(group) == 1:
            alone["no other cell is like it"] += 1
            continue
        for part in _evenly(group, size):
            begins[part[0].trained.config_hash] = Pack(tuple(part))
            together |= {task.trained.config_hash for task in part}
    work: list[Task | Pack] = []
    for task in tasks:
        key = task.trained.config_hash
        if key in begins:
            work.append(begins[key])
        elif key not in together:
            work.append(task)
    return Plan(tuple(work), alone)


def _evenly(group: Sequence[Task], size: int) -> Iterable[Sequence[Task]]:
    n = -(-len(group) // size)
    bounds = [round(i * len(group) / n) for i in range(n + 1)]
    return (group[start:end] for start, end in itertools.pairwise(bounds))


def refusal(config: Mapping[str, Any]) -> str | None:
    """Why a configuration cannot be packed, as far as it says by itself; None where it can."""
    method, arguments = _class(config["model"])
    if method not in PACKABLE:
        return f"{method} cannot be packed"
    trainer = config.get("trainer", {})
    if unknown := [key for key, value in trainer.items() if key not in _TRAINER and value not in (None, [], {})]:
        return f"trainer.{sorted(unknown)[0]}"
    if trainer.get("logger") not in (None, True, False):
        return "trainer.logger"
    if trainer.get("precision") not in _SINGLE:
        return f"trainer.precision={trainer['precision']}"
    if type(epochs := trainer.get("max_epochs")) is not int or epochs < 1:
        return "trainer.max_epochs is no number"
    if unknown := [key for key, value in config.items() if key not in _TOP and value is not None]:
        return sorted(unknown)[0]
    if arguments.get("learn_center"):
        return "model.learn_center"
    if arguments.get("lr_scheduler_interval", "epoch") != "epoch":
        return f"model.lr_scheduler_interval={arguments['lr_scheduler_interval']}"
    for name in ("train_transforms", "synthetic_anomalies"):
        if _class(config["data"])[1].get(name):
            return f"data.{name}"
    return None


def likeness(cell: Cell) -> str:
    """What the cells of a pack have in common, as text."""
    config = copied(deciding(cell.config))
    config.pop("seed_everything", None)
    method, arguments = _class(config["model"])
    config["model"] = [method, {k: v for k, v in arguments.items() if k not in PACKABLE[method]}]
    data, of_data = _class(config["data"])
    config["data"] = [data, {k: of_data[k] for k in _SAME_DATA if k in of_data}]
    return json.dumps([cell.code, config], sort_keys=True)


def _class(part: Any) -> tuple[str, dict[str, Any]]:
    """Name of a class and its arguments, where a configuration names it alone or with them."""
    if isinstance(part, str):
        return part.rpartition(".")[2], {}
    return str(part["class_path"]).rpartition(".")[2], part.get("init_args") or {}
