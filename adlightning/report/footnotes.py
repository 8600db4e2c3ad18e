"""Footnotes with as few marks as will do: one that holds for a whole row or column marks its heading."""

from __future__ import annotations

import itertools
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

Place = tuple[int, int]


@dataclass(frozen=True)
class Footnotes:
    """Where the marks go.

    Args:
        texts: text of each mark, in order.
        cells: marks by row and column.
        rows: marks by row.
        columns: marks by column.
        everywhere: texts that hold for every cell, and need no mark.
    """

    texts: dict[str, str] = field(default_factory=dict)
    cells: dict[Place, list[str]] = field(default_factory=dict)
    rows: dict[int, list[str]] = field(default_factory=dict)
    columns: dict[int, list[str]] = field(default_factory=dict)
    everywhere: list[str] = field(default_factory=list)


def assign_marks(notes: Mapping[Place, Sequence[str]]) -> Footnotes:
    """Letters for the texts, in reading order.

    Args:
        notes: texts of every cell, by row and column; an empty list for a cell without.
    """
    found = Footnotes()
    letters = ("".join(pair) for pair in itertools.product(["", *string.ascii_lowercase], string.ascii_lowercase))
    of_row = _members(notes, 0)
    of_column = _members(notes, 1)
    for text in dict.fromkeys(text for place in sorted(notes) for text in notes[place]):
        places = {place for place, texts in notes.items() if text in texts}
        if places == set(notes) and len(notes) > 1:
            found.everywhere.append(text)
            continue
        mark = next(letters)
        found.texts[mark] = text
        by_row = _cover(places, of_row, of_column)
        by_column = _cover(places, of_column, of_row)
        if _size(by_row) <= _size(by_column):
            rows, columns, cells = by_row
        else:
            columns, rows, cells = by_column
        for row in rows:
            found.rows.setdefault(row, []).append(mark)
        for column in columns:
            found.columns.setdefault(column, []).append(mark)
        for place in cells:
            found.cells.setdefault(place, []).append(mark)
    return found


def _members(places: Iterable[Place], axis: int) -> dict[int, set[Place]]:
    members: dict[int, set[Place]] = {}
    for place in places:
        members.setdefault(place[axis], set()).add(place)
    return {line: cells for line, cells in members.items() if len(cells) > 1}


def _cover(
    places: set[Place], first: Mapping[int, set[Place]], second: Mapping[int, set[Place]]
) -> tuple[list[int], list[int], list[Place]]:
    """Whole lines of the first direction, then of the second for what is left, then single cells."""
    lines = [line for line, cells in first.items() if cells <= places]
    left = places - {place for line in lines for place in first[line]}
    others = [line for line, cells in second.items() if cells <= places and cells & left]
    left -= {place for line in others for place in second[line]}
    return lines, others, sorted(left)


def _size(cover: tuple[list[int], list[int], list[Place]]) -> int:
    return sum(len(part) for part in cover)
