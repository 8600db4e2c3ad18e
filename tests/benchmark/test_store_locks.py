"""Two runners in one results folder: neither clears away, nor mixes up, what the other is at."""

from __future__ import annotations

import multiprocessing
import threading
from pathlib import Path

from small_grid import write_grid

from adlightning.benchmark.grid import read_grid
from adlightning.benchmark.store import Results, Row

FORK = multiprocessing.get_context("fork")


def test_only_what_nobody_works_in_is_cleared_away(tmp_path: Path) -> None:
    grid = read_grid(write_grid(tmp_path))
    results = Results(tmp_path / "results")
    results.open(grid.cells, grid)
    with results.partial(grid.cells[0]) as at_work:
        left = at_work.with_name(f"{at_work.name}-left")
        (left / "run").mkdir(parents=True)
        other = FORK.Process(target=results.open, args=(grid.cells, grid))
        other.start()
        other.join(60)
        assert other.exitcode == 0
        assert at_work.is_dir()
        assert not left.exists()
    assert sorted(path.name for path in results.folder.iterdir()) == ["cells", "manifest.json", "partial", "runs"]
    assert list((results.folder / "partial").iterdir()) == []


def test_runners_that_end_with_the_same_cell_leave_one_row_and_its_run(tmp_path: Path) -> None:
    grid = read_grid(write_grid(tmp_path))
    cell, results = grid.cells[0], Results(tmp_path / "results")
    results.open(grid.cells, grid)

    def end(number: int) -> None:
        run = results.folder / "partial" / str(number)
        run.mkdir()
        (run / "number").write_text(str(number))
        row: Row = {"status": "done", "error": "", "code": cell.code, "finished": "", "seed_of": number}
        Results(results.folder).write(cell, row, run)

    threads = [threading.Thread(target=end, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    row = results.own_row(cell)
    assert row is not None
    assert (results.folder / "runs" / results.key(cell) / "number").read_text() == str(row["seed_of"])
