"""Numbers, counts, verdicts and tables in Markdown, for benchmarks/paper_pages.py."""

from __future__ import annotations

import math
import re
import statistics
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence

from paper_cells import Cell, Record, Table, by_hand

from adlightning.published import AVERAGE, Layout, printed_number

NAMES = {"density_ratio": "Density ratio", "deep_sad": "Deep SAD", "ama": "AMA", "drocc": "DROCC", "adgan": "ADGAN"}
"""What each paper is called here."""

_WIDTH = 108
_REPRODUCED, _IN_PART = 0.9, 0.5
_LARGEST = 100.0  # deviation that is still printed


def number(layout: Layout, mean: float, std: float = math.nan) -> str:
    """Mean and standard deviation as the table has them."""
    factor = 100.0 if layout.scale == "percent" else 1.0
    text = f"{mean * factor:.{layout.decimals}f}"
    return text if math.isnan(std) else f"{text} ± {std * factor:.{layout.decimals}f}"


def printed(layout: Layout, record: Record) -> str:
    """A published number with its own digits."""
    text = printed_number(record["mean_printed"], layout.scale)
    if record["std_printed"]:
        text += f" ± {printed_number(record['std_printed'], layout.scale)}"
    return text + ("?" if record["doubtful"] else "")


def signed(layout: Layout, difference: float) -> str:
    """A difference with its sign, which a zero has not."""
    text = number(layout, difference)
    return text if text.startswith("-") or not float(text) else f"+{text}"


def in_errors(value: float) -> str:
    """A difference in standard errors; empty where it cannot be said."""
    if math.isnan(value):
        return ""
    return f"{value:+.1f}" if abs(value) < _LARGEST else (f"> {_LARGEST:.0f}" if value > 0 else f"< -{_LARGEST:.0f}")


def counted(cells: Iterable[Cell]) -> Counter[str]:
    """Cells by what came of them; `ours` are all that have a whole number."""
    found: Counter[str] = Counter()
    for cell in cells:
        found[cell.status] += 1
        found["printed"] += 1
        found["ours"] += cell.measured
        found["explained"] += cell.explained
        found["open"] += cell.explained and cell.explanation is not None and cell.explanation.kind == "open"
        found["single"] += cell.status in ("within", "outside") and cell.ours is not None and cell.ours["ours_n"] == 1
    found["unexplained"] = found["outside"] - found["explained"]
    return found


def n_cells(n: int) -> str:
    """A number of cells in words."""
    return f"{n} cell{'' if n == 1 else 's'}"


def standing(table: Table) -> str:
    """What is known of a table: `reproduced`, `in part`, `not`, `only` some cells measured, or `none`."""
    count = counted(table.cells)
    judged = count["within"] + count["outside"]
    if 2 * count["ours"] < count["printed"]:
        return "only" if count["ours"] else "none"
    share = count["within"] / judged if judged else 0.0
    return "reproduced" if share >= _REPRODUCED else "in part" if share >= _IN_PART else "not"


def verdict(table: Table) -> str:
    """A table in a sentence or two: reproduced, in part, not, or not measured."""
    count, own = counted(table.cells), own_column(table.layout)
    judged, rest = count["within"] + count["outside"], []
    if count["part"]:
        rest.append(f"{n_cells(count['part'])} with some of the classes")
    if count["shortened"]:
        rest.append(f"{n_cells(count['shortened'])} shortened")
    more = f" Not counted: {' and '.join(rest)}." if rest else ""
    known = standing(table)
    if known == "none":
        return f"Not measured.{more}"
    have = f"{count['ours']} of {count['printed']} cells"
    lie = f"{count['within']} of {judged} judged cells within two standard errors"
    if count["outside"]:
        lie += f", {count['explained']} outside are explained, {count['unexplained']} not"
    of_own = counted(cell for cell in table.cells if cell.place[1] == own)
    if own is not None and (n_own := of_own["within"] + of_own["outside"]):
        lie += f"; of {table.layout.columns[own].heading} {of_own['within']} of {n_own} within"
    if not judged:
        lie = "none can be judged"
    if known == "only":
        return f"Only {have} measured: {lie}.{more}"
    word = {"reproduced": "Reproduced", "in part": "Reproduced in part", "not": "Not reproduced"}[known]
    return f"{word}: {lie}. {have} have a number of ours.{more}"


def label(table: Table) -> str:
    """The verdict in a few words."""
    return re.sub(" cells?", "", re.split(r"[:.]", verdict(table))[0])


def drawn(layout: Layout) -> bool:
    """Whether the numbers are read from a figure, so that they do not count as printed."""
    return layout.table.startswith("figure")


def wrapped(text: str, first: str = "", then: str = "") -> str:
    """A paragraph, or an item of a list."""
    return textwrap.fill(
        text, _WIDTH, initial_indent=first, subsequent_indent=then, break_long_words=False, break_on_hyphens=False
    )


def table_lines(headings: Sequence[str], rows: Iterable[Sequence[str]], texts: int = 1) -> list[str]:
    """A table in Markdown, whose first `texts` columns are flush left."""
    rules = ["---" if number < texts else "---:" for number in range(len(headings))]
    return [f"| {' | '.join(line)} |" for line in (headings, rules, *rows)]


def table_name(layout: Layout) -> str:
    """`Table 6`, as a heading."""
    if layout.table.isdecimal():
        return f"Table {layout.table}"
    return "Numbers in the text" if layout.table == "text" else layout.table.replace("figure", "Figure ")


def anchor(layout: Layout) -> str:
    """Of that heading."""
    return table_name(layout).lower().replace(" ", "-")


def bold(text: str) -> str:
    """With its first clause in bold."""
    head, mark, rest = re.split(r"([:.])", text, maxsplit=1)
    return f"**{head}{mark}**{rest}"


NUMBERS = ("printed", "ours", "within", "outside, explained", "outside, not", "not judged")


def numbers(count: Counter[str]) -> tuple[str, ...]:
    """The numbers of a count, under `NUMBERS`."""
    names = ("printed", "ours", "within", "explained", "unexplained", "unjudged")
    return tuple(f"{count[name]:,}" for name in names)


def means(table: Table, column: int | None = None) -> tuple[str, str, Counter[str]]:
    """Mean of ours, of the published numbers of the same cells, and the count of cells; of one column or of all.

    Averages over classes are left out where the paper prints the classes. Cells of another metric than the first are
    counted, but are not in the mean.
    """
    layout = table.layout
    cells = [cell for cell in table.cells if column is None or cell.place[1] == column]
    both = [(cell.record, cell.ours) for cell in cells if cell.ours is not None and cell.measured]
    both = [(record, ours) for record, ours in both if not _is_average(layout, ours)]
    both = [(record, ours) for record, ours in both if record["metric"] == both[0][0]["metric"]]
    if not both:
        return "", "", counted(cells)
    ours = statistics.fmean(found["ours_mean"] for _, found in both)
    theirs = statistics.fmean(record["mean"] for record, _ in both)
    return number(layout, ours), number(layout, theirs), counted(cells)


def _is_average(layout: Layout, ours: Record) -> bool:
    return ours["normal"] == AVERAGE and len(layout.normals(layout.rows[ours["row"]])) > 1


def own_column(layout: Layout) -> int | None:
    """The column of the paper's own method, None of a table without one."""
    own = by_hand()["own"]
    heading = own.get(layout.id, own[layout.paper])
    return [column.heading for column in layout.columns].index(heading) if heading else None
