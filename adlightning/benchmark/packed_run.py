"""A pack in this process: the fits of its cells within one another, and a row of each."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace

from adlightning.benchmark.grid import Cell
from adlightning.benchmark.packing import Pack, PackBroken
from adlightning.benchmark.store import Results, Row
from adlightning.benchmark.tasks import Task
from adlightning.benchmark.worker import RunVerb, fit_cell, run_task
from adlightning.core.memory import keep_freed_memory

_FRAMES = 150
"""That a fit within another adds to the stack, at most."""


def run_pack(
    pack: Pack, results: Results, run_verb: RunVerb, keep_checkpoints: bool = False
) -> Iterator[tuple[Cell, Row]]:
    """Fit and test the cells of a pack together, and keep a row of each.

    A cell that fails has the row that it would have alone, and the others go on. Where the pack as a whole fails, or a
    cell's fit with it, the cells are fitted one after the other.
    """
    keep_freed_memory()
    rows = _fit_within_one_another(pack, results, run_verb, keep_checkpoints)
    for task in pack.tasks:
        if (row := rows.get(task.trained.config_hash)) is None:
            yield from run_task(task, results, run_verb, keep_checkpoints)
            continue
        if task.wanted:
            yield task.trained, row
        if task.scored:
            yield from run_task(replace(task, wanted=False), results, run_verb, keep_checkpoints)


def _fit_within_one_another(pack: Pack, results: Results, run_verb: RunVerb, keep_checkpoints: bool) -> dict[str, Row]:
    """Rows by the hashes of their cells; without those of cells that have to be fitted alone."""
    from adlightning.benchmark.packed_fit import PackedFit, PackMember, fitted_in

    fit, rows = PackedFit(), dict[str, Row]()

    def begin(tasks: tuple[Task, ...]) -> None:
        if not tasks:
            fit.train()
            return
        task, others = tasks[0], tasks[1:]

        def descend() -> None:
            try:
                begin(others)
            except Exception as error:  # of no cell, and no cell's row: what is written on disk cannot be, say
                fit.fault = error
                raise PackBroken("another fit of the pack ended it") from error

        def as_shared(row: Row) -> None:
            row["seconds"]["total"] = round(row["seconds"]["total"] - member.elsewhere, 3)
            if member.n_together > 1:
                row["packed"] = member.n_together
            elif member.alone is not None:
                row["alone"] = member.alone

        member = PackMember(fit, descend)
        try:
            with fitted_in(member):
                checkpoint = keep_checkpoints or bool(task.scored)
                rows[task.trained.config_hash] = fit_cell(task.trained, results, run_verb, checkpoint, as_shared)
        except PackBroken:
            if fit.fault is not None:
                raise fit.fault from None
        if not member.waits:  # its fit was refused before it trained: the row says so
            begin(others)

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, 1000 + _FRAMES * len(pack.tasks)))
    try:
        begin(pack.tasks)
    finally:
        sys.setrecursionlimit(limit)
    return rows
