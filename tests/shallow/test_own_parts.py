"""Parts from outside: a user's own networks, optimiser and schedule, features, and an estimator as docs/ show it."""

from __future__ import annotations

import importlib
import math
import re
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from conftest import MakeTrainer
from shallow_cases import UNIT, auroc_on_test, fit, images, make, raw_test_input, table
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR

from adlightning.checkpoints.loading import load_detector
from adlightning.core.parts import Shape
from adlightning.preprocessing import Output, StandardizeFeatures
from adlightning.shallow import ShallowDetector
from adlightning.shallow.features import AutoencoderFeatures, FeatureMap, Features
from adlightning.shallow.rebuilding import RECIPES

PAGE = Path(__file__).parents[2] / "docs" / "adding_an_estimator.md"


class OwnEncoder(nn.Module):
    def __init__(self, shape: Shape, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), width), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        codes: Tensor = self.layers(x)
        return codes


class OwnDecoder(nn.Module):
    def __init__(self, rep_dim: int, shape: Shape, output: Output) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(rep_dim, math.prod(shape)), nn.Unflatten(1, shape))

    def forward(self, z: Tensor) -> Tensor:
        x: Tensor = self.layers(z)
        return x


@dataclass(frozen=True)
class OwnMeans(Features):
    """Means over blocks of an image."""

    side: int = 2

    def build(self, shape: Shape, output: Output) -> FeatureMap:
        return FeatureMap(nn.AdaptiveAvgPool2d(self.side), n_features=shape[0] * self.side**2)


OWN = AutoencoderFeatures(
    partial(OwnEncoder, width=4),
    OwnDecoder,
    optimizer=partial(AdamW, lr=1e-2),
    lr_scheduler=partial(CosineAnnealingLR, T_max=6),
)


class Rates(pl.Callback):
    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(trainer.optimizers[0], AdamW)
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def test_own_networks_optimizer_and_schedule_train_and_load(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    detector, data, rates = make("kde", features=OWN), table(), Rates()
    trainer = fit(make_trainer, detector, data, epochs=6, callbacks=[rates])
    expected = [1e-2 * (1 + math.cos(math.pi * epoch / 6)) / 2 for epoch in range(6)]
    np.testing.assert_allclose(rates.rates, expected)
    assert auroc_on_test(trainer, detector, data) > 0.9
    trainer.save_checkpoint(tmp_path / "d.ckpt")
    loaded, x = load_detector(tmp_path / "d.ckpt"), raw_test_input(data)
    assert torch.equal(loaded.anomaly_score(x), detector.anomaly_score(x))


def test_a_fit_with_own_parts_goes_on_to_the_bit(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    def scores(epochs: int, **options: Any) -> Tensor:
        pl.seed_everything(0, verbose=False)
        detector, data = make("gmm", features=OWN), table()
        trainer = make_trainer(max_epochs=epochs)
        trainer.fit(detector, datamodule=data, **options)
        trainer.save_checkpoint(tmp_path / f"{epochs}.ckpt")
        return detector.anomaly_score(raw_test_input(data))

    scores(2)
    assert torch.equal(scores(5, ckpt_path=tmp_path / "2.ckpt", weights_only=True), scores(5))


def test_own_features_are_kept_in_a_checkpoint(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    detector, data = make("nearest_neighbor", features=OwnMeans(side=3), **UNIT), images()
    fit(make_trainer, detector, data).save_checkpoint(tmp_path / "d.ckpt")
    x = raw_test_input(data)
    blocks = nn.functional.adaptive_avg_pool2d(x[:2] / 255, 3).flatten(1).numpy()
    np.testing.assert_allclose(detector.represent(x[:2]), blocks, rtol=1e-6)
    loaded = load_detector(tmp_path / "d.ckpt")
    assert torch.equal(loaded.anomaly_score(x), detector.anomaly_score(x))


def test_an_encoder_without_a_mirror_image_needs_a_decoder(make_trainer: MakeTrainer) -> None:
    detector = make("kde", features=AutoencoderFeatures(partial(OwnEncoder, width=4)))
    with pytest.raises(ValueError, match="decoder must be given for OwnEncoder, which has no mirror image"):
        fit(make_trainer, detector, table())


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module that the page shows, imported as it says."""
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "mahalanobis.py").write_text("".join(code), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    before = dict(RECIPES)
    yield importlib.import_module("my_package.mahalanobis")
    for name in ("my_package.mahalanobis", "my_package"):
        del sys.modules[name]
    RECIPES.clear()
    RECIPES.update(before)


def test_the_estimator_that_the_docs_show_is_kept_in_a_checkpoint(
    make_trainer: MakeTrainer, tmp_path: Path, shown: Any
) -> None:
    detector, data = shown.Mahalanobis(preprocessing=StandardizeFeatures), table()
    trainer = fit(make_trainer, detector, data)
    assert auroc_on_test(trainer, detector, data) > 0.9
    trainer.save_checkpoint(tmp_path / "d.ckpt")
    loaded, x = load_detector(tmp_path / "d.ckpt"), raw_test_input(data)
    assert type(loaded) is shown.Mahalanobis
    assert torch.equal(loaded.anomaly_score(x), detector.anomaly_score(x))


def test_a_hostile_value_of_an_own_estimator_is_refused(make_trainer: MakeTrainer, tmp_path: Path, shown: Any) -> None:
    detector, data = shown.Mahalanobis(preprocessing=StandardizeFeatures), table()
    trainer = fit(make_trainer, detector, data)
    detector.estimator = shown.Gaussian(detector.estimator.mean[:-1], detector.estimator.precision)
    trainer.save_checkpoint(tmp_path / "d.ckpt")
    with pytest.raises(ValueError, match=r"its mean must have the shape \(6,\), it has \(5,\)"):
        load_detector(tmp_path / "d.ckpt")


def test_a_fit_without_a_recipe_is_refused_before_it_begins(make_trainer: MakeTrainer, shown: Any) -> None:
    del RECIPES[shown.Gaussian]
    detector: ShallowDetector = shown.Mahalanobis()
    with pytest.raises(ValueError, match=r"there must be a recipe for a Gaussian in adlightning\.shallow\.rebuilding"):
        fit(make_trainer, detector, table())
    assert not detector.ready_to_score()
