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

from pages import ROOT, fill_all


def metrics_of(config: str, runs: Path) -> dict[str, Any]:
    """What a finished run of a configuration says of itself."""
    folder = runs / config.removesuffix(".yaml")
    written = folder / "metrics.json"
    if not written.exists():
        command = ["nice", "-n", "10", sys.executable, "-m", "adlightning", "fit"]
        command += ["--config", str(ROOT / "configs" / config), "--run_dir", str(folder)]
        command += ["--trainer.accelerator=cpu"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    found: dict[str, Any] = json.loads(written.read_text("utf-8"))
    return found


def card(config: str, metrics: dict[str, Any]) -> str:
    """The card as a table in Markdown."""
    test = metrics["test_sets"]["test"]
    auroc, at = test["metrics"]["auroc"], test["at_threshold"]
    low, high = auroc["interval"]
    threshold, samples, seconds = metrics["threshold"], metrics["samples"], metrics["seconds"]
    known = samples["train_known_anomalies"]
    rows = {
        "command": f"`adlightning fit --config configs/{config}`",
        "data": f"{metrics['data']}: {samples['train']} training samples"
        + (f", {known} of them known anomalies" if known else "")
        + f"; {test['normal']} normal and {test['anomalies']} anomalous test samples",
        "AUROC": f"{100 * auroc['value']:.1f} % (95 % interval {100 * low:.1f} to {100 * high:.1f})",
        "threshold": f"{threshold['score']:.4g}, {threshold['quantile']} quantile of {threshold['fitted_on']} scores",
        "at the threshold": f"false positive rate {100 * at['false_positive_rate']:.1f} %, "
        f"recall {100 * at['recall']:.1f} %",
        "time": f"{seconds['fit']:.1f} s of training, {seconds['test']:.2f} s of testing, one thread of a busy CPU",
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
    with tempfile.TemporaryDirectory() as temporary:
        runs: Path = (options.runs or Path(temporary)).absolute()

        def content(config: str, old: str) -> str:
            return card(config, metrics_of(config, runs)) if config.startswith(options.only) else old

        fill_all("card", content)


if __name__ == "__main__":
    main()
