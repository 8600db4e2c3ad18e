"""A run folder has one owner among processes, is given back by any end, and nothing foreign is removed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import multiprocessing
import os
import signal
from collections.abc import Iterator
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from fits_in_children import run_in_child
from refusals import Capture, refused
from short_fits import slow_but

from adlightning.cli.run_dirs import RunDirClaim
from adlightning.files.locks import folder_locked, lock_folder, unlock

ROOT = Path(__file__).parents[1]
QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
FORK = multiprocessing.get_context("fork")
FIT = ["fit", "--config", str(ROOT / "configs/lof/digits.yaml"), *QUIET, "--plots=false"]


def _compete(run_dir: Path, goes_on: bool, barrier: Barrier) -> None:
    barrier.wait()
    try:
        with RunDirClaim() as claim:
            claim.take(run_dir, goes_on)
            barrier.wait()  # all have tried before the winner ends
        os._exit(0)
    except ValueError:
        barrier.wait()
        os._exit(2)


@pytest.mark.parametrize("there", slow_but(["nothing"], ["nothing", "an empty folder", "a run that goes on"]))
def test_exactly_one_of_several_processes_gets_a_folder(there: str, tmp_path: Path) -> None:
    for attempt in range(10):
        run_dir = tmp_path / str(attempt) / "a" / "run"
        if there != "nothing":
            (run_dir / "checkpoints" if there == "a run that goes on" else run_dir).mkdir(parents=True)
        barrier = FORK.Barrier(4)
        goes_on = there == "a run that goes on"
        processes = [FORK.Process(target=_compete, args=(run_dir, goes_on, barrier)) for _ in range(4)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
        assert sorted(process.exitcode or 0 for process in processes) == [0, 2, 2, 2]
        assert run_dir.is_dir()


@contextlib.contextmanager
def held_by_another(run_dir: Path) -> Iterator[int]:
    """A process that has the folder, with a child of its own such as one that reads images; its id."""
    ready, tell = os.pipe()
    if (holder := os.fork()) == 0:
        RunDirClaim().take(run_dir, goes_on=run_dir.exists())
        if os.fork() == 0:
            os.close(tell)
            signal.pause()
        os.write(tell, b"x")
        signal.pause()
    os.setpgid(holder, holder)
    os.close(tell)
    os.read(ready, 1)
    os.close(ready)
    try:
        yield holder
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(holder, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(holder, 0)


def test_a_killed_process_gives_its_folder_back_though_a_child_of_it_lives(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with held_by_another(run_dir) as holder:
        with pytest.raises(ValueError, match="in use by another run"):
            RunDirClaim().take(run_dir, goes_on=False)
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)
        with RunDirClaim() as claim:
            claim.take(run_dir, goes_on=False)
    assert list(run_dir.iterdir()) == []


def test_a_second_run_is_told_and_touches_nothing(tmp_path: Path, capsys: Capture) -> None:
    run_dir = tmp_path / "run"
    with held_by_another(run_dir):
        refused(capsys, [*FIT, f"--run_dir={run_dir}"], f"run_dir: {run_dir} is in use by another run")
        refused(capsys, [*FIT, f"--run_dir={run_dir}", "--ckpt_path=last"], "is in use by another run")
        assert list(run_dir.iterdir()) == []
    assert run_in_child([*FIT, f"--run_dir={run_dir}"], tmp_path / "log") == 0
    there = {path: path.stat().st_mtime_ns for path in run_dir.rglob("*")}
    with held_by_another(run_dir):
        refused(capsys, [*FIT, f"--run_dir={run_dir}", "--ckpt_path=last"], "is in use by another run")
        for verb in ("test", "predict", "validate"):
            command = [verb, f"--ckpt_path={run_dir}", f"--run_dir={run_dir}", *QUIET]
            refused(capsys, command, "is in use by another run")
    assert {path: path.stat().st_mtime_ns for path in run_dir.rglob("*")} == there


def test_a_failed_run_leaves_no_folder_that_it_made_and_every_other(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "there" / "empty").mkdir(parents=True)
    for run_dir in ("there/a/b/c", "there/empty", "new/a"):
        wrong = [*FIT, f"--run_dir={tmp_path / run_dir}", "--data.normal_class=77"]
        refused(capsys, wrong, "77")
        assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["there", "there/empty"]


def test_a_failed_run_follows_no_link_out_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "other" / "empty").mkdir(parents=True)
    with contextlib.suppress(RuntimeError), RunDirClaim() as claim:
        claim.take(tmp_path / "run", goes_on=False)
        (tmp_path / "run/logs/version_0").mkdir(parents=True)
        (tmp_path / "run/link").symlink_to(tmp_path / "other")
        raise RuntimeError
    assert (tmp_path / "other/empty").is_dir()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["link"]


@pytest.mark.parametrize("what", ["file", "link", "unwritable"])
def test_a_folder_that_cannot_be_made_is_refused(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if what == "file":
        (tmp_path / "x").touch()
    elif what == "link":
        (tmp_path / "x").symlink_to(tmp_path / "nowhere")
    else:
        monkeypatch.setattr(Path, "mkdir", _full)
    with pytest.raises(ValueError, match=r"run_dir: .* cannot be made"):
        RunDirClaim().take(tmp_path / "x" / "run", goes_on=False)


def _full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_file_system_without_locks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.warns(UserWarning, match="has no locks"), RunDirClaim() as claim:
        claim.take(tmp_path / "run", goes_on=False)
    with folder_locked(tmp_path):
        pass


def test_a_folder_that_was_made_anew_is_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever fails removes what it made; who waits for its lock must not work in a folder that is gone."""
    folder, locked = tmp_path / "run", fcntl.flock
    folder.mkdir()

    def removed_meanwhile(descriptor: int, how: int) -> None:
        folder.rmdir()
        locked(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", removed_meanwhile)
    with pytest.raises(FileNotFoundError):
        lock_folder(folder)
    monkeypatch.setattr(fcntl, "flock", locked)
    folder.mkdir()
    unlock(lock_folder(folder))


@pytest.mark.parametrize("name", ["plots", "logs", "checkpoints", "plots/loss.png", "logs/version_1"])
@pytest.mark.parametrize("there", [True, False])
def test_a_run_does_not_go_on_through_a_link_to_elsewhere(name: str, there: bool, tmp_path: Path) -> None:
    run_dir, victim = tmp_path / "run", tmp_path / "victim"
    (run_dir / name).parent.mkdir(parents=True)
    if there:
        victim.mkdir()
    (run_dir / name).symlink_to(victim)
    with (
        RunDirClaim() as claim,
        pytest.raises(ValueError, match=rf"{name} is a link that leads out of it, to .*victim"),
    ):
        claim.take(run_dir, goes_on=True)


def test_a_run_goes_on_with_links_inside_it(tmp_path: Path) -> None:
    run_dir, other = tmp_path / "run", tmp_path / "other.csv"
    (run_dir / "logs" / "run-1").mkdir(parents=True)
    (run_dir / "logs" / "latest").symlink_to("run-1")
    other.write_text("")
    (run_dir / "notes.csv").symlink_to(other)  # a file of the top is replaced, never written through
    with RunDirClaim() as claim:
        claim.take(run_dir, goes_on=True)
