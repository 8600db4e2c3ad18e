"""The cards of the trained miniatures in docs/methods/*.md: each configuration is run once, on one thread of the CPU.

    python benchmarks/cards.py [--only deep_sad] [--runs FOLDER]

A card stands between `<!-- card: CONFIG -->` and `<!-- end of card -->`, CONFIG below configs/. With `--runs` the run
folders are kept, and a configuration that has a finished one there is not trained again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from pages import PAGES, ROOT, blocks, fill_all


def run(config: str, runs: Path) -> None:
    """Fit a configuration, unless it was."""
    folder = runs / config.removesuffix(".yaml")
    if (folder / "metrics.json").exists():
        return
    command = ["nice", "-n", "10", sys.executable, "-m", "adlightning", "fit"]
    command += ["--config", str(ROOT / "configs" / config), "--run_dir", str(folder), "--trainer.accelerator=cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)


def card(config: str, runs: Path) -> str:
    """What a finished run says of itself, as a table in Markdown."""
    folder = runs / config.removesuffix(".yaml")
    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text("utf-8"))
    test = metrics["test_sets"]["test"]
    auroc, at = test["metrics"]["auroc"], test["at_threshold"]
    low, high = auroc["interval"]
    threshold, samples, seconds = metrics["threshold"], metrics["samples"], metrics["seconds"]
    known = f", {n} of them known anomalies" if (n := samples["train_known_anomalies"]) else ""
    rows = {
        "command": f"`adlightning fit --config configs/{config}`",
        "data": f"{metrics['data']}: {samples['train']} training samples{known}; {test['normal']} normal and "
        f"{test['anomalies']} anomalous test samples",
        "AUROC": f"{100 * auroc['value']:.1f} % (95 % interval {100 * low:.1f} to {100 * high:.1f})",
        "threshold": f"{threshold['score']:.4g}, {threshold['quantile']} quantile of {threshold['fitted_on']} scores",
        "at the threshold": f"false positive rate {100 * at['false_positive_rate']:.1f} %, "
        f"recall {100 * at['recall']:.1f} %",
        "seconds": f"{seconds['fit']:.0f} of training, {seconds['test']:.2f} of testing, on one thread of a busy CPU",
        "seed": str(metrics["seed"]),
        "torch": metrics["versions"]["torch"].partition("+")[0],
    }
    lines = ["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows.items())]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cards whose configuration begins so")
    parser.add_argument("--runs", type=Path, help="folder that keeps the run folders")
    options = parser.parse_args()
    pages = [page.read_text("utf-8") for page in sorted(PAGES.glob("*.md"))]
    wanted = [config for page in pages for config, _ in blocks("card", page) if config.startswith(options.only)]
    with tempfile.TemporaryDirectory() as temporary:
        runs: Path = (options.runs or Path(temporary)).absolute()
        for config in wanted:
            print(config, flush=True)
            run(config, runs)
        fill_all("card", lambda config, old: card(config, runs) if config in wanted else old)


if __name__ == "__main__":
    main()
