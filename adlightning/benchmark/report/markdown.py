"""Tables as GitHub Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from adlightning.benchmark.report.grid import Entry, Grid

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$])")


def markdown_report(
    title: str, facts: Sequence[tuple[str, str]], grids: Sequence[Grid], pictures: Mapping[str, str]
) -> str:
    """A page: what was run, the tables, and the pictures (caption by file name)."""
    parts = [f"# {escape(title)}", "\n".join(f"- {name}: {escape(text)}" for name, text in facts)]
    parts += [markdown_table(grid) for grid in grids]
    parts += [f"![{escape(caption)}]({file})\n\n{escape(caption)}" for file, caption in pictures.items()]
    return "\n\n".join(parts) + "\n"


def markdown_table(grid: Grid) -> str:
    """A table with its title, footnotes and remarks."""
    headings = [*(escape(heading) for heading in grid.stub_headings), *(_entry(entry) for entry in grid.headings)]
    rule = [*("---" for _ in grid.stub_headings), *("---:" for _ in grid.headings)]
    lines = [headings, rule]
    lines += [[_entry(entry) for entry in (*line.shown_stub, *line.entries)] for line in grid.lines]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    notes = [f"- <sup>{mark}</sup> {escape(text)}" for mark, text in grid.footnotes.items()]
    notes += [f"- {escape(text)}" for text in grid.remarks]
    parts = [f"## {escape(grid.title)}", escape(grid.caption), table, "\n".join(notes)]
    return "\n\n".join(part for part in parts if part)


def escape(text: str) -> str:
    """Plain text as Markdown: no markup, no new line, no cell border."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _entry(entry: Entry) -> str:
    text = f"**{escape(entry.text)}**" if entry.bold else escape(entry.text)
    return text + (f" <sup>{','.join(entry.marks)}</sup>" if entry.marks else "")
