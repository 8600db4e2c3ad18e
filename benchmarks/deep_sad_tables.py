"""Deep SVDD and Deep SAD at the paper's schedule: rows of docs/results/deep_sad.csv, each an ordinary `fit`.

    python benchmarks/deep_sad_tables.py mnist --classes 1 3 8
    python benchmarks/deep_sad_tables.py odds --seeds 10 [--leaky] [--datasets satellite cardio] [--variant released]

Nothing is held out (validation_fraction 0), as in the paper. A row that is there already is not run again.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import tempfile
import warnings
from pathlib import Path

from adlightning.__main__ import main as adlightning

ROOT = Path(__file__).parents[1]
FIELDS = ["dataset", "split", "normal_class", "labelled_class", "seed", "method", "variant", "auroc", "seconds"]
FIELDS += ["n_train", "n_test"]
ODDS = ["arrhythmia", "cardio", "satellite", "satimage-2", "thyroid", "shuttle"]
# Without transfer (S1) the first phase leaves no trace: it is left out, with the objective's own number of epochs.
NO_TRANSFER = ["--model.pretrain_epochs=0", "--trainer.max_epochs=150"]
VARIANTS = {
    "": [],
    "no_transfer": NO_TRANSFER,
    "released": [
        *NO_TRANSFER,
        "--model.preprocessing=standardize_minmax",  # S3
        "--model.leakiness=0.01",  # S4
        "--model.center_include_labelled=true",  # S10
        "--model.weight_init=framework",  # S12
    ],
}
QUIET = [
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.accelerator=cpu",
    "--data.validation_fraction=0",
]


def measure(out: Path, row: dict[str, str], options: list[str]) -> None:
    """Run one fit and append its row, unless it is there."""
    done = list(csv.DictReader(out.open())) if out.exists() else []
    if any(all(old[key] == value for key, value in row.items()) for old in done):
        return
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        config = str(ROOT / f"configs/{row['method']}/{row['dataset']}.yaml")
        code = adlightning(
            ["fit", "--config", config, f"--run_dir={run}", f"--seed_everything={row['seed']}", *QUIET, *options]
        )
        if code:
            raise SystemExit(f"{row}: fit ended with {code}")
        report = json.loads((run / "metrics.json").read_text())
    row["auroc"] = f"{report['test_sets']['test']['metrics']['auroc']['value']:.5f}"
    row["seconds"] = f"{report['seconds']['fit']:.1f}"
    row["n_train"], row["n_test"] = str(report["samples"]["train"]), str(report["samples"]["test"])
    fresh = not out.exists()
    with out.open("a", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        if fresh:
            writer.writeheader()
        writer.writerow(row)
    print(row, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=["mnist", "odds"])
    parser.add_argument("--classes", type=int, nargs="+", default=[1, 3, 8])
    parser.add_argument("--datasets", nargs="+", default=ODDS, choices=ODDS)
    parser.add_argument("--methods", nargs="+", default=["deep_sad", "deep_svdd"])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--leaky", action="store_true", help="the released code's split, for satellite and cardio")
    parser.add_argument("--variant", choices=list(VARIANTS), default="", help="options of docs/methods.md, S1 to S12")
    parser.add_argument("--root", type=Path, default=ROOT / "data")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results/deep_sad.csv")
    options = parser.parse_args()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    variant, start = options.variant, VARIANTS[options.variant]
    for seed in range(options.seeds):
        for method in options.methods:
            if options.table == "mnist":
                for normal in options.classes:
                    # one labelled class of the nine that the paper averages over, a different one for each normal class
                    labelled = (normal + 1) % 10 if method == "deep_sad" else ""
                    row = {"dataset": "mnist", "split": "official", "normal_class": str(normal)}
                    row |= {"labelled_class": str(labelled), "seed": str(seed), "method": method, "variant": variant}
                    extra = [f"--data.normal_class={normal}", f"--data.source.init_args.root={options.root}"]
                    if method == "deep_sad":
                        extra += [f"--data.labelled_classes=[{labelled}]", "--data.n_labelled_classes=0"]
                    measure(options.out, row, [*extra, *start])
            else:
                for dataset in options.datasets:
                    split = "legacy_leaky" if options.leaky else "stratified"
                    row = {"dataset": dataset, "split": split, "normal_class": "", "labelled_class": ""}
                    row |= {"seed": str(seed), "method": method, "variant": variant}
                    extra = [
                        f"--data.source.init_args.root={options.root / 'odds'}",
                        f"--data.test_split={split}",
                    ]
                    measure(options.out, row, [*extra, *start])


if __name__ == "__main__":
    main()
