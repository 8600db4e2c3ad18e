"""Tables on a terminal. One wider than the terminal is split by columns, never squeezed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from adlightning.core.terminal import plain
from adlightning.report.grid import OURS, PAPER, Entry, Grid

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_STYLES = {"": "", OURS: "", PAPER: "dim"}


def print_grids(console: Console, grids: Sequence[Grid], facts: Sequence[tuple[str, str]]) -> None:
    """Print what was run, then each table with its footnotes."""
    for name, text in facts:
        console.print(plain(f"{name}: {text}"))
    for grid in grids:
        console.print()
        for part in grid.split(console.width):
            _print_part(console, part)
        for mark, text in grid.footnotes.items():
            console.print(plain(f"[{mark}] {text}"))
        for remark in grid.remarks:
            console.print(plain(remark), style="dim")


def _print_part(console: Console, grid: Grid) -> None:
    from rich import box
    from rich.table import Table

    console.print(plain(grid.title), style="bold")
    if grid.caption:
        console.print(plain(grid.caption))
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for heading in grid.stub_headings:
        table.add_column(plain(heading), no_wrap=True)
    for number, entry in enumerate(grid.headings):
        table.add_column(_text(entry, ""), justify="right", width=grid.column_width(number))
    for line in grid.lines:
        if line.new_block:
            table.add_section()
        style = _STYLES.get(line.kind, "dim italic")
        table.add_row(
            *(_text(entry, style) for entry in line.shown_stub), *(_text(entry, style) for entry in line.entries)
        )
    console.print(table)


def _text(entry: Entry, style: str) -> Text:
    from rich.text import Text

    text = Text(entry.text, style="bold" if entry.bold or entry.outside else style)
    if entry.marks:
        text.append(f" [{','.join(entry.marks)}]", style="cyan")
    return text
