"""The papers' published numbers (*.csv, described in README.md) and the layout of their tables (tables.yaml)."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from adlightning.published.layout import AVERAGE, Column, Layout, Row, column_of, parse_layout, table_id

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "AVERAGE",
    "Column",
    "Layout",
    "Metric",
    "Row",
    "class_names",
    "column_of",
    "dataset_heading",
    "layout",
    "layouts",
    "metrics",
    "printed_number",
    "published",
    "table_id",
]

_FOLDER = Path(__file__).parent
# What a note says of a value that the README lists as doubtful.
_DOUBTFUL = re.compile(r"doubtful|as in the OCR text|\bread as\b")


@dataclass(frozen=True)
class Metric:
    """A metric of the tables.

    Args:
        heading: in words.
        measured: where a row of results holds it, `metrics.auroc`.
        lower_is_better: as for seconds.
        comparable: False for what depends on the machine: differences are then shown, but not judged.
    """

    heading: str
    measured: str
    lower_is_better: bool = False
    comparable: bool = True


def layouts() -> dict[str, Layout]:
    """Every published table by its id (`deep_sad_table6`, `drocc_text`), in the order of tables.yaml."""
    return dict(_layouts())


def layout(name: str) -> Layout:
    """The published table with this id; ValueError when there is none."""
    found = _layouts()
    if name not in found:
        raise ValueError(f"table must be one of {', '.join(found)}, got {name!r}")
    return found[name]


def published(paper: str, table: str) -> pd.DataFrame:
    """A published table as its CSV file has it, one line a value.

    All columns are text but for `mean`, `std` and `n_runs` (float, NaN where not printed) and `doubtful` (bool: the
    README lists the value). `mean_printed` and `std_printed` keep the digits as printed.

    Raises:
        ValueError: there is no such paper, or it has no such table.
    """
    import pandas as pd

    of_paper = [found for found in _layouts().values() if found.paper == paper]
    if not of_paper:
        known = dict.fromkeys(found.paper for found in _layouts().values())
        raise ValueError(f"paper must be one of {', '.join(known)}, got {paper!r}")
    if table not in (tables := [found.table for found in of_paper]):
        raise ValueError(f"table must be one of {', '.join(tables)} for {paper}, got {table!r}")
    frame = pd.read_csv(_FOLDER / f"{table_id(paper, table)}.csv", dtype=str, keep_default_na=False)
    for name in ("mean", "std"):
        frame[f"{name}_printed"] = frame[name]
    for name in ("mean", "std", "n_runs"):
        frame[name] = pd.to_numeric(frame[name])
        frame[name] = frame[name].astype(float)
    frame["doubtful"] = [bool(_DOUBTFUL.search(note)) for note in frame["note"]]
    return frame


def printed_number(digits: str, scale: str) -> str:
    """A published value with its own digits, `0.845` as `84.5` on the percent scale; empty stays empty."""
    if not digits:
        return ""
    return f"{Decimal(digits).scaleb(2):f}" if scale == "percent" else digits


def metrics() -> dict[str, Metric]:
    """Metrics of the tables by their name in the CSV files."""
    return {name: Metric(**entry) for name, entry in _tables()["metrics"].items()}


def dataset_heading(dataset: str) -> str:
    """A data set's name as it is printed; unknown ones keep theirs."""
    heading: str = _tables()["datasets"].get(dataset, dataset)
    return heading


def class_names(dataset: str) -> dict[str, str]:
    """Names of a data set's classes by their value in the column `normal`; empty when they are not known."""
    return dict(_classes().get(dataset, {}))


@functools.cache
def _tables() -> Mapping[str, Any]:
    tables: Mapping[str, Any] = yaml.safe_load((_FOLDER / "tables.yaml").read_text(encoding="utf-8"))
    return tables


def _classes() -> dict[str, Mapping[str, str]]:
    lists: dict[str, Any] = _tables()["classes"]
    return {
        dataset: names if isinstance(names, dict) else {str(i): name for i, name in enumerate(names)}
        for dataset, names in lists.items()
    }


@functools.cache
def _layouts() -> Mapping[str, Layout]:
    tables = _tables()
    return {
        name: parse_layout(name, spec, tables["papers"][name.rpartition("_")[0]], _classes())
        for name, spec in tables["tables"].items()
    }
