"""The `compare` verb: every suitable method at its defaults on your own data; go on where an earlier start stopped."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adlightning.benchmark.comparison import PLACES, Contender, Kind, contenders, require_same_data
from adlightning.benchmark.grid import Cell
from adlightning.benchmark.grid_file import read_mapping
from adlightning.benchmark.pool import Pool, find_devices
from adlightning.benchmark.store import Results, Row
from adlightning.benchmark.tasks import tasks_of
from adlightning.benchmark.view import Expectation, Progress
from adlightning.cli.before_fit import require_decided
from adlightning.cli.benchmark import FIT_NEEDS, positive, positive_time, run_verb, set_options
from adlightning.cli.look_words import TABLES
from adlightning.cli.plain_parser import PlainParser
from adlightning.core.stopping import Stopped
from adlightning.core.terminal import say
from adlightning.files.disk import user_path, write_atomically
from adlightning.files.experiments import find_config

if TYPE_CHECKING:
    from adlightning.report.own_comparison import Trained

PAGE = "comparison.html"
HELD_OUT = 0.5
"""Share of samples without labels that a fit leaves to be scored: what learns by heart finds its own ones normal."""


def run(arguments: Sequence[str]) -> int:
    """Parse the verb's arguments and compare: 0 when there is something to compare, 1 when nothing was trained.

    Raises:
        ValueError: an argument or the data are not as they should be.
    """
    given = _parser().parse_args(arguments)
    data = user_path(given.data)
    if not data.exists():
        raise ValueError(f"data: there is no file or folder {data}")
    kind: Kind = given.kind or kind_of(data, given.time_column)
    options = {f"data.{PLACES[kind]}": str(data.absolute()), **_columns(given), **set_options(given.set)}
    if kind == "table" and data.name.lower().endswith(TABLES):
        require_decided(data, options, arguments)
    test = _has_labels(kind, data, options)
    share = {} if test else {"data.validation_fraction": HELD_OUT}
    methods = None if given.methods is None else [name for name in given.methods.split(",") if name]
    chosen, left_out = _suitable(contenders(kind, share | options, methods, test), test, methods is not None)
    if len(chosen) < 2:
        reasons = "; ".join(f"{name} is {reason}" for name, reason in left_out.items())
        why = f": {reasons}" if reasons else ""
        raise ValueError(f"methods must be two or more to compare, there are {len(chosen)}{why}")
    name = data.stem if data.is_file() else data.name
    results = Results(user_path(given.out or f"runs/compare/{name}"))
    results.open()
    require_same_data(results.folder, data)
    cells = [one.cell(seed, name) for seed in range(given.seeds) for one in chosen]
    done = results.done(cells)
    missing = [cell for cell in cells if cell.config_hash not in done]
    results.forget_failures(missing)
    what = "tested on held-out samples" if test else "without labels: each half scores the other"
    counts = [f"{n} {word}" + ("" if n == 1 else "s") for n, word in ((len(chosen), "method"), (given.seeds, "seed"))]
    say(f"{', '.join(counts)} each, on {data} as {kind}, {what}")
    say(f"{len(cells) - len(missing)} of {len(cells)} fits were done before; in {results.folder}")
    if missing:
        try:
            _work(missing, results, find_devices(given.devices), given.jobs, given.minutes)
        except Stopped as error:
            error.note = f": what is done is in {results.folder}, the same command goes on"
            _sum_up(cells, options, results, kind, data, test, left_out)
            raise
    return _sum_up(cells, options, results, kind, data, test, left_out)


def kind_of(data: Path, time_column: str | None) -> Kind:
    """What the data are, by what is there."""
    if data.is_file():
        return "table" if time_column is None else "windows"
    return "sounds" if next(data.rglob("*.wav"), None) is not None else "folder"


def _work(missing: list[Cell], results: Results, devices: list[str], jobs: int | None, minutes: float | None) -> None:
    jobs = min(jobs or len(devices), len(missing))
    pool = Pool(results, devices, jobs, run_verb, FIT_NEEDS, keep_checkpoints=True)
    until = time.monotonic() + minutes * 60 if minutes is not None else float("inf")
    late: set[str] = set()

    def running() -> list[tuple[Cell, float]]:
        now = time.monotonic()
        return [(worker.waiting[0], now - worker.since) for worker in pool.workers if worker.waiting]

    with Progress(missing, Expectation(), jobs, running) as progress:

        def finished(cell: Cell, row: Row) -> None:
            if cell.config_hash in late:
                results.forget_failures([cell])  # it was given up, which is no fault of its own
            else:
                progress.finished(cell, row)

        def watch() -> None:
            progress.watch()
            if time.monotonic() > until:
                for cell, _ in running():
                    late.add(cell.config_hash)
                    pool.give_up(cell)

        pool.run(tasks_of(missing), finished, watch, stop=lambda: time.monotonic() > until)


def _sum_up(
    cells: list[Cell],
    options: dict[str, Any],
    results: Results,
    kind: Kind,
    data: Path,
    test: bool,
    left_out: dict[str, str],
) -> int:
    """Write the page and say what came of it."""
    from adlightning.report.own_comparison import Trained, compared, comparison_page, nothing_to_compare

    done = results.done(cells)
    trained: list[Trained] = []
    absent = dict(left_out)
    for cell in cells:
        why: str | None
        name, seed = str(cell.labels["method"]), int(cell.labels["seed"])
        run, row = results.run_folder(cell), done.get(cell.config_hash)
        if row is None:
            failed = results.own_row(cell)
            why = f"failed: {failed['error']}" if failed is not None else "not done in time"
        else:
            why = nothing_to_compare(run, test)
        if row is not None and why is None:
            trained.append(Trained(name, seed, row, run))
        elif why is not None:
            absent.setdefault(f"{name} seed {seed}" if name in (one.method for one in trained) else name, why)
    reasons = {each: ", ".join(name for name, own in absent.items() if own == each) for each in absent.values()}
    if not trained:
        say("nothing was trained" if not done else "there is nothing to compare")
        for why, names in reasons.items():
            say(f"  {names}: {why}")
        return 1
    comparison = compared(trained, test)
    commands = _commands(comparison.methods[0], kind, options)
    page = results.folder / PAGE
    write_atomically(page, comparison_page(comparison, data.name, kind, reasons, commands))
    for line in comparison.lines():
        say(line)
    for why, names in reasons.items():
        say(f"left out, {why}: {names}")
    say(f"train it: {commands['train it']}")
    say(f"page: {page}")
    return 0


def _commands(method: str, kind: Kind, options: dict[str, Any]) -> dict[str, str]:
    """What trains a method on the data, scores with it and, where its score is a graph, exports it."""
    from adlightning.cli.types_in_words import class_at

    run_dir, given = f"runs/{method}", " ".join(f"--{key} {_quoted(value)}" for key, value in options.items())
    commands = {
        "train it": f"adlightning fit --config {method}/{kind} {given} --run_dir {run_dir}",
        "score with it": f"adlightning score --ckpt_path {run_dir} --data NEW --out scores.csv",
    }
    model = read_mapping(find_config(f"{method}/{kind}"))["model"]
    name = str(model["class_path"] if isinstance(model, dict) else model)
    if getattr(class_at(f"adlightning.{name}"), "score_needs", None) is None:
        commands["export it"] = f"adlightning export --ckpt_path {run_dir} --format onnx --out {method}.onnx"
    return commands


def _quoted(value: Any) -> str:
    import json
    import shlex

    return shlex.quote(value if isinstance(value, str) else json.dumps(value))


def _columns(given: argparse.Namespace) -> dict[str, Any]:
    named = {name: getattr(given, name) for name in ("label_column", "time_column", "group_column", "name_column")}
    return {f"data.{name}": column for name, column in named.items() if column is not None}


def _has_labels(kind: Kind, data: Path, options: dict[str, Any]) -> bool:
    """Whether there is something to test with. Raises ValueError for a test folder without anomalies."""
    if kind == "folder":
        if not any((data / "train" / name).is_dir() for name in ("normal", "unlabelled")):
            raise ValueError(
                f"data: {data} must have a folder train/normal or train/unlabelled, and test/normal and test/anomaly "
                f"to test with (docs/own_data.md); `adlightning check` says what it has"
            )
        if (data / "test").is_dir() and not (data / "test" / "anomaly").is_dir():
            raise ValueError(f"data: {data / 'test'} must hold anomalies to test with, in anomaly, or not be there")
        return (data / "test").is_dir()
    if kind == "sounds":
        both = (data / "normal").is_dir() and any((data / name).is_dir() for name in ("anomaly", "abnormal"))
        return both or (data / "test").is_dir() or "data.normal_class" in options
    return "data.label_column" in options


def _suitable(every: list[Contender], test: bool, asked: bool) -> tuple[list[Contender], dict[str, str]]:
    """Those that can be trained on such data, and why others cannot, by name; what was asked for is tried."""
    from adlightning.cli.types_in_words import class_at

    if asked:
        return every, {}
    chosen, left_out = [], {}
    for one in every:
        cls = class_at(f"adlightning.{one.class_name}")
        if getattr(cls, "needs_unlabelled", False):
            left_out[one.name] = "for known normals beside unlabelled samples"
        elif getattr(cls, "needs_known_anomalies", False) and not test:
            left_out[one.name] = "for known anomalies"
        else:
            chosen.append(one)
    return chosen, left_out


def _parser() -> argparse.ArgumentParser:
    parser = PlainParser(
        prog="adlightning compare",
        description="Train every suitable method at its defaults on your own data, and rank them on one page.",
    )
    add = parser.add_argument
    add("--data", required=True, help="a table, a folder of images or wavs; as --data.path or --data.root of fit")
    add("--label_column", help="column of labels of a table; with it methods are tested on held-out rows")
    add("--name_column", help="column that names the rows of a table")
    add("--time_column", help="column of times: the table is of sensors over time, taken in windows")
    add("--group_column", help="column that tells machines or recordings apart, for windows")
    add("--kind", choices=list(PLACES), help="what the data are (default: by what is there)")
    add("--methods", help="only these, by commas: deep_svdd,kde (default: all that suit)")
    add("--seeds", type=positive, default=3, help="fits a method, of other weights and splits (default: 3)")
    add("--minutes", type=positive_time, help="end after so many minutes with what is there; the same command goes on")
    add("--jobs", type=positive, help="fits at a time (default: one a device)")
    add("--devices", default="auto", help="auto (every GPU, else the CPU), cpu, or cuda:0,cuda:1")
    add("--out", help="folder of results (default: runs/compare/NAME); taken up where it stopped")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="option of every fit: data.missing=median")
    return parser
