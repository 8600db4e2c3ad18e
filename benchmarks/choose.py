"""The tables of docs/choose.md: what each method reached, and what a fit takes, from rows of docs/results/*.csv.

    python benchmarks/choose.py

`<!-- reached: SHARE TABLE TABLE -->` to `<!-- end of reached -->` holds for each method of these tables the mean AUROC
over data sets and normal classes, the lowest of these, and the seconds of the fastest fit. SHARE of the training
samples are known anomalies of one kind, for methods that take them. Seeds are averaged first. Rows whose
hyper-parameters were chosen on the test set, and variants that a paper takes apart, are left out.
tests/test_method_pages.py compares.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).parent))

from pages import ROOT, filled

PAGE = ROOT / "docs/choose.md"
_ABLATIONS = (
    "without",
    "bn ",
    "of unit scale",
    "bounded",
    "discriminator score",
    "prior likelihood",
    "alpha=1",
    "leaky",
)
_LABELLED = ("deep_sad", "ssad", "ss_dgm", "supervised")
_PLACE = ["method", "variant", "setting", "protocol"]


def reached(words: str) -> str:
    """The methods of some tables as a table in Markdown, the best first."""
    share, *tables = words.split()
    labelled = f"gamma_l={share};gamma_p=0;k_l=1"
    frames = [pd.read_csv(ROOT / f"docs/results/{name}.csv", dtype=str, keep_default_na=False) for name in tables]
    rows = pd.concat(frames)
    rows = rows[(rows["status"] == "done") & (rows["selection"] != "oracle")]
    rows = rows[[not any(word in variant for word in _ABLATIONS) for variant in rows["variant"]]]
    rows = rows[rows["setting"].isin(["", "gamma_l=0;gamma_p=0;k_l=0", labelled])]
    for name in ("metrics.auroc", "seconds.total"):
        rows[name] = pd.to_numeric(rows[name])
    cells = rows.groupby([*_PLACE, "dataset", "normal"])["metrics.auroc"].mean()
    by_method = cells.groupby(_PLACE)
    summary = pd.DataFrame({"mean": by_method.mean(), "lowest": by_method.min(), "cells": by_method.size()})
    summary["seconds"] = rows.groupby(_PLACE)["seconds.total"].min()
    summary = summary[summary["cells"] == summary["cells"].max()].sort_values("mean", ascending=False).reset_index()
    summary = summary.drop_duplicates(["method", "variant", "protocol"])
    lines = ["| method | labels | mean AUROC (%) | lowest | seconds |", "| --- | --- | --- | --- | --- |"]
    for row in summary.itertuples():
        name = f"{row.method} ({row.variant})" if row.variant else row.method
        known = (
            f"{100 * float(share):.0f} % known anomalies" if row.setting == labelled and row.method in _LABELLED else ""
        )
        known = "the test samples, unlabelled" if row.protocol == "transductive" else known
        known = "unlabelled samples" if row.protocol == "inductive" else known
        lines.append(f"| `{name}` | {known} | {100 * row.mean:.1f} | {100 * row.lowest:.1f} | {row.seconds:.1f} |")
    return "\n".join(lines) + "\n"


def page(text: str) -> str:
    """The page with its tables written anew."""
    return filled("reached", text, lambda words, _: reached(words))


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
