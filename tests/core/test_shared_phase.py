"""A first phase that was done before is taken up to the same bits, and only where all that decides on it is alike."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

import adlightning as ad
from adlightning.core.detector import AnomalyDetector
from adlightning.core.shared_phase import TAKEN
from adlightning.core.shelf import Shelf, first_phases_shared
from adlightning.data.one_vs_all import OneVsAll
from adlightning.methods import DeepSAD, DeepSVDD, SoftBoundaryDeepSVDD
from adlightning.methods.parts.hypersphere import AutoencoderPretraining
from adlightning.networks import LeNetEncoder
from adlightning.testing import Stripes

PHASE = AutoencoderPretraining(epochs=2)
ENCODER = partial(LeNetEncoder, conv_channels=(4,), rep_dim=16)


def fitted(
    cls: type[AnomalyDetector], shelf: Shelf | None, seed: int = 0, batch_size: int = 20, **given: Any
) -> tuple[AnomalyDetector, dict[str, Tensor]]:
    """A detector after two epochs of pre-training and two of the objective, and its state."""
    arguments: dict[str, Any] = {"encoder": ENCODER, "pretraining": PHASE} | given
    pl.seed_everything(seed, verbose=False)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=4,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    detector = cls(**arguments)
    with first_phases_shared(shelf):
        trainer.fit(detector, datamodule=OneVsAll(Stripes(), normal_class=0, batch_size=batch_size))
    assert trainer.current_epoch == 4
    return detector, {**detector.state_dict(), "steps": torch.tensor(trainer.global_step)}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize(
    ("cls", "given"),
    [(DeepSAD, {"eta": 1.0}), (DeepSVDD, {}), (SoftBoundaryDeepSVDD, {"nu": 0.2, "warm_up_epochs": 1})],
)
def test_what_follows_a_phase_that_was_found_is_the_same_to_the_bit(
    cls: type[AnomalyDetector], given: dict[str, Any], tmp_path: Path
) -> None:
    shelf = Shelf(tmp_path, "code")
    first, _ = fitted(DeepSAD, shelf, eta=5.0)
    found, state = fitted(cls, shelf, **given)
    _, alone = fitted(cls, None, **given)
    assert TAKEN not in first.remarks()
    assert TAKEN in found.remarks()
    assert same(state, alone)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"batch_size": 10},
        {"version": "newer"},
        {"weight_init": "framework"},
        {"encoder": partial(ENCODER, leakiness=0.2)},
        {"pretraining": AutoencoderPretraining(epochs=3)},
    ],
)
def test_another_phase_is_not_taken(other: dict[str, Any], tmp_path: Path) -> None:
    fitted(DeepSAD, Shelf(tmp_path, "code"))
    options = dict(other)
    detector, _ = fitted(DeepSAD, Shelf(tmp_path, options.pop("version", "code")), **options)
    assert TAKEN not in detector.remarks()
    assert len(list(tmp_path.iterdir())) == 2


def test_batches_that_are_changed_while_training_share_none(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (20, 1, 16, 16), dtype=np.uint8)
    data = ad.Arrays(x, synthetic_anomalies=ad.CutPaste(), batch_size=10)
    detector = ad.DeepSAD(pretraining=AutoencoderPretraining(epochs=1))
    with first_phases_shared(Shelf(tmp_path, "code")):
        ad.fit(detector, data, max_epochs=2, progress=False)
    assert not list(tmp_path.iterdir())
