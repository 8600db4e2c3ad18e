"""Two processes: every objective trains, each test sample is scored once, as one process does with the same weights."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from multiprocessing.connection import wait
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from filelock import FileLock
from fit_on_ranks import one_rank
from fits_in_children import CONTEXT
from short_fits import METHODS, QUIET, config_of, options_of, slow_but

from adlightning.__main__ import main
from adlightning.cli.trainer_verbs import run
from adlightning.methods import AMA

CASES: dict[str, tuple[str, tuple[str, ...]]] = {method: (f"{method}/digits", ()) for method in METHODS}
CASES |= {
    "goad": ("goad/sphere", ()),
    "goad, running centres": ("goad/sphere", ("--model.centers=running",)),
    "ocsvm on codes": ("ocsvm/digits_hybrid", ()),  # its estimator is fitted on every rank
    "geometric_transforms": ("geometric_transforms/digits", ()),
    "adgan, bf16": ("adgan/digits", ("--trainer.precision=bf16-mixed",)),
    "deep_sad, averages": (
        "deep_sad/digits",
        ("--trainer.callbacks=EMAWeightAveraging", "--trainer.callbacks.decay=0.9"),
    ),
    "goad, averages": ("goad/sphere", ("--trainer.callbacks=WeightAveraging",)),
    "drocc_lf, bf16": ("drocc_lf/digits", ("--trainer.precision=bf16-mixed",)),
    "soft_boundary_deep_svdd, radius": ("soft_boundary_deep_svdd/digits", ("--model.warm_up_epochs=0",)),
    "deep_sad, anew": ("deep_sad/digits", ("--model.pretraining.transfer=false",)),  # weights drawn in the middle
}
# Weights stay as they were drawn: whatever is fitted to the data is as one process has it.
FITTED: dict[str, tuple[str, tuple[str, ...]]] = {
    "deep_svdd": ("deep_svdd/digits", ("--model.optimizer.lr=1e-30", "--model.pretraining.epochs=0")),
    "goad": ("goad/sphere", ("--model.optimizer.lr=1e-30",)),
    "geometric_transforms": ("geometric_transforms/digits", ("--model.optimizer.lr=1e-30",)),
    "density_ratio": ("density_ratio/digits", ("--model.optimizer.lr=1e-30",)),
    "kde": ("kde/digits", ()),
}


def arguments(case: tuple[str, tuple[str, ...]], run: Path) -> list[str]:
    """A short fit of every phase, with an odd number of samples a batch."""
    config, extra = case
    options = [*options_of(config, 1, 2), "--data.eval_batch_size=99", *extra]
    return ["--config", str(config_of(config)), *options, f"--run_dir={run}"]


def on_two_ranks(runs: dict[str, list[str]], folder: Path) -> list[dict[str, dict[str, str]]]:
    """What each of two processes ends with, which take one run after the other: a verb and its arguments by a name."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--trainer.devices=2", "--trainer.strategy=ddp"]
    plan = folder / "plan.json"
    plan.write_text(json.dumps({name: [*run, *options] for name, run in runs.items()}))
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    common |= {"TORCHELASTIC_RUN_ID": "none", "GROUP_RANK": "0", "OMP_NUM_THREADS": "1"}
    processes = []
    for rank in ("0", "1"):
        environment = {**common, "RANK": rank, "LOCAL_RANK": rank}
        files = (plan, folder / f"log{rank}", folder / f"ended{rank}")
        processes.append(CONTEXT.Process(target=one_rank, args=(environment, *files)))
        processes[-1].start()
    try:
        while going := [process.sentinel for process in processes if process.exitcode is None]:
            if not wait(going, timeout=900) or any(process.exitcode for process in processes):
                break  # a rank whose other is gone waits for ever
        codes = [process.exitcode for process in processes]
    finally:
        for process in processes:
            process.kill()
    logs = "\n".join((folder / f"log{rank}").read_text()[-3000:] for rank in (0, 1))
    assert codes == [0, 0], logs
    return [json.loads((folder / f"ended{rank}").read_text()) for rank in (0, 1)]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all workers of pytest-xdist, so that ranks are started once."""
    base = tmp_path_factory.getbasetemp()
    (shared := (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "ranks").mkdir(exist_ok=True)
    return shared


def run_of(name: str, folder: Path) -> Path:
    return folder / name.replace(", ", "-").replace(" ", "_")


QUICK = (
    "deep_sad",  # two phases
    "ama",  # several optimisers, steps by hand, moments of all ranks
    "goad, running centres",  # means of all ranks in each step
    "density_ratio",  # two streams of samples
    "ocsvm on codes",
)
QUICK_FITTED = ("deep_svdd", "goad", "kde")  # a centre, means by transform, an estimator
Ended = Callable[[str], list[dict[str, str]]]


def few_samples(folder: Path) -> dict[str, list[str]]:
    """A fit with one sample held out and one to test, a test and a prediction of it: fewer than ranks."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(5, 3)), columns=list("abc")).assign(label=0)
    frame[:4].to_csv(folder / "train.csv", index=False)
    frame[4:].to_csv(folder / "test.csv", index=False)
    data = [f"--data.path={folder / 'train.csv'}", f"--data.test_path={folder / 'test.csv'}"]
    data += ["--data.label_column=label", "--data.validation_fraction=0.25"]
    short = ["--trainer.max_epochs=2", "--model.pretraining.epochs=1", *QUIET, "--plots=false"]
    config = ["--config", str(config_of("deep_sad/table"))]
    verbs = {
        verb: [verb, f"--ckpt_path={folder / 'few'}", f"--run_dir={folder / verb}", *QUIET, "--plots=false"]
        for verb in ("test", "predict")
    }
    return {"few": ["fit", *config, *data, *short, f"--run_dir={folder / 'few'}"], **verbs}


def own_transforms(folder: Path) -> dict[str, list[str]]:
    """A fit whose training transform writes down what it draws."""
    transforms = f"[{{class_path: own_transforms.WriteDraws, init_args: {{folder: {folder}}}}}]"
    case = ("autoencoder/digits", (f"--data.train_transforms={transforms}",))
    return {"transforms": ["fit", *arguments(case, folder / "transforms")]}


@pytest.fixture(scope="session")
def ended(folder: Path) -> Ended:
    """What each rank ends with; all that is quick is run by one pair of processes, the slow cases by another."""

    fits = {name: arguments(case, run_of(name, folder)) for name, case in CASES.items()}
    fits |= {f"fitted {name}": arguments(case, run_of(f"fitted {name}", folder)) for name, case in FITTED.items()}
    slow = fits.keys() - {*QUICK, *(f"fitted {name}" for name in QUICK_FITTED)}

    def of(name: str) -> list[dict[str, str]]:
        there = folder / ("slow" if name in slow else "quick")
        with FileLock(f"{there}.lock"):  # another worker may have begun
            if not (there / "ended1").exists():
                there.mkdir(exist_ok=True)
                runs = {n: ["fit", *options] for n, options in fits.items() if (n in slow) == (name in slow)}
                on_two_ranks(runs if name in slow else runs | few_samples(folder) | own_transforms(folder), there)
        return [json.loads((there / f"ended{rank}").read_text())[name] for rank in (0, 1)]

    return of


@pytest.mark.parametrize("name", slow_but(QUICK, CASES))
def test_two_ranks_score_each_sample_once_and_as_one_process_does(
    name: str, folder: Path, ended: Ended, tmp_path: Path
) -> None:
    ended(name)
    alone = [*QUIET[:2], "--trainer.devices=1", "--trainer.strategy=auto", "--plots=false"]
    assert main(["test", f"--ckpt_path={run_of(name, folder)}", f"--run_dir={tmp_path / 'one'}", *alone]) == 0
    two, one = (pd.read_csv(run / "scores.csv") for run in (run_of(name, folder), tmp_path / "one"))
    assert list(two["index"]) == list(one["index"])
    assert two["index"].is_unique
    assert len(two) == (2048 if "sphere" in CASES[name][0] else 596)
    largest = one.score.abs().max()
    np.testing.assert_allclose(two.score.to_numpy(), one.score.to_numpy(), rtol=1e-5, atol=1e-6 * largest)
    reports = [json.loads((run / "metrics.json").read_text()) for run in (run_of(name, folder), tmp_path / "one")]
    assert [report["devices"] for report in reports] == [2, 1]
    values = [report["test_sets"]["test"]["metrics"]["auroc"]["value"] for report in reports]
    assert values[0] == pytest.approx(values[1], abs=1e-4)


@pytest.mark.parametrize("name", slow_but(QUICK, CASES))
def test_both_ranks_end_with_the_same_weights_and_fits(name: str, ended: Ended) -> None:
    first, second = ended(name)
    assert first.keys() == second.keys()
    assert [key for key in first if first[key] != second[key]] == []


def test_moments_are_those_of_all_training_samples(folder: Path, ended: Ended, tmp_path: Path) -> None:
    ended("ama")
    arguments = [f"--ckpt_path={run_of('ama', folder)}", f"--run_dir={tmp_path / 'one'}", *QUIET]
    cli = run("validate", [*arguments, "--trainer.devices=1", "--trainer.strategy=auto"])
    detector = cli.model.eval()
    assert isinstance(detector, AMA)
    with torch.no_grad():
        r = torch.cat([detector.r_scores(batch.x) for batch in cli.datamodule.fitting_batches(torch.device("cpu"))])
    assert detector.r_mean.item() == pytest.approx(r.double().mean().item(), rel=1e-5)
    assert detector.r_std.item() == pytest.approx(r.double().std(correction=0).item(), rel=1e-4)


def test_one_sample_to_test_and_one_held_out_on_two_ranks(folder: Path, ended: Ended) -> None:
    for name in ("few", "test", "predict"):
        ended(name)
        assert len(pd.read_csv(folder / name / "scores.csv")) == 1
    report = json.loads((folder / "few/metrics.json").read_text())
    assert (report["samples"]["train"], report["samples"]["validation"]) == (3, 1)
    assert np.isfinite(report["threshold"]["score"])


@pytest.mark.parametrize("name", slow_but(QUICK, CASES))
def test_only_the_first_rank_writes(name: str, folder: Path, ended: Ended) -> None:
    ended(name)
    files = {file.relative_to(run_of(name, folder)).parts[0] for file in run_of(name, folder).rglob("*")}
    wanted = {"checkpoints", "config.yaml", "logs", "metrics.json", "scores.csv"}
    assert wanted <= files <= wanted | {"curves.csv", "epochs.csv"}
    assert [file.name for file in (run_of(name, folder) / "logs").iterdir()] == ["version_0"]


@pytest.mark.parametrize("name", slow_but(QUICK_FITTED, FITTED))
def test_what_is_fitted_to_the_data_is_as_one_process_has_it(
    name: str, folder: Path, ended: Ended, tmp_path: Path
) -> None:
    ended(f"fitted {name}")
    assert main(["fit", *arguments(FITTED[name], tmp_path / "one")]) == 0
    two, one = (
        torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for run in (run_of(f"fitted {name}", folder), tmp_path / "one")
    )
    assert two.keys() == one.keys()
    running = [key for key in one if "running_" in key or "num_batches" in key]  # BatchNorm's, of a rank's own batches
    of_weights = {"threshold", "held_out_scores"} if running else set()
    for key in sorted(one.keys() - {*running, *of_weights}):
        assert torch.allclose(two[key].double(), one[key].double(), rtol=1e-5, atol=1e-6), f"{key} differs"
    assert np.isfinite(one["threshold"])


def test_each_rank_draws_its_own_transforms(folder: Path, ended: Ended) -> None:
    first, second = ended("transforms")
    assert first == second
    draws = [(folder / f"draws{rank}").read_text().splitlines()[2:] for rank in (0, 1)]  # two try it before training
    assert all(draws)
    assert not set(draws[0]) & set(draws[1])
