"""A sweep that runs in seconds, over the small table's Deep SAD."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import yaml
from small_grid import write_grid

COMMAND = ["${env}", "python", "-m", "adlightning", "fit", "--config", "CONFIG", "--run_dir=${oc.env:WANDB_RUN_ID}"]
OPTIONS = ["--trainer.logger=WandbLogger", "--data.validation_fraction=0.2", "--data.validation_anomalies=8"]


def write_sweep(root: Path, monitor: str = "val/auroc", **changes: Any) -> Path:
    """A sweep file with its config and data in a folder; changes replace keys of it, fits select by `monitor`."""
    write_grid(root)
    config = str(root / "configs" / "deep_sad" / "own.yaml")
    command = [config if word == "CONFIG" else word for word in (*COMMAND, *OPTIONS, f"--monitor={monitor}", "${args}")]
    spec: dict[str, Any] = {
        "name": "small",
        "method": "random",
        "metric": {"name": "val/auroc", "goal": "maximize"},
        "command": command,
        "parameters": {
            "model.optimizer.lr": {"distribution": "log_uniform_values", "min": 1.0e-4, "max": 0.1},
            "model.encoder.rep_dim": {"values": [2, 4]},
        },
    }
    text = yaml.safe_dump(spec | changes, sort_keys=False)
    file = root / f"sweep_{zlib.crc32(text.encode())}.yaml"  # a file is read once a process
    file.write_text(text)
    return file
