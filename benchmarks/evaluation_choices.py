"""What a choice of the evaluation makes of DROCC's tables, where the released code or the printed numbers hint at one.

    python benchmarks/evaluation_choices.py best_epoch drocc_table2_half_best.csv [--dataset arrhythmia] [--seeds 5]
    python benchmarks/evaluation_choices.py verdict drocc_table6_verdict.csv

`best_epoch`: Table 2, all anomalies and half of the normals tested; the F1 of the epoch that is best on TEST data, as
the released code takes it, with the paper's hyper-parameters. `verdict`: Table 6; the AUROC of the OC-SVM's verdicts,
inside or outside its boundary, and not of its scores. One seed: a seed changes neither points nor fit. Rows are those
of `adlightning benchmark`, for docs/results.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from pytorch_lightning import Callback

import adlightning as ad
from adlightning.core.metrics import ranking_metrics

DROCC: dict[str, dict[str, Any]] = {
    "thyroid": {"model.radius": 2.5, "model.optimizer.lr": 1e-3},
    "arrhythmia": {"model.radius": 16, "model.optimizer.lr": 1e-4},
    "abalone": {"model.radius": 3, "model.optimizer.lr": 1e-3},
}
RADII = (1.2, 1.4, 1.6, 1.8, 2.0)


class TestEveryEpoch(Callback):
    """F1 of anomalies at the true contamination on TEST data, after each epoch."""

    def __init__(self) -> None:
        self.f1: list[float] = []

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Score the test set as testing does; not in the warm-up, whose epochs know no negatives."""
        if not pl_module.ready_to_score():
            return
        data = trainer.datamodule
        pl_module.eval()
        with torch.no_grad():
            scores = pl_module.anomaly_score(data.test_samples.x[torch.from_numpy(data.split.test)].float())
        pl_module.train()
        self.f1.append(ranking_metrics(scores.double().numpy(), data.split.test_labels)["f1_at_contamination"])


def best_epoch(datasets: Sequence[str], seeds: int) -> Iterator[dict[str, Any]]:
    """Rows of Table 2."""
    for seed in range(seeds):
        for dataset in datasets:
            options = DROCC[dataset]
            given = {"data.validation_fraction": 0, "data.test_split": "half_normals", "seed_everything": seed}
            e = ad.experiment(f"drocc/{dataset}", {**given, **options, "model.preprocessing.offset": 1e-4})
            epochs = TestEveryEpoch()
            run = ad.fit(e.detector, e.data, **e.trainer, callbacks=[epochs], progress=False)
            last, best = run.metrics["f1_at_contamination"], max(epochs.f1)
            place = f"epoch {epochs.f1.index(best) + 1} of {len(epochs.f1)}"
            print(f"{dataset} seed {seed}: {last:.3f}, best {best:.3f}, {place}", flush=True)
            yield _row(2, dataset, "drocc", seed, "metrics.f1_at_contamination", best)


def verdict() -> Iterator[dict[str, Any]]:
    """Rows of Table 6."""
    for radius in RADII:
        given = {"data.validation_fraction": 0, "data.source.radius": radius}
        e = ad.experiment("ocsvm/sphere", given)
        scores = ad.fit(e.detector, e.data, **e.trainer, progress=False).scores
        outside = (scores["score"] > 0).to_numpy(float)
        auroc = ranking_metrics(outside, scores["label"].to_numpy())["auroc"]
        print(f"radius {radius}: {auroc:.4f}")
        yield {**_row(6, "sphere", "ocsvm", 0, "metrics.auroc", auroc), "setting": f"radius={radius}"}


def _row(table: int, dataset: str, method: str, seed: int, metric: str, value: float) -> dict[str, Any]:
    titles = {2: "DROCC, Table 2: the best test epoch", 6: "DROCC, Table 6: verdicts of OC-SVM"}
    place = {"title": titles[table], "status": "done", "error": "", "paper": "drocc", "table": table}
    cell = {"dataset": dataset, "setting": "", "normal": "", "labelled": "", "method": method, "variant": ""}
    said = {"selection": "oracle" if table == 2 else "none", "protocol": "clean", "device": "cpu"}
    return {**place, **cell, "seed": seed, metric: value, **said}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("choice", choices=("best_epoch", "verdict"))
    parser.add_argument("out")
    parser.add_argument("--dataset", action="append", choices=list(DROCC))
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    rows = list(verdict() if args.choice == "verdict" else best_epoch(args.dataset or list(DROCC), args.seeds))
    with open(args.out, "w", encoding="utf-8", newline="") as lines:
        writer = csv.DictWriter(lines, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
