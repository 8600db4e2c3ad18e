"""Sweep files against W&B's own schema and search, the package `sweeps`, which needs no server and no account.

    python benchmarks/validate_sweeps.py sweeps/*.yaml

For each file: the schema, the first runs that grid, random or Bayesian search suggests, and whether early termination
stops the worse of three runs. Standard output is a command line a suggestion, as an agent would start it. The package
pins numpy below 2 and so needs an environment of its own: `make sweeps`.
"""

from __future__ import annotations

import importlib
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml

wandb_search: Any = importlib.import_module("sweeps")  # no import statement: the folder of sweep files has its name too
SUGGESTIONS = 3


def suggest(sweep: dict[str, Any]) -> list[dict[str, Any]]:
    """The first runs of a sweep by name and value; each gets a made-up result, for a Bayesian search to model."""
    done: list[Any] = []
    for i in range(SUGGESTIONS):
        run = wandb_search.next_runs(sweep, done, validate=True)[0]
        run.name, run.state = str(i), wandb_search.RunState.finished
        if "metric" in sweep:
            run.history = [{sweep["metric"]["name"]: 0.5 + 0.1 * i}]
        done.append(run)
    return [{name: entry["value"] for name, entry in run.config.items()} for run in done]


def stops_the_worst(sweep: dict[str, Any]) -> bool:
    """Whether the first check of early termination stops the worst of three runs and lets the best go on."""
    name, epochs = sweep["metric"]["name"], sweep["early_terminate"]["min_iter"]
    better = 1 if sweep["metric"]["goal"] == "maximize" else -1
    runs = [
        wandb_search.SweepRun(name=label, state=wandb_search.RunState.running, history=[{name: value}] * epochs)
        for label, value in (("good", better * 0.9), ("fair", better * 0.8), ("bad", better * 0.5))
    ]
    stopped = {run.name for run in wandb_search.stop_runs(sweep, runs, validate=True)}
    return "bad" in stopped and "good" not in stopped


def command_line(sweep: dict[str, Any], point: dict[str, Any]) -> list[str]:
    """The command that an agent starts for a configuration."""
    filled = {"${env}": ["/usr/bin/env"], "${args}": [f"--{name}={value}" for name, value in point.items()]}
    return [word for part in sweep["command"] for word in filled.get(part, [part])]


def check(path: Path) -> None:
    """Print the commands of a sweep's first runs. Raises ValueError for what W&B would refuse or could not search."""
    sweep = yaml.safe_load(path.read_text(encoding="utf-8"))
    if violations := wandb_search.schema_violations_from_proposed_config(sweep):
        raise ValueError("; ".join(violations))
    for point in suggest(sweep):
        print(shlex.join(command_line(sweep, point)))
    if "early_terminate" in sweep and not stops_the_worst(sweep):
        raise ValueError("early_terminate does not stop the worst of three runs")


def main(paths: list[str]) -> int:
    """Check every file; 1 when one fails, 2 when none is given."""
    if not paths:
        print(__doc__, file=sys.stderr)
        return 2
    np.random.seed(0)  # noqa: NPY002  # the package draws from numpy's global generator
    failed = 0
    for path in paths:
        try:
            check(Path(path))
        except (ValueError, yaml.YAMLError) as error:
            failed += 1
            print(f"{path}: {error}", file=sys.stderr)
    print(f"{len(paths) - failed} of {len(paths)} sweeps are valid", file=sys.stderr)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
