"""Tasks as jobs of a SLURM array, through submitit; each job runs its share of them in one process."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from adlightning.benchmark.grid import Cell
from adlightning.benchmark.store import Results, Row
from adlightning.benchmark.tasks import Task
from adlightning.benchmark.worker import RunVerb, now, run_task
from adlightning.core.messages import printable


def cluster_options(texts: Sequence[str]) -> dict[str, Any]:
    """`slurm_partition=gpu` and the like as submitit's parameters. Raises ValueError for what is no NAME=VALUE."""
    options = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise ValueError(f"cluster_option: {text!r} must be NAME=VALUE, as in slurm_partition=gpu")
        options[name] = yaml.safe_load(value)
    return options


def run_on_cluster(
    tasks: Sequence[Task],
    results: Results,
    cluster: str,
    jobs: int,
    cells_per_job: int | None,
    options: dict[str, Any],
    finished: Callable[[Cell, Row], None],
    watch: Callable[[], None],
    run_verb: RunVerb,
    keep_checkpoints: bool = False,
) -> None:
    """Submit all tasks as one array and wait for them; the jobs write their rows into the results folder themselves.

    Breaking off (Ctrl-C) cancels the jobs; cells that are done stay done.

    Args:
        tasks: what to run.
        results: a folder that the cluster's machines see as well.
        cluster: `slurm`, or `local` for processes on this machine.
        jobs: how many jobs may run at a time.
        cells_per_job: fits of one job, one after the other; None divides them evenly among `jobs`. For SLURM only: on
            this machine all jobs run at the same time.
        options: submitit's parameters: `slurm_partition`, `timeout_min`, `gpus_per_node`, `mem_gb`, ...
        finished: told of every cell that is done or failed.
        watch: called about once a second.
        run_verb: what fits and tests a cell.
        keep_checkpoints: keep each run's checkpoint.

    Raises:
        ValueError: submitit is not there, or does not know an option or the cluster.
    """
    if cluster == "local" and cells_per_job is not None:
        raise ValueError(f"cells_per_job is for slurm: local runs all its jobs at once, got {cells_per_job}")
    try:
        import submitit
    except ImportError:
        raise ValueError("cluster: submitit is needed: pip install adlightning[cluster]") from None
    try:
        executor = submitit.AutoExecutor(folder=results.folder / "cluster" / "%j", cluster=cluster)
        executor.update_parameters(name="adlightning", **_limits(cluster, jobs), **options)
    except (RuntimeError, NameError, TypeError) as error:
        raise ValueError(f"cluster: {error}") from error
    size = cells_per_job or math.ceil(len(tasks) / jobs)
    shares = [list(tasks[i : i + size]) for i in range(0, len(tasks), size)]
    common = results.folder.absolute(), run_verb, keep_checkpoints, Path.cwd()
    submitted = executor.map_array(_run_share, shares, *([item] * len(shares) for item in common))
    waiting = [cell for task in tasks for cell in task.cells]
    try:
        while waiting:
            over = all(job.done() for job in submitted)  # asked first: what they wrote is then to be seen
            for cell in list(waiting):
                if (row := results.own_row(cell)) is not None:
                    waiting.remove(cell)
                    finished(cell, row)
            if over:
                break
            watch()
            time.sleep(1)
    except BaseException:
        for job in submitted:
            job.cancel()
        raise
    left = {cell.config_hash for cell in waiting}
    for share, job in zip(shares, submitted, strict=True):
        for cell in (cell for task in share for cell in task.cells if cell.config_hash in left):
            row = {"status": "failed", "error": f"job {job.job_id} ended early: {_why(job)}", "code": cell.code}
            row |= {"seconds": {}, "finished": now()}
            results.write(cell, row)
            finished(cell, row)


def _limits(cluster: str, jobs: int) -> dict[str, Any]:
    return {"slurm_array_parallelism": jobs} if cluster == "slurm" else {}


def _run_share(tasks: list[Task], folder: Path, run_verb: RunVerb, keep_checkpoints: bool, directory: Path) -> int:
    """Run in a job: tasks one after the other, from the directory where the command was given."""
    os.chdir(directory)
    results = Results(folder)
    return sum(len(list(run_task(task, results, run_verb, keep_checkpoints))) for task in tasks)


def _why(job: Any) -> str:
    error = job.exception()
    return printable(str(error).strip().splitlines()[-1]) if error is not None else "no reason given"
