"""A full disk, and what else cannot be written: a message with the file's name, and nothing half-written stays."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from refusals import Capture

from adlightning.__main__ import main
from adlightning.cli.loggers import WholeCSVLogger
from adlightning.files.disk import NotWritten, make_folder, remove_made, require_new, write_atomically, write_new

ROOT = Path(__file__).parents[1]
QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]


@contextlib.contextmanager
def full_disk(beyond: int) -> Iterator[None]:
    """No file may grow beyond so many bytes: to the writer, a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (beyond, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fit") / "run"
    short = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--plots=false"]
    assert (
        main(["fit", "--config", str(ROOT / "configs/autoencoder/digits.yaml"), *QUIET, *short, f"--run_dir={folder}"])
        == 0
    )
    return folder


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("digits") / "x.npz"
    np.savez(path, x=np.random.default_rng(0).integers(0, 17, (200, 8, 8)).astype(np.uint8))
    return path


def failed(capsys: Capture, arguments: list[str], *words: str, beyond: int) -> str:
    """What a command says that ends with 1 on a full disk."""
    capsys.readouterr()
    with full_disk(beyond):
        code = main(arguments)
    error = capsys.readouterr().err
    assert code == 1, error
    assert "Traceback" not in error
    assert all(word in error for word in words), error
    return error


# ---- one file -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [write_atomically, write_new])
def test_a_full_disk_leaves_no_part_of_a_file(write: type, tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    if write is write_atomically:
        path.write_text("before")
    with full_disk(1000), pytest.raises(NotWritten, match=r"scores\.csv cannot be written, File too large") as caught:
        write(path, "x" * 5000)
    assert caught.value.errno == errno.EFBIG
    assert [file.read_text() for file in tmp_path.iterdir()] == (["before"] if write is write_atomically else [])


@pytest.mark.parametrize("write", [write_atomically, write_new])
@pytest.mark.parametrize("fault", ["a folder", "no folder", "a file above"])
def test_a_target_that_is_no_more_what_it_was_is_named(write: type, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "above" / "out.csv"
    if fault == "a folder":
        path.mkdir(parents=True)
    elif fault == "a file above":
        path.parent.touch()
    before = list(tmp_path.rglob("*"))
    with pytest.raises(NotWritten, match=r"out\.csv cannot be written, "):
        write(path, "content")
    assert list(tmp_path.rglob("*")) == before


def test_a_file_that_came_meanwhile_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.csv"
    path.write_text("of another command")
    with pytest.raises(NotWritten, match="File exists"):
        write_new(path, "ours")

    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(NotWritten):
        write_new(path, "ours")
    assert path.read_text() == "of another command"
    write_new(tmp_path / "new", "ours")
    assert {file.name for file in tmp_path.iterdir()} == {"out.csv", "new"}


def test_a_name_of_the_greatest_length_is_written(tmp_path: Path) -> None:
    for write, letter in ((write_atomically, "a"), (write_new, "b")):
        write(tmp_path / (letter * 255), "content")
    assert {len(file.name) for file in tmp_path.iterdir()} == {255}


def test_a_link_to_nowhere_is_something_already(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="exists already"):
        require_new(tmp_path / "out")


def test_folders_that_were_made_are_removed_again_but_for_what_holds_something(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    made = make_folder(tmp_path / "there" / "a" / "b")
    assert made == [tmp_path / "there/a", tmp_path / "there/a/b"]
    assert make_folder(tmp_path / "there" / "a" / "b") == []
    (tmp_path / "there/a/file").touch()
    remove_made(made)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "file", "there"]


# ---- commands -------------------------------------------------------------------------------------------------------


def test_score_names_the_file_and_leaves_nothing_of_it(
    run: Path, digits: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "scores.csv"
    score = ["score", f"--ckpt_path={run}", f"--data={digits}", f"--out={out}", f"--plots={tmp_path / 'p/q'}"]
    failed(capsys, score, f"{out} cannot be written, File too large: nothing of it is kept", beyond=1000)
    assert list(tmp_path.iterdir()) == []
    failed(capsys, score, "scores.png cannot be written", beyond=8000)
    assert [path.name for path in tmp_path.rglob("*")] == ["scores.csv"]


@pytest.mark.usefixtures("onnx_parsed_once")
@pytest.mark.parametrize("kind", ["torch", "onnx"])
def test_export_names_the_file_and_leaves_nothing_of_it(kind: str, run: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "model"
    failed(capsys, ["export", f"--ckpt_path={run}", f"--format={kind}", f"--out={out}"], f"{out} cannot", beyond=1000)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["rich", "markdown", "latex", "csv", "html"])
def test_report_names_the_file_and_leaves_nothing_of_it(kind: str, tmp_path: Path, capsys: Capture) -> None:
    report = ["report", "--table=deep_sad_table3", f"--format={kind}", f"--out={tmp_path / 'report'}"]
    failed(capsys, report, "cannot be written, File too large: nothing of it is kept", beyond=1000)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["test", "predict"])
def test_a_run_names_the_file_and_what_it_holds_is_whole(verb: str, run: Path, tmp_path: Path, capsys: Capture) -> None:
    folder, before = tmp_path / "test", {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    command = [verb, f"--ckpt_path={run}", f"--run_dir={folder}", *QUIET]
    words = f"{verb} failed: the disk is full", f"{folder / 'scores.csv'} cannot be written", "checkpoint is as it was"
    failed(capsys, command, *words, beyond=7000)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    assert {path.name for path in folder.iterdir()} <= {"config.yaml", "logs"}


def test_a_picture_that_cannot_be_written_leaves_the_scores(run: Path, tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "test"
    size = (run / "scores.csv").stat().st_size + 100
    command = ["test", f"--ckpt_path={run}", f"--run_dir={folder}", *QUIET]
    failed(capsys, command, "test failed: the disk is full", ".png cannot be written", beyond=size)
    assert (folder / "scores.csv").read_text() == (run / "scores.csv").read_text()
    assert (folder / "metrics.json").is_file()
    assert list(folder.rglob("*.png*")) == []


def test_a_benchmark_that_cannot_begin_leaves_no_folder(tmp_path: Path, capsys: Capture) -> None:
    grid = ROOT / "configs/benchmarks/deep_sad_table6.yaml"
    command = ["benchmark", "--config", str(grid), f"--results={tmp_path / 'a/b'}", "--devices=cpu"]
    failed(capsys, command, f"{tmp_path / 'a/b/manifest.json'} cannot be written", beyond=1000)
    assert list(tmp_path.iterdir()) == []


def test_a_log_of_numbers_that_cannot_grow_stays_as_it_was(tmp_path: Path) -> None:
    logger = WholeCSVLogger(tmp_path, name="logs")
    logger.log_metrics({"a": 1.0}, step=0)
    logger.save()
    before = {file.name: file.read_text() for file in (tmp_path / "logs/version_0").iterdir()}
    for step in range(90):  # fewer than it writes at once by itself
        logger.log_metrics({"b": 2.0}, step=step)
    with full_disk(200), pytest.raises(NotWritten, match=r"logs/version_0/metrics.csv cannot be written"):
        logger.save()
    assert {file.name: file.read_text() for file in (tmp_path / "logs/version_0").iterdir()} == before
    logger.save()
    assert len((tmp_path / "logs/version_0/metrics.csv").read_text().splitlines()) >= 91


def test_what_cannot_be_printed_is_said(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "adlightning", "report", "--table=deep_sad_table6"]
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr == "error: the disk is full, make room: [Errno 28] No space left on device\n"
