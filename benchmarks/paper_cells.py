"""Every number that the papers print, with ours beside it: which rows count, how far off, and why.

Rows are docs/results/*.csv; docs/results/explanations.yaml says which of them count. benchmarks/paper_pages.py writes
what is found.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pages import ROOT

from adlightning.benchmark.store import read_rows
from adlightning.published import Layout, layouts, published, table_id
from adlightning.report.compare import Comparison, compare
from adlightning.report.runs import runs_frame

RESULTS = ROOT / "docs/results"
LIMIT = 2.0
"""Standard errors within which a cell counts as reproduced."""

KINDS = ("counts", "beside", "shortened")
"""What a file of rows is to its table: our numbers of it, another split or options, or a shorter training."""

REASONS = {
    "measured": "",
    "open": "",
    "guess": " This does not count as explained.",
    "tried": " This explains nothing, and does not count.",
}
"""Kinds of explanation, and what the pages add to its words."""

EXPLAINS = ("measured", "open")
"""The kinds that count as explained."""

Record = dict[str, Any]


@dataclass(frozen=True)
class File:
    """Rows of one table, as explanations.yaml describes them.

    Args:
        name: of the file, without its suffix.
        kind: one of `KINDS`.
        label: over its column where it stands beside our numbers.
        different: what was different, beside what rows and benchmark file say.
        whole: methods of a shortened file that were not shortened, so that their rows count.
    """

    name: str
    kind: str
    label: str = ""
    different: str = ""
    whole: tuple[str, ...] = ()


@dataclass(frozen=True)
class Explanation:
    """Why cells lie outside.

    Args:
        table: id.
        kind: one of `REASONS`; `EXPLAINS` count as explained.
        words: the reason.
        place: page and anchor below docs/ that say so.
        methods: names with their variants; empty for all.
        datasets: likewise.
        nearer: a file whose rows must lie within the limit or leave at most half of the difference.
    """

    table: str
    kind: str
    words: str
    place: str
    methods: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    nearer: str = ""


@dataclass
class Cell:
    """A printed number and ours.

    Args:
        record: of the published table: dataset, setting, normal, method, variant, metric, mean_printed, std_printed.
        place: row and column of the layout.
        ours: of a comparison, None without a run that counts.
        beside: the same of files with another split or other options, by name.
        shortened: the same of the first shortened file that has it.
        explanation: of a cell outside.
    """

    record: Record
    place: tuple[int, int]
    ours: Record | None = None
    beside: dict[str, Record] = field(default_factory=dict)
    shortened: Record | None = None
    explanation: Explanation | None = None

    @property
    def status(self) -> str:
        """`within`, `outside`, `unjudged`, `part` (some of the classes), `shortened` or `missing`."""
        if self.ours is None or not self.ours["ours_n"]:
            return "missing" if self.shortened is None else "shortened"
        if not self.ours["covered"]:
            return "part"
        if math.isnan(self.ours["deviation"]):
            return "unjudged"
        return "within" if abs(self.ours["deviation"]) <= LIMIT else "outside"

    @property
    def measured(self) -> bool:
        """Whether there is a whole number of ours."""
        return self.status in ("within", "outside", "unjudged")

    @property
    def explained(self) -> bool:
        """Whether it lies outside for a reason that is more than a guess or a list of what was tried."""
        return self.status == "outside" and self.explanation is not None and self.explanation.kind in EXPLAINS


@dataclass(frozen=True)
class Table:
    """A published table: its layout, its cells in the paper's order, the files behind ours, and our runs."""

    layout: Layout
    cells: list[Cell]
    files: list[File]
    rows: Mapping[str, list[Record]]
    comparison: Comparison | None


@cache
def by_hand() -> Mapping[str, Any]:
    """docs/results/explanations.yaml."""
    found: Mapping[str, Any] = yaml.safe_load((RESULTS / "explanations.yaml").read_text("utf-8"))
    return found


@cache
def explanations() -> tuple[Explanation, ...]:
    """All of them, in order.

    Raises:
        ValueError: one of an unknown kind.
    """
    lists, found = ("methods", "datasets"), []
    for entry in by_hand()["explanations"]:
        given: dict[str, Any] = {key: tuple(value) if key in lists else value for key, value in entry.items()}
        if given["kind"] not in REASONS:
            raise ValueError(f"explanations.yaml: kind must be one of {', '.join(REASONS)}, got {given['kind']}")
        found.append(Explanation(**given))
    return tuple(found)


@cache
def tables() -> dict[str, Table]:
    """Every published table by its id.

    Raises:
        ValueError: a file of rows of a published table is not in explanations.yaml, or is there with another kind.
    """
    described = {name: File(name=name, **_tuples(entry)) for name, entry in by_hand()["files"].items()}
    if wrong := [file.name for file in described.values() if file.kind not in KINDS]:
        raise ValueError(f"explanations.yaml: kind must be one of {', '.join(KINDS)}, not so in {', '.join(wrong)}")
    ids = {path.stem: _tables_of(path) for path in sorted(RESULTS.glob("*.csv"))}
    known = layouts()
    if lacking := [name for name, found in ids.items() if found & set(known) and name not in described]:
        raise ValueError(f"explanations.yaml: files must have an entry for {', '.join(lacking)}")
    rows = {name: read_rows(RESULTS / f"{name}.csv") for name in described}
    found = {}
    for name, layout in known.items():
        source = layout.runs_of or name
        files = [file for file in described.values() if source in ids.get(file.name, set())]
        found[name] = _table(layout, files, {file.name: rows[file.name] for file in files})
    return found


def _tables_of(path: Path) -> set[str]:
    with path.open(encoding="utf-8", newline="") as lines:
        return {table_id(row["paper"], row["table"]) for row in csv.DictReader(lines)}


def _tuples(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if key == "whole" else value for key, value in entry.items()}


def _table(layout: Layout, files: Sequence[File], rows: Mapping[str, list[Record]]) -> Table:
    counting = [row for file in files for row in rows[file.name] if _counts(file, row)]
    comparison = _compared(layout, counting)
    others: dict[str, dict[str, dict[tuple[str, ...], Record]]] = {"beside": {}, "shortened": {}}
    for file in files:
        if file.kind in others:
            left = [row for row in rows[file.name] if not _counts(file, row)]
            others[file.kind][file.name] = _records(_compared(layout, left))
    ours = _records(comparison)
    cells = [
        _cell(layout, record, ours, **others) for record in published(layout.paper, layout.table).to_dict("records")
    ]
    return Table(layout, sorted(cells, key=lambda cell: cell.place), list(files), rows, comparison)


def _counts(file: File, row: Record) -> bool:
    return file.kind == "counts" or (file.kind == "shortened" and row["method"] in file.whole)


def _compared(layout: Layout, rows: Sequence[Record]) -> Comparison | None:
    if not any(row["status"] == "done" for row in rows):
        return None
    return compare(runs_frame(rows), [layout.id])[0]


_KEY = ("dataset", "setting", "normal", "method", "variant", "metric")


def _records(comparison: Comparison | None) -> dict[tuple[str, ...], Record]:
    """Cells with a run of ours by what names them."""
    if comparison is None:
        return {}
    records = [{str(k): v for k, v in r.items()} for r in comparison.cells.to_dict("records")]
    return {tuple(str(r[name]) for name in _KEY): r for r in records if r["ours_n"]}


_Records = Mapping[tuple[str, ...], Record]


def _cell(
    layout: Layout,
    record: Mapping[Any, Any],
    ours: _Records,
    beside: Mapping[str, _Records],
    shortened: Mapping[str, _Records],
) -> Cell:
    key = tuple(str(record[name]) for name in _KEY)
    others = {name: found[key] for name, found in beside.items() if key in found}
    short = next((found[key] for found in shortened.values() if key in found), None)
    cell = Cell({str(k): v for k, v in record.items()}, place_of(layout, record), ours.get(key), others, short)
    if cell.status in ("outside", "unjudged"):
        cell.explanation = next((e for e in explanations() if e.table == layout.id and _explains(e, cell)), None)
    return cell


def place_of(layout: Layout, record: Mapping[str, Any]) -> tuple[int, int]:
    """Row and column of a printed number."""
    for i, row in enumerate(layout.rows):
        for j, column in enumerate(layout.columns):
            place = (
                row.dataset,
                layout.cell_setting(row, column),
                row.normal,
                column.method,
                column.variant,
                row.metric,
            )
            if place == tuple(record[name] for name in _KEY):
                return i, j
    raise ValueError(f"{layout.id}: no place for {', '.join(str(record[name]) for name in _KEY)}")


def _explains(explanation: Explanation, cell: Cell) -> bool:
    method = f"{cell.record['method']} {cell.record['variant']}".strip()
    if explanation.methods and method not in explanation.methods:
        return False
    if explanation.datasets and cell.record["dataset"] not in explanation.datasets:
        return False
    if not explanation.nearer:
        return True
    other = cell.beside.get(explanation.nearer)
    assert cell.ours is not None  # or it would not lie outside
    return other is not None and (
        abs(other["deviation"]) <= LIMIT or abs(other["difference"]) <= abs(cell.ours["difference"]) / 2
    )


def benchmark_file(name: str) -> Path | None:
    """The benchmark file that rows are of, None of those whose file is gone."""
    path = ROOT / "configs/benchmarks" / f"{name}.yaml"
    return path if path.exists() else None


def notes_of(path: Path) -> str:
    """What the head of a benchmark file says."""
    lines = []
    for line in path.read_text("utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# ").strip())
    return " ".join(lines)
