"""What must be said of a cell or a table beside its numbers: how chosen, on what split, what failed, which code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adlightning.published import AVERAGE, Column, Layout, metrics

if TYPE_CHECKING:
    import pandas as pd

_SELECTION = {
    "": "",
    "none": "",
    "val": "selection val: checkpoint or hyper-parameters chosen on validation data",
    "oracle": "selection oracle: chosen on test data",
    "oracle-ood": "selection oracle-ood: checkpoint chosen by validation anomalies of a kind that is tested",
}
_PROTOCOL = {
    "": "",
    "clean": "",
    "leaky": "protocol leaky: part of the test samples are training samples",
    "transductive": "protocol transductive: test samples, without labels, take part in training",
}
_MAX_ERROR = 240


def cell_notes(column: Column, group: pd.DataFrame, variant: str | None, n_classes: int) -> list[str]:
    """What must be said of our value in a cell.

    Args:
        column: of the cell.
        group: its runs, finished and failed; of several variants, only the chosen one's.
        variant: which was chosen of several, None when there was no choice.
        n_classes: normal classes of the data set when the runs cover only some of them, else 0.
    """
    done, failed = group[group["value"].notna()], group[group["value"].isna()]
    notes = []
    if variant is not None:
        notes.append(f"{variant or column.method}: the best mean of several variants, chosen on test data (oracle)")
    elif column.best_of and len(done):
        ran = done["variant"].iloc[0]
        notes.append(
            f"only {ran or column.method} has results; the paper prints the best of {', '.join(column.best_of)}"
        )
    for name, texts in ("selection", _SELECTION), ("protocol", _PROTOCOL):
        values = sorted(set(done[name]))
        notes += [text for value in values if (text := texts.get(value, f"{name} {value}"))]
        if len(values) > 1:
            notes.append(f"runs of different {name}: {', '.join(value or 'not stated' for value in values)}")
    if n_classes:
        notes.append(f"runs cover {done['normal'].nunique()} of {n_classes} normal classes: not compared")
    if len(failed):
        notes.append(f"failed: {_first_line(failed['error'].iloc[0])}")
    return notes


def other_variants_notes(others: pd.DataFrame) -> list[str]:
    """What must be said of the runs of variants that a cell does not show: those that failed."""
    failed = others[others["value"].isna()]
    return [
        f"not shown: {len(runs)} failed of variant {variant}: {_first_line(runs['error'].iloc[0])}"
        for variant, runs in failed.groupby("variant")
    ]


def table_notes(layout: Layout, cells: pd.DataFrame, runs: pd.DataFrame) -> list[str]:
    """What must be said of a whole table."""
    counts = cells["ours_n"][cells["ours_n"] > 0]
    paper = "" if layout.n_runs is None else f" (the paper: {layout.n_runs})"
    notes = []
    if len(counts):
        notes.append(
            f"ours: mean ± sample standard deviation (ddof = 1) of {_most(counts)} runs{paper} unless n says so"
        )
    if cells["outside_2se"].notna().any():
        notes.append(
            "*: further from the published value than two standard errors; a published value without number of runs "
            "counts as one run, one without standard deviation has ours"
        )
    shown = [layout.rows[row] for row in sorted(set(cells["row"]))]
    if any(len(layout.normals(row)) > 1 and row.normal == AVERAGE for row in shown):
        notes.append("avg: mean of the class means, its ± that of an average over one run of each class")
    if cells["doubtful"].any():
        notes.append("?: published value is doubtful")
    lower = [metric.heading for name, metric in metrics().items() if metric.lower_is_better and name == layout.metric]
    notes += [f"lower is better: {heading}" for heading in lower]
    versions = runs[runs["code"] != ""].groupby(["method", "variant", "dataset"])["code"].nunique()
    if several := sorted({method for method, _, _ in versions.index[versions > 1]}):
        notes.append(f"runs of several versions of the code behind them: {', '.join(several)}")
    if older := int(runs["older"].sum()):
        notes.append(f"{older} older results of runs that were repeated are left out")
    return notes


def _most(counts: pd.Series[int]) -> int:
    return int(counts.mode().max())


def _first_line(error: str) -> str:
    line = (error.strip().splitlines() or ["no message"])[0]
    return line if len(line) <= _MAX_ERROR else f"{line[:_MAX_ERROR]}…"
