"""The wheel alone, away from the checkout: it holds the experiments, and fits, scores and runs a table with them."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow  # it builds, and starts Python six times


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (file,) = folder.glob("*.whl")
    return file


def test_it_holds_what_the_checkout_has(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("configs", "sweeps"):
        there = {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*.yaml")}
        assert there
        assert {f"adlightning/{name}" for name in there} <= held
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "adlightning").rglob("*.py")}
    assert modules | {"adlightning/py.typed"} <= held
    assert not any(name.startswith(("tests/", "benchmarks/", "configs/")) for name in held)


def test_it_works_from_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    """Installed beside this environment's dependencies, before the checkout on Python's path."""
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)

    def run(*arguments: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run("-c", "import adlightning; print(adlightning.__file__)").strip() == str(site / "adlightning/__init__.py")
    verb = ("-m", "adlightning")
    assert "deep_sad/digits" in run(*verb, "configs", "deep_sad")
    small = ["--trainer.max_epochs=1", "--model.pretraining.epochs=0", "--plots=false", "--trainer.accelerator=cpu"]
    run(*verb, "fit", "--config", "deep_sad/digits", "--run_dir=run", *small)
    run("-c", "import numpy as np; np.save('x.npy', np.zeros((2, 8, 8), np.uint8))")
    run(*verb, "score", "--ckpt_path=run", "--data=x.npy", "--out=scores.csv", "--device=cpu")
    assert len(pd.read_csv(empty / "scores.csv")) == 2
    one = ["--only", "method=kde", "--only", "normal=3", "--seeds=1", "--results=rows", "--devices=cpu"]
    run(*verb, "benchmark", "--config", "benchmarks/digits_new_systems", *one)
    assert pd.read_csv(empty / "rows/rows.csv")["status"].tolist() == ["done"]
