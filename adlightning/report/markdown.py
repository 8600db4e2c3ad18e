"""Tables as GitHub Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from adlightning.report.grid import Entry, Grid, Line

_WIDTH = 120  # characters of a table on the page of a code host, which scrolls what is wider
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$])")


def markdown_report(
    title: str, facts: Sequence[tuple[str, str]], grids: Sequence[Grid], pictures: Mapping[str, str]
) -> str:
    """A page: what was run, the tables, and the pictures (caption by file name)."""
    parts = [f"# {escape(title)}", "\n".join(f"- {name}: {escape(text)}" for name, text in facts)]
    parts += [markdown_table(grid) for grid in grids]
    parts += [f"![{escape(caption)}]({quote(file)})\n\n{escape(caption)}" for file, caption in pictures.items()]
    return "\n\n".join(parts) + "\n"


def markdown_table(grid: Grid) -> str:
    """A table with its title, footnotes and remarks; ours, paper and difference are below each other in one cell."""
    notes = [f"- <sup>{mark}</sup> {escape(text)}" for mark, text in grid.footnotes.items()]
    notes += [f"- {escape(text)}" for text in grid.remarks]
    tables = [_part(part) for part in grid.split(_WIDTH)]
    parts = [f"## {escape(grid.title)}", escape(grid.caption), *tables, "\n".join(notes)]
    return "\n\n".join(part for part in parts if part)


def escape(text: str) -> str:
    """Plain text as Markdown: no markup, no new line, no cell border."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _part(grid: Grid) -> str:
    headings = [*(escape(heading) for heading in grid.stub_headings), *(_entry(entry) for entry in grid.headings)]
    rule = [*("---" for _ in grid.stub_headings), *("---:" for _ in grid.headings)]
    rows = [headings, rule]
    for number, line in enumerate(grid.lines):
        if line.first or not line.kind:
            together = _row(grid.lines[number:])
            rows.append(["<br>".join(_entry(e) for e in entries if e.text) for entries in zip(*together, strict=True)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _row(lines: Sequence[Line]) -> list[tuple[Entry, ...]]:
    """The lines of the row that the first begins."""
    stop = next((i for i, line in enumerate(lines) if i and (line.first or not line.kind)), len(lines))
    return [(*line.shown_stub, *line.entries) for line in lines[:stop]]


def _entry(entry: Entry) -> str:
    """Text that is not wrapped, so that the lines of a row stay side by side."""
    text = escape(entry.text).replace(" ", "\u00a0")
    text = f"**{text}**" if entry.bold else text
    return text + (f"\u00a0<sup>{','.join(entry.marks)}</sup>" if entry.marks else "")
