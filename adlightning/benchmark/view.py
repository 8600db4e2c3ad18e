"""How far a benchmark is: cells done, under way, failed, and the time left."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from adlightning.benchmark.grid import Cell
from adlightning.benchmark.store import Row
from adlightning.core.terminal import plain


class Expectation:
    """Seconds that a cell takes, from finished cells: of its method on its data, else of all."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, ...], list[float]] = defaultdict(list)

    def learn(self, labels: dict[str, Any], row: Row) -> None:
        """Take a finished cell into account."""
        if row["status"] == "done":
            for kind in _kinds(labels):
                self._seconds[kind].append(row["seconds"]["total"])

    def seconds(self, cells: Iterable[Cell]) -> float | None:
        """Seconds of all these cells, one after the other; None when nothing is known."""
        total = 0.0
        for cell in cells:
            known = next((self._seconds[kind] for kind in _kinds(cell.labels) if kind in self._seconds), None)
            if known is None:
                return None
            total += sum(known) / len(known)
        return total


def _kinds(labels: dict[str, Any]) -> list[tuple[str, ...]]:
    return [(labels["method"], labels["variant"], labels["dataset"]), (labels["dataset"],), ()]


class Progress:
    """A live view on a terminal; elsewhere a line a finished cell.

    Args:
        cells: what there is to do.
        expectation: what cells take.
        jobs: how many run at a time.
        running: the cells under way with their seconds so far.
    """

    def __init__(
        self,
        cells: list[Cell],
        expectation: Expectation,
        jobs: int,
        running: Callable[[], list[tuple[Cell, float]]],
    ) -> None:
        self.console = Console()
        self.left = {cell.config_hash: cell for cell in cells}
        self.n, self.n_done, self.failures = len(cells), 0, list[str]()
        self.expectation, self.jobs, self.running = expectation, jobs, running
        self.live = Live(console=self.console, auto_refresh=False, transient=True)
        self.started = time.monotonic()

    def __enter__(self) -> Progress:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()

    def finished(self, cell: Cell, row: Row) -> None:
        """Count a cell and say so."""
        self.left.pop(cell.config_hash, None)
        self.expectation.learn(cell.labels, row)
        if row["status"] == "done":
            self.n_done += 1
        else:
            self.failures.append(f"{cell.name}: {row['error']}")
            self._say(f"failed: {self.failures[-1]}", "red")
        if not self.console.is_terminal:
            value = "failed" if row["status"] != "done" else f"AUROC {found}" if (found := _aurocs(row)) else "done"
            line = f"[{self.n_done + len(self.failures)}/{self.n}] {cell.name}: {value}, "
            self._say(line + f"{row['seconds'].get('total', 0):.1f} s; {self._left()} left")

    def _say(self, text: str, style: str = "") -> None:
        self.console.print(plain(text), style=style, soft_wrap=True)

    def watch(self) -> None:
        """Refresh the view."""
        if self.console.is_terminal:
            self.live.update(self._render(), refresh=True)

    def _left(self) -> str:
        spent = {cell.config_hash: seconds for cell, seconds in self.running()}
        total = 0.0
        for cell in self.left.values():
            expected = self.expectation.seconds([cell])
            if expected is None:
                return "unknown time"
            total += max(0.0, expected - spent.get(cell.config_hash, 0.0))
        return duration(total / max(1, min(self.jobs, len(self.left))))

    def _render(self) -> Group:
        running = self.running()
        head = Text.assemble(
            (f"{self.n_done} done", "green"),
            f" of {self.n}, {len(running)} running, ",
            (f"{len(self.failures)} failed", "red" if self.failures else ""),
            f"; {duration(time.monotonic() - self.started)} so far, {self._left()} left",
        )
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        for cell, spent in running:
            table.add_row("running", Text(cell.name), duration(spent))
        for failure in self.failures[-3:]:
            table.add_row("failed", Text(failure, style="red"), "")
        return Group(head, table)


def _aurocs(row: Row) -> str:
    """`0.9871`, or of several test sets `mnist 0.9871, omniglot 0.9982`; empty where nothing was tested."""
    parts = row.get("test_sets", {"": row} if "metrics" in row else {})
    return ", ".join(f"{name} {part['metrics']['auroc']:.4f}".strip() for name, part in parts.items())


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"
