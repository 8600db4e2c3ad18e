"""The experiments of the package: found by name from anywhere, listed with a line each, copied without overwriting."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from adlightning.__main__ import main
from adlightning.files.experiments import experiments, find_config, shipped

Capture = pytest.CaptureFixture[str]
SMALL = ["--trainer.fast_dev_run=true", "--plots=false", "--trainer.accelerator=cpu"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("name", ["deep_sad/digits", "deep_sad/digits.yaml", "configs/deep_sad/digits.yaml"])
def test_an_experiment_is_found_by_name_from_anywhere(name: str) -> None:
    assert find_config(name) == shipped() / "configs/deep_sad/digits.yaml"


def test_the_working_folder_comes_first(elsewhere: Path) -> None:
    for own in ("configs/deep_sad/digits.yaml", "deep_sad/digits.yaml", "deep_sad/digits"):
        (elsewhere / own).parent.mkdir(parents=True, exist_ok=True)
        (elsewhere / own).write_text("model: KDE\n")
        assert find_config("deep_sad/digits") == Path(own)
    assert find_config("deep_sad/mnist") == shipped() / "configs/deep_sad/mnist.yaml"


def test_a_fit_and_a_table_run_from_an_empty_folder(elsewhere: Path, capsys: Capture) -> None:
    assert main(["fit", "--config", "kde/digits", "--run_dir=run", *SMALL]) == 0
    assert yaml.safe_load((elsewhere / "run/config.yaml").read_text())["model"]["class_path"].endswith("KDE")
    assert main(["benchmark", "--config", "benchmarks/deep_sad_digits", "--dry-run"]) == 0
    assert "cells to run" in capsys.readouterr().out


def test_what_is_not_there_is_said_with_the_nearest(capsys: Capture) -> None:
    assert main(["fit", "--config", "deep_sad/digit"]) == 2
    error = capsys.readouterr().err
    assert "config: there is no file deep_sad/digit; nearest: deep_sad/digits" in error
    assert "adlightning configs lists those of the package" in error


def test_every_experiment_is_a_line_with_what_it_is(capsys: Capture) -> None:
    assert main(["configs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = dict(line.split(maxsplit=1) for line in lines if not line.startswith("run "))
    assert listed.keys() == experiments().keys()
    assert {"deep_sad/cifar10", "benchmarks/deep_sad_table6", "sweeps/deep_sad"} <= listed.keys()
    assert not any(name.startswith("parts/") for name in listed)
    assert all(len(words) > 10 and "\n" not in words for words in listed.values())
    assert "run one with: adlightning fit --config adgan/cifar10" in lines


@pytest.mark.parametrize("pattern", ["deep_sad/*", "deep_sad"])
def test_a_pattern_chooses(pattern: str, capsys: Capture) -> None:
    assert main(["configs", pattern]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines() if not line.startswith("run ")]
    assert "deep_sad/digits" in names
    assert ("benchmarks/deep_sad_table6" in names) == (pattern == "deep_sad")
    assert "kde/digits" not in names


def test_a_pattern_that_fits_nothing_is_refused(capsys: Capture) -> None:
    assert main(["configs", "deep_sat"]) == 2
    assert "pattern: no experiment has a name like deep_sat; nearest: deep_sad" in capsys.readouterr().err


def test_copies_are_whole_and_overwrite_nothing(elsewhere: Path, capsys: Capture) -> None:
    assert main(["configs", "kde/digits*", "--copy", "own"]) == 0
    assert "2 files copied into own" in capsys.readouterr().out
    copied = elsewhere / "own/kde/digits.yaml"
    assert copied.read_bytes() == (shipped() / "configs/kde/digits.yaml").read_bytes()
    copied.write_text("mine")
    os.remove(elsewhere / "own/kde/digits_hybrid.yaml")
    assert main(["configs", "kde/*", "--copy", "own"]) == 2
    assert "own/kde/digits.yaml exists already and is not overwritten; nothing was copied" in capsys.readouterr().err
    assert copied.read_text() == "mine"
    assert [path.name for path in (elsewhere / "own/kde").iterdir()] == ["digits.yaml"]


def test_a_folder_of_tables_that_is_not_there_is_said(capsys: Capture) -> None:
    assert main(["benchmark", "--list", "--configs", "/nowhere"]) == 2
    assert "configs: there is no folder /nowhere" in capsys.readouterr().err


def test_a_table_whose_config_is_missing_is_told_from_one_without_a_method(
    elsewhere: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    (elsewhere / "configs/benchmarks").mkdir(parents=True)
    spec = {"paper": "own", "table": 1, "seeds": 1, "datasets": {"x": None}, "methods": [{"method": "kde"}]}
    (elsewhere / "configs/benchmarks/own.yaml").write_text(yaml.safe_dump(spec))
    assert main(["benchmark", "--list"]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("│ own "))
    assert line.strip("│ ").endswith("no")
    assert main(["benchmark", "--list", "own"]) == 0
    assert "configs/kde/x.yaml cannot be read: No such file or directory" in capsys.readouterr().out
