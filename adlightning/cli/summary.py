"""What a run says on the terminal when it has ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytorch_lightning.utilities import rank_zero_only
from rich.table import Table

from adlightning.callbacks.run_folder import RunFolder
from adlightning.core.terminal import plain, print_table, say

TITLES = {
    "auroc": "AUROC",
    "average_precision": "average precision",
    "fpr_at_95_tpr": "FPR at 95 % TPR",
    "recall_at_3_fpr": "recall of anomalies at 3 % FPR",
    "recall_at_5_fpr": "recall of anomalies at 5 % FPR",
    "normal_recall_at_3_fpr": "recall of normals, 3 % of anomalies accepted",
    "normal_recall_at_5_fpr": "recall of normals, 5 % of anomalies accepted",
    "f1_at_contamination": "F1 of anomalies at true contamination",
    "f1_drocc_release": "F1 of normals as in DROCC's code",
}

RANGES = {"vus_roc": "VUS-ROC", "vus_pr": "VUS-PR"}
PIXELS = {"pixel_auroc": "AUROC of pixels", "aupro": "AUPRO, to 30 % FPR"}


@rank_zero_only
def print_report(run: RunFolder) -> None:
    """Test metrics with their intervals, rates at the threshold, notes, and the run folder."""
    tests = run.report.get("test_sets", {})
    if run.report and not tests:
        say(f"nothing was tested: {run.report['not_tested']}")
        if run.plots:
            say("plots: the scores of the samples that set the threshold")
    for name, test in tests.items():
        title = plain(f"{run.report['detector']} on {run.report['data']}: {name}")
        table = Table(title=title, title_justify="left")
        table.add_column("metric")
        table.add_column("value", justify="right")
        table.add_column("95 % interval", justify="right")
        for key, entry in test["metrics"].items():
            low, high = entry["interval"]
            table.add_row(TITLES[key], f"{entry['value']:.4f}", f"{low:.4f} to {high:.4f}")
        for key, words in RANGES.items():
            if key in test.get("range_metrics", {}):
                table.add_row(words, f"{test['range_metrics'][key]:.4f}", "")
        for key, words in PIXELS.items():
            if key in test.get("pixel_metrics", {}):
                table.add_row(words, f"{test['pixel_metrics'][key]:.4f}", "")
        for key, value in test.get("at_threshold", {}).items():
            if key != "flagged":
                table.add_row(f"{key.replace('_', ' ')} at the threshold", f"{value:.4f}", "")
        print_table(table)
        if test.get("defects"):
            print_table(_defects(test["defects"]))
        say(f"{test['normal']} normal and {test['anomalies']} anomalous test samples")
        if "note" in test:
            say(f"note: {test['note']}")
    for note in run.report.get("notes", run.notes):
        say(f"note: {note}")
    say(f"run folder: {run.folder}")


def _defects(defects: Mapping[str, Mapping[str, Any]]) -> Table:
    """A row for each kind of defect, and the columns that there are."""
    columns = {"auroc": "AUROC", "recall": "recall", "pixel_auroc": "pixel AUROC", "aupro": "AUPRO"}
    there = [key for key in columns if any(key in one for one in defects.values())]
    table = Table(title="by kind of defect, against good images", title_justify="left")
    table.add_column("defect")
    for heading in ("images", *(columns[key] for key in there)):
        table.add_column(heading, justify="right")
    for kind, one in defects.items():
        values = (f"{one[key]:.4f}" if key in one else "" for key in there)
        table.add_row(plain(kind), str(one["images"]), *values)
    return table
