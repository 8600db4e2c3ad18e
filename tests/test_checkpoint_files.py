"""What of checkpoints is on disk: replaced in one step, removed in the run's own folder only, found after any kill."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import MakeTrainer
from pytorch_lightning.callbacks import ModelCheckpoint, OnExceptionCheckpoint

from adlightning.callbacks.checkpoint_places import place_checkpoints
from adlightning.checkpoints.loading import checkpoint_file, load_detector, was_killed_while_saving
from adlightning.checkpoints.writing import AtomicCheckpointIO
from adlightning.data.labelled import AnomalyLabelled
from adlightning.files.disk import sweep, write_atomically
from adlightning.methods.autoencoder import Autoencoder
from adlightning.networks import MLPEncoder
from adlightning.preprocessing import StandardizeFeatures
from adlightning.testing import Blobs

STEPS = ["fsync", "link", "rename", "replace", "unlink"]


class Killed(BaseException):
    """As by SIGKILL: nothing after it runs."""


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """End before the call number `step` of those that change a folder, and let none after it happen."""
    seen = 0

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def instead(*arguments: Any, **named: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen > step:
                raise Killed
            return call(*arguments, **named)

        return instead

    for name in STEPS:
        monkeypatch.setattr(os, name, counted(getattr(os, name)))


@pytest.mark.parametrize("links", [True, False])
def test_killed_at_any_step_the_last_checkpoint_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    last, before = tmp_path / "last.ckpt", tmp_path / "last-before.ckpt"
    if not links:

        def refuse(*_: Any, **__: Any) -> None:
            raise PermissionError(1, "no hard links here")

        monkeypatch.setattr(Path, "hardlink_to", refuse)
    ended = 0
    for step in range(20):
        for file in tmp_path.iterdir():
            file.unlink()
        write_atomically(last, "1", before)
        write_atomically(last, "2", before)
        with monkeypatch.context() as patched:
            stop_at(patched, step)
            try:
                write_atomically(last, "3", before)
                ended += 1
            except Killed:
                assert last.read_text() in ("2", "3")
                assert before.read_text() in ("1", "2")
        sweep(tmp_path)
        assert {file.name for file in tmp_path.iterdir()} == {"last.ckpt", "last-before.ckpt"}
        write_atomically(last, "4", before)
        assert (last.read_text(), before.read_text()[0] in "23") == ("4", True)
        assert {file.name for file in tmp_path.iterdir()} == {"last.ckpt", "last-before.ckpt"}
    assert ended


def test_only_what_is_ours_is_swept(tmp_path: Path) -> None:
    inside, outside = tmp_path / "run", tmp_path / "outside"
    (inside / "checkpoints").mkdir(parents=True)
    outside.mkdir()
    gone = [".last.ckpt.12.tmp", ".lr_find_0a-1.ckpt", "checkpoints/.best.ckpt.7.tmp"]
    kept = [".hidden", "a.tmp", ".last.ckpt", "checkpoints/last.ckpt", ".x.12.tmp.txt"]
    for name in [*gone, *kept]:
        (inside / name).write_text("")
    (outside / ".last.ckpt.12.tmp").write_text("")
    (inside / "link").symlink_to(outside)
    (inside / ".dir.1.tmp").mkdir()
    sweep(inside)
    assert [name for name in gone if (inside / name).exists()] == []
    assert all((inside / name).exists() for name in [*kept, ".dir.1.tmp"])
    assert (outside / ".last.ckpt.12.tmp").exists()


# ---- what may be removed and written ---------------------------------------------------------------------------------


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    run = tmp_path / "run"
    (run / "checkpoints" / "inner").mkdir(parents=True)
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file.ckpt").write_text("precious")
    (run / "checkpoints" / "link").symlink_to(victim)
    (run / "checkpoints" / "link.ckpt").symlink_to(victim / "file.ckpt")
    (run / "checkpoints" / "folder.ckpt").mkdir()
    (run / "checkpoints" / "text.txt").write_text("precious")
    (run / "other").mkdir()
    (run / "other" / "file.ckpt").write_text("precious")
    return run


OUTSIDE = [
    *("{victim}", "{victim}/file.ckpt", "local://{victim}", "local://{victim}/file.ckpt", "file://{victim}/file.ckpt"),
    *("memory://file.ckpt", "simplecache::file://{victim}/file.ckpt", "{run}/checkpoints/../../victim/file.ckpt"),
    *(
        "{run}/checkpoints/link/file.ckpt",
        "{run}/checkpoints/text.txt",
        "{run}/other/file.ckpt",
        "{run}",
        "",
        "x\0.ckpt",
    ),
]


@pytest.mark.parametrize("path", [*OUTSIDE, "{run}/checkpoints/link.ckpt", "{run}/checkpoints/folder.ckpt"])
def test_nothing_but_a_run_s_plain_checkpoints_is_removed(run_dir: Path, path: str) -> None:
    everything = sorted(run_dir.parent.rglob("*"))
    with pytest.raises(ValueError, match=r"is no plain file|writes and removes \.ckpt files in .*checkpoints only"):
        AtomicCheckpointIO(run_dir).remove_checkpoint(path.format(victim=run_dir.parent / "victim", run=run_dir))
    assert sorted(run_dir.parent.rglob("*")) == everything


@pytest.mark.parametrize("path", OUTSIDE)
def test_nothing_is_written_outside(run_dir: Path, path: str) -> None:
    everything = sorted(run_dir.parent.rglob("*"))
    with pytest.raises(ValueError, match=r"writes and removes \.ckpt files in .*checkpoints only"):
        AtomicCheckpointIO(run_dir).save_checkpoint({}, path.format(victim=run_dir.parent / "victim", run=run_dir))
    assert sorted(run_dir.parent.rglob("*")) == everything
    assert (run_dir.parent / "victim" / "file.ckpt").read_text() == "precious"


@pytest.mark.parametrize("name", ["checkpoints/a.ckpt", "checkpoints/inner/a.ckpt", ".lr_find_1.ckpt"])
def test_its_own_are_written_and_removed(run_dir: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run_dir.parent)
    for path in (run_dir / name, Path("run") / name):
        io = AtomicCheckpointIO(Path("run"))
        io.save_checkpoint({"a": torch.ones(1)}, path)
        assert torch.load(run_dir / name, weights_only=True)["a"] == 1
        io.remove_checkpoint(path)
        assert not (run_dir / name).exists()
        io.remove_checkpoint(path)  # as often as Lightning likes


def test_checkpoints_of_other_callbacks_go_into_the_run_s_folder(run_dir: Path) -> None:
    own = ModelCheckpoint(filename="{epoch}")
    place_checkpoints([own], run_dir)
    assert Path(own.dirpath or "") == run_dir / "checkpoints"
    for callback, words in [
        (ModelCheckpoint(dirpath=run_dir.parent / "victim"), "dirpath must be"),
        (ModelCheckpoint(dirpath=run_dir / "checkpoints" / "link"), "dirpath must be"),
        (ModelCheckpoint(dirpath=run_dir / "checkpoints", filename="best"), "filename must not be best"),
        (ModelCheckpoint(save_last=True), "save_last must be null"),
        (OnExceptionCheckpoint(run_dir.parent / "victim"), "dirpath must be"),
    ]:
        with pytest.raises(ValueError, match=words):
            place_checkpoints([callback], run_dir)
    shutil.rmtree(run_dir / "checkpoints")
    (run_dir / "checkpoints").symlink_to(run_dir.parent / "victim")
    with pytest.raises(ValueError, match="checkpoints only"):
        place_checkpoints([], run_dir)


# ---- which one a path means ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    import pytorch_lightning as pl

    folder = tmp_path_factory.mktemp("trained")
    data = AnomalyLabelled(Blobs(), labelled_anomaly_ratio=0.1, batch_size=64, seed=0)
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, default_root_dir=folder
    )
    trainer.fit(
        Autoencoder(encoder=partial(MLPEncoder, dense=[8], rep_dim=2), preprocessing=StandardizeFeatures),
        datamodule=data,
    )
    trainer.save_checkpoint(folder / "a.ckpt")
    return (folder / "a.ckpt").read_bytes()


@pytest.mark.parametrize("last", ["missing", "empty", "cut"])
@pytest.mark.parametrize("prefer", ["best", "last"])
def test_the_one_before_takes_the_place_of_a_last_one_that_is_none(
    tmp_path: Path, trained: bytes, last: str, prefer: Any
) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / "last-before.ckpt").write_bytes(trained)
    if last != "missing":
        (folder / "last.ckpt").write_bytes(trained[: {"empty": 0, "cut": 2000}[last]])
    with pytest.warns(UserWarning, match="going on from the epoch before"):
        assert checkpoint_file(tmp_path, prefer) == folder / "last-before.ckpt"
    with pytest.warns(UserWarning, match="going on from the epoch before"):
        load_detector(tmp_path)
    assert was_killed_while_saving(tmp_path) == (last == "missing")


def test_where_both_are_refused_the_last_one_is_named(tmp_path: Path, trained: bytes) -> None:
    for name in ("last.ckpt", "last-before.ckpt"):
        (tmp_path / name).write_bytes(trained[:2000])
    with pytest.raises(ValueError, match=r"last\.ckpt is truncated"):
        checkpoint_file(tmp_path)


def test_a_best_one_is_preferred_and_not_replaced(tmp_path: Path, trained: bytes) -> None:
    for name in ("best.ckpt", "last.ckpt"):
        (tmp_path / name).write_bytes(trained)
    assert checkpoint_file(tmp_path).name == "best.ckpt"
    assert checkpoint_file(tmp_path, "last").name == "last.ckpt"
    (tmp_path / "best.ckpt").write_bytes(trained[:2000])  # another one would be another selection
    with pytest.raises(ValueError, match=r"best\.ckpt is truncated"):
        load_detector(tmp_path)


def test_a_whole_last_one_is_taken_without_a_word(
    tmp_path: Path, trained: bytes, recwarn: pytest.WarningsRecorder, make_trainer: MakeTrainer
) -> None:
    for name in ("last.ckpt", "last-before.ckpt"):
        (tmp_path / name).write_bytes(trained)
    assert checkpoint_file(tmp_path).name == "last.ckpt"
    assert not [warning for warning in recwarn if "epoch before" in str(warning.message)]
