"""A cell with several test sets: a row for each, at its place in the published table; one fit, counted once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_grid import write_grid

from adlightning.__main__ import main
from adlightning.benchmark.catalogue import absent_data
from adlightning.benchmark.code import code_version
from adlightning.benchmark.grid import read_grid, read_outline
from adlightning.benchmark.store import Results, read_rows
from adlightning.report.compare import compare
from adlightning.report.extras import overview
from adlightning.report.runs import runs_frame

DATA: dict[str, Any] = {
    "class_path": "OutOfDistribution",
    "init_args": {
        "source": "Digits",
        "normal_class": [0, 1],
        "anomaly_sources": {
            "mnist": {"class_path": "UniformNoise", "init_args": {"n": 100}},
            "omniglot": "Digits",
        },
    },
}


def write_ood_grid(root: Path, **changes: Any) -> Path:
    """Some digits under the name of Fashion-MNIST against noise and all digits, named MNIST and Omniglot; two seeds."""
    defaults: dict[str, Any] = {
        "paper": "ama",
        "table": 1,
        "title": "OOD",
        "options": {"data.validation_fraction": 0.1},
        "datasets": {"fashion_mnist": None},
        "methods": [{"method": "nearest_neighbor"}],
    }
    file = write_grid(root, **{**defaults, **changes})
    config = {"trainer": {"max_epochs": 1}, "model": {"class_path": "NearestNeighbor"}, "data": DATA}
    (root / "configs/nearest_neighbor").mkdir(exist_ok=True)
    (root / "configs/nearest_neighbor/fashion_mnist.yaml").write_text(yaml.safe_dump(config))
    return file


def bench(file: Path, results: Path, *options: str) -> int:
    return main(["benchmark", "--config", str(file), "--results", str(results), "--devices=cpu", *options])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("grid")
    file = write_ood_grid(root)
    assert bench(file, root / "results") == 0
    return file, root / "results"


def test_every_test_set_has_a_row_of_its_own(whole: tuple[Path, Path]) -> None:
    _, results = whole
    rows = read_rows(results)
    assert [(row["seed"], row["test_set"], row["setting"]) for row in rows] == [
        (seed, name, f"ood={name}") for seed in (0, 1) for name in ("mnist", "omniglot")
    ]
    for row in rows:
        report = json.loads((results / "runs" / f"{row['key']}-{row['code']}" / "metrics.json").read_text())
        measured = report["test_sets"][row["test_set"]]["metrics"]
        assert row["metrics"] == {name: entry["value"] for name, entry in measured.items()}
        assert row["n_test"] == 119 + 23  # 20 % of 119
        assert (row["selection"], row["status"]) == ("none", "done")
    assert rows[0]["metrics"] != rows[1]["metrics"]


def test_a_csv_of_rows_reads_as_the_folder_does_and_fills_another(whole: tuple[Path, Path], tmp_path: Path) -> None:
    file, results = whole
    assert read_rows(results / "rows.csv") == read_rows(results)
    assert bench(file, tmp_path / "other", "--rows-from", str(results / "rows.csv")) == 0
    assert read_rows(tmp_path / "other") == read_rows(results)
    assert len(list((tmp_path / "other/cells").iterdir())) == 2


def test_a_rerun_finds_its_cells_done(whole: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    file, results = whole
    assert bench(file, results) == 0
    assert "2 cells, 2 done before" in capsys.readouterr().out


def test_runs_stand_beside_the_published_values(whole: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    _, results = whole
    rows = read_rows(results)
    (comparison,) = compare(runs_frame(rows), [])
    assert comparison.layout.id == "ama_table1"
    own = comparison.cells[comparison.cells["method"] == "nearest_neighbor"]
    assert sorted(own["setting"]) == ["ood=mnist", "ood=omniglot"]
    assert own["ours_n"].tolist() == [2, 2]
    published = comparison.cells[(comparison.cells["method"] == "ama") & (comparison.cells["variant"] == "")]
    means = dict(zip(published["setting"], published["published_mean"], strict=True))
    assert means == {"ood=mnist": 0.987, "ood=omniglot": 0.998}
    assert main(["report", str(results)]) == 0
    assert "0.987" in capsys.readouterr().out


def test_a_fit_counts_once_in_the_overview(whole: tuple[Path, Path]) -> None:
    _, results = whole
    frame = runs_frame(read_rows(results))
    facts = dict(overview(frame, compare(frame, [])))
    assert facts["runs"] == "2 done, 0 failed"
    total = sum(frame.drop_duplicates("seed")["seconds.total"])
    assert facts["computing time"] == f"{total:.0f} s"


def test_a_setting_that_names_the_test_set_stays_as_it_is(tmp_path: Path) -> None:
    only = {"data.anomaly_sources": {"mnist": DATA["init_args"]["anomaly_sources"]["mnist"]}}
    file = write_ood_grid(tmp_path, seeds=1, settings={"ood=mnist": only, "k=1": {}})
    assert bench(file, tmp_path / "results") == 0
    settings = [row["setting"] for row in read_rows(tmp_path / "results")]
    assert sorted(settings) == ["k=1;ood=mnist", "k=1;ood=omniglot", "ood=mnist"]


def test_a_failed_cell_is_a_failed_row_of_every_test_set(tmp_path: Path) -> None:
    file = write_ood_grid(tmp_path, seeds=1, options={"data.anomaly_ratio": 5})
    assert bench(file, tmp_path / "results") == 1
    rows = read_rows(tmp_path / "results")
    assert [(row["status"], row["setting"]) for row in rows] == [("failed", "ood=mnist"), ("failed", "ood=omniglot")]
    assert "595 anomalies are needed, there are 100" in rows[0]["error"]
    assert runs_frame(rows)["error"].map(bool).all()
    assert read_rows(tmp_path / "results/rows.csv")[1]["setting"] == "ood=omniglot"


def test_rows_with_and_without_test_sets_lie_in_one_file(whole: tuple[Path, Path], tmp_path: Path) -> None:
    _, results = whole
    grid = read_grid(write_grid(tmp_path, seeds=1))
    other = Results(tmp_path / "plain")
    other.open(grid.cells, grid)
    plain = {"status": "done", "finished": "2026", "metrics": {"auroc": 0.5}, "n_test": 3}
    other.write(grid.cells[0], plain | {"code": grid.cells[0].code, "error": "", "seconds": {"total": 1.0}})
    lines = (results / "rows.csv").read_text(), other.write_rows().read_text()
    assert ["test_set" in text.splitlines()[0].split(",") for text in lines] == [True, False]
    frame = runs_frame([*read_rows(results), *read_rows(tmp_path / "plain/rows.csv")])
    assert sorted(frame["test_set"]) == ["", "mnist", "mnist", "omniglot", "omniglot"]


def test_absent_anomaly_sources_are_found_with_the_option_that_gets_them(tmp_path: Path) -> None:
    file = write_ood_grid(tmp_path)
    config = tmp_path / "configs/nearest_neighbor/fashion_mnist.yaml"
    data = json.loads(json.dumps(DATA))
    data["init_args"]["anomaly_sources"] = {
        "omniglot": {"class_path": "Omniglot", "init_args": {"root": "nowhere"}},
        "mine": {"class_path": "FlatFolder", "init_args": {"root": "nothing"}},
    }
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | {"data": data}))
    assert absent_data(read_outline(file).configs) == [
        "not here: fashion_mnist (put images into nothing)",
        "not here: fashion_mnist (downloaded with --set data.anomaly_sources.omniglot.download=true)",
    ]


def test_anomaly_sources_count_for_the_code_and_their_place_does_not_for_the_hash() -> None:
    def config(**sources: Any) -> dict[str, Any]:
        return {"data": {"init_args": {"source": "Digits", "anomaly_sources": sources}}}

    assert code_version(config(a="Digits")) != code_version(config(a="UniformNoise"))
    noise = config(a={"class_path": "UniformNoise"})
    assert code_version(config(a="UniformNoise")) == code_version(noise)
