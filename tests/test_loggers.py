"""Loggers: CSV always; W&B offline, read back from disk; TensorBoard by its name alone."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

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


def log_records(data: bytes) -> Iterator[bytes]:
    """Records of a LevelDB log (the form of an offline W&B run): 32 KiB blocks of crc, length, type and payload."""
    position, part = 7, b""  # after the file's own header
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        if left < 7:
            position += left  # a block's end too short for a header is padding
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        if position + 7 + length > len(data):
            return  # it is being written
        part += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # a whole record, or its last piece
            yield part
            part = b""


def read_offline_run(folder: Path) -> dict[str, list[Any]]:
    """Records of an offline W&B run by type, once W&B's own process, which may outlast `finish`, wrote its end."""
    from wandb.proto import wandb_internal_pb2

    (file,) = folder.rglob("run-*.wandb")
    deadline = time.monotonic() + 60
    records: dict[str, list[Any]] = {}
    while "exit" not in records:
        assert time.monotonic() < deadline, f"W&B wrote no end of the run, only {sorted(records)}"
        time.sleep(0.1)
        records = {}
        for data in log_records(file.read_bytes()):
            record = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
            record.ParseFromString(data)
            kind = record.WhichOneof("record_type")
            records.setdefault(kind, []).append(getattr(record, kind))
    return records


def test_csv_has_the_curves_by_epoch(tmp_path: Path) -> None:
    fit(tmp_path / "run", "--data.validation_anomalies=5")
    frame = pd.read_csv(tmp_path / "run/logs/version_0/metrics.csv")
    assert frame["train/loss"].count() == 3
    assert frame["val/auroc"].count() == 2
    assert frame["test/auroc"].count() == 1


def test_wandb_offline_run_has_config_curves_summary_plots_and_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    fit(tmp_path / "run", "--trainer.logger=WandbLogger", "--trainer.logger.project=adlightning-test")
    records = read_offline_run(tmp_path / "run")
    changes = [*records.get("config", []), *(run.config for run in records["run"])]
    config = {item.key: item.value_json for change in changes for item in change.update}
    assert json.loads(config["model"])["init_args"]["eta"] == 1.0
    history = [
        {".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.item}
        for record in records["history"]
    ]
    assert sum("train/loss" in row for row in history) == 3
    summary = {
        ".".join(item.nested_key) or item.key: item.value_json
        for record in records["summary"]
        for item in record.update
    }
    auroc = json.loads((tmp_path / "run/metrics.json").read_text())["test_sets"]["test"]["metrics"]["auroc"]["value"]
    assert float(summary["test/auroc"]) == pytest.approx(auroc, rel=1e-5)
    assert list((tmp_path / "run").rglob("media/images/plots/roc*.png"))
    assert list((tmp_path / "run").rglob("media/table/scores/test*.table.json"))


def test_tensorboard_by_its_name(tmp_path: Path) -> None:
    fit(tmp_path / "run", "--trainer.logger=TensorBoardLogger", f"--trainer.logger.save_dir={tmp_path / 'tb'}")
    assert list((tmp_path / "tb").rglob("events.out.tfevents.*"))
    assert (tmp_path / "run/logs/version_0/metrics.csv").is_file()
