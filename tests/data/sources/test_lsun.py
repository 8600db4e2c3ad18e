from __future__ import annotations

import io
import pickle
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from adlightning.data.sources import LSUN, SourceError

needs_lmdb = pytest.mark.skipif(find_spec("lmdb") is None, reason="needs lmdb")


def write(root: Path, folder: str, *values: int, content: bytes | None = None) -> None:
    """A database of photographs in one grey value each, of different sizes."""
    import lmdb

    database = lmdb.open(str(root / folder))
    with database.begin(write=True) as transaction:
        for i, value in enumerate(values):
            buffer = io.BytesIO()
            Image.new("RGB", (40 + i, 30), (value,) * 3).save(buffer, "WEBP", lossless=True)
            transaction.put(f"key{i}".encode(), content or buffer.getvalue())
    database.close()


@needs_lmdb
@pytest.mark.parametrize("budget", [0, 2048])
def test_scenes_are_the_classes_and_photographs_are_resized(tmp_path: Path, budget: int) -> None:
    write(tmp_path, "bedroom_val_lmdb", 10, 20)
    write(tmp_path, "tower_val_lmdb", 30)
    write(tmp_path, "bedroom_train_lmdb", 40)
    source = LSUN(str(tmp_path), scenes=["tower", "bedroom"], resize=(8, 6), memory_budget_mb=budget)
    test, train = source.load("test"), source.load("train")
    assert source.classes == ("tower", "bedroom")
    assert test.y.tolist() == [0, 1, 1]
    assert test.names == ("tower/key0", "bedroom/key0", "bedroom/key1")
    assert train.y.tolist() == [1]
    assert source.input_spec().shape == (3, 8, 6)
    assert isinstance(test.x, torch.Tensor) == (budget > 0)
    # our own object, pickled as a worker process gets it: an open database does not travel
    images = test.x if isinstance(test.x, torch.Tensor) else pickle.loads(pickle.dumps(test.x))
    assert [images[i].unique().tolist() for i in range(3)] == [[30], [10], [20]]
    assert images[0].shape == (3, 8, 6)
    assert images[0].dtype == torch.uint8


@needs_lmdb
def test_a_part_of_the_training_images_is_spread_over_each_database_and_tests_stay_whole(tmp_path: Path) -> None:
    for part in ("train", "val"):
        write(tmp_path, f"bedroom_{part}_lmdb", *range(7))
        write(tmp_path, f"tower_{part}_lmdb", 100, 101)
    source = LSUN(str(tmp_path), scenes=["bedroom", "tower"], resize=4, train_per_scene=3)
    train, test = source.load("train"), source.load("test")
    assert train.names == ("bedroom/key0", "bedroom/key2", "bedroom/key4", "tower/key0", "tower/key1")
    assert len(test.y) == 9


@needs_lmdb
def test_missing_and_damaged_databases_are_named(tmp_path: Path) -> None:
    write(tmp_path, "bedroom_val_lmdb", 10)
    with pytest.raises(SourceError, match="lacks bridge_val_lmdb, church_outdoor_val_lmdb"):
        LSUN(str(tmp_path)).load("test")
    with pytest.raises(SourceError, match="lacks bedroom_train_lmdb"):
        LSUN(str(tmp_path), scenes=["bedroom"]).load("train")
    write(tmp_path, "tower_val_lmdb", 10, content=b"no image")
    with pytest.raises(SourceError, match=r"tower_val_lmdb: b'key0' cannot be read as an image"):
        LSUN(str(tmp_path), scenes=["tower"]).load("test")
    (tmp_path / "kitchen_val_lmdb").mkdir()
    (tmp_path / "kitchen_val_lmdb/data.mdb").write_bytes(np.zeros(9000, np.uint8).tobytes())
    with pytest.raises(SourceError, match="kitchen_val_lmdb cannot be read"):
        LSUN(str(tmp_path), scenes=["kitchen"]).load("test")


def test_the_package_that_it_needs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adlightning.data.sources.lsun.find_spec", lambda name: None)
    with pytest.raises(SourceError, match=r"LSUN needs the package lmdb: pip install 'adlightning\[lsun\]'"):
        LSUN().load("test")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scenes": ["bedroom", "beach"]}, "scenes must be among bedroom, .*, got beach"),
        ({"resize": (3, 0)}, r"resize must be one or two positive numbers, got \(3, 0\)"),
        ({"train_per_scene": 0}, "train_per_scene must be at least 1, or null for all, got 0"),
        ({"memory_budget_mb": -1}, "memory_budget_mb must not be negative, got -1"),
    ],
)
def test_arguments_are_checked_at_once(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LSUN(**arguments)
