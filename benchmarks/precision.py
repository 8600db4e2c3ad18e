"""AUROC of every detector on the bundled digits in float32, bf16-mixed and, on a GPU, 16-mixed, as a Markdown table.

    python benchmarks/precision.py [--methods drocc ama] [--seeds 5] [--jobs 8] [--accelerator gpu] [--out rows.csv]

Each cell is `adlightning fit --config configs/METHOD/digits.yaml --trainer.precision=...` with the same seed. Of
several seeds it has the mean and the standard deviation, beside which a difference of precisions is to be seen.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


def methods_trained_by_gradients() -> list[str]:
    """Folders of configs that fit the digits in more than the single epoch of a shallow detector."""
    digits = sorted(CONFIGS.glob("*/digits.yaml"))
    return [path.parent.name for path in digits if yaml.safe_load(path.read_text())["trainer"]["max_epochs"] > 1]


def auroc(method: str, precision: str, seed: int, normal_class: int, accelerator: str) -> str:
    """AUROC of one fit in %, or how it ended."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "adlightning", "fit", "--config", str(CONFIGS / method / "digits.yaml")]
        command += [f"--data.normal_class={normal_class}", f"--run_dir={folder}/run", f"--seed_everything={seed}"]
        command += [f"--trainer.precision={precision}", f"--trainer.accelerator={accelerator}", "--plots=false"]
        environment = {"OMP_NUM_THREADS": "1", **os.environ}
        ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if ended.returncode:
            return (ended.stderr.strip().splitlines() or ["failed"])[-1][:120]
        metrics = json.loads((Path(folder) / "run" / "metrics.json").read_text())
    return f"{100 * metrics['test_sets']['test']['metrics']['auroc']['value']:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=methods_trained_by_gradients())
    parser.add_argument("--normal-class", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--accelerator", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--out", type=Path, help="CSV of what is done so far, a row a fit")
    options = parser.parse_args()
    precisions = ["32-true", "bf16-mixed"] + (["16-mixed"] if options.accelerator == "gpu" else [])
    cells = list(itertools.product(options.methods, precisions, range(options.seeds)))
    done: dict[tuple[str, str, int], str] = {}

    def shown(method: str, precision: str) -> str:
        """Mean and standard deviation, or what went wrong."""
        texts = [done[method, precision, seed] for seed in range(options.seeds)]
        try:
            values = [float(text) for text in texts]
        except ValueError:
            return next(text for text in texts if not text[:1].isdigit())
        spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
        return f"{statistics.mean(values):.2f}{spread}"

    def run(cell: tuple[str, str, int]) -> None:
        done[cell] = auroc(*cell, options.normal_class, options.accelerator)
        print(*cell, done[cell], file=sys.stderr, flush=True)
        if options.out:
            with options.out.open("a", newline="") as file:
                csv.writer(file).writerow([*cell, options.normal_class, options.accelerator, done[cell]])

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(run, cells))
    print(f"| method | {' | '.join(precisions)} |")
    print("|---" * (len(precisions) + 1) + "|")
    for method in options.methods:
        print(f"| {method} | {' | '.join(shown(method, precision) for precision in precisions)} |")


if __name__ == "__main__":
    main()
