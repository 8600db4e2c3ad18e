"""Which cells of a grid are put together, and why others are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_grid import write_grid

from adlightning.benchmark.configuration import copied, override
from adlightning.benchmark.grid import read_grid
from adlightning.benchmark.packed_losses import LOSSES
from adlightning.benchmark.packing import PACKABLE, Pack, Plan, packed, refusal
from adlightning.benchmark.tasks import tasks_of


def plan(root: Path, size: int = 10, **changes: Any) -> Plan:
    return packed(tasks_of(read_grid(write_grid(root, **changes)).cells), size)


def seeds(part: Any) -> list[int]:
    assert isinstance(part, Pack)
    return [cell.labels["seed"] for cell in part.cells]


def test_cells_of_a_method_that_differ_in_seed_are_together(tmp_path: Path) -> None:
    made = plan(tmp_path, seeds=3)
    assert [{cell.labels["method"] for cell in part.cells} for part in made.work] == [{"deep_svdd"}, {"deep_sad"}]
    assert [seeds(part) for part in made.work] == [[0, 1, 2], [0, 1, 2]]
    assert (made.alone, len(made.together)) == ({}, 6)


def test_large_groups_are_divided_evenly(tmp_path: Path) -> None:
    one = [{"method": "deep_sad"}]
    assert [seeds(part) for part in plan(tmp_path, 4, seeds=9, methods=one).work] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    (tmp_path / "other").mkdir()
    assert [len(seeds(part)) for part in plan(tmp_path / "other", 10, seeds=11, methods=one).work] == [6, 5]


def test_scalars_and_who_is_known_may_differ_and_nothing_else(tmp_path: Path) -> None:
    settings = {
        "a": {"model.eta": 1.0},
        "b": {"model.eta": 2.0, "data.labelled_anomaly_ratio": 0.2},
        "c": {"data.batch_size": 10},
        "d": {"model.encoder.rep_dim": 3},
        "e": {"trainer.max_epochs": 3},
    }
    made = plan(tmp_path, seeds=1, settings=settings, methods=[{"method": "deep_sad"}])
    assert [[cell.labels["setting"] for cell in part.cells] for part in made.work] == [["a", "b"], ["c"], ["d"], ["e"]]
    assert made.alone == {"no other cell is like it": 3}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"trainer.gradient_clip_val": 1.0}, "trainer.gradient_clip_val"),
        ({"trainer.precision": "bf16-mixed"}, "trainer.precision=bf16-mixed"),
        ({"trainer.callbacks": [{"class_path": "EarlyStopping"}]}, "trainer.callbacks"),
        ({"trainer.max_epochs": -1}, "trainer.max_epochs is no number"),
        ({"trainer.logger": "WandbLogger"}, "trainer.logger"),
        ({"monitor": "val/auroc"}, "monitor"),
        ({"model.learn_center": True}, "model.learn_center"),
        ({"model.lr_scheduler_interval": "step"}, "model.lr_scheduler_interval=step"),
        ({"data.train_transforms": [{"class_path": "RandomRotation"}]}, "data.train_transforms"),
        ({"model.class_path": "DROCC"}, "DROCC cannot be packed"),
        ({"model.class_path": "SoftBoundaryDeepSVDD"}, "SoftBoundaryDeepSVDD cannot be packed"),
        ({"trainer.precision": "32-true", "trainer.callbacks": []}, None),
    ],
)
def test_what_cannot_be_packed_says_why(tmp_path: Path, options: dict[str, Any], reason: str | None) -> None:
    config = copied(read_grid(write_grid(tmp_path)).cells[0].config)
    override(config, options)
    assert refusal(config) == reason


def test_every_method_that_is_planned_has_its_losses() -> None:
    assert sorted(PACKABLE) == sorted(cls.__name__ for cls in LOSSES)
