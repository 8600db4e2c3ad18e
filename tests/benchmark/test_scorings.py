"""Several scorings of one fit: one fit, a row for each, and the rows that fits of their own would have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from small_grid import write_grid

from adlightning.benchmark.grid import Cell, Grid, read_grid
from adlightning.benchmark.store import Results, Row, read_rows
from adlightning.benchmark.tasks import Task, tasks_of
from adlightning.benchmark.worker import run_task
from adlightning.cli.benchmark import run_verb

OWN = {"method": "goad", "labels": False}
FAR = {**OWN, "variant": "far", "same_fit_as": "", "options": {"model.epsilon": 0.5}}
FLOOR = {**OWN, "variant": "floor", "same_fit_as": "", "options": {"model.distance_floor": 3.0}}


def write_goad(root: Path, *methods: dict[str, Any], name: str = "small") -> Path:
    """A grid of one seed on the small table."""
    file = write_grid(root, methods=list(methods), seeds=1)
    file = file.rename(file.with_stem(name))
    config = yaml.safe_load((root / "configs/deep_sad/own.yaml").read_text())
    config["model"] = {"class_path": "GOAD", "init_args": {"maps": {"number": 4, "dim": 3}}}
    (root / "configs/goad").mkdir(exist_ok=True)
    (root / "configs/goad/own.yaml").write_text(yaml.safe_dump(config))
    return file


def fitted(method: dict[str, Any]) -> dict[str, Any]:
    """The same with a fit of its own."""
    return {key: value for key, value in method.items() if key != "same_fit_as"}


def run(grid: Grid, folder: Path, tasks: list[Task] | None = None, **options: Any) -> list[tuple[Cell, Row]]:
    """Rows in the order in which they came, without the processes of a pool."""
    results = Results(folder)
    results.open(grid.cells, grid)
    tasks = tasks_of(grid.cells) if tasks is None else tasks
    came = [pair for task in tasks for pair in run_task(task, results, run_verb, **options)]
    results.write_rows()
    return came


def variants(came: list[tuple[Cell, Row]]) -> list[str]:
    return [cell.labels["variant"] for cell, _ in came]


def numbers(came: list[tuple[Cell, Row]]) -> dict[str, Any]:
    return {cell.labels["variant"]: (row["status"], row["error"], row["metrics"], row["n_test"]) for cell, row in came}


def test_rows_are_those_of_fits_of_their_own(tmp_path: Path) -> None:
    grid = read_grid(write_goad(tmp_path, FAR, OWN, FLOOR))
    tasks = tasks_of(grid.cells)
    assert len(tasks) == 1
    came = run(grid, tmp_path / "together")
    assert variants(came) == ["", "far", "floor"]
    alone = read_grid(write_goad(tmp_path, OWN, fitted(FAR), fitted(FLOOR), name="alone"))
    assert {cell.config_hash for cell in alone.cells} == {cell.config_hash for cell in grid.cells}
    assert len(tasks_of(alone.cells)) == 3
    separate = run(alone, tmp_path / "alone")
    assert numbers(came) == numbers(separate)
    assert len({str(row["metrics"]) for _, row in came}) > 1
    rows = {row["variant"]: row for row in read_rows(tmp_path / "together/rows.csv")}
    own = rows[""]["key"]
    assert [rows[variant].get("scored_from", "") for variant in ("", "far", "floor")] == ["", own, own]
    assert not list((tmp_path / "together").rglob("*.ckpt"))
    assert len(list((tmp_path / "together/runs").iterdir())) == 3


def test_a_fit_that_is_there_is_not_done_again(tmp_path: Path) -> None:
    grid = read_grid(write_goad(tmp_path, OWN, FAR))
    own, far = grid.cells
    assert variants(run(grid, tmp_path / "results", [Task(own, (far,))], keep_checkpoints=True)) == ["", "far"]
    checkpoint = next((tmp_path / "results").rglob("last.ckpt"))
    written = checkpoint.stat().st_mtime_ns
    [(_, again)] = run(grid, tmp_path / "results", [Task(own, (far,), wanted=False)], keep_checkpoints=True)
    assert again["status"] == "done"
    assert checkpoint.stat().st_mtime_ns == written


def test_a_scoring_alone_gets_its_fit(tmp_path: Path) -> None:
    grid = read_grid(write_goad(tmp_path, OWN, FAR))
    [(cell, row)] = run(grid, tmp_path / "results", tasks_of(grid.cells[1:]))
    assert (cell.labels["variant"], row["status"]) == ("far", "done")


def test_a_fit_that_fails_fails_its_scorings(tmp_path: Path) -> None:
    grid = read_grid(write_goad(tmp_path, OWN, FAR), options={"model.margin": -1.0})
    came = run(grid, tmp_path / "results")
    assert [row["status"] for _, row in came] == ["failed", "failed"]
    assert "margin must not be negative, got -1.0" in came[1][1]["error"]
    assert came[1][1]["error"].startswith("its fit failed: ")


def test_what_training_depends_on_is_no_scoring(tmp_path: Path) -> None:
    other = {**FAR, "options": {"model.margin": 7.0}}
    came = run(read_grid(write_goad(tmp_path, OWN, other)), tmp_path / "results")
    assert [row["status"] for _, row in came] == ["done", "failed"]
    assert "model.margin=7.0 is ignored: the checkpoint was trained with 1" in came[1][1]["error"]


def test_what_a_monitor_selects_by_other_scores_has_a_key_of_its_own(tmp_path: Path) -> None:
    grid = read_grid(write_goad(tmp_path, OWN, FAR), options={"monitor": "val/score_mean"})
    alone = read_grid(write_goad(tmp_path, OWN, fitted(FAR), name="alone"), options={"monitor": "val/score_mean"})
    assert grid.cells[0].config_hash == alone.cells[0].config_hash
    assert grid.cells[1].config_hash != alone.cells[1].config_hash


def write_settings(root: Path, *methods: dict[str, Any]) -> Path:
    file = write_goad(root, *methods)
    content = yaml.safe_load(file.read_text())
    content["settings"] = {"m=1": {}, "m=2": {"model.epsilon": 0.5}, "m=3": {"model.epsilon": 0.7}}
    file.write_text(yaml.safe_dump(content))
    return file


def test_settings_score_the_fit_of_one_of_them(tmp_path: Path) -> None:
    floor = {**OWN, "variant": "floor", "same_fit_as": "", "options": {"model.distance_floor": 3.0}}
    grid = read_grid(write_settings(tmp_path, {**OWN, "same_fit_in": "m=1"}, {**floor, "same_fit_in": "m=1"}))
    own = grid.cells[0]
    assert [cell.fit_of for cell in grid.cells] == [None, *[own] * 5]
    assert [len(task.scored) for task in tasks_of(grid.cells)] == [5]
    assert len({cell.config_hash for cell in grid.cells}) == 6


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ({**OWN, "same_fit_in": "m=4"}, "same_fit_in must be one of settings, got 'm=4' of goad"),
        ({**OWN, "same_fit_in": ["m=1"]}, "same_fit_in must be one of settings, got"),
        (
            {**OWN, "same_fit_in": "m=1", "per_setting": {"m=2": {"data.batch_size": 7}}},
            "only arguments of scores may differ from '' in 'm=1', data does",
        ),
        ({**OWN, "same_fit_in": "m=1", "settings": ["m=2"]}, "same_fit_as of goad must be .* got '' in 'm=1'"),
    ],
)
def test_a_setting_that_has_no_such_fit_is_refused(tmp_path: Path, method: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_grid(write_settings(tmp_path, method))


@pytest.mark.parametrize(
    ("methods", "words"),
    [
        (
            [OWN, {**FAR, "same_fit_as": "near"}],
            "same_fit_as of goad far must be a variant of the method with a",
        ),
        ([OWN, FAR, {**FLOOR, "same_fit_as": "far"}], "same_fit_as of goad floor must be a variant .* got 'far'"),
        ([{**OWN, "same_fit_as": ""}], "same_fit_as of goad must be a variant"),
        ([OWN, {**FAR, "same_fit_as": 3}], "same_fit_as must be a variant of goad, got"),
        (
            [OWN, {**FAR, "options": {"data.batch_size": 7}}],
            "only arguments of scores may differ from '', data does",
        ),
    ],
)
def test_what_is_no_fit_to_score_is_refused(tmp_path: Path, methods: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_grid(write_goad(tmp_path, *methods))
