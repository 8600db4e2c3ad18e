"""Packs of fits: scores, weights and rows are those of single fits; a cell that fails leaves the others alone."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from small_grid import MODEL, write_grid

from adlightning.__main__ import main
from adlightning.benchmark import packed_fit
from adlightning.benchmark.grid import Cell, Grid, read_grid
from adlightning.benchmark.packed_run import run_pack
from adlightning.benchmark.packing import Pack, packed
from adlightning.benchmark.pool import Pool
from adlightning.benchmark.store import Results, Row, read_rows
from adlightning.benchmark.tasks import tasks_of
from adlightning.benchmark.worker import run_task
from adlightning.checkpoints.loading import load_detector
from adlightning.cli.benchmark import run_verb
from adlightning.core.shelf import TAKEN

CLASSIFIER = {"encoder": MODEL["encoder"], "preprocessing": "StandardizeFeatures"}
IMAGES = {
    "trainer": {"max_epochs": 3},
    "model": {
        "class_path": "DeepSAD",
        "init_args": {
            "encoder": {"class_path": "LeNetEncoder", "init_args": {"conv_channels": [3], "rep_dim": 16}},
            "preprocessing": "UnitRange",
            "pretraining": {"epochs": 1, "transfer": False},
            "eta": 1.0,
        },
    },
    "data": {
        "class_path": "OneVsAll",
        "init_args": {"source": "Digits", "batch_size": 64, "drop_last": False, "validation_fraction": 0.1},
    },
}


def write_config(root: Path, method: str, config: dict[str, Any]) -> None:
    (root / "configs" / method).mkdir(parents=True, exist_ok=True)
    (root / "configs" / method / "own.yaml").write_text(yaml.safe_dump(config))


def write_table(root: Path, method: str, **changes: Any) -> Path:
    """The small grid of one method."""
    file = write_grid(root, **{"methods": [{"method": method}], **changes})
    config = yaml.safe_load((root / "configs/deep_sad/own.yaml").read_text())
    for name, cls in {"cae": "Autoencoder", "supervised": "BinaryClassifier"}.items():
        write_config(root, name, config | {"model": {"class_path": cls, "init_args": CLASSIFIER}})
    return file


def both(grid: Grid, root: Path, **options: Any) -> list[tuple[Cell, Row, Row, Results, Results]]:
    """Each cell with its row from a pack and its row alone."""
    alone, together = Results(root / "alone"), Results(root / "together")
    plan = packed(tasks_of(grid.cells), 10)
    together.open(grid.cells, grid)
    alone.open(grid.cells, grid)
    from_packs: dict[str, Row] = {}
    for pack in plan.work:
        assert isinstance(pack, Pack)
        from_packs |= {cell.config_hash: row for cell, row in run_pack(pack, together, run_verb, **options)}
    single: dict[str, Row] = {}
    for task in tasks_of(grid.cells):
        single |= {cell.config_hash: row for cell, row in run_task(task, alone, run_verb, **options)}
    return [(cell, from_packs[cell.config_hash], single[cell.config_hash], together, alone) for cell in grid.cells]


def scores(results: Results, cell: Cell) -> Any:
    return pd.read_csv(results.run_folder(cell) / "scores.csv")


def require_same(cell: Cell, pack: Row, single: Row, together: Results, alone: Results) -> None:
    """Scores to the accuracy of float32, everything else of a row and a run folder alike."""
    assert (pack["status"], pack["error"]) == (single["status"], single["error"]) == ("done", "")
    theirs, own = scores(together, cell), scores(alone, cell)
    assert theirs.drop(columns="score").equals(own.drop(columns="score"))
    np.testing.assert_allclose(theirs["score"], own["score"], rtol=1e-4, atol=1e-6)
    assert pack["metrics"] == pytest.approx(single["metrics"], abs=1e-3)
    assert pack.keys() - single.keys() == {"packed"}
    changing = {"seconds", "peak_memory_mb", "finished", "metrics", "packed", "shared_epochs"}
    assert {k: v for k, v in pack.items() if k not in changing} == {
        k: v for k, v in single.items() if k not in changing
    }
    folders = [results.run_folder(cell) for results in (together, alone)]
    reports = [json.loads((folder / "metrics.json").read_text()) for folder in folders]
    for key in ("split", "seed", "samples", "epochs", "protocol", "p_values"):
        assert reports[0][key] == reports[1][key]
    assert reports[0]["threshold"]["score"] == pytest.approx(reports[1]["threshold"]["score"], rel=1e-4)
    note = f"trained with {pack['packed'] - 1} others as one batched model (--pack)"
    assert reports[0]["notes"] == [note, *(own for own in reports[1]["notes"] if own != TAKEN)]
    epochs = [pd.read_csv(folder / "epochs.csv") for folder in folders]
    epochs[0] = epochs[0].tail(len(epochs[1])).reset_index(drop=True)  # one that found its first phase has fewer
    pd.testing.assert_frame_equal(epochs[0], epochs[1], rtol=1e-3)
    assert sorted(path.name for path in folders[0].iterdir()) == sorted(path.name for path in folders[1].iterdir())


def test_deep_sad_of_tables_with_several_etas(tmp_path: Path) -> None:
    settings = {"a": {"model.eta": 1.0}, "b": {"model.eta": 50.0, "data.labelled_anomaly_ratio": 0.2}}
    options = {"data.validation_fraction": 0.2, "data.batch_size": 16, "trainer.max_epochs": 4}
    grid = read_grid(write_table(tmp_path, "deep_sad", settings=settings, options=options, seeds=1))
    for cell, pack, single, together, alone in both(grid, tmp_path, keep_checkpoints=True):
        require_same(cell, pack, single, together, alone)
        assert pack["packed"] == 2
        assert pack["seconds"]["total"] > pack["seconds"]["fit"] > 0
        detectors = [load_detector(results.run_folder(cell)) for results in (together, alone)]
        for a, b in zip(detectors[0].parameters(), detectors[1].parameters(), strict=True):
            np.testing.assert_allclose(a.detach(), b.detach(), rtol=1e-3, atol=1e-5)
            assert a.untyped_storage().nbytes() == b.untyped_storage().nbytes()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["cae", "supervised"])
def test_other_methods_of_tables(method: str, tmp_path: Path) -> None:
    options = {"data.labelled_anomaly_ratio": 0.1, "data.batch_size": 16, "data.drop_last": False}
    for compared in both(read_grid(write_table(tmp_path, method, options=options)), tmp_path):
        require_same(*compared)


def test_classes_of_images_whose_last_batches_differ(tmp_path: Path) -> None:
    file = write_grid(tmp_path, methods=[{"method": "deep_sad"}], normal_classes=[0, 1, 5], seeds=1, options={})
    write_config(tmp_path, "deep_sad", IMAGES)
    compared = both(read_grid(file), tmp_path)
    assert len({pack["n_train"] for _, pack, *_ in compared}) > 1
    for each in compared:
        require_same(*each)


@pytest.mark.slow
def test_a_cell_that_takes_other_steps_is_fitted_alone_and_says_why(tmp_path: Path) -> None:
    settings = {"a": {}, "b": {"data.validation_fraction": 0.5}}
    options = {"data.batch_size": 8, "data.labelled_anomaly_ratio": 0.1}
    grid = read_grid(write_table(tmp_path, "deep_svdd", settings=settings, options=options, seeds=1))
    for cell, pack, single, together, alone in both(grid, tmp_path):
        assert pack["alone"] == "no other cell takes as many steps an epoch"
        assert pack["metrics"] == single["metrics"]
        assert scores(together, cell).equals(scores(alone, cell))


@pytest.mark.slow
def test_a_cell_that_diverges_leaves_the_others_alone(tmp_path: Path) -> None:
    settings = {"a": {"model.eta": 1.0}, "b": {"model.eta": 1e38}, "c": {"model.eta": 2.0}, "d": {"data.k": 1}}
    options = {"data.labelled_anomaly_ratio": 0.1, "trainer.max_epochs": 6, "model.optimizer.class_path": "SGD"}
    options |= {"model.optimizer.init_args.lr": 0.01, "model.lr_scheduler": None}
    file = write_table(tmp_path, "deep_sad", settings=settings, options=options, seeds=1)
    compared = both(read_grid(file), tmp_path)
    for cell, pack, single, together, alone in compared:
        if cell.labels["setting"] in ("a", "c"):
            require_same(cell, pack, single, together, alone)
            assert pack["packed"] == 3
        else:  # it diverges, or its fit is refused: an argument that there is not
            assert (pack["status"], single["status"]) == ("failed", "failed")
            assert pack["error"].partition(" (")[0] == single["error"].partition(" (")[0]


@pytest.mark.slow
def test_a_pack_that_breaks_down_becomes_single_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("out of memory")

    grid = read_grid(write_table(tmp_path, "deep_svdd"))
    monkeypatch.setattr(packed_fit._Together, "_gather", broken)
    for cell, pack, single, together, alone in both(grid, tmp_path):
        assert pack["metrics"] == single["metrics"]
        assert "packed" not in pack
        assert scores(together, cell).equals(scores(alone, cell))


def dies_in_a_pack(verb: str, arguments: list[str]) -> None:
    """A verb whose process is killed where it fits with others."""
    if packed_fit.pack_callbacks():
        os.kill(os.getpid(), signal.SIGKILL)
    run_verb(verb, arguments)


@pytest.mark.slow
def test_a_pack_whose_process_dies_becomes_single_fits(tmp_path: Path) -> None:
    grid, done = read_grid(write_table(tmp_path, "deep_svdd")), list[Row]()
    results = Results(tmp_path / "results")
    results.open(grid.cells, grid)
    work = packed(tasks_of(grid.cells), 10).work
    pool = Pool(results, ["cpu"], jobs=1, run_verb=dies_in_a_pack)
    pool.run(work, lambda _, row: done.append(row), lambda: None, stop=lambda: False)
    assert [(row["status"], "packed" in row) for row in done] == [("done", False)] * 2


@pytest.mark.slow
def test_the_verb_says_what_was_packed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_grid(tmp_path, methods=[{"method": "deep_svdd"}, {"method": "deep_sad"}], seeds=2)
    config = yaml.safe_load((tmp_path / "configs/deep_svdd/own.yaml").read_text())
    write_config(tmp_path, "deep_svdd", config | {"trainer": {"max_epochs": 2, "gradient_clip_val": 1.0}})
    arguments = ["benchmark", "--config", str(file), "--results", str(tmp_path / "results"), "--devices=cpu", "--pack"]
    assert main([*arguments, "5"]) == 0
    assert "2 cells trained in packs, 2 alone; 2: trainer.gradient_clip_val" in capsys.readouterr().out
    rows = read_rows(tmp_path / "results")
    assert [row.get("packed") for row in rows] == [None, 2, None, 2]
    for row in rows[1::2]:
        log = tmp_path / "results/runs" / f"{row['key']}-{row['code']}" / "output.log"
        assert "epoch 1/2: train/loss" in log.read_text()
    assert main([*arguments, "1"]) == 2
    assert "pack must be at least 2, the most cells that are trained together, got 1" in capsys.readouterr().err
