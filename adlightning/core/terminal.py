"""What is printed, as it is: paths, names and columns are text, never markup, emoji codes or commands to a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adlightning.core.messages import escaped

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text


def say(text: str) -> None:
    """Print a line, however long and narrow the terminal."""
    print(escaped(text))


def plain(text: str) -> Text:
    """Text for a title, a heading or a cell."""
    from rich.text import Text

    return Text(escaped(text))


def print_table(table: Table) -> None:
    """Print a table whose title, headings and cells are :func:`plain`."""
    from rich.console import Console

    Console().print(table)
