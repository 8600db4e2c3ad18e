"""Fixtures: a quiet Trainer, and exports that are quicker."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("WANDB_MODE", "offline")

import pytest
import pytorch_lightning as pl

MakeTrainer = Callable[..., pl.Trainer]


def pytest_collection() -> None:
    """Hardly anything is garbage while thousands of tests are found."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Tests and the libraries that they import stay: no collection of garbage need look at them again."""
    gc.enable()
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """At the end everything is let go: extensions complain of what is left of them."""
    gc.unfreeze()


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


@pytest.fixture(scope="session")
def onnx_parsed_once() -> Iterator[None]:
    """torch parses all of its ONNX functions anew for each export: a second."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(cache(ONNXRegistry.from_torchlib)))
        yield
