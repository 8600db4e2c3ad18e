"""The `sweep` verb: search a method's options by Optuna, without an account; go on where an earlier start stopped."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from adlightning.benchmark.pool import Pool, find_devices
from adlightning.benchmark.store import Results
from adlightning.cli.benchmark import FIT_NEEDS, positive, run_verb, set_options
from adlightning.cli.plain_parser import PlainParser
from adlightning.core.stopping import Stopped
from adlightning.core.terminal import say
from adlightning.files.disk import make_folder, user_path, write_atomically
from adlightning.files.experiments import find_config
from adlightning.files.locks import folder_locked
from adlightning.files.written_names import dump_yaml

if TYPE_CHECKING:
    from adlightning.benchmark.study import Trials
    from adlightning.benchmark.sweep_file import Sweep


def run(arguments: Sequence[str]) -> int:
    """Parse the verb's arguments and do it: 0 when there is a best trial, 1 when none was done.

    Raises:
        ValueError: an argument or the sweep file is not as it should be, or Optuna is not there.
    """
    given = _parser().parse_args(arguments)
    if find_spec("optuna") is None:
        raise ValueError("sweep: Optuna is needed: pip install 'adlightning[sweep]'")
    from adlightning.benchmark.study import Trials
    from adlightning.benchmark.sweep_file import read_sweep

    file = find_config(given.file)
    sweep = read_sweep(file, set_options(given.set))
    _check_goal(sweep)
    n = given.trials or sweep.cap or (len(sweep.points()) if sweep.method == "grid" else None)
    if n is None:
        raise ValueError("trials is needed: --trials N, or run_cap in the file")
    devices = find_devices(given.devices)
    results = Results(user_path(given.results or f"runs/sweeps/{file.stem}"))
    results.open()
    study = results.folder / "study"
    make_folder(study)
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(folder_locked(study, wait=False))
        except BlockingIOError:
            raise ValueError(f"results: another sweep is at work in {results.folder}: give another") from None
        trials = Trials(sweep, results, n, given.seed, say)
        say(f"{trials.n} trials, {len(trials.ended)} ended before; in {results.folder}")
        jobs = min(given.jobs or len(devices), trials.n)
        pool = Pool(results, devices, jobs, run_verb, FIT_NEEDS, keep_checkpoints=True)
        try:
            pool.run(trials.tasks(), trials.finished, lambda: trials.watch(pool.give_up), stop=lambda: False)
        except Stopped as error:
            error.note = ": the trials under way are given up, the same command tries them again and goes on"
            raise
        return _sum_up(trials, file)


def _check_goal(sweep: Sweep) -> None:
    """Refuse a metric that the method's fits do not know, and a goal that is not the metric's."""
    from adlightning.cli.fitting import monitors_of
    from adlightning.cli.types_in_words import class_at

    model = sweep.config.get("model") or {}
    path = str(model.get("class_path") if isinstance(model, dict) else model)
    try:
        known = monitors_of(class_at(path if "." in path else f"adlightning.{path}"))
    except (AttributeError, ImportError) as error:
        raise ValueError(f"model of the config must be a detector's class, got {path}: {error}") from error
    if sweep.metric not in known:
        raise ValueError(f"metric.name must be one of {', '.join(known)}, got {sweep.metric}")
    if not sweep.goal.startswith(known[sweep.metric]):
        raise ValueError(f"metric.goal of {sweep.metric} must be {known[sweep.metric]}imize, got {sweep.goal}")


def _sum_up(trials: Trials, file: Path) -> int:
    """Write the best configuration and the page, and say what there is."""
    from adlightning.benchmark.study import point_text
    from adlightning.report.sweep import WORDS, sweep_page

    sweep, folder, best = trials.sweep, trials.results.folder, trials.best
    states = [trial.state.name for trial in trials.ended]
    counts = ", ".join(f"{states.count(state)} {word}" for state, word in WORDS.items())
    facts = [("sweep", sweep.name), ("file", str(file)), ("search", f"{sweep.method}, seed {trials.seed}")]
    facts += [("metric", f"{sweep.metric}, to {sweep.goal}"), ("trials", counts)]
    say(f"{len(states)} trials: {counts}")
    if best is not None:
        what = f"{sweep.metric} {best.value:.4g} with {point_text(best.params)}"
        trained = trials.results.run_folder(trials.cell(best))
        config = {key: value for key, value in trials.cell(best).config.items() if key != "test_after_fit"}
        about = f"# {sweep.name}: trial {best.number}, the best of {len(states)}: {what}\n"
        write_atomically(folder / "config.yaml", about + dump_yaml(config))
        facts += [("best", f"trial {best.number}: {what}"), ("its run", str(trained))]
        say(f"best: trial {best.number}, {what}")
        say(f"train it anew and test: adlightning fit --config {folder / 'config.yaml'}")
        say(f"test it as trained: adlightning test --ckpt_path {trained}")
    page = folder / "sweep.html"
    write_atomically(page, sweep_page(trials.study, trials.ended, best, sweep.metric, facts))
    say(f"page: {page}")
    return 0 if best is not None else 1


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 0, got {text}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = PlainParser(prog="adlightning sweep", description=__doc__)
    add = parser.add_argument
    add(
        "file", metavar="FILE", help="sweep file, as for `wandb sweep`: sweeps/METHOD.yaml, of the package's, or a path"
    )
    add("--trials", type=positive, help="how many in all, those of earlier starts counted; default: the file's run_cap")
    add("--jobs", type=positive, help="trials at a time (default: one a device); more than devices share them")
    add("--devices", default="auto", help="auto (every GPU, else the CPU), cpu, or cuda:0,cuda:1")
    add("--results", help="folder of the sweep; default: runs/sweeps/FILE")
    add("--seed", type=_seed, default=0, help="of the search (default: %(default)s); a fit has its config's own")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="option of every fit: trainer.max_epochs=20")
    return parser
