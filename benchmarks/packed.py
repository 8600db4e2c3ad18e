"""CPU seconds of cells of a grid that are trained together (`benchmark --pack`), against the same cells one by one.

    OMP_NUM_THREADS=1 python benchmarks/packed.py                                   # ten seeds of Deep SAD on cardio
    OMP_NUM_THREADS=1 python benchmarks/packed.py --table deep_sad_digits --seeds 1 \
        --only method=deep_svdd --only variant=one_class                            # ten classes of digits

Each side runs in a process of its own, as a worker of the grid does, and takes `--rounds` turns. Printed are the CPU
seconds of the cells, and beside them those of the imports, which a worker does once; and how far scores are apart.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
CARDIO = ["dataset=cardio", "method=deep_sad", "variant="]


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def work(options: argparse.Namespace, together: bool, folder: Path) -> None:
    """One side, in this process: a line of JSON."""
    import adlightning.cli.trainer_verbs  # noqa: F401  # what a worker imports once
    from adlightning.benchmark.grid import choose, read_grid
    from adlightning.benchmark.packed_run import run_pack
    from adlightning.benchmark.packing import Pack, Plan, packed
    from adlightning.benchmark.store import Results
    from adlightning.benchmark.tasks import tasks_of
    from adlightning.benchmark.worker import run_task
    from adlightning.cli.benchmark import run_verb

    grid = read_grid(ROOT / f"configs/benchmarks/{options.table}.yaml", options.seeds)
    cells = choose(grid.cells, options.only)
    results = Results(folder)
    results.open(cells, grid)
    plan = packed(tasks_of(cells), options.pack) if together else Plan(tuple(tasks_of(cells)))
    imports = cpu()
    rows: dict[str, Any] = {}
    for part in plan.work:
        came = run_pack(part, results, run_verb) if isinstance(part, Pack) else run_task(part, results, run_verb)
        rows |= {results.key(cell): row for cell, row in came}
    if failed := [row["error"] for row in rows.values() if row["status"] != "done"]:
        raise RuntimeError(failed[0])
    n_packed = sum("packed" in row for row in rows.values())
    print(json.dumps({"imports": imports, "cells": cpu() - imports, "n": len(rows), "packed": n_packed}))


def scores(folder: Path) -> np.ndarray:
    """All scores of a results folder, in the order of its cells."""
    import pandas as pd

    return np.concatenate([pd.read_csv(file)["score"] for file in sorted(folder.glob("runs/*/scores.csv"))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", default="deep_sad_table6", help="a file of configs/benchmarks")
    parser.add_argument("--only", action="append", help="as of the verb; default: Deep SAD on cardio")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--pack", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--side", choices=["pack", "single"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.only = options.only or CARDIO
    if options.side:
        work(options, options.side == "pack", options.folder)
        return
    environment = dict(os.environ) | {"CUDA_VISIBLE_DEVICES": ""}
    fastest: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as root:
        for turn in range(options.rounds):
            for side in ("pack", "single"):
                folder = Path(root) / f"{side}{turn}"
                command = [sys.executable, __file__, *sys.argv[1:], "--side", side, "--folder", str(folder)]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment, text=True)
                found = json.loads(done.stdout.strip().splitlines()[-1])
                print(f"{side}: {found}", flush=True)
                fastest[side] = min(fastest.get(side, np.inf), found["cells"])
        a, b = (scores(Path(root) / f"{side}0") for side in ("pack", "single"))
    ratio = fastest["single"] / fastest["pack"]
    apart = np.max(np.abs(a - b) / np.abs(b))
    print(
        f"{found['n']} cells: {fastest['single']:.1f} CPU s one by one, {fastest['pack']:.1f} in packs of "
        f"{options.pack}, {ratio:.1f} times as fast; {len(a)} scores differ by at most {apart:.1e} of themselves"
    )


if __name__ == "__main__":
    main()
