"""Detectors of ours and of others, side by side on the development set of tables (docs/defaults.md).

    python benchmarks/own_tables.py --out results/own_tables              ours at their configs/METHOD/table.yaml, peers
    python benchmarks/own_tables.py --out results/search --grid benchmarks/own_tables_grid.yaml --rows 600

Writes OUT.csv, a row a fit, and OUT.md. A row that is there is not made again: an interrupted run goes on. PyOD and
DeepOD are compared where they are installed (`pip install adlightning[peers]`, in an environment of its own).

Each table is split 60 : 40; the training part has no anomalies but those that a method is to know of. Seconds are CPU
seconds of the fit, on one thread; memory is the most that the fit took beyond what the process held before.
"""

from __future__ import annotations

import argparse
import csv
import gc
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
import yaml
from own_tables_data import DEVELOPMENT, Floats, Split, Table, split
from own_tables_peers import fitted, names
from sklearn.metrics import average_precision_score, roc_auc_score

import adlightning as ad
from adlightning.core.detector import AnomalyDetector

ROOT = Path(__file__).parents[1]
OURS = (
    *("deep_svdd", "soft_boundary_deep_svdd", "deep_sad", "drocc", "goad", "autoencoder", "dagmm", "dcn"),
    *("deep_cluster", "dsebm", "kde", "nearest_neighbor", "ocsvm", "isolation_forest", "lof", "gmm", "pca", "ssad"),
    *("binary_classifier", "density_ratio", "kernel_kliep", "kernel_ulsif"),
)
COLUMNS = ("detector", "variant", "table", "seed", "auroc", "average_precision", "cpu_seconds", "peak_mb", "remark")


class Candidate(NamedTuple):
    """A detector with some arguments.

    Args:
        detector: a config of ours (`deep_svdd`), or a peer (`pyod.DeepSVDD`).
        variant: what its arguments are called; empty for its defaults.
        overrides: options on top of `configs/DETECTOR/table.yaml`, as on the command line.
    """

    detector: str
    variant: str = ""
    overrides: Mapping[str, Any] = {}


# ---- fits ------------------------------------------------------------------------------------------------------------


def setting_of(candidate: Candidate) -> str:
    """What a detector is given of a table (`own_tables_data.split`)."""
    if "." in candidate.detector:
        return names()[candidate.detector]
    model = type(_experiment(candidate.detector, tuple(candidate.overrides.items())).detector)
    return "unlabelled" if model.needs_unlabelled else "labelled" if model.uses_known_anomalies else "normals"


def fit_ours(candidate: Candidate, given: Split, seed: int) -> Callable[[Floats], Floats]:
    """A detector of ours fitted by its config; what gives scores (M,) of rows."""
    made = _experiment(candidate.detector, tuple(candidate.overrides.items()))
    detector: AnomalyDetector = type(made.detector)(**made.detector.arguments)
    data = ad.Arrays(
        given.train, known=given.known, batch_size=made.data.batch_size, drop_last=made.data.drop_last, seed=seed
    )
    ad.fit(detector, data, max_epochs=made.trainer["max_epochs"], seed=seed, progress=False)
    return detector.score


def _experiment(detector: str, overrides: tuple[tuple[str, Any], ...]) -> Any:
    """A config of ours, read once."""
    key = (detector, repr(overrides))
    if key not in _READ:
        _READ[key] = ad.experiment(f"{detector}/table", {"data.path": "unused.csv", **dict(overrides)})
    return _READ[key]


_READ: dict[tuple[str, str], Any] = {}


def measured(candidate: Candidate, given: Split, seed: int) -> dict[str, Any]:
    """One row of results: how well the test part is ranked, and what the fit took."""
    fit = fit_ours if "." not in candidate.detector else lambda c, g, s: fitted(c.detector, g, s)
    gc.collect()
    before = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        start = time.process_time()
        try:
            score = fit(candidate, given, seed)
        except Exception as error:  # of anybody's code: the row says it
            return {"remark": f"{type(error).__name__}: {str(error)[:80]}"}
        seconds = time.process_time() - start
        peak = _memory("VmHWM") - before
        scores = score(given.test)
    ours = [str(each.message) for each in said if "detector" in str(each.message) or "edge" in str(each.message)]
    return {
        "auroc": round(100 * float(roc_auc_score(given.labels, scores)), 3),
        "average_precision": round(100 * float(average_precision_score(given.labels, scores)), 3),
        "cpu_seconds": round(seconds, 2),
        "peak_mb": max(0, round(peak)),
        "remark": " ".join(ours)[:80],
    }


def _memory(entry: str) -> float:
    """MiB of this process, by the kernel's name for it."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(entry))
    return int(line.split()[1]) / 1024


# ---- what is run -----------------------------------------------------------------------------------------------------


def candidates(grid: Path | None, only: list[str] | None) -> list[Candidate]:
    """Those of a grid, a mapping of detectors to variants to options; without one ours and the peers' defaults."""
    if grid is None:
        made = [Candidate(name) for name in (*OURS, *names())]
    else:
        content = yaml.safe_load(grid.read_text("utf-8"))
        made = [Candidate(d, v, options or {}) for d, variants in content.items() for v, options in variants.items()]
    return [each for each in made if only is None or each.detector in only]


def run(out: Path, chosen: list[Candidate], tables: Mapping[str, Callable[[], Table]], seeds: int, rows: int) -> None:
    """Make the rows of OUT.csv that are not there yet."""
    file = out.with_suffix(".csv")
    file.parent.mkdir(parents=True, exist_ok=True)
    there = {(r["detector"], r["variant"], r["table"], r["seed"]) for r in _read(file)}
    for seed in range(seeds):
        for candidate in chosen:
            setting = setting_of(candidate)
            for name, table in tables.items():
                if (candidate.detector, candidate.variant, name, str(seed)) in there:
                    continue
                row = measured(candidate, split(table(), seed, setting, rows or None), seed)
                place = {"detector": candidate.detector, "variant": candidate.variant, "table": name, "seed": seed}
                _append(file, place | row)


def _read(file: Path) -> Iterator[dict[str, str]]:
    if file.is_file():
        with file.open(newline="", encoding="utf-8") as stream:
            yield from csv.DictReader(stream)


def _append(file: Path, row: Mapping[str, Any]) -> None:
    new = not file.is_file()
    with file.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


# ---- what came of it -------------------------------------------------------------------------------------------------


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each detector and variant: mean and lowest over tables of the seeds' means, in %, and seconds and memory."""
    rows = rows.assign(variant=rows["variant"].fillna(""))
    cells = rows.groupby(["detector", "variant", "table"], sort=False)
    means = cells[["auroc", "average_precision", "cpu_seconds", "peak_mb"]].mean().reset_index()
    by = means.groupby(["detector", "variant"], sort=False)
    made = by[["auroc", "average_precision"]].mean()
    made["lowest"] = by["auroc"].min()
    made["at"] = [str(group.set_index("table")["auroc"].idxmin()) for _, group in by]
    made["seconds"], made["most seconds"] = by["cpu_seconds"].mean(), by["cpu_seconds"].max()
    made["MiB"], made["tables"] = by["peak_mb"].max(), by["table"].nunique()
    return made.sort_values("auroc", ascending=False).reset_index()


def page(rows: pd.DataFrame) -> str:
    """Both tables in Markdown: the summary, and the AUROC of each detector on each table."""
    made = summary(rows)
    lines = ["| detector | mean AUROC | lowest | on | mean AP | CPU s | most CPU s | MiB | tables |"]
    lines.append(f"| --- | ---: | ---: | --- |{' ---: |' * 5}")
    for row in made.to_dict("records"):
        name = f"{row['detector']} ({row['variant']})" if row["variant"] else row["detector"]
        figures = (row["average_precision"], row["seconds"], row["most seconds"])
        lines.append(
            f"| {name} | {row['auroc']:.1f} | {row['lowest']:.1f} | {row['at']} | "
            f"{' | '.join(f'{value:.1f}' for value in figures)} | {row['MiB']:.0f} | {row['tables']} |"
        )
    wide = rows.assign(name=rows["detector"] + rows["variant"].fillna("").map(lambda v: f" ({v})" if v else ""))
    wide = wide.pivot_table(index="table", columns="name", values="auroc", sort=False)
    order = [f"{r['detector']} ({r['variant']})" if r["variant"] else r["detector"] for r in made.to_dict("records")]
    lines += ["", f"| table | {' | '.join(order)} |", f"| --- |{' ---: |' * len(order)}"]
    for table, values in wide.iterrows():
        cells = (f"{values[name]:.1f}" if values[name] == values[name] else "" for name in order)
        lines.append(f"| {table} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    """Run what is asked for, and write the page."""
    parser = argparse.ArgumentParser(description="Detectors of ours and of others on the development set of tables.")
    parser.add_argument("--out", type=Path, required=True, help="where OUT.csv and OUT.md are written")
    parser.add_argument(
        "--grid", type=Path, help="variants instead of defaults: {detector: {variant: {option: value}}}"
    )
    parser.add_argument("--only", nargs="+", help="detectors, as they are called in the table")
    parser.add_argument("--tables", nargs="+", default=list(DEVELOPMENT), choices=list(DEVELOPMENT))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=0, help="at most so many training normals; 0 for all")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    tables = {name: DEVELOPMENT[name] for name in given.tables}
    run(given.out, candidates(given.grid, given.only), tables, given.seeds, given.rows)
    text = page(pd.read_csv(given.out.with_suffix(".csv")))
    given.out.with_suffix(".md").write_text(text, "utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
