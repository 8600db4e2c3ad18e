"""The whole report as one HTML page that needs nothing beside itself: no script, no font, no picture from elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adlightning.report.drawing import Picture
from adlightning.report.grid import DIFFERENCE, OURS, PAPER, Grid

_WIDTH = 106  # characters of a table on a screen of 1024 pixels, in wide letters


@dataclass(frozen=True)
class Section:
    """A table of the page.

    Args:
        grid: the comparison.
        extras: small tables below it.
        pictures: between them.
    """

    grid: Grid
    extras: Sequence[Grid]
    pictures: Sequence[Picture]


def html_page(title: str, facts: Sequence[tuple[str, str]], sections: Sequence[Section]) -> str:
    """The page; every text is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["base64"] = lambda png: base64.b64encode(png).decode("ascii")
    environment.filters["stub_widths"] = _stub_widths
    template = environment.get_template("page.html.jinja")
    kinds = (OURS, PAPER, DIFFERENCE)
    return template.render(title=title, facts=facts, sections=sections, kinds=kinds, width=_WIDTH)


def _stub_widths(grid: Grid) -> list[int]:
    """Characters of each column of the stub, where the next begins when the table is scrolled below them."""
    return [
        max([len(heading), *(line.stub[i].width for line in grid.lines)])
        for i, heading in enumerate(grid.stub_headings)
    ]
