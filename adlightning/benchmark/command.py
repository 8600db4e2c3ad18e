"""The `benchmark` verb: run a paper's table as a grid of fits; go on where an earlier run stopped."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from adlightning.benchmark.cluster import cluster_options, run_on_cluster
from adlightning.benchmark.grid import LABELS, Cell, Grid, choose, read_grid
from adlightning.benchmark.pool import Pool, find_devices
from adlightning.benchmark.store import Results, read_rows
from adlightning.benchmark.view import Expectation, Progress, duration


def run(arguments: Sequence[str]) -> int:
    """Parse the verb's arguments and do it: 0 when every cell is done, 1 when some failed or were left.

    Raises:
        ValueError: an argument, or the benchmark file, is not as it should be.
    """
    given = _parser().parse_args(arguments)
    if given.list:
        from adlightning.benchmark.catalogue import print_catalogue

        print_catalogue(Path(given.configs), Path(given.runs))
        return 0
    if given.config is None:
        raise ValueError("config is needed: --config configs/benchmarks/TABLE.yaml (--list shows what there is)")
    grid = read_grid(Path(given.config), given.seeds, _options(given.set))
    cells = choose(grid.cells, given.only)
    results = Results(Path(given.results or Path(given.runs) / grid.file.stem), given.any_code)
    if given.rows_from is not None and not given.dry_run:
        kept = read_rows(Path(given.rows_from))
        results.open(cells)
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
    jobs = given.jobs if given.jobs is not None else len(devices)
    results.open(cells)
    print(f"{len(cells)} cells, {len(cells) - len(missing)} done before; results in {results.folder}")
    started = time.monotonic()
    failed = _work(given, missing, results, expectation, devices, jobs, started) if missing else []
    left = len(missing) - len(results.done(missing)) - len(failed)
    rows = results.write_rows()
    n_done = len(cells) - len(failed) - left
    print(f"{n_done} of {len(cells)} cells done, {len(failed)} failed, {left} left; rows in {rows}")
    print(f"table: adlightning report {results.folder}")
    return 1 if failed or left else 0


def _work(
    given: argparse.Namespace,
    missing: list[Cell],
    results: Results,
    expectation: Expectation,
    devices: list[str],
    jobs: int,
    started: float,
) -> list[str]:
    """Run what is missing, here or on a cluster; what failed, in words."""
    if given.cluster is not None:
        if given.max_hours is not None:
            raise ValueError(
                "max_hours is for processes here: a cluster's jobs have --cluster-option timeout_min=MINUTES"
            )
        with Progress(missing, expectation, jobs, list) as progress:
            run_on_cluster(
                *(missing, results, given.cluster, jobs, given.cells_per_job, cluster_options(given.cluster_option)),
                *(progress.finished, progress.watch, given.keep_checkpoints),
            )
        return progress.failures
    pool = Pool(results, devices, jobs, given.keep_checkpoints)
    until = started + given.max_hours * 3600 if given.max_hours is not None else float("inf")

    def running() -> list[tuple[Cell, float]]:
        now = time.monotonic()
        return [(worker.cell, now - worker.since) for worker in pool.workers if worker.cell is not None]

    with Progress(missing, expectation, jobs, running) as progress:
        try:
            pool.run(missing, progress.finished, progress.watch, stop=lambda: time.monotonic() > until)
        except KeyboardInterrupt:
            print("broken off: the cells under way are given up, the same command goes on", file=sys.stderr)
    return progress.failures


def _print_plan(
    grid: Grid, cells: list[Cell], missing: list[Cell], results: Results, expectation: Expectation, jobs: int
) -> None:
    """What there is to do, by method and data set, and how a cell looks as a command."""
    console = Console()
    datasets = list(dict.fromkeys(cell.labels["dataset"] for cell in cells))
    table = Table(title=f"{grid.paper}, table {grid.table}: cells missing / all", title_justify="left")
    for heading in ("method", *datasets):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    hashes = {cell.config_hash for cell in missing}
    everything = Counter((_method(cell), cell.labels["dataset"]) for cell in cells)
    to_do = Counter((_method(cell), cell.labels["dataset"]) for cell in cells if cell.config_hash in hashes)
    for method in dict.fromkeys(_method(cell) for cell in cells):
        table.add_row(method, *(f"{to_do[method, data]} / {everything[method, data]}" for data in datasets))
    console.print(table)
    seconds = expectation.seconds(missing)
    took = f", about {duration(seconds / jobs)} with {jobs} at a time" if seconds is not None else ""
    console.print(f"{len(missing)} of {len(cells)} cells to run{took}; results in {results.folder}", highlight=False)
    for cell in missing[:1]:
        console.print(f"the first, {cell.name}:", highlight=False, markup=False)
        console.print(yaml.safe_dump(cell.config, sort_keys=False), highlight=False, markup=False)


def _method(cell: Cell) -> str:
    return f"{cell.labels['method']} {cell.labels['variant']}".strip()


def _options(texts: Sequence[str]) -> dict[str, Any]:
    options = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (equals and key.split(".")[0] in ("trainer", "model", "data")):
            raise ValueError(f"set: {text!r} must be KEY=VALUE with a key of trainer, model or data")
        options[key] = yaml.safe_load(value)
    return options


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def _hours(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"must be positive, got {text}")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="adlightning benchmark", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--config", help="benchmark file: configs/benchmarks/TABLE.yaml")
    add("--list", action="store_true", help="list the papers' tables: what can be run, what is done, what is missing")
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
    add("--seeds", type=_positive, help="number of seeds instead of the file's")
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="option of every cell: trainer.precision=bf16-mixed",
    )
    add("--jobs", type=_positive, help="cells at a time (default: one a device); more than devices share them")
    add("--devices", default="auto", help="auto (every GPU, else the CPU), cpu, or cuda:0,cuda:1")
    add("--max-hours", type=_hours, help="begin no cell after so many hours")
    add("--dry-run", action="store_true", help="say what would be run, and how long it may take")
    add("--rows-from", metavar="ROWS", help="go on from the finished cells of another results folder or file of rows")
    add("--any-code", action="store_true", help="count cells as done that another version of the code did")
    add("--keep-checkpoints", action="store_true", help="keep the checkpoint of every cell")
    add("--cluster", choices=["slurm", "local"], help="jobs through submitit instead of processes here")
    add("--cells-per-job", type=_positive, help="cells of one cluster job (default: all, divided by --jobs)")
    add("--cluster-option", action="append", default=[], metavar="NAME=VALUE", help="for submitit: slurm_partition=gpu")
    return parser
