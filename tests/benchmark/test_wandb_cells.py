"""Cells of a benchmark as W&B runs: found by their table, and the same cells as without W&B."""

from __future__ import annotations

import os
from pathlib import Path

from offline_wandb import OfflineRun
from small_grid import write_grid

from adlightning.benchmark.grid import read_grid
from adlightning.benchmark.store import Results
from adlightning.benchmark.tasks import tasks_of
from adlightning.benchmark.worker import run_task
from adlightning.cli.benchmark import run_verb


def test_cells_are_in_the_group_of_their_table(tmp_path: Path) -> None:
    options = {"trainer.logger": "WandbLogger", "trainer.logger.project": "tables"}
    file = write_grid(tmp_path)
    grid, plain = read_grid(file, 1, options), read_grid(file, 1)
    results = Results(tmp_path / "results")
    results.open(grid.cells, grid)
    for cell, same, tags in zip(grid.cells, plain.cells, ({"deep_svdd", "one_class"}, {"deep_sad"}), strict=True):
        assert (cell.config_hash, cell.code) == (same.config_hash, same.code)
        ((_, row),) = run_task(tasks_of([cell])[0], results, run_verb)  # in one process, as a worker does
        assert row["status"] == "done", row["error"]
        run = OfflineRun(results.run_folder(cell))
        assert run.run.display_name == cell.name
        assert (run.run.run_group, run.run.job_type, run.run.project) == ("deep_sad table 6", "benchmark", "tables")
        assert set(run.run.tags) == {*tags, "own", str(run.summary["detector"]), "table.csv", "seed 0", "clean"}
        assert run.summary["versions/code"] == cell.code
        assert run.summary["test/auroc"] == row["metrics"]["auroc"]
        assert all(Path(entry.local_path).is_file() for entry in run.artifacts["results"].manifest.contents)
    assert "WANDB_DATA_DIR" not in os.environ
