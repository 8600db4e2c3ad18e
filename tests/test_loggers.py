"""Loggers: CSV always; TensorBoard by its name alone. W&B has tests of its own."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from adlightning.__main__ import main

ROOT = Path(__file__).parents[1]
SHORT = [
    "--trainer.max_epochs=3",
    "--model.pretraining.epochs=1",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.accelerator=cpu",
]


def fit(folder: Path, *options: str) -> None:
    config = str(ROOT / "configs/deep_sad/digits.yaml")
    assert main(["fit", "--config", config, f"--run_dir={folder}", *SHORT, *options]) == 0


def test_csv_has_the_curves_by_epoch(tmp_path: Path) -> None:
    fit(tmp_path / "run", "--data.validation_anomalies=5")
    frame = pd.read_csv(tmp_path / "run/logs/version_0/metrics.csv")
    assert frame["train/loss"].count() == 3
    assert frame["val/auroc"].count() == 2
    assert frame["test/auroc"].count() == 1


def test_tensorboard_by_its_name(tmp_path: Path) -> None:
    fit(tmp_path / "run", "--trainer.logger=TensorBoardLogger", f"--trainer.logger.save_dir={tmp_path / 'tb'}")
    assert list((tmp_path / "tb").rglob("events.out.tfevents.*"))
    assert (tmp_path / "run/logs/version_0/metrics.csv").is_file()
