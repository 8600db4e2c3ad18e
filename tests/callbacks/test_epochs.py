"""What each epoch gave: written after each, drawn at the end, however it comes."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import pytorch_lightning as pl
from conftest import MakeTrainer
from PIL import Image
from pytorch_lightning.callbacks import ModelCheckpoint

from adlightning.callbacks.epochs import EpochsFile, loss_plot
from adlightning.core.collapse import TrainingCollapse
from adlightning.data.labelled import AnomalyLabelled
from adlightning.methods import Autoencoder, DeepSAD
from adlightning.methods.parts.hypersphere import AutoencoderPretraining
from adlightning.networks import MLPEncoder
from adlightning.preprocessing import StandardizeFeatures
from adlightning.shallow import NearestNeighbor
from adlightning.testing import Blobs


def data() -> AnomalyLabelled:
    return AnomalyLabelled(Blobs(), batch_size=50, validation_fraction=0.2, validation_anomalies=5, seed=0)


def detector(**options: float) -> DeepSAD:
    arguments = {
        "encoder": partial(MLPEncoder, dense=(4,), rep_dim=2),
        "pretraining": AutoencoderPretraining(epochs=2),
        "preprocessing": StandardizeFeatures,
    }
    return DeepSAD(**{**arguments, **options})  # type: ignore[arg-type]


def test_a_row_an_epoch_with_validation_where_there_was_one(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    trainer = make_trainer(max_epochs=6, check_val_every_n_epoch=2, callbacks=[EpochsFile(tmp_path)])
    trainer.fit(detector(), datamodule=data())
    frame = pd.read_csv(tmp_path / "epochs.csv")
    assert frame["epoch"].tolist() == list(range(6))
    assert frame["train/loss"].iloc[-1] == pytest.approx(float(trainer.callback_metrics["train/loss"]), rel=1e-5)
    assert frame["train/loss"].nunique() == 6
    # pre-training has no scores, and every second epoch no validation
    assert frame["val/auroc"].notna().tolist() == [False, False, False, True, False, True]
    assert frame["val/auroc"].iloc[-1] == pytest.approx(float(trainer.callback_metrics["val/auroc"]), rel=1e-5)
    assert Image.open(tmp_path / "plots" / "loss.png").size[0] > 500


def test_a_fit_that_goes_on_has_the_rows_of_one_that_did_not_stop(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    class Save(pl.Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            if trainer.current_epoch == 1:
                trainer.save_checkpoint(tmp_path / "two.ckpt")

    pl.seed_everything(0)
    make_trainer(max_epochs=4, callbacks=[EpochsFile(tmp_path / "run"), Save()]).fit(detector(), datamodule=data())
    whole = pd.read_csv(tmp_path / "run" / "epochs.csv")
    again = make_trainer(max_epochs=4, callbacks=[EpochsFile(tmp_path / "run")])
    again.fit(detector(), datamodule=data(), ckpt_path=tmp_path / "two.ckpt", weights_only=True)
    assert pd.read_csv(tmp_path / "run" / "epochs.csv")["epoch"].tolist() == whole["epoch"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("saves", [False, True])
def test_what_a_checkpoint_goes_on_from_is_on_the_disk(make_trainer: MakeTrainer, tmp_path: Path, saves: bool) -> None:
    on_disk: list[int] = []
    at_once: list[list[int]] = []

    class Save(ModelCheckpoint):  # which Lightning calls last, as ours
        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            if trainer.current_epoch in (1, 3):
                trainer.save_checkpoint(tmp_path / "one.ckpt")
                at_once.append(pd.read_csv(file.file)["epoch"].tolist())

    class Look(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, *args: object) -> None:
            if trainer.current_epoch == len(on_disk) and file.file.exists():
                on_disk.append(len(pd.read_csv(file.file)))
            elif trainer.current_epoch == len(on_disk):
                on_disk.append(0)

    file = EpochsFile(tmp_path)
    file.wait = 3600
    callbacks = [file, Look(), Save(tmp_path)] if saves else [file, Look()]
    make_trainer(max_epochs=5, callbacks=callbacks, enable_checkpointing=saves).fit(detector(), datamodule=data())
    assert at_once == ([[0, 1], [0, 1, 2, 3]] if saves else [])
    assert on_disk == ([0, 0, 2, 2, 4] if saves else [0, 0, 0, 0, 0])
    assert len(pd.read_csv(file.file)) == 5


def test_a_fit_that_diverges_is_drawn_too(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    class Break(pl.Callback):
        def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            if trainer.current_epoch == 2:
                next(pl_module.parameters()).data.fill_(math.nan)

    file = EpochsFile(tmp_path)
    file.wait = 3600
    trainer = make_trainer(max_epochs=5, callbacks=[file, Break()])
    model = Autoencoder(encoder=partial(MLPEncoder, dense=(4,), rep_dim=2), preprocessing=StandardizeFeatures)
    with pytest.raises(TrainingCollapse):
        trainer.fit(model, datamodule=data())
    assert pd.read_csv(tmp_path / "epochs.csv")["epoch"].tolist() == [0, 1]
    assert (tmp_path / "plots" / "loss.png").is_file()


def test_without_a_loss_or_without_drawing_there_is_no_picture(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    make_trainer(max_epochs=1, callbacks=[EpochsFile(tmp_path / "nn")]).fit(
        NearestNeighbor(preprocessing=StandardizeFeatures), datamodule=data()
    )
    assert not (tmp_path / "nn").exists()
    make_trainer(max_epochs=3, callbacks=[EpochsFile(tmp_path / "sad", draw=False)]).fit(detector(), datamodule=data())
    assert [path.name for path in (tmp_path / "sad").iterdir()] == ["epochs.csv"]


@pytest.mark.parametrize("losses", [[1.0], [1e9, 1.0, 1e-9], [math.nan, 1.0, math.inf], [math.nan], [-3.0, 0.0]])
@pytest.mark.parametrize("pretrain_epochs", [0, 1])
def test_any_losses_can_be_drawn(tmp_path: Path, losses: list[float], pretrain_epochs: int) -> None:
    epochs = pd.DataFrame({"epoch": range(len(losses)), "train/loss": losses, "val/score_mean": losses})
    assert loss_plot(tmp_path / "loss.png", epochs, pretrain_epochs, "a [title] of $1").stat().st_size > 0


@pytest.mark.parametrize("content", [b"x,y\n1,2\n", b"epoch,train/loss\n0,a\n", b"\xff\n", b"", b"epoch,a\n,1\n"])
def test_rows_of_an_earlier_fit_that_are_none(make_trainer: MakeTrainer, tmp_path: Path, content: bytes) -> None:
    make_trainer(max_epochs=3, callbacks=[]).fit(net := detector(), datamodule=data())
    assert net.trainer is not None
    net.trainer.save_checkpoint(tmp_path / "three.ckpt")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "epochs.csv").write_bytes(content)
    again = make_trainer(max_epochs=4, callbacks=[EpochsFile(tmp_path / "run")])
    if content.startswith(b"epoch,a"):  # a row without its epoch is left out
        again.fit(detector(), datamodule=data(), ckpt_path=tmp_path / "three.ckpt", weights_only=True)
        assert pd.read_csv(tmp_path / "run" / "epochs.csv")["epoch"].tolist() == [3]
        return
    with pytest.raises(ValueError, match=r"epochs\.csv is damaged, move it away"):
        again.fit(detector(), datamodule=data(), ckpt_path=tmp_path / "three.ckpt", weights_only=True)
