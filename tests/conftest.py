"""Fixtures: a tiny source of images and of features, and a quiet Trainer."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("WANDB_MODE", "offline")

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from adlightning.core.contracts import InputSpec
from adlightning.data.sources.base import AnomalySource, ClassSource, Part, Samples

MakeTrainer = Callable[..., pl.Trainer]


class Stripes(ClassSource):
    """Three classes of 16x16 images, told apart by where a bright bar lies; noise from a fixed seed."""

    name = "stripes"
    classes = ("left", "middle", "right")

    def __init__(self, n_train: int = 60, n_test: int = 30) -> None:
        self.sizes = {"train": n_train, "test": n_test}

    def input_spec(self) -> InputSpec:
        return InputSpec("image", (1, 16, 16))

    def load(self, part: Part) -> Samples:
        n = self.sizes[part]
        rng = np.random.default_rng(len(part))
        x = rng.integers(0, 60, (3 * n, 1, 16, 16))
        y = np.repeat(np.arange(3), n)
        for label in range(3):
            x[y == label, :, :, 5 * label : 5 * label + 5] += 180
        return Samples(torch.from_numpy(x.astype(np.uint8)), y, tuple(f"{part}/{i}" for i in range(3 * n)))


class Blobs(AnomalySource):
    """Features around zero (normal) and far from it (anomalies), on very different scales."""

    name = "blobs"

    def input_spec(self) -> InputSpec:
        return InputSpec("table", (6,), features=tuple("abcdef"))

    def load(self, part: Part) -> Samples | None:
        if part == "test":
            return None
        rng = np.random.default_rng(0)
        scale = np.array([1, 10, 100, 0.1, 1, 5])
        x = np.concatenate([rng.normal(size=(200, 6)), rng.normal(size=(40, 6)) * 0.5 + 6]) * scale
        y = np.repeat([0, 1], [200, 40])
        return Samples(torch.from_numpy(x.astype(np.float32)), y, tuple(str(i) for i in range(240)))


@pytest.fixture
def make_trainer(tmp_path: Path) -> MakeTrainer:
    def make(**options: Any) -> pl.Trainer:
        defaults: dict[str, Any] = {
            "max_epochs": 2,
            "accelerator": "cpu",
            "devices": 1,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            "default_root_dir": tmp_path,
        }
        return pl.Trainer(**{**defaults, **options})

    return make
