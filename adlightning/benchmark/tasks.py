"""What a process does at a time: a fit, and the rows that come of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from adlightning.benchmark.grid import Cell


@dataclass(frozen=True)
class Task:
    """A fit and the cells that it gives rows for.

    Args:
        trained: the cell whose configuration is fitted.
        scored: cells that score it with other arguments of their scores.
        wanted: whether a row of `trained` itself is wanted.
    """

    trained: Cell
    scored: tuple[Cell, ...] = ()
    wanted: bool = True

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The cells whose rows come of it."""
        return ((self.trained,) if self.wanted else ()) + self.scored


def tasks_of(cells: Iterable[Cell]) -> list[Task]:
    """The fits that these cells need, each once, in the order of the cells."""
    fits: dict[str, list[Cell]] = {}
    for cell in cells:
        fits.setdefault((cell.fit_of or cell).config_hash, []).append(cell)
    tasks = []
    for fit, together in fits.items():
        trained = together[0].fit_of or together[0]
        scored = tuple(cell for cell in together if cell.config_hash != fit)
        tasks.append(Task(trained, scored, len(scored) < len(together)))
    return tasks
