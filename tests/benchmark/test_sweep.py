"""Sweeps: trials by Optuna, the early end of bad ones, a killed sweep that goes on, the best one's config."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from small_sweep import write_sweep

import adlightning.cli.sweep
from adlightning.__main__ import main
from adlightning.benchmark.store import Results
from adlightning.benchmark.study import Trials
from adlightning.benchmark.sweep_file import read_sweep
from adlightning.files.locks import folder_locked

Course = Callable[[dict[str, Any]], list[float]]
"""The validation metric of a fit, value by value, by its configuration."""

HYPERBAND = {"type": "hyperband", "min_iter": 2, "eta": 2}


def rep_dim(config: dict[str, Any]) -> int:
    return int(config["model"]["init_args"]["encoder"]["init_args"]["rep_dim"])


def by_lr(config: dict[str, Any]) -> list[float]:
    """As if the best rate was 0.01."""
    lr = config["model"]["init_args"]["optimizer"]["lr"]
    return [0.5, 1 - abs(lr - 0.01), 0.6]


class Rehearsal:
    """A sweep whose fits are not done: their course is made up."""

    def __init__(self, folder: Path, n: int, course: Course = by_lr, seed: int = 0, **changes: Any) -> None:
        self.results, self.course, self.said, self.ran = Results(folder / "results"), course, list[str](), list[int]()
        self.results.open()
        (self.results.folder / "study").mkdir(exist_ok=True)
        self.trials = Trials(read_sweep(write_sweep(folder, **changes), {}), self.results, n, seed, self.said.append)

    def run(self, most: int = 99) -> Rehearsal:
        """So many fits; the one after them is asked for, and then the process is killed."""
        for task in self.trials.tasks():
            cell = task.trained
            if len(self.ran) == most:
                break
            self.ran.append(cell.labels["trial"])
            with self.results.partial(cell) as folder:
                (folder / "run" / "checkpoints").mkdir(parents=True)
                (folder / "run" / "checkpoints" / "best.ckpt").touch()
                values = self.course(cell.config)
                pd.DataFrame({"val/auroc": [None, *values]}).to_csv(folder / "run" / "epochs.csv")
                row = {"status": "done", "error": "", "code": cell.code, "finished": "", "seconds": {"total": 1.0}}
                self.results.write(cell, row, folder / "run")
            self.trials.finished(cell, row)
        return self

    def points(self) -> list[tuple[str, dict[str, Any], Any]]:
        return [(trial.state.name, trial.params, trial.value) for trial in self.trials.ended]


@pytest.mark.parametrize("method", ["random", "bayes"])
def test_the_same_sweep_has_the_same_trials_also_when_it_is_killed(method: str, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("whole", "killed", "other")]
    for folder in folders:
        folder.mkdir()
    whole = Rehearsal(folders[0], 12, method=method).run()
    assert len({str(point) for _, point, _ in whole.points()}) == 12
    assert all(state == "COMPLETE" for state, *_ in whole.points())
    Rehearsal(folders[1], 12, method=method).run(most=5)
    journal = folders[1] / "results" / "study" / "trials.jsonl"
    journal.write_bytes(journal.read_bytes() + b'{"op_co')  # it was at this when it was killed
    again = Rehearsal(folders[1], 12, method=method)
    assert len(again.trials.ended) == 5
    again.run()
    assert again.points() == whole.points()
    assert again.ran[0] == 6  # 5 was given up and has failed
    states = [trial.state.name for trial in again.trials.study.get_trials()]
    assert states == ["COMPLETE"] * 5 + ["FAIL"] + ["COMPLETE"] * 7
    more = Rehearsal(folders[1], 13, method=method).run()
    assert (len(more.ran), len(more.points())) == (1, 13)
    assert Rehearsal(folders[2], 12, method=method, seed=1).run().points() != whole.points()


def test_a_grid_is_gone_through_in_order_and_a_point_given_up_is_tried_again(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"method": "grid", "parameters": {"model.encoder.rep_dim": {"values": [2, 4, 8, 4]}}}
    Rehearsal(tmp_path, 50, lambda config: [0.1 * rep_dim(config)], **changes).run(most=1)
    again = Rehearsal(tmp_path, 50, lambda config: [0.1 * rep_dim(config)], **changes).run()
    assert [point["model.encoder.rep_dim"] for _, point, _ in again.points()] == [2, 4, 8, 4]
    assert again.ran == [2, 3]  # the second 4 is the same fit, and is not run
    assert again.said[-1] == "[4/4] trial 4: 0.4; model.encoder.rep_dim=4"


def test_worse_trials_end_early_by_their_best_value_so_far(tmp_path: Path) -> None:
    courses = {2: [0.5, 0.7, 0.6, 0.6, 0.6], 4: [0.6, 0.5, 0.9, 0.9, 0.9], 8: [0.8, 0.1, 0.1, 0.1, 0.2]}
    changes: dict[str, Any] = {"method": "grid", "parameters": {"model.encoder.rep_dim": {"values": [2, 4, 8]}}}
    sweep = Rehearsal(tmp_path, 3, lambda config: courses[rep_dim(config)], early_terminate=HYPERBAND, **changes).run()
    assert [(state, value) for state, _, value in sweep.points()] == [
        ("COMPLETE", 0.7),
        ("PRUNED", 0.6),
        ("COMPLETE", 0.8),
    ]
    assert sweep.trials.ended[1].last_step == 2
    assert sweep.said[1].endswith("trial 1: 0.6, stopped early; model.encoder.rep_dim=4")


def test_a_running_trial_is_ended_as_soon_as_it_is_worse(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"method": "grid", "parameters": {"model.encoder.rep_dim": {"values": [2, 4]}}}
    sweep = Rehearsal(tmp_path, 2, lambda config: [0.5, 0.6], early_terminate=HYPERBAND, **changes).run(most=1)
    cell, given_up = sweep.trials.running[1][1], list[Any]()
    sweep.trials.watch(given_up.append)  # its folder is not there yet
    with sweep.results.partial(cell) as folder:
        (folder / "run").mkdir()
        for values in ([], [0.5], [0.5, 0.4]):
            assert given_up == []
            pd.DataFrame({"epoch": range(len(values)), "val/auroc": values}).to_csv(folder / "run" / "epochs.csv")
            sweep.trials.watch(given_up.append)
        assert given_up == [cell]
    row = {"status": "failed", "error": "the worker process ended with SIGKILL", "code": cell.code, "finished": ""}
    sweep.results.write(cell, row)
    sweep.trials.finished(cell, row)
    assert [state for state, *_ in sweep.points()] == ["COMPLETE", "PRUNED"]
    assert sweep.results.own_row(cell) is None


def test_the_best_one_alone_keeps_its_checkpoint(tmp_path: Path) -> None:
    sweep = Rehearsal(tmp_path, 6).run()
    best = sweep.trials.best
    assert best is not None
    assert best.value == max(trial.value for trial in sweep.trials.ended if trial.value is not None)
    kept = [path.parents[1] for path in sweep.results.folder.glob("runs/*/checkpoints/best.ckpt")]
    assert kept == [sweep.results.run_folder(sweep.trials.cell(best))]


def test_first_trials_that_all_fail_end_the_sweep(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the first 3 trials failed, see .*output.log: val/auroc was never logged"):
        Rehearsal(tmp_path, 9, lambda config: []).run()


def test_trials_of_another_sweep_are_not_gone_on_with(tmp_path: Path) -> None:
    Rehearsal(tmp_path, 2).run()
    with pytest.raises(ValueError, match=r"has trials of before search changed: give another --results"):
        Rehearsal(tmp_path, 2, seed=1)
    with pytest.raises(ValueError, match="has trials of before parameters changed"):
        Rehearsal(tmp_path, 2, parameters={"model.encoder.rep_dim": {"values": [2, 4]}})


# ---- the verb --------------------------------------------------------------------------------------------------------


def sweep_verb(file: Path, *options: str) -> int:
    return main(["sweep", str(file), "--results", str(file.parent / "results"), "--devices=cpu", *options])


def test_a_sweep_of_fits_leaves_a_config_that_fits_and_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_sweep(tmp_path)
    assert sweep_verb(file, "--trials=2", "--set", "trainer.max_epochs=3") == 0
    results, out = tmp_path / "results", capsys.readouterr().out
    assert "2 trials: 2 done, 0 stopped early, 0 failed" in out
    assert re.search(r"best: trial [01], val/auroc [01](\.\d+)? with model\.optimizer\.lr=", out)
    for run in (results / "runs").iterdir():
        report = json.loads((run / "metrics.json").read_text())
        assert (report["selection"], report["test_sets"]) == ("val", {})
        assert not (run / "scores.csv").exists()
        assert "test/" not in (run / "logs/version_0/metrics.csv").read_text()
    page = (results / "sweep.html").read_text()
    assert page.count("data:image/png;base64") >= 1
    assert not re.search(r"(src|href)=.(?!data:|#)", page)
    config = yaml.safe_load((results / "config.yaml").read_text())
    assert "test_after_fit" not in config
    assert config["trainer"] == {"max_epochs": 3}
    options = [f"--run_dir={tmp_path / 'run'}", "--trainer.accelerator=cpu", "--plots=false"]
    assert main(["fit", "--config", str(results / "config.yaml"), *options]) == 0
    assert json.loads((tmp_path / "run/metrics.json").read_text())["test_sets"]
    (best,) = (path.parent for path in (results / "runs").glob("*/checkpoints"))
    assert pd.read_csv(tmp_path / "run/epochs.csv").equals(pd.read_csv(best / "epochs.csv"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metric": {"name": "val/auroc"}}, "metric.goal of val/auroc must be maximize, got minimize"),
        ({"metric": {"name": "val/f1"}}, "metric.name must be what its fits select by"),
        ({}, "trials is needed: --trials N, or run_cap in the file"),
    ],
)
def test_the_verb_refuses(
    changes: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep_verb(write_sweep(tmp_path, **changes)) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_a_folder_has_one_sweep_at_a_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = tmp_path / "results" / "study"
    study.mkdir(parents=True)
    with folder_locked(study):
        assert sweep_verb(write_sweep(tmp_path), "--trials=1") == 2
    assert f"another sweep is at work in {study.parent}" in capsys.readouterr().err


def test_without_optuna_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(adlightning.cli.sweep, "find_spec", lambda name: None)
    assert sweep_verb(tmp_path / "sweep.yaml") == 2
    assert capsys.readouterr().err == "error: sweep: Optuna is needed: pip install 'adlightning[sweep]'\n"


@pytest.mark.slow
def test_a_sweep_that_is_killed_goes_on(tmp_path: Path) -> None:
    file = write_sweep(tmp_path)
    options = ["--devices=cpu", "--trials=3", "--set", "trainer.max_epochs=40", "--results"]
    verb = [sys.executable, "-m", "adlightning", "sweep", str(file), *options]
    killed = subprocess.Popen([*verb, "killed"], cwd=tmp_path, env=dict(os.environ))
    journal = tmp_path / "killed" / "study" / "trials.jsonl"
    until = time.monotonic() + 300
    while killed.poll() is None and not (journal.exists() and '"trial_id":1' in journal.read_text()):
        assert time.monotonic() < until
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    again = subprocess.run([*verb, "killed"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "3 trials, 1 ended before" in again.stdout
    whole = subprocess.run([*verb, "whole"], cwd=tmp_path, capture_output=True, text=True, check=True)
    best, undisturbed = (yaml.safe_load((tmp_path / name / "config.yaml").read_text()) for name in ("killed", "whole"))
    assert best == undisturbed
    assert "3 done" in whole.stdout
    assert list((tmp_path / "killed" / "partial").iterdir()) == []


@pytest.mark.slow
def test_the_process_of_a_worse_trial_is_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes: dict[str, Any] = {"method": "grid", "metric": {"name": "val/score_mean", "goal": "minimize"}}
    changes["parameters"] = {"model.optimizer.lr": {"values": [0.01, 1.0e-9, 0.02]}}
    changes["early_terminate"] = {"type": "hyperband", "min_iter": 5, "eta": 2}
    file = write_sweep(tmp_path, monitor="val/score_mean", **changes)
    assert sweep_verb(file, "--set", "trainer.max_epochs=100") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "trial 1" in lines[2]
    assert lines[2].endswith("stopped early; model.optimizer.lr=1e-09")
    assert "trial 2" in lines[3]  # by the process in its place
    assert list((tmp_path / "results" / "partial").iterdir()) == []
    assert len(list((tmp_path / "results" / "cells").iterdir())) == 2  # it had not come to its end
