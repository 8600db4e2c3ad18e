"""A loss that is not finite ends the run, and the last good checkpoint stays."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from conftest import MakeTrainer
from short_fits import BY_EPOCHS, config_of, options_of, slow_but
from torch.optim import Adam

from adlightning.__main__ import main
from adlightning.callbacks.checkpoints import LastCheckpoint
from adlightning.callbacks.timing import Timing
from adlightning.checkpoints.loading import load_detector, read_checkpoint
from adlightning.core.collapse import TrainingCollapse
from adlightning.data.labelled import AnomalyLabelled
from adlightning.methods import Autoencoder
from adlightning.networks import MLPEncoder
from adlightning.preprocessing import StandardizeFeatures
from adlightning.testing import Blobs

GOES_ON = ("deep_sad/digits", "adgan/digits", "kde/digits_hybrid")  # of the others tests/test_resume.py


class BlowUp(pl.Callback):
    """Weights become infinite at the start of an epoch."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == 2:
            with torch.no_grad():
                next(pl_module.parameters()).fill_(float("inf"))


@pytest.mark.parametrize(
    ("held_out", "message"), [(0.0, "epoch 2: the training loss is nan"), (0.1, "epoch 2: .* scores are NaN")]
)
def test_a_blown_up_run_stops_and_keeps_its_last_good_checkpoint(
    make_trainer: MakeTrainer, tmp_path: Path, held_out: float, message: str
) -> None:
    detector = Autoencoder(
        encoder=partial(MLPEncoder, dense=(16,), rep_dim=4),
        preprocessing=StandardizeFeatures,
        optimizer=partial(Adam, lr=1e-3),
    )
    data = AnomalyLabelled(Blobs(), labelled_anomaly_ratio=0.0, batch_size=32, seed=0, validation_fraction=held_out)
    callbacks = [LastCheckpoint(tmp_path), BlowUp()]
    trainer = make_trainer(max_epochs=5, callbacks=callbacks, enable_checkpointing=True)
    with pytest.raises(TrainingCollapse, match=message):
        trainer.fit(detector, datamodule=data)
    assert read_checkpoint(tmp_path / "last.ckpt")["epoch"] == 1
    loaded = load_detector(tmp_path / "last.ckpt", unfinished=True)
    assert torch.isfinite(loaded.anomaly_score(torch.ones(3, 6))).all()


@pytest.mark.parametrize("case", slow_but(("deep_sad/digits", "ama/digits", "goad/sphere"), BY_EPOCHS))
def test_a_nan_in_the_middle_of_an_epoch_ends_every_method(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(case)
    epoch = draw.randrange(1, 4)  # of two of what comes first and two of what follows

    def poison(
        self: Timing, trainer: pl.Trainer, module: pl.LightningModule, outputs: object, _: object, i: int
    ) -> None:
        if (trainer.current_epoch, i) == (epoch, 0):
            with torch.no_grad():
                in_training = [weight for weight in module.parameters() if weight.grad is not None]
                draw.choice(in_training).fill_(float("nan"))

    monkeypatch.setattr(Timing, "on_train_batch_end", poison)  # a callback of every run
    fit = ["fit", "--config", str(config_of(case)), *options_of(case, 2, 3), f"--run_dir={tmp_path / 'run'}"]
    assert main(fit) == 1
    assert f"training failed: epoch {epoch}: " in capsys.readouterr().err
    assert read_checkpoint(tmp_path / "run/checkpoints/last.ckpt")["epoch"] == epoch - 1
    loaded = load_detector(tmp_path / "run/checkpoints/last.ckpt", unfinished=True)
    assert all(torch.isfinite(weight).all() for weight in loaded.parameters())

    if case in GOES_ON:
        monkeypatch.undo()
        assert main([*fit, "--ckpt_path=last"]) == 0
