"""Cells per minute of a grid on bundled digits with one and with two processes, and what a cell costs beside its fit.

    python benchmarks/cells_per_minute.py [--jobs 1 2] [--seeds 2]

The overhead of a cell is its whole time less training and scoring: configuration, data, metrics with their bootstrap
intervals, run folder, row. Start-up (the import of torch, once a process) is counted apart. Needs an idle machine.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from adlightning.benchmark.store import read_rows

ROOT = Path(__file__).parents[1]
GRID = ROOT / "configs/benchmarks/deep_sad_digits.yaml"
METHODS = "cae,deep_svdd/one_class,nearest_neighbor,ocsvm/raw"


def measure(jobs: int, seeds: int) -> None:
    """Run the grid once and print a line."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "adlightning", "benchmark", "--config", str(GRID), "--results", folder]
        command += ["--only", f"method={METHODS}", "--seeds", str(seeds), "--jobs", str(jobs), "--devices", "cpu"]
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        wall = time.perf_counter() - started
        rows = read_rows(Path(folder))
    overheads = [row["seconds"]["total"] - row["seconds"]["fit"] - row["seconds"]["test"] for row in rows]
    total = sum(row["seconds"]["total"] for row in rows)
    print(
        f"jobs {jobs}: {len(rows)} cells in {wall:.1f} s = {60 * len(rows) / wall:.0f} a minute; a cell "
        f"{total / len(rows):.2f} s, beside its fit median {statistics.median(overheads):.3f} s, "
        f"largest {max(overheads):.2f} s; start and end of the command {wall - total / jobs:.1f} s",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2, 1, 2])
    parser.add_argument("--seeds", type=int, default=2, help="40 cells each")
    options = parser.parse_args()
    for jobs in options.jobs:
        measure(jobs, options.seeds)


if __name__ == "__main__":
    main()
