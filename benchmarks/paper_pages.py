"""docs/results/papers/: a page for each paper, ours beside published; and the table of all papers in the README.

    python benchmarks/paper_pages.py

Everything is made from docs/results/*.csv, adlightning/published/*.csv, the heads of configs/benchmarks/*.yaml and
docs/results/explanations.yaml. tests/test_paper_pages.py compares. benchmarks/paper_cells.py says which rows count.
"""

from __future__ import annotations

import math
import re
import string
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parent))

from pages import ROOT, filled
from paper_cells import (
    REASONS,
    RESULTS,
    Cell,
    Explanation,
    File,
    Record,
    Table,
    benchmark_file,
    by_hand,
    notes_of,
    tables,
)
from paper_overview import overview, short_table
from paper_words import (
    NAMES,
    NUMBERS,
    anchor,
    bold,
    counted,
    drawn,
    in_errors,
    label,
    means,
    number,
    numbers,
    printed,
    signed,
    table_lines,
    table_name,
    verdict,
    wrapped,
)

from adlightning.published import AVERAGE, Layout, class_names, dataset_heading
from adlightning.report.grid import row_stubs

PAGES = RESULTS / "papers"
README = ROOT / "README.md"


def texts() -> dict[Path, str]:
    """Every file that this script writes."""
    found = {PAGES / f"{paper}.md": _page(paper) for paper in NAMES}
    found[PAGES / "index.md"] = overview()
    found[README] = filled("papers", README.read_text("utf-8"), lambda _, __: short_table())
    return found


# ---- the page of a paper --------------------------------------------------------------------------------------------


def _page(paper: str) -> str:
    of_paper = [table for table in tables().values() if table.layout.paper == paper]
    layout = of_paper[0].layout
    lines = [f"# {NAMES[paper]}: ours beside published", ""]
    lines += [wrapped(f"{layout.title} ({layout.venue})."), ""]
    sections = [line for table in of_paper for line in _section(table)]
    lines += [
        wrapped(
            "Written by `python benchmarks/paper_pages.py` from the rows. [Which rows count, and what a standard error "
            "is here](index.md). A link on a file of rows leads to its own page, with pictures."
            + _about_marks(paper, "\n".join(sections))
        ),
        "",
    ]
    rows = []
    for table in of_paper:
        count = counted(table.cells)
        link = f"[{table_name(table.layout)}](#{anchor(table.layout)})"
        first, *rest = numbers(count)
        rows.append((link, label(table), f"{first} drawn" if drawn(table.layout) else first, *rest))
    lines += [*table_lines(("", "", *NUMBERS), rows, texts=2), ""]
    return "\n".join([*lines, *sections]).rstrip("\n") + "\n"


def _about_marks(paper: str, text: str) -> str:
    """What marks such as S1 are, where a text has them."""
    listed = re.search(r"^\| ([A-Z]1) \|", (ROOT / "docs/methods" / f"{paper}.md").read_text("utf-8"), re.MULTILINE)
    if listed is None or re.search(rf"\b{listed[1][0]}\d+\b", text) is None:
        return ""
    place = f"../../methods/{paper}.md#paper-against-code"
    return f" {listed[1]} and the like are places where [paper and released code differ]({place})."


def _section(table: Table) -> list[str]:
    layout, count = table.layout, counted(table.cells)
    lines = [f"## {table_name(layout)}", "", wrapped(layout.caption), ""]
    said = by_hand()["said"].get(layout.id, "")
    lines += [wrapped(f"{bold(verdict(table))} {said}".rstrip()), ""]
    if more := by_hand()["more"].get(layout.id):
        lines += [f"[More of it](../../results.md#{more}).", ""]
    if count["missing"] < count["printed"]:
        lines += _differences(table)
        lines += _of_methods(table) if count["ours"] else []
        lines += _of_cells(table)
        lines += _by_class(table)
    else:
        command = f"adlightning benchmark --list {layout.id}"
        lines += [f"`{command}` says what it takes.", ""]
    return lines


def _differences(table: Table) -> list[str]:
    """What was different, from the rows, the benchmark files and what is written by hand."""
    layout, points = table.layout, []
    sizes = sorted({cell.ours["ours_n"] for cell in table.cells if cell.ours is not None})
    if sizes:
        ours = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
        paper = "the paper does not say how many" if layout.n_runs is None else f"the paper has {layout.n_runs}"
        points.append(f"Runs a cell: {ours}; {paper}.")
        chosen = [c for c in table.cells if c.ours is not None and "oracle" in c.ours["selection"]]
        names = dict.fromkeys(layout.columns[cell.place[1]].heading for cell in chosen)
        points.append(f"Chosen on test data: {', '.join(names) or 'nothing'}.")
        if protocols := sorted({c.ours["protocol"] for c in table.cells if c.ours is not None} - {"clean", ""}):
            points.append(f"Protocol: {', '.join(protocols)}.")
        points.append(_machine([row for file in table.files for row in table.rows[file.name] if _is_ours(file, row)]))
    in_columns = {name for cell in table.cells for name in cell.beside}
    points += [_of_file(file, bool(layout.runs_of), file.name in in_columns) for file in table.files]
    return [*(wrapped(point, "- ", "  ") for point in points), ""]


def _is_ours(file: File, row: Record) -> bool:
    return row["status"] == "done" and (file.kind == "counts" or row["method"] in file.whole)


def _machine(rows: Sequence[Record]) -> str:
    words = by_hand()["machines"]
    devices = Counter(str(row.get("device") or "") for row in rows)
    names = [f"{words[device]} ({number:,} runs)" for device, number in sorted(devices.items())]
    versions = sorted({str(row.get("torch") or "").partition("+")[0] for row in rows} - {""})
    seconds = [row.get("seconds", {}) for row in rows]
    hours = sum(float(each.get("total", each.get("fit", 0.0))) for each in seconds) / 3600
    return f"Machine: {', '.join(names)}; torch {' and '.join(versions)}; {hours:.1f} hours of computing."


def _of_file(file: File, short: bool, in_column: bool) -> str:
    """A file of rows and what was different in it; short where it is described under another table."""
    meaning = {"counts": "our numbers", "beside": f"beside them ({file.label})", "shortened": "shortened"}[file.kind]
    if file.kind == "beside" and not in_column:
        meaning += ", on its own page, for its variants are not the table's"
    if file.whole:
        meaning += f", but for {', '.join(file.whole)}, which count"
    text = f"[{file.name}](../{file.name}.md) ([rows](../{file.name}.csv)): {meaning}."
    if file.different:
        text += f" {file.different[0].upper()}{file.different[1:]}."
    path = benchmark_file(file.name)
    if path is not None and not short:
        spec = yaml.safe_load(path.read_text("utf-8"))
        options = [f"`{key}: {_plain(value)}`" for key, value in spec.get("options", {}).items()]
        text += f" Its benchmark file says: {_escaped(notes_of(path))}"
        text += f" Options of all cells: {', '.join(options)}." if options else ""
    return text


def _plain(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("\n").removesuffix("\n...").strip()


def _escaped(text: str) -> str:
    return re.sub(r"([*<])", r"\\\1", text) if "`" not in text else text


def _of_methods(table: Table) -> list[str]:
    rows = []
    for j, column in enumerate(table.layout.columns):
        ours, theirs, count = means(table, j)
        if count["ours"]:
            have = f"{count['ours']} of {count['printed']}"
            rows.append((column.heading, ours, theirs, have, *numbers(count)[2:]))
    headings = ("mean of the cells that both have", "ours", "published", "cells", *NUMBERS[2:])
    return [*table_lines(headings, rows), ""]


def _of_cells(table: Table) -> list[str]:
    layout, shown = table.layout, [cell for cell in table.cells if cell.status != "missing"]
    labels, headings = row_stubs(layout)
    beside = [file for file in table.files if any(file.name in cell.beside for cell in shown)]
    reasons = list(dict.fromkeys(cell.explanation for cell in shown if cell.explanation is not None))
    marks = dict(zip(reasons, string.ascii_lowercase, strict=False))
    rows = [
        (
            *labels[cell.place[0]],
            layout.columns[cell.place[1]].heading,
            *_ours(layout, cell),
            _word(cell, marks),
            *(_other(layout, cell.beside.get(file.name)) for file in beside),
        )
        for cell in shown
    ]
    names = (*headings, "method", "ours", "runs", "published", "difference", "in standard errors", "")
    lines = [*table_lines((*names, *(file.label for file in beside)), rows, texts=len(headings) + 1), ""]
    for reason, mark in marks.items():
        words = f"{reason.words}{REASONS[reason.kind]}"
        lines.append(wrapped(f"{mark}: {words} ([where](../../{reason.place}))", "- ", "  "))
    return [*lines, ""] if marks else lines


def _other(layout: Layout, found: Record | None) -> str:
    if found is None:
        return ""
    some = f" ({found['classes']} classes)" if found["classes"] else ""
    return number(layout, found["ours_mean"], found["ours_std"]) + some


def _ours(layout: Layout, cell: Cell) -> tuple[str, ...]:
    """Ours, runs, published, difference, deviation."""
    theirs, found = printed(layout, cell.record), cell.ours if cell.ours is not None else cell.shortened
    assert found is not None  # or the cell would be missing
    ours = (number(layout, found["ours_mean"], found["ours_std"]), str(found["ours_n"]), theirs)
    if not cell.measured:
        return (*ours, "", "")
    return (*ours, signed(layout, found["difference"]), in_errors(found["deviation"]))


def _word(cell: Cell, marks: Mapping[Explanation, str]) -> str:
    mark = "" if cell.explanation is None else f" <sup>{marks[cell.explanation]}</sup>"
    words = {"within": "within", "outside": "**outside**", "unjudged": "not judged", "part": "some classes"}
    return words.get(cell.status, cell.status) + mark


def _by_class(table: Table) -> list[str]:
    """Our values of each class where the paper prints only averages."""
    layout, comparison = table.layout, table.comparison
    averages = any(row.normal == AVERAGE and layout.normals(row) == (AVERAGE,) for row in layout.rows)
    if comparison is None or not averages:
        return []
    runs = comparison.runs[comparison.runs["value"].notna()]
    lines = ["Class by class, of which the paper prints the average alone:", ""]
    for (dataset, setting), group in runs.groupby(["dataset", "setting"]):
        wide = group.pivot_table(index="normal", columns="column", values="value")
        names = class_names(str(dataset))
        rows = [
            (names.get(str(normal), str(normal)), *("" if math.isnan(v) else number(layout, v) for v in values))
            for normal, *values in sorted(wide.itertuples(), key=lambda row: str(row[0]).zfill(4))
        ]
        methods = [comparison.layout.columns[int(str(j))].heading for j in wide.columns]
        lines += [*table_lines((f"{dataset_heading(str(dataset))}, {setting}", *methods), rows), ""]
    return lines


if __name__ == "__main__":
    PAGES.mkdir(exist_ok=True)
    for path, text in texts().items():
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
            print(path.relative_to(ROOT))
