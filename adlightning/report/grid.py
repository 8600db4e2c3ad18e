"""A table as lines of text, the same for every format: stub, headings, entries, marks, notes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from adlightning.published import Layout, Row, class_names, dataset_heading, metrics, printed_number
from adlightning.report.compare import Comparison
from adlightning.report.footnotes import assign_marks
from adlightning.report.significance import ALPHA, passed_over_remarks

_PADDING = 2
OURS, PAPER, DIFFERENCE = "ours", "paper", "diff"
STAR = "★"
"""Beside the best method where it differs from the second best significantly."""


@dataclass(frozen=True)
class Entry:
    """A piece of text in a table.

    Args:
        text: plain text, to be escaped by the format.
        marks: of footnotes.
        bold: for the best of its row.
        outside: for a difference of more than two standard errors.
    """

    text: str
    marks: tuple[str, ...] = ()
    bold: bool = False
    outside: bool = False

    @property
    def width(self) -> int:
        """Characters with its marks."""
        return len(self.text) + (len(",".join(self.marks)) + 3 if self.marks else 0)


@dataclass(frozen=True)
class Line:
    """A line of a table.

    Args:
        kind: ours, paper or diff, which is then the last of the stub; empty where there is only one kind.
        stub: what stands left of the entries.
        entries: one for each heading.
        block: lines of another block stand apart: those of another data set.
        first: whether it begins a row of the table (which may have a line for ours, paper and difference).
        new_block: whether it begins a block.
    """

    kind: str
    stub: tuple[Entry, ...]
    entries: tuple[Entry, ...]
    block: str = ""
    first: bool = True
    new_block: bool = False

    @property
    def own(self) -> int:
        """How many parts of the stub name the row."""
        return len(self.stub) - bool(self.kind)

    @property
    def shown_stub(self) -> tuple[Entry, ...]:
        """The stub without what the row's first line has said."""
        return self.stub if self.first else (*(Entry("") for _ in self.stub[: self.own]), *self.stub[self.own :])


@dataclass(frozen=True)
class Grid:
    """A table ready to be drawn.

    Args:
        id: a word for anchors and file names.
        title: one line.
        caption: some more; may be empty.
        stub_headings: over the stub.
        headings: over the entries.
        lines: from top to bottom.
        footnotes: text of each mark.
        remarks: what holds for the whole table.
    """

    id: str
    title: str
    caption: str
    stub_headings: tuple[str, ...]
    headings: tuple[Entry, ...]
    lines: tuple[Line, ...]
    footnotes: dict[str, str] = dataclasses.field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def split(self, width: int) -> list[Grid]:
        """The same table in parts no wider than `width` characters, unless one column alone is.

        The first has the caption. Lines with nothing in a part are left out of it.
        """
        parts, start = [], 0
        for size in self._column_sizes(width):
            stop = start + size
            lines = [dataclasses.replace(line, entries=line.entries[start:stop]) for line in self.lines]
            filled = [line for line in lines if any(entry.text != "-" for entry in line.entries)]
            part = dataclasses.replace(self, headings=self.headings[start:stop], lines=grouped(filled))
            parts.append(dataclasses.replace(part, title=f"{self.title} (continued)", caption="") if start else part)
            start = stop
        return parts

    def _column_sizes(self, width: int) -> list[int]:
        stubs = range(len(self.stub_headings))
        stub = sum(
            max(len(self.stub_headings[i]), *(line.stub[i].width for line in self.lines)) + _PADDING for i in stubs
        )
        sizes, used = [0], stub
        for number in range(len(self.headings)):
            needed = self.column_width(number) + _PADDING
            if sizes[-1] and used + needed > width:
                sizes.append(0)
                used = stub
            sizes[-1] += 1
            used += needed
        return sizes

    def column_width(self, number: int) -> int:
        """Characters of a column: its widest entry, or the longest word of its heading, which may wrap."""
        words = [len(word) for word in self.headings[number].text.split()]
        return max([0, *words, *(line.entries[number].width for line in self.lines)])


def grouped(lines: Sequence[Line]) -> tuple[Line, ...]:
    """The lines with `first` and `new_block` set from what stands left of them."""
    found: list[Line] = []
    for line in lines:
        before = found[-1] if found else None
        first = before is None or before.stub[: line.own] != line.stub[: line.own]
        found.append(
            dataclasses.replace(line, first=first, new_block=before is not None and before.block != line.block)
        )
    return tuple(found)


def comparison_grid(comparison: Comparison) -> Grid:
    """The table in the paper's layout, with a line each for ours, the paper's value and the difference."""
    layout, cells = comparison.layout, comparison.cells
    records: dict[tuple[int, int], dict[str, Any]] = {(r["row"], r["column"]): r for r in cells.to_dict("records")}  # type: ignore[misc]
    both = bool((cells["ours_n"] + cells["n_failed"]).any()) and bool(cells["published_mean"].notna().any())
    marks = assign_marks({place: [*r["notes"], *r["published_notes"]] for place, r in records.items()})
    stars = {(int(t["row"]), int(t["first"])) for t in comparison.tests.to_dict("records") if t["significant"]}
    said = {OURS: _all(cells["notes"]), PAPER: _all(cells["published_notes"]), DIFFERENCE: set()}
    said = {kind: {mark for mark, text in marks.texts.items() if text in said[kind]} for kind in said}
    texts = _texts(layout, records, stars)
    row_labels, row_headings = row_stubs(layout)
    shown = sorted({row for row, _ in records})
    columns = [Entry(c.heading, tuple(marks.columns.get(j, ()))) for j, c in enumerate(layout.columns)]
    down: list[tuple[Entry, ...]]
    if layout.transposed:
        across = [_heading(row_labels[i], marks.rows.get(i, ())) for i in shown]
        down, row_headings = [(entry,) for entry in columns], ("method",)
    else:
        across, down = columns, [_stub(row_labels[i], marks.rows.get(i, ())) for i in shown]
    apart = not layout.transposed and (both or len(layout.rows) > len(layout.datasets))
    blocks = [layout.rows[i].dataset for i in shown] if apart else [""] * len(down)
    lines: list[Line] = []
    for d, stub in enumerate(down):
        for kind in (OURS, PAPER, DIFFERENCE):
            places = [(shown[a], d) if layout.transposed else (shown[d], a) for a in range(len(across))]
            entries = tuple(
                _entry(texts.get((*place, kind)), marks.cells.get(place, []), said[kind]) for place in places
            )
            if all(entry.text in ("", "-") for entry in entries):
                continue
            lines.append(
                Line(kind, (*stub, Entry(kind)), entries, blocks[d]) if both else Line("", stub, entries, blocks[d])
            )
    metric = metrics()[layout.metric].heading
    metric = metric[0].upper() + metric[1:]
    unit = {"percent": " in %", "plain": " in seconds" if layout.metric == "seconds" else ""}[layout.scale]
    return Grid(
        id=layout.id,
        title=layout.heading,
        caption=" ".join(
            part for part in (f"{metric}{unit}.", layout.caption, layout.venue and f"{layout.venue}.") if part
        ),
        stub_headings=row_headings + (("",) if both else ()),
        headings=tuple(across),
        lines=grouped(lines),
        footnotes=marks.texts,
        remarks=(*comparison.notes, *_star_note(comparison), *(f"every cell: {text}" for text in marks.everywhere)),
    )


def row_stubs(layout: Layout) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
    """What stands left of each row, and the headings over it; parts that are the same everywhere are left out."""
    settings = [setting_label(layout, row) for row in layout.rows]
    parts = {
        "data": [dataset_heading(row.dataset) for row in layout.rows],
        {"ood": "OOD data"}.get(layout.varies, layout.varies) or "setting": settings,
        "normal class": [class_names(row.dataset).get(row.normal, row.normal) for row in layout.rows],
        "metric": [metrics()[row.metric].heading for row in layout.rows],
    }
    shown = {name: labels for name, labels in parts.items() if len(set(labels)) > 1}
    if len({row.dataset for row in layout.rows}) == 1 and not shown:
        shown = {"data": parts["data"]}
    return list(zip(*shown.values(), strict=True)), tuple(shown)


def setting_label(layout: Layout, row: Row) -> str:
    """The part of a row's setting that varies, or all of it."""
    setting = row.setting or ""
    parts = dict(part.partition("=")[::2] for part in setting.split(";"))
    others = {
        tuple(sorted((dict(p.partition("=")[::2] for p in (r.setting or "").split(";"))).items())) for r in layout.rows
    }
    values = {dict(other).get(layout.varies) for other in others}
    if layout.varies not in parts or len(values) < len(others):
        return setting
    return dataset_heading(parts[layout.varies])


def _texts(
    layout: Layout, records: dict[tuple[int, int], dict[str, Any]], stars: set[tuple[int, int]]
) -> dict[tuple[int, int, str], tuple[str, bool, bool]]:
    """Text of each line of each cell, whether it is the best of its row, and whether a difference stands out."""
    factor = 100.0 if layout.scale == "percent" else 1.0
    counts = [r["ours_n"] for r in records.values() if r["ours_n"]]
    usual = max(counts, key=lambda n: (counts.count(n), n)) if counts else 0
    texts = {}
    for place, r in records.items():
        best = {
            name: _is_best([o for p, o in records.items() if p[0] == place[0]], r, name, layout)
            for name in ("ours", "published")
        }
        ours = _number(r["ours_mean"] * factor, r["ours_std"] * factor, layout.decimals)
        ours += STAR if place in stars else ""
        if r["ours_n"] and (r["ours_n"] != usual or r["ours_n"] == 1 or r["ours_n"] < (layout.n_runs or 0)):
            ours += f" (n={r['ours_n']})"
        ours = f"{ours} ({r['n_failed']} failed)".strip() if r["n_failed"] else ours
        theirs = printed_number(r["published_mean_printed"], layout.scale)
        if r["published_std_printed"]:
            theirs += f"±{printed_number(r['published_std_printed'], layout.scale)}"
        difference = _signed(r["difference"] * factor, layout.decimals) if r["covered"] else ""
        texts[*place, OURS] = (ours, best["ours"], False)
        texts[*place, PAPER] = (theirs + ("?" if r["doubtful"] else ""), best["published"], False)
        outside = r["outside_2se"] is True
        texts[*place, DIFFERENCE] = (difference + ("*" if outside else ""), False, outside)
    return texts


def _number(mean: float, std: float, decimals: int) -> str:
    if math.isnan(mean):
        return ""
    return f"{mean:.{decimals}f}" + ("" if math.isnan(std) else f"±{std:.{decimals}f}")


def _signed(difference: float, decimals: int) -> str:
    """With its sign, which a zero has not."""
    if math.isnan(difference):
        return ""
    text = f"{difference:+.{decimals}f}"
    return text if float(text) else text[1:]


def _is_best(row: list[dict[str, Any]], record: dict[str, Any], name: str, layout: Layout) -> bool:
    mean = f"{name}_mean"
    values = [r[mean] for r in row if not math.isnan(r[mean]) and not (name == "ours" and r["aside"])]
    if len(values) < 2 or math.isnan(record[mean]):
        return False
    lower = metrics()[record["metric"]].lower_is_better
    return bool(record[mean] == (min(values) if lower else max(values)))


def _entry(found: tuple[str, bool, bool] | None, marks: Sequence[str], said: set[str]) -> Entry:
    text, bold, outside = found or ("", False, False)
    return Entry(text or "-", tuple(mark for mark in marks if mark in said) if text else (), bold, outside)


def _all(notes: Iterable[Sequence[str]]) -> set[str]:
    return {text for texts in notes for text in texts}


def _heading(label: Sequence[str], marks: Sequence[str]) -> Entry:
    return Entry(" ".join(part for part in label if part), tuple(marks))


def _stub(label: Sequence[str], marks: Sequence[str]) -> tuple[Entry, ...]:
    return (*map(Entry, label[:-1]), Entry(label[-1], tuple(marks)))


def _star_note(comparison: Comparison) -> tuple[str, ...]:
    if comparison.tests.empty:
        return ()
    note = f"{STAR}: best differs from second best (Wilcoxon signed-rank test, two-sided, alpha = {ALPHA}, uncorrected)"
    return (note, *passed_over_remarks(comparison.layout, comparison.tests))
