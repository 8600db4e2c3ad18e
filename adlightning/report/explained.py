"""Images that a detector finds anomalous, and where, as one HTML page that needs nothing beside itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from adlightning.report.drawing import Picture
from adlightning.report.grid import Entry, Grid, Line
from adlightning.report.page import Section, html_page


class Explained(NamedTuple):
    """An image of the page.

    Args:
        name: of the image.
        facts: score, threshold, verdict and p-value in words.
        hottest: column and row of the largest value of its map, in pixels of the image.
        png: its picture.
    """

    name: str
    facts: str
    hottest: tuple[int, int]
    png: bytes


def explained_page(title: str, about: Sequence[tuple[str, str]], images: Sequence[Explained]) -> str:
    """The page: what there is to know, a table of the images, and their pictures, the most anomalous first."""
    lines = [
        Line("", (Entry(str(rank)), Entry(each.name)), (Entry(each.facts), Entry("{}, {}".format(*each.hottest))))
        for rank, each in enumerate(images, start=1)
    ]
    grid = Grid(
        id="images",
        title="Images",
        caption="The most anomalous first; below the table each image, where it is anomalous, and what is normal.",
        stub_headings=("", "image"),
        headings=(Entry("score"), Entry("hottest at (column, row)")),
        lines=tuple(lines),
        remarks=("A heat map says where this detector's score comes from. It is no proof of a defect.",),
    )
    pictures = [
        Picture(f"image_{rank:03d}", f"{rank}. {each.name}: {each.facts}", each.png)
        for rank, each in enumerate(images, start=1)
    ]
    return html_page(title, about, [Section(grid, [], pictures)])
