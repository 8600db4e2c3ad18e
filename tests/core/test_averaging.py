"""Averages of weights: of weights alone, in the phase that is scored, and everything that is said is said of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from conftest import MakeTrainer
from pytorch_lightning.callbacks import EarlyStopping, EMAWeightAveraging, ModelCheckpoint, WeightAveraging
from torch import Tensor, nn
from torch.optim import Adam

from adlightning.checkpoints.loading import load_detector
from adlightning.core.contracts import TrainBatch
from adlightning.core.detector import AnomalyDetector
from adlightning.core.final_fit import fit_now
from adlightning.data.labelled import AnomalyLabelled
from adlightning.data.modules import AnomalyDataModule
from adlightning.data.one_vs_all import OneVsAll
from adlightning.labels import KNOWN_ANOMALY
from adlightning.methods import GOAD, DeepSVDD
from adlightning.methods.goad import AffineMaps
from adlightning.methods.parts.hypersphere import AutoencoderPretraining
from adlightning.networks.lenet import LeNetEncoder
from adlightning.shallow import KDE
from adlightning.testing import Blobs, Stripes


class ByEpoch(WeightAveraging):
    """The mean of the weights at the end of each epoch."""

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        return epoch_idx is not None


class Watch(pl.Callback):
    """Weights as they are after each step, seen before anything else of a detector's."""

    def __init__(self) -> None:
        self.after: list[dict[str, Tensor]] = []
        self.before: list[dict[str, Tensor]] = []

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.before.append(weights(pl_module))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.after.append(weights(pl_module))


def weights(module: nn.Module) -> dict[str, Tensor]:
    """What is trained."""
    return {name: weight.detach().clone() for name, weight in module.named_parameters()}


def statistics(module: nn.Module) -> dict[str, Tensor]:
    """Running statistics of normalisations."""
    return {name: value.clone() for name, value in module.state_dict().items() if "running_" in name}


def deep_svdd(pretrained: int = 2) -> DeepSVDD:
    optimizer = partial(Adam, lr=1e-2)
    return DeepSVDD(
        encoder=partial(LeNetEncoder, conv_channels=[4], rep_dim=16),
        pretraining=AutoencoderPretraining(epochs=pretrained, optimizer=optimizer, lr_scheduler=None),
        optimizer=optimizer,
        lr_scheduler=None,
    )


class Moments(AnomalyDetector):
    """Distances from the mean representation, fitted after the last step."""

    fits_at_end = True
    mean: Tensor

    def build(self, shape: tuple[int, ...]) -> None:
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(256, 4), nn.BatchNorm1d(4))
        self.register_buffer("mean", torch.full((4,), torch.nan))

    def configure_optimizers(self) -> Any:
        return Adam(self.parameters(), lr=1e-2)

    def training_step(self, batch: TrainBatch, batch_idx: int) -> Tensor:
        loss: Tensor = self.net(self.preprocess(batch.x)).square().mean()
        return loss

    def fit_on_training_data(self) -> None:
        kept = [batch.x[batch.known != KNOWN_ANOMALY] for batch in self.training_data()]
        self.mean.copy_(self.net(self.preprocess(torch.cat(kept))).mean(dim=0))

    def forget_fit(self) -> None:
        self.mean.fill_(torch.nan)

    def ready_to_score(self) -> bool:
        return bool(self.mean.isfinite().all())

    def anomaly_score(self, x: Tensor) -> Tensor:
        scores: Tensor = (self.net(self.preprocess(x)) - self.mean).square().sum(dim=1)
        return scores


class Frozen(nn.Module):
    """An encoder with a normalisation that training leaves alone, and one that it does not."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.frozen = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(256, affine=False)).eval()
        self.net = nn.Sequential(nn.Linear(256, 4, bias=False), nn.BatchNorm1d(4, affine=False))

    def train(self, mode: bool = True) -> Frozen:
        super().train(mode)
        self.frozen.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        encoded: Tensor = self.net(self.frozen(x))
        return encoded


class Earlier(Moments):
    """Validated before the end, fitted for it each time, as AMA is."""

    def first_scored(self) -> int:
        return 1

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        if not self.trainer.sanity_checking and self.current_epoch >= 1 and not self.ready_to_score():
            fit_now(self)


def stripes(held_out: float = 0.2) -> OneVsAll:
    return OneVsAll(Stripes(), 0, batch_size=16, seed=0, validation_fraction=held_out)


def fit(
    trainer: pl.Trainer, detector: AnomalyDetector, data: AnomalyDataModule | None = None, **options: Any
) -> AnomalyDetector:
    pl.seed_everything(0, verbose=False)
    trainer.fit(detector, datamodule=data or stripes(), **options)
    return detector


def mean(states: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([state[name] for state in states]).double().mean(0).float() for name in states[0]}


def close(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    for name in a:
        torch.testing.assert_close(b[name], a[name], rtol=1e-4, atol=1e-6, msg=name)


def expected_threshold(detector: AnomalyDetector, data: AnomalyDataModule, rows: Any) -> float:
    return float(np.quantile(detector.score(data.train_images(rows)), 0.95))


@pytest.mark.parametrize("held_out", [0.2, 0.0])
def test_the_mean_of_the_objectives_steps_is_what_is_left(make_trainer: MakeTrainer, held_out: float) -> None:
    watch, data = Watch(), stripes(held_out)
    detector = fit(make_trainer(max_epochs=5, callbacks=[watch, WeightAveraging()]), deep_svdd(), data)
    steps = len(watch.after) // 5
    close(mean(watch.after[2 * steps :]), weights(detector))
    rows = data.split.validation if held_out else data.split.train
    assert detector.threshold.item() == pytest.approx(expected_threshold(detector, data, rows), rel=1e-5)


def test_training_goes_on_with_what_was_trained(make_trainer: MakeTrainer) -> None:
    plain, averaged = Watch(), Watch()
    a = fit(make_trainer(max_epochs=5, callbacks=[plain]), deep_svdd())
    b = fit(make_trainer(max_epochs=5, callbacks=[averaged, EMAWeightAveraging(decay=0.9)]), deep_svdd())
    for before, after in ((plain.before, averaged.before), (plain.after, averaged.after)):
        assert all(torch.equal(x[name], y[name]) for x, y in zip(before, after, strict=True) for name in x)
    assert isinstance(a, DeepSVDD)
    assert isinstance(b, DeepSVDD)
    assert torch.equal(a.sphere.center, b.sphere.center)  # fitted before the objective, and left alone
    assert all(torch.equal(x, y) for x, y in zip(a.preprocess.buffers(), b.preprocess.buffers(), strict=True))
    assert a.threshold != b.threshold


def test_an_exponential_average_by_hand(make_trainer: MakeTrainer) -> None:
    watch = Watch()
    detector = fit(make_trainer(max_epochs=2, callbacks=[watch, EMAWeightAveraging(decay=0.8)]), deep_svdd(0))
    average = watch.after[0]
    for state in watch.after[1:]:
        average = {name: 0.8 * value + 0.2 * state[name] for name, value in average.items()}
    close(average, weights(detector))


@pytest.mark.parametrize("use_buffers", [True, False])
def test_statistics_of_normalisations_are_measured_for_the_averages(
    make_trainer: MakeTrainer, use_buffers: bool
) -> None:
    data = stripes()
    averaging = WeightAveraging(use_buffers=use_buffers)
    detector = fit(make_trainer(max_epochs=2, callbacks=[averaging]), deep_svdd(0), data)
    assert isinstance(detector, DeepSVDD)
    again = DeepSVDD(**detector.arguments)
    again.configure_for(data.input_spec)
    again.load_state_dict(detector.state_dict())
    norms = [part for part in again.modules() if isinstance(part, nn.BatchNorm2d)]
    assert norms
    for part in norms:
        part.reset_running_stats()
        part.momentum = None
    again.sphere.encoder.train()(again.preprocess(data.train_images(data.split.train)))
    close(statistics(again), statistics(detector))
    assert all(part.momentum == 0.1 for part in detector.modules() if isinstance(part, nn.BatchNorm2d))


def test_averages_of_epochs(make_trainer: MakeTrainer) -> None:
    watch = Watch()
    detector = fit(make_trainer(max_epochs=4, callbacks=[watch, ByEpoch()]), deep_svdd(1))
    steps = len(watch.after) // 4
    close(mean(watch.after[2 * steps - 1 :: steps]), weights(detector))


@pytest.mark.parametrize("stops_early", [False, True])
@pytest.mark.parametrize("held_out", [0.2, 0.0])
def test_what_is_fitted_at_the_end_is_fitted_to_averages(
    make_trainer: MakeTrainer, tmp_path: Path, stops_early: bool, held_out: float
) -> None:
    watch, data = Watch(), stripes(held_out)
    least = 1e9 if stops_early else 0.0
    stopper = EarlyStopping("train/loss", patience=1, min_delta=least, check_on_train_epoch_end=True)
    callbacks = [watch, WeightAveraging(), stopper, ModelCheckpoint(tmp_path)]
    detector = fit(make_trainer(max_epochs=3, callbacks=callbacks, enable_checkpointing=True), Moments(), data)
    assert isinstance(detector, Moments)
    assert len(watch.after) == (2 if stops_early else 3) * len(data.train_dataloader())
    close(mean(watch.after), weights(detector))
    x = data.train_images(data.split.train)
    detector.eval()
    with torch.no_grad():
        inner = detector.net[:2](detector.preprocess(x))
        torch.testing.assert_close(detector.net[2].running_mean, inner.mean(dim=0))
        torch.testing.assert_close(detector.mean, detector.net(detector.preprocess(x)).mean(dim=0))
    rows = data.split.validation if held_out else data.split.train
    assert detector.threshold.item() == pytest.approx(expected_threshold(detector, data, rows), rel=1e-5)


def test_checkpoints_hold_averages_with_their_threshold(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    every = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    watch = Watch()
    trainer = make_trainer(max_epochs=4, callbacks=[watch, WeightAveraging(), every], enable_checkpointing=True)
    fit(trainer, deep_svdd(0))
    steps = len(watch.after) // 4
    for epoch in range(4):
        saved = load_detector(tmp_path / f"epoch={epoch}.ckpt")
        close(mean(watch.after[: steps * (epoch + 1)]), weights(saved))
        data = stripes()
        data.setup("test")
        assert saved.threshold.item() == pytest.approx(expected_threshold(saved, data, data.split.validation), rel=1e-5)


@pytest.mark.parametrize("averaging", [WeightAveraging, partial(EMAWeightAveraging, decay=0.9)])
@pytest.mark.parametrize("options", [{}, {"check_val_every_n_epoch": 5}])
def test_a_fit_goes_on_to_the_same_bits(
    make_trainer: MakeTrainer, tmp_path: Path, averaging: Any, options: dict[str, Any]
) -> None:
    every = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
    keeps = make_trainer(max_epochs=5, callbacks=[averaging(), every], enable_checkpointing=True, **options)
    whole = fit(keeps, deep_svdd()).state_dict()
    for epoch in (0, 1, 3):
        begun: dict[str, Any] = {"ckpt_path": str(tmp_path / f"epoch={epoch}.ckpt"), "weights_only": True}
        trainer = make_trainer(max_epochs=5, callbacks=[averaging()], **options)
        resumed = fit(trainer, deep_svdd(), **begun).state_dict()
        assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []


def test_going_on_without_averages_is_refused(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    keeps = make_trainer(max_epochs=2, callbacks=[WeightAveraging()])
    fit(keeps, deep_svdd(0))
    keeps.save_checkpoint(tmp_path / "c.ckpt")
    begun: dict[str, Any] = {"ckpt_path": str(tmp_path / "c.ckpt"), "weights_only": True}
    with pytest.raises(ValueError, match="hold no averages of weights where a fit takes none: give the WeightAverag"):
        fit(make_trainer(max_epochs=3), deep_svdd(0), **begun)


def test_a_validation_within_an_epoch_is_of_averages_and_training_goes_on(make_trainer: MakeTrainer) -> None:
    plain, averaged = Watch(), Watch()
    fit(make_trainer(max_epochs=3, callbacks=[plain], val_check_interval=1), deep_svdd(0))
    fit(make_trainer(max_epochs=3, callbacks=[averaged, WeightAveraging()], val_check_interval=1), deep_svdd(0))
    for x, y in zip(plain.after, averaged.after, strict=True):
        assert all(torch.equal(x[name], y[name]) for name in x)


def test_scores_that_are_a_search_are_refused_with_normalisations(make_trainer: MakeTrainer) -> None:
    class Search(Moments):
        fits_at_end = False
        score_needs = "a search"

    with pytest.raises(ValueError, match=r"WeightAveraging is refused: .* have BatchNorms, .* needs a search"):
        fit(make_trainer(callbacks=[WeightAveraging()]), Search())


def test_one_callback_averages(make_trainer: MakeTrainer) -> None:
    several = [WeightAveraging(), EMAWeightAveraging(decay=0.9)]
    with pytest.raises(ValueError, match="one at most may average weights, got WeightAveraging, EMAWeightAveraging"):
        fit(make_trainer(callbacks=several), deep_svdd())


def test_statistics_that_training_leaves_alone_stay(make_trainer: MakeTrainer) -> None:
    pretraining = AutoencoderPretraining(epochs=0)
    detector = DeepSVDD(encoder=Frozen, pretraining=pretraining, optimizer=partial(Adam, lr=1e-2), lr_scheduler=None)
    fit(make_trainer(max_epochs=2, callbacks=[WeightAveraging()]), detector)
    assert isinstance(detector.sphere.encoder, Frozen)
    found = statistics(detector.sphere.encoder)
    assert not found["frozen.1.running_mean"].any()
    assert found["net.1.running_mean"].all()


@pytest.mark.parametrize("centers", ["trained", "running"])
@pytest.mark.parametrize("stops_early", [False, True])
def test_goads_centres_are_those_of_the_averages(
    make_trainer: MakeTrainer, tmp_path: Path, centers: Literal["trained", "running"], stops_early: bool
) -> None:
    data = AnomalyLabelled(Blobs(), batch_size=64, seed=0, validation_fraction=0.0)
    stopper = EarlyStopping("train/loss", patience=1, min_delta=1e9 if stops_early else 0.0)
    every = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
    detector = GOAD(maps=AffineMaps(number=4, dim=3), centers=centers, optimizer=partial(Adam, lr=1e-2))
    callbacks = [WeightAveraging(), stopper, every]
    fit(make_trainer(max_epochs=3, callbacks=callbacks, enable_checkpointing=True), detector, data)
    rows, _ = data.training_rows()
    x = data.train_images(rows)
    for found in (detector, load_detector(tmp_path / "epoch=0.ckpt", unfinished=True)):
        assert isinstance(found, GOAD)
        found.eval()
        with torch.no_grad():
            torch.testing.assert_close(found.map_centers, found.embed(found.preprocess(x)).mean(dim=0))
    assert detector.threshold.item() == pytest.approx(expected_threshold(detector, data, rows), rel=1e-5)


def test_a_best_checkpoint_before_the_end_holds_what_was_validated(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    best = ModelCheckpoint(tmp_path, monitor="val/score_mean", mode="max", filename="{epoch}", save_top_k=-1)
    trainer = make_trainer(max_epochs=4, callbacks=[WeightAveraging(), best], enable_checkpointing=True)
    data = stripes()
    fit(trainer, Earlier(), data)
    assert len(best.best_k_models) == 3
    for path in best.best_k_models:
        saved = Earlier()
        saved.configure_for(data.input_spec)
        saved.load_state_dict(torch.load(path, weights_only=True)["state_dict"])
        x = data.train_images(data.split.train)
        with torch.no_grad():
            inner = saved.net[:2](saved.preprocess(x))
            torch.testing.assert_close(saved.net[2].running_mean, inner.mean(dim=0))
            saved.eval()
            torch.testing.assert_close(saved.mean, saved.net(saved.preprocess(x)).mean(dim=0))


def _other_shape(state: dict[str, Any]) -> None:
    name = next(iter(state["trained"]))
    state["trained"][name] = state["trained"][name][:1]


def _not_finite(state: dict[str, Any]) -> None:
    next(iter(state["trained"].values())).fill_(torch.nan)


def _another_name(state: dict[str, Any]) -> None:
    state["trained"]["preprocess.mean"] = torch.zeros(1)


def _negative(state: dict[str, Any]) -> None:
    state["updates"] = -1


@pytest.mark.parametrize("change", [_other_shape, _not_finite, _another_name, _negative])
def test_trained_weights_of_another_form_are_refused(
    make_trainer: MakeTrainer, tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    keeps = make_trainer(max_epochs=2, callbacks=[WeightAveraging()])
    fit(keeps, deep_svdd(0))
    keeps.save_checkpoint(tmp_path / "c.ckpt")
    checkpoint = torch.load(tmp_path / "c.ckpt", weights_only=True)
    change(checkpoint["callbacks"]["AveragedWeights"])
    torch.save(checkpoint, tmp_path / "c.ckpt")
    begun: dict[str, Any] = {"ckpt_path": str(tmp_path / "c.ckpt"), "weights_only": True}
    with pytest.raises(ValueError, match=r"callbacks\.AveragedWeights\."):
        fit(make_trainer(max_epochs=3, callbacks=[WeightAveraging()]), deep_svdd(0), **begun)


def test_a_detector_that_trains_no_weights_has_none_to_average(make_trainer: MakeTrainer) -> None:
    with pytest.raises(ValueError, match="EMAWeightAveraging changes nothing: KDE trains no weights"):
        fit(make_trainer(callbacks=[EMAWeightAveraging()]), KDE())


@pytest.mark.parametrize("options", [{"update_every_n_steps": 0}, {"update_starting_at_step": 1000}])
def test_a_fit_without_an_average_says_so(make_trainer: MakeTrainer, options: dict[str, Any]) -> None:
    with pytest.warns(UserWarning, match=r"EMAWeightAveraging took no average in \d+ steps"):
        averaged = fit(make_trainer(callbacks=[EMAWeightAveraging(**options)]), deep_svdd(pretrained=0))
    plain = fit(make_trainer(), deep_svdd(pretrained=0))
    assert all(torch.equal(value, averaged.state_dict()[name]) for name, value in plain.state_dict().items())
