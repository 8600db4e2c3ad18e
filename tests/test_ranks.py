"""Two processes: every test sample once, the same scores as one process has for the same weights."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from adlightning.__main__ import main

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("config", "n_tested", "phases"),
    [
        ("deep_sad/digits", 596, ["--trainer.max_epochs=4", "--model.pretrain_epochs=2"]),
        (
            *("drocc_lf/digits", 596),
            ["--trainer.max_epochs=3", "--model.warm_up_epochs=1", "--trainer.precision=bf16-mixed"],
        ),
        ("ocsvm/digits_hybrid", 596, ["--trainer.max_epochs=2"]),  # its estimator is fitted on codes, on every rank
        ("goad/sphere", 2048, ["--model.centers=running", "--model.n_maps=16"]),  # its centres are those of all ranks
        ("density_ratio/digits", 596, ["--trainer.max_epochs=3"]),  # both streams shared out
        ("geometric_transforms/digits", 596, ["--trainer.max_epochs=1", "--model.network=mlp"]),
        ("ama/digits", 596, ["--trainer.max_epochs=2", "--model.warm_up_epochs=1"]),  # three players, spectral norms
        (
            *("adgan/digits", 596),
            ["--trainer.max_epochs=2", "--model.n_steps=1", "--model.n_seeds=2", "--trainer.precision=bf16-mixed"],
        ),
    ],
)
def test_two_ranks_score_each_sample_once_and_as_one_process_does(
    tmp_path: Path, config: str, n_tested: int, phases: list[str]
) -> None:
    options = [
        *("--trainer.accelerator=cpu", "--trainer.devices=2", "--trainer.strategy=ddp", *phases),
        *("--data.eval_batch_size=100", f"--run_dir={tmp_path / 'two'}"),
        *("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"),
    ]
    file = str(ROOT / "configs" / f"{config}.yaml")
    command = [sys.executable, "-m", "adlightning", "fit", "--config", file, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    alone = ["--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.enable_progress_bar=false"]
    assert main(["test", f"--ckpt_path={tmp_path / 'two'}", f"--run_dir={tmp_path / 'one'}", *alone]) == 0
    two, one = (pd.read_csv(tmp_path / name / "scores.csv") for name in ("two", "one"))
    assert list(two["index"]) == list(one["index"])
    assert two["index"].is_unique
    assert len(two) == n_tested
    np.testing.assert_allclose(two.score.to_numpy(), one.score.to_numpy(), rtol=1e-5)
