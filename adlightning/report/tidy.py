"""Cells as tidy CSV, one line a cell, fractions not percent."""

from __future__ import annotations

from collections.abc import Sequence

from adlightning.report.compare import Comparison

COLUMNS = ["paper", "table", "dataset", "setting", "normal", "method", "variant", "metric"]
COLUMNS += ["ours_mean", "ours_std", "ours_n"]
COLUMNS += ["published_mean", "published_std", "published_n", "difference", "outside_2se", "selection", "protocol"]
COLUMNS += ["footnotes"]


def tidy_csv(comparisons: Sequence[Comparison]) -> str:
    """One line for each cell that has runs or a published value; what is not known is empty."""
    import pandas as pd

    frame = pd.concat([comparison.cells for comparison in comparisons], ignore_index=True)
    frame["footnotes"] = [
        "; ".join([*own, *theirs]) for own, theirs in zip(frame["notes"], frame["published_notes"], strict=True)
    ]
    frame["outside_2se"] = ["" if value is None else str(bool(value)).lower() for value in frame["outside_2se"]]
    for name in ("ours_n", "published_n"):
        frame[name] = frame[name].astype("Int64")
    return str(frame[COLUMNS].to_csv(index=False, float_format="%.9g"))
