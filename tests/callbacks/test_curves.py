"""Curves of single steps: kept without waiting, written after each epoch, drawn at the end, however it comes."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from conftest import MakeTrainer
from PIL import Image
from torch.optim import SGD

from adlightning.callbacks.curves import CurvesFile, curves_plot
from adlightning.core.collapse import TrainingCollapse
from adlightning.core.curves import StepCurves
from adlightning.data.unlabelled import TransductiveOneVsAll
from adlightning.methods import Autoencoder, DensityRatio
from adlightning.networks import LeNetEncoder
from adlightning.networks.mlp import PlainMLP
from adlightning.testing import Stripes


def test_steps_are_taken_over_at_the_end_of_an_epoch() -> None:
    curves = StepCurves()
    assert curves.end_epoch() == {}
    for step in range(3):
        curves.add(step, loss=torch.tensor(float(step), requires_grad=True), ratio=torch.tensor(2.0))
    assert curves.rows == []
    assert curves.end_epoch() == {"loss": 1.0, "ratio": 2.0}
    assert curves.rows == [{"step": i, "loss": float(i), "ratio": 2.0} for i in range(3)]
    assert curves.end_epoch() == {}


def data() -> TransductiveOneVsAll:
    return TransductiveOneVsAll(source=Stripes(), normal_class=0, batch_size=20, validation_fraction=0.0, seed=0)


def detector(dropout: float = 0.5, **options: Any) -> DensityRatio:
    torch.manual_seed(0)
    return DensityRatio(encoder=partial(PlainMLP, dense=(4,), dropout=dropout), **options)


def test_a_fit_leaves_a_table_and_a_picture(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    model = detector()
    make_trainer(max_epochs=4, callbacks=[CurvesFile(tmp_path)]).fit(model, datamodule=data())
    frame = pd.read_csv(tmp_path / "curves.csv")
    assert list(frame.columns) == ["step", "mean_ratio_normal", "mean_ratio_unlabelled"]
    assert frame["step"].tolist() == list(range(12))
    assert frame["mean_ratio_normal"].tolist() == pytest.approx(
        [row["mean_ratio_normal"] for row in model.curves.rows], rel=1e-5
    )
    assert Image.open(tmp_path / "plots" / "curves.png").size[0] > 500


def test_a_detector_that_records_nothing_leaves_nothing(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    callbacks = [CurvesFile(tmp_path / "run")]
    make_trainer(max_epochs=1, callbacks=callbacks).fit(
        Autoencoder(encoder=partial(LeNetEncoder, conv_channels=(2,), rep_dim=16)), datamodule=data()
    )
    assert not (tmp_path / "run").exists()


def test_a_fit_that_goes_on_keeps_what_came_before(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    whole = detector()
    make_trainer(max_epochs=4, callbacks=[CurvesFile(tmp_path / "whole")]).fit(whole, datamodule=data())

    class Save(pl.Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            if trainer.current_epoch == 1:
                trainer.save_checkpoint(tmp_path / "two.ckpt")

    # the third epoch is in the table, but not in the checkpoint
    first = make_trainer(max_epochs=3, callbacks=[CurvesFile(tmp_path / "parts"), Save()])
    first.fit(detector(), datamodule=data())
    second = make_trainer(max_epochs=4, callbacks=[CurvesFile(tmp_path / "parts")])
    second.fit(detector(), datamodule=data(), ckpt_path=tmp_path / "two.ckpt", weights_only=True)
    parts, expected = (pd.read_csv(tmp_path / name / "curves.csv") for name in ("parts", "whole"))
    assert parts["step"].tolist() == expected["step"].tolist()


def test_a_fit_that_diverges_is_drawn_too(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    trainer = make_trainer(max_epochs=50, callbacks=[CurvesFile(tmp_path)])
    with pytest.raises(TrainingCollapse):
        trainer.fit(detector(dropout=0.0, optimizer=partial(SGD, lr=1e4)), datamodule=data())
    assert (tmp_path / "plots" / "curves.png").exists()
    assert len(pd.read_csv(tmp_path / "curves.csv")) >= 3


def test_the_axis_is_logarithmic_for_what_diverges_and_names_what_it_leaves_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, str, int]] = []

    def save(figure: Any, file: Any, **options: Any) -> None:
        (axes,) = figure.axes
        seen.append((axes.get_yscale(), axes.get_xlabel(), len(axes.lines)))

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", save)
    steps = np.arange(300)
    tame = pd.DataFrame({"step": steps, "a": 1 + steps / 300, "b": -np.ones(300)})
    wild = pd.DataFrame({"step": steps, "a": np.where(steps < 290, 10.0 ** (steps / 30), np.inf)})
    curves_plot(tmp_path / "tame.png", tame, "t")
    curves_plot(tmp_path / "wild.png", wild, "t")
    assert seen[0] == ("linear", "step (lines: median of 6 steps)", 4)
    assert seen[1][0] == "log"
    assert seen[1][1].endswith("not finite, not shown: 10 of 300 values")
