"""What benchmarks/paper_pages.py says of all papers together: the page of all, and the table in the README."""

from __future__ import annotations

from collections import Counter

from paper_cells import LIMIT, tables
from paper_words import (
    NAMES,
    NUMBERS,
    anchor,
    counted,
    drawn,
    label,
    means,
    n_cells,
    numbers,
    own_column,
    standing,
    table_lines,
    table_name,
    wrapped,
)

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
- *Explained* is a cell outside for which other rows of ours show why (another split, other options: then
  these rows must lie within two standard errors, or leave at most half of the difference; a cell says where
  they have some of its classes alone), or where the paper does not state what decides it. A guess does not
  count, and neither does what was tried and explains nothing. Several other settings were tried for most
  columns, and all that were run are shown, so that a cell may match by chance.
- A table is *reproduced* where at least nine of ten judged cells lie within, *in part* where at least half do,
  else it is *not*. Where fewer than half of them have a number of ours, *only* these are *measured*, and that is
  all that is said.
"""

_MEANS = (
    "Means over the cells that both have, as the papers print them: AUROC in %, ADGAN's as a fraction; F1 in DROCC's "
    "Table 2, recall in its text."
)
_COLUMNS = (
    "*Measured* are the printed numbers that have one of ours, of all. *Within* are those that lie within two standard "
    "errors."
)


def in_short() -> str:
    """What came of the tables, and of the papers' own methods, in two sentences."""
    shown = [table for table in tables().values() if not drawn(table.layout)]
    came = Counter(standing(table) for table in shown)
    text = (
        f"Of {len(shown)} tables {came['reproduced']} are reproduced as a whole, {came['in part']} in part, and "
        f"{came['not']} are not. {came['only']} are measured in fewer than half of their cells, {came['none']} not at "
        "all. "
    )
    of_own = []
    for paper, name in NAMES.items():
        own = [(table, own_column(table.layout)) for table in shown if table.layout.paper == paper]
        count = counted(cell for table, column in own for cell in table.cells if cell.place[1] == column)
        judged = count["within"] + count["outside"]
        of_own.append(f"{name} {count['within']} of {judged}" if judged else f"{name} none measured")
    return f"{text}Of the judged cells of the papers' own methods these lie within: {', '.join(of_own)}."


def short_table(folder: str = "docs/results/papers/") -> str:
    """The table of the README: a line for each table with a number of ours, and one a paper for all others.

    Args:
        folder: of the papers' pages, as links have it.
    """
    rows: list[tuple[str, ...]] = []
    for paper, name in NAMES.items():
        page, empty = f"{folder}{paper}.md", []
        for table in tables().values():
            layout, own = table.layout, own_column(table.layout)
            if layout.paper != paper or drawn(layout):
                continue
            all_ours, all_theirs, total = means(table)
            if not total["ours"]:
                empty.append(table)
                continue
            ours, theirs, count = ("", "", Counter[str]()) if own is None else means(table, own)
            method = "" if own is None else f"{layout.columns[own].heading}"
            of_own = (f"{count['ours']} of {count['printed']}", f"{count['within']}") if count["printed"] else ("", "")
            of_all = (all_ours, all_theirs, f"{total['ours']} of {total['printed']}", f"{total['within']}")
            link = f"[{name}, {table_name(layout)}]({page}#{anchor(layout)})"
            rows.append((link, label(table).lower(), method, ours, theirs, *of_own, *of_all))
        if empty:
            n_printed = sum(len(table.cells) for table in empty)
            names = ", ".join(table_name(table.layout).removeprefix("Table ").lower() for table in empty)
            tail = ("not measured", *[""] * 7, f"0 of {n_printed}", "")
            numbered = sum(table_name(table.layout).startswith("Table ") for table in empty)
            rows.append((f"[{name}]({page}), {'Tables' if numbered > 1 else 'Table'} {names}", *tail))
    headings = (
        "table",
        "verdict",
        "its method",
        "ours",
        "published",
        "measured",
        "within",
        "all methods: ours",
        "published",
        "measured",
        "within",
    )
    return "\n".join([wrapped(in_short()), "", *table_lines(headings, rows, texts=3)]) + "\n"


def overview() -> str:
    """The page of all papers: what counts, how many, and every method's mean."""
    shown = [table for table in tables().values() if not drawn(table.layout)]
    n_drawn = sum(len(table.cells) for table in tables().values() if drawn(table.layout))
    total = counted(cell for table in shown for cell in table.cells)
    links = ", ".join(f"[{name}]({paper}.md)" for paper, name in NAMES.items())
    lines = ["# The papers' tables, ours beside published", ""]
    lines += [wrapped(f"One page a paper: {links}. What was found in words: [results](../../results.md)."), ""]
    lines += [_DEFINITIONS.format(printed=f"{total['printed']:,}", drawn=n_drawn, limit=LIMIT)]
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
    lines += [wrapped(text), "", "## Table by table", "", wrapped(f"{_MEANS} {_COLUMNS}"), "", short_table("")]
    lines += ["## Method by method", "", wrapped(f"{_MEANS} Every method that has one."), ""]
    means_rows = []
    for table in shown:
        for j, column in enumerate(table.layout.columns):
            ours, theirs, count = means(table, j)
            if count["ours"]:
                layout = table.layout
                link = f"[{NAMES[layout.paper]}, {table_name(layout)}]({layout.paper}.md#{anchor(layout)})"
                have = f"{count['ours']} of {count['printed']}"
                means_rows.append((link, column.heading, ours, theirs, have, *numbers(count)[2:]))
    headings = ("table", "method", "ours", "published", "measured", *NUMBERS[2:])
    lines += table_lines(headings, means_rows, texts=2)
    return "\n".join(lines) + "\n"
