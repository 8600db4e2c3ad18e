"""Grids run for real: rows, failures, dying workers, a killed run that goes on; jobs and clusters change nothing."""

from __future__ import annotations

import gc
import json
import re
import shutil
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_grid import write_grid

from adlightning.__main__ import main
from adlightning.benchmark.grid import read_grid
from adlightning.benchmark.pool import Pool, shares_of
from adlightning.benchmark.store import Results, read_rows
from adlightning.benchmark.tasks import tasks_of
from adlightning.benchmark.worker import run_task
from adlightning.cli.benchmark import run_verb
from adlightning.core.shelf import TAKEN


@pytest.fixture
def grid_file(tmp_path: Path) -> Path:
    return write_grid(tmp_path)


def bench(file: Path, results: Path, *options: str) -> int:
    return main(["benchmark", "--config", str(file), "--results", str(results), "--devices=cpu", *options])


def numbers(results: Path) -> dict[tuple[Any, ...], Any]:
    """What a table is made of, by cell."""
    return {
        tuple(row[k] for k in ("dataset", "setting", "method", "variant", "normal", "labelled", "seed")): row["metrics"]
        for row in read_rows(results)
        if row["status"] == "done"
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The small grid, undisturbed, one process."""
    root = tmp_path_factory.mktemp("grid")
    file = write_grid(root)
    assert bench(file, root / "results") == 0
    return file, root / "results"


def test_every_cell_leaves_a_row_and_a_run_folder(whole: tuple[Path, Path]) -> None:
    _, results = whole
    rows = read_rows(results)
    assert [row["method"] for row in rows] == ["deep_svdd", "deep_sad"] * 2
    for row in rows:
        assert (row["status"], row["error"], row["selection"], row["protocol"]) == ("done", "", "none", "clean")
        assert 0 <= row["metrics"]["auroc"] <= 1
        assert row["seconds"]["total"] >= row["seconds"]["fit"] > 0
        assert row["peak_memory_mb"] > 100
        assert row["n_train"] < 70
        assert row["n_test"] == 40
        folder = results / "runs" / f"{row['key']}-{row['code']}"
        assert {"config.yaml", "metrics.json", "scores.csv", "output.log"} <= {path.name for path in folder.iterdir()}
        assert not (folder / "checkpoints").exists()
        assert not (folder / "plots").exists()
    assert list((results / "partial").iterdir()) == []


def test_a_csv_of_rows_reads_as_the_folder_does(whole: tuple[Path, Path]) -> None:
    _, results = whole
    from_folder, from_csv = read_rows(results), read_rows(results / "rows.csv")
    assert from_csv == from_folder


def test_a_cell_is_the_ordinary_fit_of_its_configuration(whole: tuple[Path, Path], tmp_path: Path) -> None:
    _, results = whole
    row = read_rows(results)[1]
    config = results / "runs" / f"{row['key']}-{row['code']}" / "cell.yaml"
    options = ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu", f"--run_dir={tmp_path / 'run'}"]
    assert main(["fit", "--config", str(config), *options]) == 0
    report = json.loads((tmp_path / "run/metrics.json").read_text())
    assert {k: v["value"] for k, v in report["test_sets"]["test"]["metrics"].items()} == row["metrics"]


def test_a_rerun_does_only_what_is_missing(whole: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    file, results = whole
    times = {path: path.stat().st_mtime_ns for path in (results / "cells").iterdir()}
    assert bench(file, results) == 0
    assert "4 cells, 4 done before" in capsys.readouterr().out
    assert bench(file, results, "--seeds=3", "--only=method=deep_sad") == 0
    assert "3 cells, 2 done before" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert len(read_rows(results)) == 5
    (results / "manifest.json").unlink()  # back to the grid of the fixture
    grid = read_grid(file)
    Results(results).open(grid.cells, grid)
    Results(results).write_rows()


def test_a_grid_goes_on_from_a_file_of_rows(
    whole: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, results = whole
    (tmp_path / "rows.csv").write_text((results / "rows.csv").read_text())
    assert bench(file, tmp_path / "other", "--rows-from", str(tmp_path / "rows.csv")) == 0
    assert "4 cells, 4 done before" in capsys.readouterr().out
    assert read_rows(tmp_path / "other") == read_rows(results)


def test_two_jobs_give_the_same_numbers(whole: tuple[Path, Path], tmp_path: Path) -> None:
    file, results = whole
    assert bench(file, tmp_path / "two", "--jobs=2") == 0
    assert numbers(tmp_path / "two") == numbers(results)


def test_a_grid_killed_in_the_middle_goes_on_to_the_same_table(whole: tuple[Path, Path], tmp_path: Path) -> None:
    file, results = whole
    killed = tmp_path / "killed"
    arguments = ["--config", str(file), "--results", str(killed), "--devices=cpu"]
    process = subprocess.Popen([sys.executable, "-m", "adlightning", "benchmark", *arguments], start_new_session=True)
    deadline = time.monotonic() + 120
    while not (killed / "rows.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)  # the parent only: its worker has to notice
    process.wait()
    time.sleep(1)
    n_done = len(list(killed.glob("cells/*.json")))
    assert 0 < n_done < 4
    assert [path for path in (killed / "cells").iterdir() if path.suffix != ".json"] == []
    assert len(read_rows(killed / "rows.csv")) in (n_done - 1, n_done)  # up to date but for what came just then
    assert bench(file, killed) == 0
    assert len(list(killed.glob("cells/*.json"))) == 4
    assert list((killed / "partial").iterdir()) == []
    assert numbers(killed) == numbers(results)


MISBEHAVING = """
import os, signal
from adlightning.methods import DeepSAD

class Dies(DeepSAD):
    def training_step(self, batch, batch_idx):
        os.kill(os.getpid(), signal.SIGKILL)

class Raises(DeepSAD):
    def training_step(self, batch, batch_idx):
        raise RuntimeError("no luck today")
"""


def test_failed_cells_are_rows_and_do_not_stop_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "misbehaving.py").write_text(MISBEHAVING)
    monkeypatch.syspath_prepend(tmp_path)
    methods = [{"method": name} for name in ("raises", "dies", "typo", "refused", "deep_sad")]
    file = write_grid(tmp_path, methods=methods, seeds=1)
    good = yaml.safe_load((tmp_path / "configs/deep_sad/own.yaml").read_text())
    changes: dict[str, dict[str, Any]] = {
        "raises": {"class_path": "misbehaving.Raises"},
        "dies": {"class_path": "misbehaving.Dies"},
        "typo": {"init_args": {"etta": 1}},
        "refused": {"init_args": {**good["model"]["init_args"], "eta": -1}},
    }
    for name, change in changes.items():
        (tmp_path / "configs" / name).mkdir()
        config = good | {"model": good["model"] | change}
        (tmp_path / "configs" / name / "own.yaml").write_text(yaml.safe_dump(config))
    assert bench(file, tmp_path / "results", "--jobs=2") == 1
    rows = {row["method"]: row for row in read_rows(tmp_path / "results")}
    assert {name: row["status"] for name, row in rows.items()} == dict.fromkeys(changes, "failed") | {
        "deep_sad": "done"
    }
    assert rows["raises"]["error"] == "RuntimeError: no luck today"
    assert "SIGKILL" in rows["dies"]["error"]
    assert "etta" in rows["typo"]["error"]
    assert "eta must be positive and finite, got -1" in rows["refused"]["error"]
    assert "1 of 5 cells done, 4 failed, 0 left" in capsys.readouterr().out
    assert {row["method"]: row["status"] for row in read_rows(tmp_path / "results/rows.csv")} == {
        name: row["status"] for name, row in rows.items()
    }


def test_other_options_need_a_results_folder_of_their_own(
    whole: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, _ = whole
    arguments = ["benchmark", "--config", str(file), "--runs", str(tmp_path), "--set", "trainer.max_epochs=1"]
    assert main(arguments) == 2
    assert "give them a results folder of their own" in capsys.readouterr().err
    assert main([*arguments[:-1], "data.num_workers=0", "--dry-run"]) == 0  # changes no result


def test_other_options_take_no_row_off_the_table(
    whole: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, results = whole
    shutil.copytree(results, tmp_path / "results")
    before = (tmp_path / "results/rows.csv").read_bytes()
    arguments = ["benchmark", "--config", str(file), "--results", str(tmp_path / "results"), "--only", "seed=0"]
    assert main([*arguments, "--set", "trainer.max_epochs=1"]) == 2
    n_rows = len(read_rows(results))
    message = capsys.readouterr().err
    assert f"set: {tmp_path / 'results'} holds {n_rows} finished cells of other options" in message
    assert "--results DIR" in message
    assert (tmp_path / "results/rows.csv").read_bytes() == before
    assert len(read_rows(tmp_path / "results")) == n_rows
    assert main([*arguments, "--set", "data.num_workers=0"]) == 0  # changes no result


def test_a_changed_file_leaves_no_rows_of_what_it_was(
    whole: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, results = whole
    shutil.copytree(results, tmp_path / "results")
    file = write_grid(tmp_path, methods=[{"method": "deep_sad", "options": {"model.eta": 5}}])
    assert bench(file, tmp_path / "results", "--only=seed=0", "--max-hours=1e-12") == 1
    assert f"the benchmark file was changed: {len(read_rows(results))} finished cells leave" in capsys.readouterr().out
    assert read_rows(tmp_path / "results") == []  # Deep SVDD is gone, Deep SAD has other options
    assert len(list((tmp_path / "results/cells").iterdir())) == len(list((results / "cells").iterdir()))  # none lost


def test_damaged_files_are_named_and_left_out(whole: tuple[Path, Path], tmp_path: Path) -> None:
    file, results = whole
    shutil.copytree(results, tmp_path / "results")
    for row, text in zip(read_rows(results)[:2], ('{"status": "do', "[]"), strict=True):
        (tmp_path / "results/cells" / f"{row['key']}-{row['code']}.json").write_text(text)
    with pytest.warns(UserWarning, match="is damaged and left out"):
        assert len(read_rows(tmp_path / "results")) == 2
    with pytest.warns(UserWarning, match="is damaged and left out"):
        assert bench(file, tmp_path / "results") == 0
    assert numbers(tmp_path / "results") == numbers(results)
    (tmp_path / "results/manifest.json").write_text("[{")
    with pytest.raises(ValueError, match=r"manifest\.json is damaged"):
        read_rows(tmp_path / "results")


def test_a_failure_never_takes_the_place_of_a_finished_cell(grid_file: Path, tmp_path: Path) -> None:
    results, grid = Results(tmp_path / "results"), read_grid(grid_file)
    cell = grid.cells[0]
    results.open([cell], grid)
    row = {"code": cell.code, "finished": "2026"}
    results.write(cell, row | {"status": "done"})
    results.write(cell, row | {"status": "failed"})
    assert results.rows()[0]["status"] == "done"


@pytest.mark.parametrize("key", ["../../escape", "", "0123"])
def test_rows_of_unknown_origin_are_refused(grid_file: Path, tmp_path: Path, key: str) -> None:
    (tmp_path / "rows.csv").write_text(
        f"key,code,status,paper,table,dataset,method,seed\n{key},01234567,done,deep_sad,6,own,deep_sad,0\n"
    )
    assert bench(grid_file, tmp_path / "results", "--rows-from", str(tmp_path / "rows.csv")) == 2
    assert not list(tmp_path.rglob("*01234567*"))


def test_a_worker_that_dies_between_cells_is_replaced(whole: tuple[Path, Path], tmp_path: Path) -> None:
    file, _ = whole
    grid, done = read_grid(file), []
    results = Results(tmp_path / "results")
    results.open(grid.cells, grid)
    pool = Pool(results, ["cpu"], jobs=2, run_verb=run_verb)

    def kill_the_idle() -> None:
        for worker in pool.workers:
            if worker.task is None:
                worker.process.kill()
                worker.process.join()

    pool.run(tasks_of(grid.cells[:3]), lambda _, row: done.append(row["status"]), kill_the_idle, stop=lambda: False)
    assert done == ["done"] * 3


def test_no_cell_begins_after_max_hours(grid_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(grid_file, tmp_path / "results", "--max-hours=1e-12") == 1
    assert "0 of 4 cells done, 0 failed, 4 left" in capsys.readouterr().out


def test_a_dry_run_changes_nothing(grid_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(grid_file, tmp_path / "results", "--dry-run") == 0
    said = capsys.readouterr().out
    assert "4 of 4 cells to run" in said
    assert "class_path: DeepSVDD" in said
    assert not (tmp_path / "results").exists()


@pytest.mark.slow  # each job is a Python of its own
def test_cluster_jobs_give_the_same_numbers(whole: tuple[Path, Path], tmp_path: Path) -> None:
    file, results = whole
    options = ["--cluster=local", "--jobs=2", "--cluster-option", "timeout_min=5"]
    assert bench(file, tmp_path / "cluster", *options) == 0
    assert numbers(tmp_path / "cluster") == numbers(results)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--devices=cuda:7"], "devices: there is no cuda:7"),
        (["--set", "eta=1"], "set: 'eta=1' must be KEY=VALUE"),
        (["--cluster=local"], "jobs is needed with a cluster"),
        (["--cells-per-job=2"], "cells_per_job and cluster_option are for jobs of a cluster"),
        (["--cluster=local", "--jobs=1", "--cells-per-job=2"], "cells_per_job is for slurm"),
        (["--dry-run", "--rows-from=x.csv"], "give one of them"),
        (["--cluster=local", "--jobs=1", "--cluster-option", "x"], "cluster_option: 'x' must be NAME=VALUE"),
        (["--cluster=local", "--jobs=1", "--cluster-option", "no_such=1"], "cluster: .*no_such"),
        (["--cluster=local", "--max-hours=1"], "max_hours is for processes here"),
    ],
)
def test_bad_options_are_refused_before_anything_runs(
    grid_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert bench(grid_file, tmp_path / "results", *options) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not list((tmp_path / "results").glob("cells/*"))


def test_cells_that_begin_alike_share_their_pretraining(tmp_path: Path) -> None:
    methods = [{"method": name, "variant": "one_class", "labels": False} for name in ("deep_svdd", "deep_sad")]
    file = write_grid(tmp_path, methods=methods, seeds=1)
    assert bench(file, tmp_path / "shared") == 0
    said = [path.read_text() for path in (tmp_path / "shared" / "runs").glob("*/output.log")]
    reports = [path.read_text() for path in (tmp_path / "shared" / "runs").glob("*/metrics.json")]
    assert sum(TAKEN in text for text in said) == sum(TAKEN in text for text in reports) == 1
    assert [bool(row.get("shared_epochs")) for row in read_rows(tmp_path / "shared")].count(True) == 1
    assert len(list((tmp_path / "shared" / "pretraining").iterdir())) == 1
    for method in ("deep_svdd", "deep_sad"):  # each alone has none to find
        assert bench(file, tmp_path / method, "--only", f"method={method}") == 0
        expected = {cell: value for cell, value in numbers(tmp_path / "shared").items() if method in cell}
        assert numbers(tmp_path / method) == expected


def test_what_a_cell_made_is_gone_before_the_next_begins(grid_file: Path, tmp_path: Path) -> None:
    made: list[weakref.ref[Any]] = []

    def run_verb(verb: str, arguments: list[str]) -> None:
        assert all(reference() is None for reference in made)
        trainer, detector = type("Trainer", (), {})(), type("Detector", (), {})()
        trainer.detector, detector.trainer = detector, trainer  # as Lightning's hold each other
        made.append(weakref.ref(detector))
        raise ValueError("no fit")

    grid = read_grid(grid_file)
    cells, results = grid.cells, Results(tmp_path / "results")
    results.open(cells, grid)
    gc.disable()  # else Python may do it by itself
    try:
        rows = [row for task in tasks_of(cells) for _, row in run_task(task, results, run_verb)]
    finally:
        gc.enable()
    assert [row["error"] for row in rows] == ["ValueError: no fit"] * len(cells)
    assert len(made) == len(cells) > 1


@pytest.mark.parametrize(
    ("cores", "jobs", "shares"),
    [(4, 2, [{0, 1}, {2, 3}]), (4, 3, [{0}, {1}, {2, 3}]), (2, 1, [{0, 1}]), (2, 3, [set(), set(), set()])],
)
def test_processes_share_out_the_cores(cores: int, jobs: int, shares: list[set[int]]) -> None:
    assert shares_of(range(cores), jobs) == shares
