"""What stops a fit from outside: each fault ends in its message and code, and the run folder can be gone on with."""

from __future__ import annotations

import errno
import os
import re
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from fits_in_children import fill_the_disk, interrupt, kill, run_in_child, terminate
from PIL import Image
from short_fits import slow_but

from adlightning.__main__ import main
from adlightning.core.contracts import InputSpec
from adlightning.core.faults import PartSize, explained
from adlightning.core.memory import lacks_memory, memory_is_full
from adlightning.core.stopping import Stopped
from adlightning.data.modules import AnomalyDataModule
from adlightning.methods import ADGAN, Autoencoder
from adlightning.methods.parts.inversion import Inversion, LatentSearch
from adlightning.networks.gan import DCGANGenerator

ROOT = Path(__file__).parents[1]
SHORT = [
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.max_epochs=4",
    "--trainer.limit_train_batches=3",
    "--plots=false",
]
DIGITS = ["fit", "--config", str(ROOT / "configs/autoencoder/digits.yaml"), *SHORT]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    assert run_in_child([*DIGITS, f"--run_dir={folder / 'run'}"], folder / "log") == 0, (folder / "log").read_text()
    return folder / "run"


def goes_on_to_the_same_end(run: Path, whole: Path, log: Path) -> str:
    """What the fit that goes on in `run` says; its scores are those of the undisturbed run."""
    assert run_in_child([*DIGITS, f"--run_dir={run}", "--ckpt_path=last"], log) == 0, log.read_text()
    assert (run / "scores.csv").read_text() == (whole / "scores.csv").read_text()
    return log.read_text()


def test_sigterm_ends_with_its_own_code_and_the_fit_goes_on(tmp_path: Path, whole: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    assert run_in_child([*DIGITS, f"--run_dir={run}"], log, at_batch=7, then=terminate) == 143, log.read_text()
    assert "stopped by SIGTERM in epoch 2" in log.read_text()
    assert "Traceback" not in log.read_text()
    goes_on_to_the_same_end(run, whole, log)


def test_a_full_disk_leaves_the_epoch_before(tmp_path: Path, whole: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    assert run_in_child([*DIGITS, f"--run_dir={run}"], log, at_batch=7, then=fill_the_disk) == 1, log.read_text()
    assert "the disk is full" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert {file.name for file in (run / "checkpoints").iterdir()} == {"last.ckpt", "last-before.ckpt"}
    goes_on_to_the_same_end(run, whole, log)


def test_ctrl_c_ends_with_its_own_code_and_says_how_the_fit_goes_on(tmp_path: Path, whole: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    assert run_in_child([*DIGITS, f"--run_dir={run}"], log, at_batch=7, then=interrupt) == 130, log.read_text()
    assert "stopped by Ctrl-C in epoch 2. What the run folder holds is whole" in log.read_text()
    assert f"--run_dir {run} --ckpt_path last" in log.read_text()
    assert "Traceback" not in log.read_text()
    goes_on_to_the_same_end(run, whole, log)


@pytest.mark.parametrize("stop", [interrupt, terminate])
def test_a_stop_before_the_first_epoch_is_over_leaves_nothing_to_go_on_from(
    stop: Callable[[], None], tmp_path: Path
) -> None:
    run, log = tmp_path / "a" / "run", tmp_path / "log"
    code = run_in_child([*DIGITS, f"--run_dir={run}"], log, at_batch=1, then=stop)
    assert code == (130 if stop is interrupt else 143), log.read_text()
    assert "in epoch 0. There is no whole epoch yet" in log.read_text()


def test_a_stop_without_checkpoints_says_that_none_are_kept(tmp_path: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    fit = [*DIGITS, "--trainer.enable_checkpointing=false", f"--run_dir={run}"]
    assert run_in_child(fit, log, at_batch=7, then=interrupt) == 130, log.read_text()
    kept_none = "in epoch 2. trainer.enable_checkpointing is false, so no epoch is kept: the same command begins anew"
    assert kept_none in log.read_text()


def test_a_stop_while_data_are_loaded_leaves_no_folder(tmp_path: Path) -> None:
    log = tmp_path / "log"
    fit = [*DIGITS, f"--run_dir={tmp_path / 'a/run'}"]
    assert run_in_child(fit, log, first=partial(stopped_at_setup, interrupt)) == 130, log.read_text()
    assert "stopped by Ctrl-C" in log.read_text()
    assert not (tmp_path / "a").exists()


def stopped_at_setup(stop: Callable[[], None]) -> None:
    AnomalyDataModule.setup = lambda *_, **__: stop()  # type: ignore[method-assign]


def stopped_at_test(stop: Callable[[], None]) -> None:
    Autoencoder.test_step = lambda *_, **__: stop()  # type: ignore[method-assign]


def stopped_with_its_readers() -> None:
    try:
        raise Stopped(signal.SIGTERM)
    finally:
        raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Terminated.")


def test_a_signal_that_ends_the_readers_too_is_no_dead_reader() -> None:
    with pytest.raises(Stopped) as caught, explained(str):
        stopped_with_its_readers()
    assert caught.value.code == 143


def test_ctrl_c_in_the_test_says_that_the_detector_is_trained(tmp_path: Path, whole: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    fit = [*DIGITS, f"--run_dir={run}"]
    assert run_in_child(fit, log, first=partial(stopped_at_test, interrupt)) == 130, log.read_text()
    assert f"while scoring. The detector is trained and kept: adlightning test --ckpt_path {run}" in log.read_text()
    test = ["test", f"--ckpt_path={whole}", f"--run_dir={tmp_path / 'test'}", *SHORT[:3]]
    assert run_in_child(test, log, first=partial(stopped_at_test, interrupt)) == 130, log.read_text()
    assert "stopped by Ctrl-C while scoring. What" in log.read_text()
    assert "holds is whole. The checkpoint is as it was" in log.read_text()


def test_a_log_gets_a_line_an_epoch(tmp_path: Path, whole: Path) -> None:
    lines = [line for line in (whole.parent / "log").read_text().splitlines() if line.startswith("epoch ")]
    assert [line.partition(":")[0] for line in lines] == [f"epoch {n}/4" for n in range(1, 5)]
    for line in lines:
        assert re.fullmatch(r"epoch \d/4: train/loss [\d.e-]+, (val/\w+ [\d.e-]+, )+[\d.]+ s", line), line


@pytest.mark.parametrize("size", slow_but([5000], [0, 100, 5000]))
def test_a_truncated_checkpoint_falls_back_to_the_one_before(tmp_path: Path, whole: Path, size: int) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    assert run_in_child([*DIGITS, f"--run_dir={run}"], log, at_batch=10, then=kill) == -9, log.read_text()
    last = run / "checkpoints/last.ckpt"
    last.write_bytes(last.read_bytes()[:size])
    said = goes_on_to_the_same_end(run, whole, log)
    assert "going on from the epoch before" in said
    assert "last-before.ckpt" in said


def test_a_fit_whose_every_checkpoint_is_broken_is_refused(tmp_path: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    assert run_in_child([*DIGITS, f"--run_dir={run}"], log, at_batch=10, then=kill) == -9, log.read_text()
    for file in (run / "checkpoints").iterdir():
        file.write_bytes(b"")
    assert run_in_child([*DIGITS, f"--run_dir={run}", "--ckpt_path=last"], log) == 2
    assert "last.ckpt is truncated" in log.read_text()


# ---- images that are read while training ----------------------------------------------------------------------------


@pytest.fixture
def images(tmp_path: Path) -> Path:
    root, rng = tmp_path / "images", np.random.default_rng(0)
    for part, n in {"train/normal": 40, "test/normal": 4, "test/anomaly": 4}.items():
        (root / part).mkdir(parents=True)
        for i in range(n):
            Image.fromarray(rng.integers(0, 255, (16, 16), dtype=np.uint8)).save(root / part / f"{i:02}.png")
    return root


def folder_fit(images: Path, run: Path, workers: int) -> list[str]:
    lazy = ["--data.memory_budget_mb=0", f"--data.num_workers={workers}", "--data.batch_size=8"]
    config = str(ROOT / "configs/autoencoder/folder.yaml")
    return [
        "fit",
        "--config",
        config,
        f"--data.root={images}",
        "--model.encoder.conv_channels=[8,4]",
        *lazy,
        *SHORT,
        f"--run_dir={run}",
    ]


def damage(images: Path) -> None:
    for file in (images / "train/normal").iterdir():
        file.write_bytes(file.read_bytes()[:60])


@pytest.mark.parametrize("workers", slow_but([1], [0, 1]))
def test_an_image_that_cannot_be_read_any_more_is_named(images: Path, tmp_path: Path, workers: int) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    kept = {file: file.read_bytes() for file in (images / "train/normal").iterdir()}
    fit = folder_fit(images, run, workers)
    assert run_in_child(fit, log, at_batch=7, then=partial(damage, images)) == 2, log.read_text()
    said = log.read_text()
    assert "images/train/normal/" in said.replace(os.sep, "/")
    assert "Traceback" not in said
    for file, content in kept.items():
        file.write_bytes(content)
    assert run_in_child([*fit, "--ckpt_path=last"], log) == 0, log.read_text()


@pytest.mark.parametrize("workers", slow_but([1], [0, 1]))
def test_images_that_are_read_while_predicting_get_the_scores_of_the_test(
    images: Path, tmp_path: Path, workers: int
) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    assert run_in_child(folder_fit(images, run, workers), log) == 0, log.read_text()
    predict = ["predict", f"--ckpt_path={run}", f"--run_dir={tmp_path / 'predict'}", *SHORT[:3]]
    assert run_in_child(predict, log) == 0, log.read_text()
    assert (tmp_path / "predict/scores.csv").read_text() == (run / "scores.csv").read_text()


def kill_the_readers() -> None:
    import multiprocessing

    for child in multiprocessing.active_children():
        child.kill()


def test_a_reader_that_dies_is_no_hang(images: Path, tmp_path: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    fit = folder_fit(images, run, workers=1)
    assert run_in_child(fit, log, at_batch=3, then=kill_the_readers) == 1, log.read_text()
    assert "a process that reads images (data.num_workers) died" in log.read_text()
    # torch raises it from a signal's handler, in whatever Python is at: of a finaliser Python says that it is ignored
    ignored = re.compile(r"Exception ignored in.*?\nRuntimeError: DataLoader worker[^\n]*\n", re.DOTALL)
    assert "Traceback" not in ignored.sub("", log.read_text())
    assert run_in_child([*fit, "--ckpt_path=last"], log) == 0, log.read_text()


# ---- memory ---------------------------------------------------------------------------------------------------------


def no_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def no_memory_of_torch() -> None:
    torch.empty(2**50)


def no_memory_of_numpy() -> None:
    np.empty(2**50)


LACKS: list[Callable[[], None]] = [no_memory, no_memory_of_torch, no_memory_of_numpy]


@pytest.mark.parametrize("lack", LACKS)
def test_what_libraries_raise_for_a_lack_of_memory_is_known(lack: Callable[[], None]) -> None:
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        lack()
    assert lacks_memory(caught.value)
    assert memory_is_full(caught.value).startswith("memory is full (")


@pytest.mark.parametrize(
    ("error", "lacking"),
    [
        (MemoryError(), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (RuntimeError("Caught _ArrayMemoryError in DataLoader worker process 0."), True),
        (RuntimeError("unable to mmap 512 bytes from file </torch_1>: Cannot allocate memory (12)"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (ValueError("data: there is no file out of memory.csv"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_a_lack_of_memory_is_told_from_other_errors(error: Exception, lacking: bool) -> None:
    assert lacks_memory(error) is lacking


@pytest.mark.parametrize("lack", LACKS[1:])
def test_on_a_cpu_too_smaller_parts_are_tried(lack: Callable[[], None]) -> None:
    tried: list[int] = []

    def work(n: int) -> int:
        tried.append(n)
        if n > 3:
            lack()
        return n

    with pytest.warns(UserWarning, match="data.eval_batch_size is 2 now"):
        assert PartSize("data.eval_batch_size").run(work, 10) == 2
    assert tried == [10, 5, 2]


def test_a_network_that_does_not_fit_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "a" / "run"
    assert main([*DIGITS, "--model.encoder.conv_channels=[10000000000000, 4]", f"--run_dir={run}"]) == 1
    error = capsys.readouterr().err
    assert "training failed: memory is full" in error
    assert "Traceback" not in error
    assert not run.parent.exists()


def test_a_lack_of_memory_in_score_and_export_is_one_message(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_little(*_: object) -> None:
        np.empty(2**50)

    np.savez(tmp_path / "x.npz", x=np.zeros((3, 8, 8), np.uint8))
    monkeypatch.setattr(Autoencoder, "anomaly_score", too_little)
    out = tmp_path / "out"
    for verb in (["score", f"--data={tmp_path / 'x.npz'}"], ["export", "--format=torch"]):
        assert main([*verb, f"--ckpt_path={whole}", f"--out={out}"]) == 1
        assert "error: memory is full (Unable to allocate" in capsys.readouterr().err
    assert not out.exists()


def test_too_little_memory_in_training_says_what_to_lower(tmp_path: Path, whole: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    assert run_in_child([*DIGITS, f"--run_dir={run}"], log, at_batch=7, then=no_memory) == 1, log.read_text()
    assert "memory is full (CUDA out of memory. Tried to allocate 20.00 GiB.): lower data.batch_size" in log.read_text()
    assert "Traceback" not in log.read_text()
    goes_on_to_the_same_end(run, whole, log)


def test_scores_are_the_same_when_memory_holds_but_a_few_samples(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored, sizes = Autoencoder.anomaly_score, []

    def too_little_memory(self: Autoencoder, x: torch.Tensor) -> torch.Tensor:
        sizes.append(len(x))
        if len(x) > 70:
            no_memory()
        return scored(self, x)

    monkeypatch.setattr(Autoencoder, "anomaly_score", too_little_memory)
    options = ["--data.eval_batch_size=256", "--plots=false", *SHORT[:3]]
    with pytest.warns(UserWarning, match="data.eval_batch_size is 64 now"):
        assert main(["test", f"--ckpt_path={whole}", f"--run_dir={tmp_path / 'test'}", *options]) == 0
    expected, found = (pd.read_csv(run / "scores.csv").score.to_numpy() for run in (whole, tmp_path / "test"))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert sizes[:3] == [256, 128, 64]
    assert max(sizes[2:]) == 64


def test_one_sample_that_does_not_fit_is_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def work(n: int) -> None:
        tried.append(n)
        no_memory()

    with pytest.warns(UserWarning, match="data.eval_batch_size is 1 now"), pytest.raises(torch.OutOfMemoryError):
        PartSize("data.eval_batch_size").run(work, 5)
    assert tried == [5, 2, 1]


def test_a_search_that_does_not_fit_searches_fewer_pairs_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    detector = ADGAN(
        partial(DCGANGenerator, width=4), latent_dim=4, search=LatentSearch(n_seeds=2, n_steps=1, chunk_size=8)
    )
    detector.configure_for(InputSpec("image", (1, 8, 8)))
    detector.eval()
    x = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    expected = detector.anomaly_score(x)
    search = Inversion._search

    def too_little_memory(self: Inversion, generator: Any, part: torch.Tensor, *rest: Any) -> Any:
        if len(part) > 3:
            no_memory()
        return search(self, generator, part, *rest)

    monkeypatch.setattr(Inversion, "_search", too_little_memory)
    with pytest.warns(UserWarning, match="model.search.chunk_size is 2 now"):
        torch.testing.assert_close(detector.anomaly_score(x), expected, rtol=1e-4, atol=1e-6)


# ---- Weights & Biases -----------------------------------------------------------------------------------------------


def without_a_server() -> None:
    os.environ.pop("WANDB_MODE", None)
    os.environ |= {
        "WANDB_API_KEY": "0" * 40,
        "WANDB_BASE_URL": "http://127.0.0.1:9",  # nobody listens there
        "WANDB_INIT_TIMEOUT": "2",
    }


@pytest.mark.slow  # W&B tries for a quarter of a minute
def test_a_run_goes_on_offline_where_wandb_cannot_be_reached(tmp_path: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    fit = [*DIGITS, "--trainer.logger=WandbLogger", f"--run_dir={run}"]
    assert run_in_child(fit, log, first=without_a_server) == 0, log.read_text()
    assert "Weights & Biases cannot be reached" in log.read_text()
    assert (run / "metrics.json").is_file()
    assert len(list((run / "wandb").glob("offline-run-*/*.wandb"))) == 1
