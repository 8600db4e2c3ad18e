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
    LIMIT,
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
from paper_words import (
    NUMBERS,
    anchor,
    bold,
    counted,
    in_errors,
    label,
    means,
    n_cells,
    number,
    numbers,
    own_column,
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
NAMES = {"density_ratio": "Density ratio", "deep_sad": "Deep SAD", "ama": "AMA", "drocc": "DROCC", "adgan": "ADGAN"}


def texts() -> dict[Path, str]:
    """Every file that this script writes."""
    found = {PAGES / f"{paper}.md": _page(paper) for paper in NAMES}
    found[PAGES / "index.md"] = _overview()
    found[README] = filled("papers", README.read_text("utf-8"), lambda _, __: _short_table())
    return found


# ---- the page of a paper --------------------------------------------------------------------------------------------


def _page(paper: str) -> str:
    of_paper = [table for table in tables().values() if table.layout.paper == paper]
    layout = of_paper[0].layout
    lines = [f"# {NAMES[paper]}: ours beside published", ""]
    lines += [wrapped(f"{layout.title} ({layout.venue})."), ""]
    lines += [
        wrapped(
            "Written by `python benchmarks/paper_pages.py` from the rows. [Which rows count, and what a standard error "
            "is here](index.md). A link on a file of rows leads to its own page, with pictures."
        ),
        "",
    ]
    rows = []
    for table in of_paper:
        count = counted(table.cells)
        link = f"[{table_name(table.layout)}](#{anchor(table.layout)})"
        rows.append((link, label(table), *numbers(count)))
    lines += [*table_lines(("", "", *NUMBERS), rows, texts=2), ""]
    for table in of_paper:
        lines += _section(table)
    return "\n".join(lines).rstrip("\n") + "\n"


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
    points += [_of_file(file, bool(layout.runs_of)) for file in table.files]
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


def _of_file(file: File, short: bool) -> str:
    """A file of rows and what was different in it; short where it is described under another table."""
    meaning = {"counts": "our numbers", "beside": f"beside them ({file.label})", "shortened": "shortened"}[file.kind]
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
        guess = " This does not count as explained." if reason.kind == "guess" else ""
        lines.append(wrapped(f"{mark}: {reason.words}{guess} ([where](../../{reason.place}))", "- ", "  "))
    return [*lines, ""] if marks else lines


def _other(layout: Layout, found: Record | None) -> str:
    return "" if found is None else number(layout, found["ours_mean"], found["ours_std"])


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


# ---- all papers -----------------------------------------------------------------------------------------------------

_DEFINITIONS = """\
## What counts

- A *cell* is a number that a paper prints in a table or in its text: {printed} of them are in
  `adlightning/published/*.csv`. {drawn} more are drawn in figures, and are not counted here.
- *Ours* are finished rows of the papers' own tables on the papers' own data, in `docs/results/*.csv`, from
  fits of the whole schedule. `docs/results/explanations.yaml` lists these files. Rows on digits, rows of the
  leaky split, rows with other options than the paper's words, and shortened rows (`*_short`) do not count. Of
  shortened files those methods count that were not shortened. The pages show the others beside ours.
- An average over classes counts when all of its classes have a run.
- *Within* is a difference of at most {limit:.0f} standard errors. The standard error of the difference is
  sqrt(s² / n + S² / N + u² / 12): s and n are sample standard deviation and number of our runs, S and N those
  that the paper prints, and u is the unit of its last digit. Where the paper does not say N, N is 1. Where it
  prints no S, s stands in for it. Where ours is a single run, S stands in for s; where neither is known, the
  cell is *not judged*, and neither are seconds, which depend on the machine. An average over classes in one
  cell (Deep SAD) has the deviation of all its runs, so that classes count as drawn at random. Single runs and
  unknown N make the standard error wider, so that more cells lie within.
- *Explained* is a cell outside for which other rows of ours show why (another split, other options: then these
  rows must lie within two standard errors, or leave at most half of the difference), or where the paper does
  not state what decides it. A guess does not count.
- A table is *reproduced* where at least nine of ten judged cells lie within, *in part* where at least half do,
  else it is *not*. Where fewer than half of them have a number of ours it is *not measured but for* them.
"""


def _drawn(layout: Layout) -> bool:
    return layout.table.startswith("figure")


def _short_table() -> str:
    """The table of the README: a line for each table with a number of ours, and one a paper for all others."""
    rows: list[tuple[str, ...]] = []
    for paper, name in NAMES.items():
        page, empty = f"docs/results/papers/{paper}.md", []
        for table in tables().values():
            layout, own = table.layout, own_column(table.layout)
            if layout.paper != paper or _drawn(layout):
                continue
            all_ours, all_theirs, total = means(table)
            if not total["ours"]:
                empty.append(table)
                continue
            ours, theirs, count = ("", "", Counter[str]()) if own is None else means(table, own)
            method = "" if own is None else f"{layout.columns[own].heading}"
            of_own = f"{count['ours']} of {count['printed']}" if count["printed"] else ""
            of_all = (all_ours, all_theirs, f"{total['ours']} of {total['printed']}")
            link = f"[{name}, {table_name(layout)}]({page}#{anchor(layout)})"
            rows.append((link, label(table).lower(), method, ours, theirs, of_own, *of_all))
        if empty:
            n_printed = sum(len(table.cells) for table in empty)
            names = ", ".join(table_name(table.layout).removeprefix("Table ").lower() for table in empty)
            tail = ("not measured", *[""] * 6, f"0 of {n_printed}")
            rows.append((f"[{name}]({page}), {'Tables' if len(empty) > 1 else 'Table'} {names}", *tail))
    headings = (
        "table",
        "verdict",
        "its method",
        "ours",
        "published",
        "cells",
        "all methods: ours",
        "published",
        "cells",
    )
    return "\n".join(table_lines(headings, rows, texts=3)) + "\n"


def _overview() -> str:
    shown = [table for table in tables().values() if not _drawn(table.layout)]
    drawn = sum(len(table.cells) for table in tables().values() if _drawn(table.layout))
    total = counted(cell for table in shown for cell in table.cells)
    links = ", ".join(f"[{name}]({paper}.md)" for paper, name in NAMES.items())
    lines = ["# The papers' tables, ours beside published", ""]
    lines += [wrapped(f"One page a paper: {links}. What was found in words: [results](../../results.md)."), ""]
    lines += [_DEFINITIONS.format(printed=f"{total['printed']:,}", drawn=drawn, limit=LIMIT)]
    lines += ["## How many", ""]
    rows = [(NAMES[p], *numbers(counted(c for t in shown if t.layout.paper == p for c in t.cells))) for p in NAMES]
    lines += [*table_lines(("", *NUMBERS), [*rows, ("all", *numbers(total))]), ""]
    by_rows = total["explained"] - total["open"]
    text = (
        f"Of {total['printed']:,} printed cells {total['ours']} have a number of ours. "
        f"{total['within']} lie within two standard errors. {total['explained']} lie outside with an explanation: "
        f"{by_rows} by other rows of ours, {total['open']} because the paper leaves open what decides them. "
        f"{total['unexplained']} lie outside without one, {total['unjudged']} cannot be judged. "
        f"{total['single']} of the judged are single runs. Not counted: "
        f"{n_cells(total['part'])} with some of the classes and {total['shortened']} that were only run shortened."
    )
    lines += [wrapped(text), "", "## Means", "", "Means over the cells that both have, of every method with one.", ""]
    means_rows = []
    for table in shown:
        for j, column in enumerate(table.layout.columns):
            ours, theirs, count = means(table, j)
            if count["ours"]:
                layout = table.layout
                link = f"[{NAMES[layout.paper]}, {table_name(layout)}]({layout.paper}.md#{anchor(layout)})"
                have = f"{count['ours']} of {count['printed']}"
                means_rows.append((link, column.heading, ours, theirs, have, *numbers(count)[2:]))
    headings = ("table", "method", "ours", "published", "cells", *NUMBERS[2:])
    lines += table_lines(headings, means_rows, texts=2)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGES.mkdir(exist_ok=True)
    for path, text in texts().items():
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
            print(path.relative_to(ROOT))
