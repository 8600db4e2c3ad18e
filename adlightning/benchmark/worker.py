"""A task in this process: an ordinary fit in a run folder of its own, other scorings of it, and a row of each."""

from __future__ import annotations

import contextlib
import datetime
import gc
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from adlightning.benchmark.code import code_version, package_version
from adlightning.benchmark.configuration import deciding, digest
from adlightning.benchmark.grid import Cell
from adlightning.benchmark.packing import PackBroken
from adlightning.benchmark.store import Results, Row
from adlightning.benchmark.tasks import Task
from adlightning.core.memory import keep_freed_memory
from adlightning.core.messages import plain_message, printable
from adlightning.core.run_names import RunNames, runs_called
from adlightning.core.shelf import TAKEN, Shelf, first_epochs_shared
from adlightning.core.stopping import Stopped
from adlightning.files.written_names import dump_yaml

RunVerb = Callable[[str, list[str]], object]
"""Runs `fit` or `test` by its arguments. Worker processes get it by name: it is a module's function."""


def run_task(
    task: Task, results: Results, run_verb: RunVerb, keep_checkpoints: bool = False
) -> Iterator[tuple[Cell, Row]]:
    """Fit and test a cell, score it otherwise, and keep a row of each, whatever becomes of it.

    Bad input and failed training are rows too. Everything that a run prints goes to `output.log` in its run folder. A
    fit that is there with its checkpoint is not done again for the sake of other scorings.
    """
    keep_freed_memory()
    trained = task.trained
    if not task.scored:
        yield trained, _run(trained, results, run_verb, "fit", _kept(keep_checkpoints))
        return
    done = results.own_row(trained)
    if done is None or done["status"] != "done" or not results.has_checkpoint(trained):
        done = _run(trained, results, run_verb, "fit", _kept(True))
        if task.wanted:
            yield trained, done
    for cell in task.scored:
        if done["status"] == "done":
            options = [f"--ckpt_path={results.run_folder(trained)}"]
            yield cell, _run(cell, results, run_verb, "test", options, {"scored_from": trained.config_hash})
        else:
            row: Row = {"status": "failed", "error": f"its fit failed: {done['error']}", "code": cell.code}
            row |= {"seconds": {"total": 0.0}, "finished": now()}
            results.write(cell, row)
            yield cell, row
    if not keep_checkpoints:
        results.forget_checkpoint(trained)


def fit_cell(cell: Cell, results: Results, run_verb: RunVerb, checkpoint: bool, at_end: Callable[[Row], None]) -> Row:
    """Fit and test a cell; `at_end` may change its row before it is kept. Raises PackBroken where there is no row."""
    return _run(cell, results, run_verb, "fit", _kept(checkpoint), at_end=at_end)


def _kept(checkpoint: bool) -> list[str]:
    return [f"--trainer.enable_checkpointing={str(checkpoint).lower()}"]


def _run(
    cell: Cell,
    results: Results,
    run_verb: RunVerb,
    verb: str,
    options: list[str],
    more: Row | None = None,
    at_end: Callable[[Row], None] | None = None,
) -> Row:
    """The row of a cell by a verb, which is kept."""
    if code_version(cell.config) != cell.code:
        raise RuntimeError("the package's code changed after the benchmark began: start it again")
    started = time.perf_counter()
    row: Row = {"status": "failed", "error": "", "code": cell.code, **(more or {})}
    with results.partial(cell) as folder:
        try:
            with (
                _output_to(folder / "output.log"),
                _traceback_printed(),
                runs_called(_names(cell, results)),
                first_epochs_shared(_shelf(cell, results) if at_end is None else None),  # of a pack: not to the bit
            ):
                run_verb(verb, [*_arguments(cell, folder), *options])
            report = json.loads((folder / "run" / "metrics.json").read_text(encoding="utf-8"))
            row |= describe(report, tested=cell.config.get("test_after_fit") is not False)
            row["status"] = "done"
        except (Stopped, PackBroken):
            raise
        except SystemExit:  # the parser refuses an option, and has printed why
            row["error"] = _last_line(folder / "output.log")
        except Exception as error:
            row["error"] = f"{type(error).__name__}: {printable(plain_message(str(error)))}"
        row.setdefault("seconds", {})["total"] = round(time.perf_counter() - started, 3)
        row["finished"] = now()
        if at_end is not None:
            at_end(row)
        (folder / "run").mkdir(exist_ok=True)  # a fit that was refused has none
        for file in ("output.log", "cell.yaml"):
            (folder / file).replace(folder / "run" / file)
        results.write(cell, row, folder / "run")
    gc.collect()  # a detector, its data and its Trainer hold each other: few objects, much memory
    return row


def _arguments(cell: Cell, folder: Path) -> list[str]:
    (folder / "cell.yaml").write_text(dump_yaml(cell.config), encoding="utf-8")
    reset_peak_memory()
    on_cpu = os.environ.get("CUDA_VISIBLE_DEVICES") == ""
    return [
        *("--config", str(folder / "cell.yaml"), f"--run_dir={folder / 'run'}", "--plots=false"),
        *("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"),
        *("--trainer.devices=1", f"--trainer.accelerator={'cpu' if on_cpu else 'auto'}"),
    ]


def _shelf(cell: Cell, results: Results) -> Shelf | None:
    """Where a cell finds first epochs that another one has done; None where something watches or ends its steps."""
    decides = deciding(cell.config)
    trainer = decides.get("trainer") or {}
    if trainer.get("callbacks") or trainer.get("max_time"):
        return None
    model = decides.get("model")
    parts = model.get("init_args") if isinstance(model, dict) else None
    code = code_version([parts, *_foreign(model)])
    version = digest({"trainer": trainer, "package": package_version(), "code": code})
    return Shelf(results.folder / "pretraining", version)


def _foreign(model: Any) -> list[str]:
    """The path of a method that is not of this package, whose version says nothing of it."""
    path = str(model.get("class_path")) if isinstance(model, dict) else str(model)
    return [path] if "." in path and not path.startswith("adlightning.") else []


def _names(cell: Cell, results: Results) -> RunNames:
    """What a logger calls the cell's run: its group is the table, or a sweep's folder."""
    labels, copies = {key: str(value) for key, value in cell.labels.items()}, results.folder.absolute() / "wandb"
    if "trial" in labels:
        return RunNames(f"trial {labels['trial']}", results.folder.absolute().name, "sweep", (), copies)
    words = [labels["method"], labels["variant"], labels["dataset"], *labels["setting"].split(";")]
    group = f"{labels['paper']} table {labels['table']}"
    return RunNames(cell.name, group, "benchmark", tuple(filter(None, words)), copies)


def describe(report: dict[str, Any], tested: bool = True) -> Row:
    """A run's metrics.json as a row, with a part for each named test set.

    Raises:
        ValueError: nothing was tested, though it should be.
    """
    tests = report["test_sets"]
    if tested and not tests:
        raise ValueError("a cell must have a test set, this run has none")
    parts: dict[str, Row] = {}
    for name, test in tests.items():
        if not test["metrics"]:
            raise ValueError(test["note"])
        values = {metric: entry["value"] for metric, entry in test["metrics"].items()}
        values |= {metric: value for metric, value in test.get("pixel_metrics", {}).items() if metric != "regions"}
        parts[name] = {"metrics": values, "n_test": test["normal"] + test["anomalies"]}
    measured: Row = {"test_sets": parts} if tested else {}
    if list(tests) == ["test"]:
        measured = parts["test"] | {"n_test": report["samples"]["test"]}  # samples without label too
    if TAKEN in report["notes"]:
        measured["shared_epochs"] = True
    return measured | {
        "selection": report["selection"],
        "protocol": report["protocol"],
        "seconds": dict(report["seconds"]),
        "peak_memory_mb": report["peak_memory_mb"].get("cuda", report["peak_memory_mb"]["host"]),
        "n_train": report["samples"]["train"],
        "device": report["device"],
        "torch": report["versions"]["torch"],
    }


def now() -> str:
    """The time, to the second, with its zone."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def reset_peak_memory() -> None:
    """Let the peak of this cell not be that of an earlier one in the same process; on Linux and with CUDA.

    What CUDA keeps for later is given back, for others on the device.
    """
    with contextlib.suppress(OSError):  # elsewhere the peak is that of the process
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


@contextlib.contextmanager
def _traceback_printed() -> Iterator[None]:
    try:
        yield
    except Exception:  # whatever failed the cell is printed and goes on to the caller, who makes a row of it
        traceback.print_exc()
        raise


@contextlib.contextmanager
def _output_to(file: Path) -> Iterator[None]:
    """Standard output and error, of libraries too, into a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(1), os.dup(2)]
    with file.open("w", encoding="utf-8") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for descriptor, number in zip(saved, (1, 2), strict=True):
                os.dup2(descriptor, number)
                os.close(descriptor)


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return printable(lines[-1]) if lines else "ended without a message"
