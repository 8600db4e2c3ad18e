"""CPU seconds of commands that do little: their start, a fit of a small table, a score of ten rows.

    OMP_NUM_THREADS=1 python benchmarks/starts.py [--rounds 3]

Each command is a process of its own; the fewest seconds count, user and system. `fit` a second time in one process says
what is left of it without imports.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

IMPORTS = ("torch", "torchvision", "torchmetrics", "pytorch_lightning", "adlightning.core.detector")


def seconds(command: list[str], rounds: int) -> float:
    """The fewest CPU seconds of a process."""
    found = []
    for _ in range(rounds):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *command], check=True, capture_output=True, env=dict(os.environ))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(found)


def write_tables(folder: Path) -> None:
    """300 rows of six columns, a tenth of them anomalies, and ten rows to score."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(270, 6)), rng.normal(size=(30, 6)) + 3])
    frame = pd.DataFrame(x, columns=list("abcdef"))
    frame.assign(label=[0] * 270 + [1] * 30).to_csv(folder / "table.csv", index=False)
    frame[:10].to_csv(folder / "ten.csv", index=False)


def fit(folder: Path, method: str, run: str) -> list[str]:
    """Arguments of a fit of the table."""
    data = [f"--data.path={folder}/table.csv", "--data.label_column=label", "--trainer.accelerator=cpu"]
    return ["fit", "--config", f"{method}/table", *data, f"--run_dir={folder / run}"]


def warm_fit(folder: Path, method: str) -> float:
    """CPU seconds of a fit when everything is imported."""
    from adlightning.__main__ import main as adlightning

    found = []
    for turn in range(3):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            started = time.process_time()
            assert adlightning(fit(folder, method, f"{method}-{turn}")) == 0
            found.append(time.process_time() - started)
    return min(found[1:])


def main() -> None:
    """A line a command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    for module in IMPORTS:
        print(f"import {module}: {seconds(['-c', f'import {module}'], rounds):.2f} s", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_tables(folder)
        start = ["-m", "adlightning"]
        print(f"fit --help: {seconds([*start, 'fit', '--help'], rounds):.2f} s", flush=True)
        print(f"fit --help=full: {seconds([*start, 'fit', '--help=full'], 1):.2f} s", flush=True)
        for method in ("deep_sad", "drocc"):
            print(f"fit {method}/table, 300 rows, warm: {warm_fit(folder, method):.2f} s", flush=True)
            score = [*start, "score", "--ckpt_path", str(folder / f"{method}-0"), "--data", str(folder / "ten.csv")]
            found = [seconds([*score, "--out", str(folder / f"{method}-{i}.csv")], 1) for i in range(rounds)]
            print(f"score of ten rows, {method}: {min(found):.2f} s", flush=True)


if __name__ == "__main__":
    main()
