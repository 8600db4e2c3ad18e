"""Trials of a sweep by Optuna: asked for, run as ordinary fits, stopped early, kept for the next start.

study/trials.jsonl    Optuna's journal: what was tried and what came of it
cells/, runs/         of each trial that ended, as in a benchmark's folder; the best one keeps its checkpoint
"""

from __future__ import annotations

import csv
import itertools
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import optuna
from optuna.samplers import PartialFixedSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from adlightning.benchmark.code import code_version
from adlightning.benchmark.configuration import config_hash, digest
from adlightning.benchmark.grid import Cell
from adlightning.benchmark.store import Results, Row
from adlightning.benchmark.sweep_file import Sweep
from adlightning.benchmark.tasks import Task

_FIRST_FAILURES = 3
"""So many and nothing else: it is not their parameters."""


class Trials:
    """Trials of a sweep, as tasks for the pool.

    A trial's place among them seeds its sampler, so that a sweep that was killed tries what it would have tried.

    Args:
        sweep: what is searched.
        results: its folder, which nobody else has.
        n: how many trials there shall be, with those of earlier starts.
        seed: of the samplers.
        say: told a line of each trial that ends.

    Raises:
        ValueError: the folder has trials of another sweep, or of other code.
    """

    def __init__(self, sweep: Sweep, results: Results, n: int, seed: int, say: Callable[[str], None]) -> None:
        self.sweep, self.results, self.seed, self.say = sweep, results, seed, say
        self.points = sweep.points() if sweep.method == "grid" else []
        self.n = min(n, len(self.points)) if self.points else n
        self.running: dict[int, tuple[Trial, Cell]] = {}
        journal = results.folder / "study" / "trials.jsonl"
        _drop_torn_line(journal)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage = JournalStorage(JournalFileBackend(str(journal), cast(Any, _NoLock())))
        self.study = optuna.create_study(
            storage=storage, study_name="sweep", direction=sweep.goal, pruner=sweep.pruner, load_if_exists=True
        )
        self._require_same_sweep()
        for left in self.study.get_trials(states=(TrialState.RUNNING,)):
            self.study.tell(left.number, state=TrialState.FAIL)

    def _require_same_sweep(self) -> None:
        sweep = self.sweep
        now = {
            "parameters": digest({key: repr(of) for key, of in sweep.space.items()}),
            "config": config_hash(sweep.config),
            "search": f"{sweep.method} {sweep.metric} {sweep.goal} {vars(sweep.pruner)} seed {self.seed}",
            "code": code_version(sweep.config),
        }
        before = self.study.user_attrs.get("sweep")
        if before is None:
            self.study.set_user_attr("sweep", now)
        elif changed := [key for key, value in now.items() if before.get(key) != value]:
            raise ValueError(
                f"results: {self.results.folder} has trials of before {' and '.join(changed)} changed: "
                "give another --results"
            )

    @property
    def ended(self) -> list[FrozenTrial]:
        """Trials that came to an end: done, stopped early, or failed by themselves, not with their process."""
        trials = self.study.get_trials(deepcopy=False)
        return [t for t in trials if t.state.is_finished() and (t.state != TrialState.FAIL or "error" in t.user_attrs)]

    @property
    def best(self) -> FrozenTrial | None:
        """The best of those that are done, the first of equals."""
        done = [trial for trial in self.ended if trial.state == TrialState.COMPLETE]
        sign = -1 if self.sweep.goal == "maximize" else 1
        return min(done, key=lambda trial: (sign * cast(float, trial.value), trial.number), default=None)

    def cell(self, trial: Trial | FrozenTrial) -> Cell:
        """The fit of a trial."""
        config = self.sweep.config_of(trial.params)
        return Cell({"trial": trial.number}, config, config_hash(config), code_version(config))

    # ---- for the pool ---------------------------------------------------------------------------------------------

    def tasks(self) -> Iterator[Task]:
        """What to run next, asked when a process is free; a fit that is there already is not run again."""
        while (place := self._free_place()) is not None:
            trial = self._ask(place)
            cell = self.cell(trial)
            self.running[trial.number] = trial, cell
            done = self.results.done([cell])
            if done:
                self.finished(cell, done[cell.config_hash])
            else:
                yield Task(cell)

    def watch(self, give_up: Callable[[Cell], None]) -> None:
        """Look at what runs: a trial that is worse than others were ends here.

        Args:
            give_up: ends the process of a cell.
        """
        for trial, cell in list(self.running.values()):
            folder = self.results.growing(cell)
            if folder is not None and self._is_worse(trial, _history(folder / "run" / "epochs.csv", self.sweep.metric)):
                give_up(cell)
                self._end(trial, TrialState.PRUNED)

    def finished(self, cell: Cell, row: Row) -> None:
        """Tell Optuna what came of a trial. Raises ValueError when all of the first trials failed."""
        number = cell.labels["trial"]
        if number not in self.running:  # it was stopped early
            self.results.forget_failures([cell])
            self.results.open()  # which clears away what the killed process left
            return
        trial, best = self.running[number][0], self.best
        run = self.results.run_folder(cell)
        files = (run / "epochs.csv", run / "logs" / "version_0" / "metrics.csv")
        values = next(filter(None, (_history(file, self.sweep.metric) for file in files)), [])
        error = row["error"] or ("" if values else f"{self.sweep.metric} was never logged")
        if error:
            trial.set_user_attr("error", error)
        worse = not error and self._is_worse(trial, values)
        self._end(trial, TrialState.FAIL if error else TrialState.PRUNED if worse else TrialState.COMPLETE)
        if len(self.ended) >= _FIRST_FAILURES and all(t.state == TrialState.FAIL for t in self.ended):
            raise ValueError(f"the first {len(self.ended)} trials failed, see {run / 'output.log'}: {error}")
        cells = [cell, *map(self.cell, filter(None, [best]))]
        kept = self.results.key(self.cell(self.best)) if self.best else ""
        for other in (other for other in cells if self.results.key(other) != kept):
            self.results.forget_checkpoint(other)

    # ---- parts ----------------------------------------------------------------------------------------------------

    def _free_place(self) -> int | None:
        counted = [*self.ended, *self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))]
        taken = {trial.user_attrs.get("place") for trial in counted}
        return next((place for place in range(self.n) if place not in taken), None)

    def _ask(self, place: int) -> Trial:
        """The trial of a place: a grid's point, the one that a killed process gave up, or the sampler's.

        Optuna's own GridSampler raises at its last point when it is asked and told.
        """
        seed = int(np.random.SeedSequence((self.seed, place)).generate_state(1)[0])
        random = RandomSampler(seed)
        left = [t.params for t in self.study.get_trials(deepcopy=False) if t.user_attrs.get("place") == place]
        point = self.points[place] if self.points else left[-1] if left else {}
        self.study.sampler = random if self.sweep.method == "random" else TPESampler(seed=seed)
        if point:
            with warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning):
                self.study.sampler = PartialFixedSampler(point, random)
        trial = self.study.ask(self.sweep.space)
        trial.set_user_attr("place", place)
        return trial

    def _is_worse(self, trial: Trial, values: list[float]) -> bool:
        """Report what is new of a trial's validation, at each time its best so far; whether it shall end."""
        better = max if self.sweep.goal == "maximize" else min
        known = len(self._told(trial))
        for step, value in list(enumerate(itertools.accumulate(values, better), 1))[known:]:
            trial.report(value, step)
            if trial.should_prune():
                return True
        return False

    def _told(self, trial: Trial) -> list[float]:
        return list(self.study.get_trials(deepcopy=False)[trial.number].intermediate_values.values())

    def _end(self, trial: Trial, state: TrialState) -> None:
        del self.running[trial.number]
        told = self._told(trial)
        self.study.tell(trial, told[-1] if state == TrialState.COMPLETE else None, state)
        what = f"failed: {trial.user_attrs['error']}" if "error" in trial.user_attrs else f"{told[-1]:.4g}"
        what += ", stopped early" if state == TrialState.PRUNED else ""
        self.say(f"[{len(self.ended)}/{self.n}] trial {trial.number}: {what}; {point_text(trial.params)}")


def point_text(point: Mapping[str, Any]) -> str:
    """A point in words: `model.eta=0.31, model.encoder.rep_dim=32`."""
    values = {key: f"{value:.4g}" if isinstance(value, float) else str(value) for key, value in point.items()}
    return ", ".join(f"{key}={value}" for key, value in values.items())


def _history(file: Path, metric: str) -> list[float]:
    """Values of a metric in a table of epochs or steps, in order; none where there is no table, or no such column."""
    if not file.exists():
        return []
    with file.open(encoding="utf-8", newline="") as opened:
        values = [float(row[metric]) for row in csv.DictReader(opened) if row.get(metric)]
    return [value for value in values if math.isfinite(value)]


def _drop_torn_line(journal: Path) -> None:
    """A process that was killed while it wrote leaves half a line, which Optuna would stumble over."""
    if journal.exists():
        with journal.open("r+b") as opened:
            opened.truncate(opened.read().rfind(b"\n") + 1)


class _NoLock:
    """Nobody else writes: the folder is ours. Optuna's own lock outlives a process that is killed."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass
