"""The `benchmark` verb: run a paper's table as a grid of fits; go on where an earlier run stopped."""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from rich.table import Table

from adlightning.benchmark.cluster import cluster_options, run_on_cluster
from adlightning.benchmark.grid import LABELS, Cell, Grid, choose, read_grid
from adlightning.benchmark.packing import Pack, Plan, packed
from adlightning.benchmark.pool import Pool, find_devices
from adlightning.benchmark.store import Results, Row, read_rows
from adlightning.benchmark.tasks import Task, tasks_of
from adlightning.benchmark.view import Expectation, Progress, duration
from adlightning.cli.plain_parser import PlainParser
from adlightning.core.messages import IGNORED
from adlightning.core.stopping import Stopped
from adlightning.core.terminal import plain, print_table, say
from adlightning.files.disk import user_path
from adlightning.files.experiments import find_config, find_folder
from adlightning.files.plain_yaml import read_yaml

BROKEN_OFF = "the cells under way are given up, the same command goes on"
FIT_NEEDS = ("adlightning.cli.trainer_verbs",)


def run(arguments: Sequence[str]) -> int:
    """Parse the verb's arguments and do it: 0 when every cell is done, 1 when some failed or were left.

    Raises:
        ValueError: an argument, or the benchmark file, is not as it should be.
    """
    given = _parser().parse_args(arguments)
    if given.list is not None:
        from adlightning.benchmark.catalogue import print_catalogue, print_table_entry

        configs, runs = find_folder(given.configs), user_path(given.runs)
        print_table_entry(given.list, configs, runs) if given.list else print_catalogue(configs, runs)
        return 0
    if given.config is None:
        raise ValueError("config is needed: --config benchmarks/TABLE (--list shows what there is)")
    _check_together(given)
    options = set_options(given.set)
    file = find_config(given.config)
    grid = read_grid(file, given.seeds, options)
    if options and given.results is None:
        _require_own_results(grid, read_grid(file, given.seeds))
    cells = choose(grid.cells, given.only)
    results = Results(user_path(given.results or user_path(given.runs) / grid.file.stem), given.any_code)
    _require_rows_to_stay(results, grid, options)
    if given.rows_from is not None:
        kept = read_rows(user_path(given.rows_from))
        results.open(cells, grid)
        results.adopt(kept)
    done = results.done(cells)
    missing = list({cell.config_hash: cell for cell in cells if cell.config_hash not in done}.values())
    expectation = Expectation()
    for cell in cells:
        if cell.config_hash in done:
            expectation.learn(cell.labels, done[cell.config_hash])
    if given.dry_run:
        _print_plan(grid, cells, missing, results, expectation, given.jobs or 1)
        return 0
    devices = find_devices(given.devices)
    plan = packed(tasks_of(missing), given.pack) if given.pack else Plan(tuple(tasks_of(missing)))
    tasks = plan.work
    jobs = min(given.jobs if given.jobs is not None else len(devices), max(1, len(tasks)))
    results.open(cells, grid)
    results.forget_failures(missing)
    n_before = sum(cell.config_hash in done for cell in cells)
    print(f"{len(cells)} cells, {n_before} done before; results in {results.folder}")
    if missing:
        try:
            _work(given, tasks, results, expectation, devices, jobs)
        except (Stopped, OSError) as error:
            if isinstance(error, Stopped):
                error.note = f": {BROKEN_OFF}"
                _sum_up(cells, results)
            else:
                print(f"broken off: {BROKEN_OFF}", file=sys.stderr)
            raise
    if given.pack:
        _say_packed(plan, results)
    return _sum_up(cells, results)


def run_verb(verb: str, arguments: list[str]) -> None:
    """A cell's fit or test, as on the command line; imported in the processes that fit, since torch takes seconds.

    A test that would ignore an option, since training depends on it, fails.
    """
    from adlightning.cli.arguments import prepared
    from adlightning.cli.parsed_once import OF_CELLS, parsing_once
    from adlightning.cli.trainer_verbs import run as run_trainer

    with warnings.catch_warnings(), parsing_once(OF_CELLS):
        warnings.filterwarnings("error", f".*{IGNORED}")
        run_trainer(verb, prepared(verb, arguments))


def _check_together(given: argparse.Namespace) -> None:
    """Refuse options that do not go together."""
    if given.dry_run and given.rows_from is not None:
        raise ValueError("rows_from fills the results folder, which dry_run leaves alone: give one of them")
    if given.pack == 1:
        raise ValueError("pack must be at least 2, the most cells that are trained together, got 1")
    if given.pack is not None and given.cluster is not None:
        raise ValueError("pack is for processes here, a cluster's jobs take single cells: leave out one of them")
    if given.cluster is None:
        if given.cells_per_job is not None or given.cluster_option:
            raise ValueError("cells_per_job and cluster_option are for jobs of a cluster: give --cluster")
    elif given.max_hours is not None:
        raise ValueError("max_hours is for processes here; a cluster has --cluster-option timeout_min=MINUTES")
    elif given.jobs is None:
        raise ValueError("jobs is needed with a cluster: how many jobs may run at a time")


def _require_own_results(grid: Grid, as_it_is: Grid) -> None:
    """Refuse to put cells with other options in the place of the benchmark file's own."""
    pairs = zip(grid.cells, as_it_is.cells, strict=True)
    if any(cell.config_hash != own.config_hash for cell, own in pairs):
        raise ValueError(
            "set: these options change the results: give them a results folder of their own, --results DIR"
        )


def _require_rows_to_stay(results: Results, grid: Grid, options: Mapping[str, Any]) -> None:
    """Refuse to take rows of other options off the table by an option; say so where the benchmark file was changed."""
    if not (leaving := results.leaving(grid)):
        return
    rows = f"{leaving} finished cell{'s' if leaving > 1 else ''}"
    if options:
        raise ValueError(
            f"set: {results.folder} holds {rows} of other options, which would leave its rows.csv: give this "
            "command a results folder of its own, --results DIR"
        )
    print(f"the benchmark file was changed: {rows} leave rows.csv, and stay in {results.folder / 'cells'}")


def _say_packed(plan: Plan, results: Results) -> None:
    """How many cells were trained together, and why others were not."""
    rows = [row for cell in plan.together if (row := results.own_row(cell)) is not None]
    alone = Counter(plan.alone)
    broken = {"done": "its pack broke down"}
    alone.update(row.get("alone") or broken.get(row["status"], "failed") for row in rows if "packed" not in row)
    text = f"{sum('packed' in row for row in rows)} cells trained in packs, {alone.total()} alone"
    print(text + "".join(f"; {n}: {reason}" for reason, n in alone.most_common()))


def _sum_up(cells: list[Cell], results: Results) -> int:
    """Write all rows and say what there is: 0 when every cell is done."""
    done = results.done(cells)
    n_done = sum(cell.config_hash in done for cell in cells)
    n_failed = sum(cell.config_hash not in done and results.own_row(cell) is not None for cell in cells)
    rows = results.write_rows()
    left = len(cells) - n_done - n_failed
    print(f"{n_done} of {len(cells)} cells done, {n_failed} failed, {left} left; rows in {rows}")
    print(f"table: adlightning report {results.folder}")
    return 0 if n_done == len(cells) else 1


def _work(
    given: argparse.Namespace,
    tasks: Sequence[Task | Pack],
    results: Results,
    expectation: Expectation,
    devices: list[str],
    jobs: int,
) -> None:
    """Run what is missing, here or on a cluster."""
    missing = [cell for task in tasks for cell in task.cells]

    def watch() -> None:
        progress.watch()
        results.keep_rows()

    def finished(cell: Cell, row: Row) -> None:
        progress.finished(cell, row)
        results.keep_rows(finished=True)

    if given.cluster is not None:
        with Progress(missing, expectation, jobs, list) as progress:
            run_on_cluster(
                *(
                    [task for task in tasks if isinstance(task, Task)],
                    results,
                    given.cluster,
                    jobs,
                    given.cells_per_job,
                    cluster_options(given.cluster_option),
                ),
                *(finished, watch, run_verb, given.keep_checkpoints),
            )
        return
    pool = Pool(results, devices, jobs, run_verb, FIT_NEEDS, given.keep_checkpoints)
    until = time.monotonic() + given.max_hours * 3600 if given.max_hours is not None else float("inf")

    def running() -> list[tuple[Cell, float]]:
        now = time.monotonic()
        return [(worker.waiting[0], now - worker.since) for worker in pool.workers if worker.waiting]

    with Progress(missing, expectation, jobs, running) as progress:
        pool.run(tasks, finished, watch, stop=lambda: time.monotonic() > until)


def _print_plan(
    grid: Grid, cells: list[Cell], missing: list[Cell], results: Results, expectation: Expectation, jobs: int
) -> None:
    """What there is to do, by method and data set, and how a cell looks as a command."""
    datasets = list(dict.fromkeys(cell.labels["dataset"] for cell in cells))
    title = plain(f"{grid.paper}, table {grid.table}: cells missing / all")
    table = Table(title=title, title_justify="left")
    for heading in ("method", *datasets):
        table.add_column(plain(heading), justify="left" if heading == "method" else "right", overflow="fold")
    hashes = {cell.config_hash for cell in missing}
    everything = Counter((_method(cell), cell.labels["dataset"]) for cell in cells)
    to_do = Counter((_method(cell), cell.labels["dataset"]) for cell in cells if cell.config_hash in hashes)
    for method in dict.fromkeys(_method(cell) for cell in cells):
        table.add_row(plain(method), *(f"{to_do[method, data]} / {everything[method, data]}" for data in datasets))
    print_table(table)
    seconds = expectation.seconds(missing)
    took = f", about {duration(seconds / jobs)} with {jobs} at a time" if seconds is not None else ""
    say(f"{len(missing)} of {len(cells)} cells to run{took}; results in {results.folder}")
    for cell in missing[:1]:
        say(f"the first, {cell.name}:")
        say(yaml.safe_dump(cell.config, sort_keys=False))


def _method(cell: Cell) -> str:
    return f"{cell.labels['method']} {cell.labels['variant']}".strip()


def set_options(texts: Sequence[str]) -> dict[str, Any]:
    """What `--set KEY=VALUE` gives, by key. Raises ValueError for another form."""
    options = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (equals and key.split(".")[0] in ("trainer", "model", "data")):
            raise ValueError(f"set: {text!r} must be KEY=VALUE with a key of trainer, model or data")
        options[key] = read_yaml(value, f"set: {key}", key)
    return options


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text}")
    return int(text)


def positive_time(text: str) -> float:
    """A positive number of hours or minutes, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a positive number, got {text}")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = PlainParser(prog="adlightning benchmark", description=__doc__)
    add = parser.add_argument
    add("--config", help="benchmark file: benchmarks/TABLE, of the package's, or a path")
    add(
        "--list",
        nargs="?",
        const="",
        metavar="TABLE",
        help="list the papers' tables: what is done, what is missing, what can be run; of one table why",
    )
    add("--results", help="results folder; default: RUNS/TABLE")
    add("--runs", default="runs/benchmarks", help="where results folders lie (default: %(default)s)")
    add("--configs", default="configs/benchmarks", help="where --list looks for benchmark files (default: %(default)s)")
    add(
        "--only",
        action="append",
        default=[],
        metavar="LABEL=VALUE[,VALUE]",
        help=f"only these cells: {', '.join(LABELS)}",
    )
    add("--seeds", type=positive, help="number of seeds instead of the file's")
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="option of every cell: trainer.precision=bf16-mixed",
    )
    add("--jobs", type=positive, help="cells at a time (default: one a device); more than devices share them")
    add("--devices", default="auto", help="auto (every GPU, else the CPU), cpu, or cuda:0,cuda:1")
    add(
        "--pack",
        type=positive,
        metavar="K",
        help="train up to K cells at a time as one batched model, where they differ in seed, classes or scalars only",
    )
    add("--max-hours", type=positive_time, help="begin no cell after so many hours")
    add("--dry-run", action="store_true", help="say what would be run, and how long it may take")
    add("--rows-from", metavar="ROWS", help="go on from the finished cells of another results folder or file of rows")
    add("--any-code", action="store_true", help="count cells as done that another version of the code did")
    add("--keep-checkpoints", action="store_true", help="keep the checkpoint of every cell")
    add("--cluster", choices=["slurm", "local"], help="jobs through submitit instead of processes here")
    add("--cells-per-job", type=positive, help="cells of one cluster job (default: all, divided by --jobs)")
    add("--cluster-option", action="append", default=[], metavar="NAME=VALUE", help="for submitit: slurm_partition=gpu")
    return parser
