"""Scoring is scoring: from any mode, in any batch, twice in a row, with nothing left changed; and what is refused."""

from __future__ import annotations

import copy
import random
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from conftest import MakeTrainer
from small_detectors import TRIALS, make_data
from torch import Tensor, nn

from adlightning.__main__ import main
from adlightning.checkpoints.loading import load_detector
from adlightning.core.contracts import TrainBatch
from adlightning.core.detector import AnomalyDetector
from adlightning.core.scoring import evaluating, score_batches
from adlightning.core.thresholds import Contamination
from adlightning.data.modules import AnomalyDataModule
from adlightning.methods import (
    Autoencoder,
    DeepSVDD,
)
from adlightning.methods.parts.hypersphere import AutoencoderPretraining
from adlightning.networks import MLPEncoder
from adlightning.preprocessing import StandardizeFeatures
from adlightning.testing.state import require_same, state_of


def raw_of_test_set(data: AnomalyDataModule) -> Tensor:
    x = data.test_samples.x
    assert isinstance(x, Tensor)
    return x[torch.from_numpy(data.split.test)]


def fitted_on(name: str) -> tuple[AnomalyDetector, AnomalyDataModule]:
    """A detector after its trial's fit, and its data."""
    return TRIALS[name].fitted, TRIALS[name].fitted_data


def make_batch(x: Tensor) -> TrainBatch:
    return TrainBatch(x, torch.ones(len(x)), torch.arange(len(x)))


def raw_test(data: AnomalyDataModule, n: int = 40) -> Tensor:
    return raw_of_test_set(data)[:: max(1, len(data.split.test) // n)]


# ---- one score everywhere ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dcae", "deep_svdd on table", "series", "KDE"])
def test_all_ways_to_a_score_agree_to_the_bit(make_trainer: MakeTrainer, tmp_path: Path, name: str) -> None:
    pl.seed_everything(0, verbose=False)
    detector, data = TRIALS[name].make(), TRIALS[name].make_data()
    trainer = make_trainer(max_epochs=2)
    trainer.fit(detector, datamodule=data)
    of_fit = detector.score(raw_of_test_set(data), data.eval_batch_size)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    trainer.test(detector, datamodule=data, verbose=False)
    tested = detector.results["test"].scores
    trainer.predict(detector, datamodule=data)
    predicted = detector.results["test"].scores
    make_trainer().test(
        other := TRIALS[name].make(),
        datamodule=TRIALS[name].make_data(),
        ckpt_path=tmp_path / "last.ckpt",
        weights_only=True,
        verbose=False,
    )
    loaded = load_detector(tmp_path / "last.ckpt")
    assert np.array_equal(tested, of_fit)
    assert np.array_equal(tested, predicted)
    assert np.array_equal(tested, other.results["test"].scores)
    assert np.array_equal(tested, loaded.score(raw_of_test_set(data), data.eval_batch_size))
    assert np.array_equal(loaded.predict(raw_of_test_set(data)), tested > detector.threshold.item())


# ---- what is no detector yet ---------------------------------------------------------------------------------------


NETWORK: dict[str, Any] = {"encoder": partial(MLPEncoder, dense=(8,), rep_dim=2), "preprocessing": StandardizeFeatures}


def untrained() -> AnomalyDetector:
    return Autoencoder(**NETWORK, threshold=Contamination(0.1))  # set when training ends


def in_pretraining() -> AnomalyDetector:
    return DeepSVDD(**NETWORK, pretraining=AutoencoderPretraining(epochs=3))


class Keep(pl.Callback):
    """The checkpoint of an epoch's end, before there is a threshold."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.save_checkpoint(self.path)


@pytest.mark.parametrize(
    ("make", "epochs", "reason"),
    [(in_pretraining, 4, "in pre-training"), (untrained, 1, "no threshold, since its training has not ended")],
)
def test_what_is_saved_too_early_gives_neither_scores_nor_verdicts(
    make_trainer: MakeTrainer, tmp_path: Path, make: Callable[[], AnomalyDetector], epochs: int, reason: str
) -> None:
    path = tmp_path / "early.ckpt"

    class First(Keep):
        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            if trainer.current_epoch == 0:
                super().on_train_epoch_end(trainer, pl_module)

    data = make_data("table")
    make_trainer(max_epochs=epochs, callbacks=[First(path)]).fit(make(), datamodule=data)
    with pytest.raises(ValueError, match=f"early.ckpt was saved before its detector could score: .*{reason}"):
        load_detector(path)
    x = raw_test(data)
    early = load_detector(path, unfinished=True)
    for ask in (early.score, early.predict):
        with pytest.raises(ValueError, match=f"cannot score yet: .*{reason}"):
            ask(x)
    for verb in ("test", "predict", "validate"):
        with pytest.raises(ValueError, match=f"cannot score yet: .*{reason}"):
            getattr(make_trainer(), verb)(make(), datamodule=data, ckpt_path=path, weights_only=True)
    (tmp_path / "x.csv").write_text("a,b,c,d,e,f\n1,2,3,4,5,6\n")
    for arguments in (
        ["score", f"--data={tmp_path / 'x.csv'}", f"--out={tmp_path / 's.csv'}"],
        ["export", "--format=torch"],
    ):
        assert main([arguments[0], f"--ckpt_path={path}", *arguments[1:]]) == 2
    assert sorted(file.name for file in tmp_path.iterdir()) == ["early.ckpt", "x.csv"]


def test_what_was_never_trained_gives_neither(make_trainer: MakeTrainer) -> None:
    detector, data = untrained(), make_data("table")
    x = np.zeros((2, 6))
    ask: Any
    for ask in (detector.score, detector.predict, detector.anomaly_score):
        with pytest.raises(ValueError, match="Autoencoder cannot score yet: it was not trained on any data"):
            ask(x)
    for verb in ("test", "predict", "validate"):
        with pytest.raises(ValueError, match="cannot score yet: its training has not begun"):
            getattr(make_trainer(), verb)(untrained(), datamodule=data)


# ---- input ---------------------------------------------------------------------------------------------------------


def test_a_frame_is_matched_by_the_names_of_its_columns() -> None:
    detector: Any
    detector, data = fitted_on("deep_svdd on table")
    x = raw_test(data).numpy()
    expected = detector.score(x)
    frame = pd.DataFrame(x, columns=list("abcdef"))
    assert np.array_equal(detector.score(frame[list("fedcba")].set_index(np.arange(len(x))[::-1])), expected)
    refusals = {
        "x lacks the columns 'b'": frame.drop(columns="b"),
        "x has columns the detector was not trained on: 'g'": frame.assign(g=1.0),
        "x has several columns of the name 'a'": pd.concat([frame, frame[["a"]]], axis=1),
        "column 'c' is not numeric, it holds 'high' in row 0": frame.assign(c="high"),
        "column 'c' has no value": frame.assign(c=np.nan),
    }
    for words, wrong in refusals.items():
        with pytest.raises(ValueError, match=words):
            detector.score(wrong)
        with pytest.raises(ValueError, match=words):
            detector.anomaly_score(wrong)


def test_arrays_and_tensors_of_any_number_type_are_features() -> None:
    detector, data = fitted_on("deep_svdd on table")
    whole = raw_test(data).round()
    expected = detector.score(whole)
    for dtype in (torch.float64, torch.int64, torch.int32):
        assert np.array_equal(detector.score(whole.to(dtype)), expected)
    assert np.array_equal(detector.score(np.asfortranarray(whole.numpy())), expected)
    assert np.array_equal(detector.score(whole.numpy().astype(">f8")), expected)
    assert np.array_equal(detector.score(whole.clone().requires_grad_()), expected)


IMAGES = np.zeros((3, 1, 16, 16), np.uint8)


@pytest.mark.parametrize(
    ("case_name", "x", "words"),
    [
        ("deep_svdd on table", np.zeros((3, 5)), "x holds samples of 5; the detector was trained on 6 features"),
        ("deep_svdd on table", np.zeros(6), "x holds samples of one number; the detector was trained on 6 features"),
        ("deep_svdd on table", np.full((3, 6), np.nan), "x holds nan at row 0, column 0"),
        ("deep_svdd on table", np.array([[1.0] * 6, [np.inf] * 6]), "x holds inf at row 1, column 0"),
        ("deep_svdd on table", np.zeros((3, 6), complex), "x holds complex128 .* numbers are needed"),
        ("deep_svdd on table", np.full((3, 6), "1"), "x holds <U1 .* numbers are needed"),
        ("deep_svdd on table", [[1.0] * 6], "x must be a NumPy array, a tensor or a pandas frame, got a list"),
        ("deep_svdd on table", torch.eye(6).to_sparse(), "x must be a dense tensor .* torch.sparse_coo"),
        ("deep_svdd on table", torch.zeros(3, 6, device="meta"), "x must be a dense tensor with values, .* on meta"),
        ("deep_svdd on table", np.ma.masked_greater(np.eye(6), 0), "x must hold every value, .* 6 masked ones"),
        ("dcae", np.ma.masked_less(IMAGES, 1), "x must hold every value, got an array with 768 masked ones"),
        (
            "dcae",
            np.full((3, 1, 16, 16), 2.0, np.float32),
            "x holds images with the value 2.0: uint8 in 0..255 or floats",
        ),
        ("dcae", np.zeros((3, 1, 16, 16), np.int64), "x holds int64 images: uint8 in 0..255 or floats"),
        ("dcae", np.zeros((3, 16, 16, 3), np.uint8), "x holds samples of 16x16x3; the detector was trained on 1x16x16"),
        ("dcae", np.zeros((3, 1, 8, 8), np.uint8), "x holds samples of 1x8x8; the detector was trained on 1x16x16"),
        ("dcae", pd.DataFrame({"a": [1.0]}), "x is a table; the detector was trained on 1x16x16 images"),
        ("series", np.zeros((3, 5, 2)), "x holds samples of 5x2; the detector was trained on 6x2 series"),
    ],
)
def test_input_that_does_not_fit_is_refused(case_name: str, x: Any, words: str) -> None:
    detector, _ = fitted_on(case_name)
    for ask in (detector.score, detector.predict, detector.anomaly_score):
        with pytest.raises(ValueError, match=words):
            ask(x)


def test_images_of_one_channel_need_none() -> None:
    detector, data = fitted_on("dcae")
    x = raw_test(data)
    assert np.array_equal(detector.score(x[:, 0]), detector.score(x))


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, True, None, "3", float("nan")])
def test_a_batch_has_a_whole_number_of_samples(batch_size: Any) -> None:
    detector, data = fitted_on("deep_svdd on table")
    with pytest.raises(ValueError, match=f"batch_size must be a whole number and at least 1, got {batch_size!r}"):
        detector.score(raw_test(data), batch_size=batch_size)


# ---- methods of one's own ------------------------------------------------------------------------------------------


class Own(AnomalyDetector):
    """A method whose loss is made of its score, with all that depends on the mode."""

    def build(self, shape: tuple[int, ...]) -> None:
        self.net = nn.Sequential(nn.Linear(shape[0], 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Dropout(), nn.Linear(4, 1))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        scores = self.anomaly_score(batch.x)
        assert scores.requires_grad
        assert self.net.training
        self.seen = [score_batches(self, [batch.x]) for _ in range(2)]
        assert self.net.training
        return scores.square().mean()

    def anomaly_score(self, x: Tensor) -> Tensor:
        scores: Tensor = self.net(self.preprocess(x))
        return scores.squeeze(1)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1e-3)


class Mixin:
    """Part of a method, which knows nothing of detectors."""

    def anomaly_score(self, x: Tensor) -> Tensor:
        return 2 * super().anomaly_score(x)  # type: ignore[misc, no-any-return]


class Mixed(Mixin, Own):
    """A score that comes from beside the base class."""


class Decorated(Own):
    """A score with a decorator of one's own, that draws and takes gradients."""

    @torch.no_grad()
    def anomaly_score(self, x: Tensor) -> Tensor:
        x = self.preprocess(x)
        with torch.enable_grad():
            x = x.clone().requires_grad_()
            (slope,) = torch.autograd.grad(self.net(x).sum(), x)
        drawn = torch.rand(1) + float(np.random.rand()) + random.random()  # noqa: NPY002
        scores: Tensor = torch.linalg.vector_norm(slope, dim=1) + drawn
        return scores

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss: Tensor = self.net(self.preprocess(batch.x)).square().mean()
        return loss


class Scored(Own):
    """Another thread asks for scores during a step, and gets them after it."""

    def build(self, shape: tuple[int, ...]) -> None:
        super().build(shape)
        self.by_others: list[Tensor] = []
        self.modes: list[bool] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        other = threading.Thread(target=lambda: self.by_others.append(self.anomaly_score(batch.x)))
        other.start()
        other.join(timeout=0.05)
        loss: Tensor = self.net(self.preprocess(batch.x)).square().mean()
        self.modes.append(not self.net.training)
        return loss


class Column(Decorated):
    """Scores (B, 1), as a linear layer gives them."""

    def anomaly_score(self, x: Tensor) -> Tensor:
        scores: Tensor = self.net(self.preprocess(x))
        return scores


class Mean(Decorated):
    """One score for all samples, as a loss is."""

    def anomaly_score(self, x: Tensor) -> Tensor:
        return self.net(self.preprocess(x)).square().mean()  # type: ignore[no-any-return]


@pytest.fixture
def fitted(make_trainer: MakeTrainer) -> Callable[[type[AnomalyDetector]], tuple[AnomalyDetector, Tensor]]:
    def make(cls: type[AnomalyDetector]) -> tuple[AnomalyDetector, Tensor]:
        detector, data = cls(preprocessing=StandardizeFeatures), make_data("table")
        make_trainer(max_epochs=1).fit(detector, datamodule=data)
        return detector, raw_test(data)

    return make


@pytest.mark.parametrize("cls", [Own, Mixed, Decorated])
def test_a_method_of_ones_own_writes_a_step_and_a_score(fitted: Any, cls: type[AnomalyDetector]) -> None:
    detector, x = fitted(cls)
    expected = detector.eval().score(x)
    detector.train()
    before = state_of(detector)
    for _ in range(2):
        assert np.array_equal(detector.anomaly_score(x).double().numpy(), expected)
        assert np.array_equal(detector.score(x), expected)
        require_same(before, state_of(detector))
    copied = copy.deepcopy(detector)
    assert np.array_equal(copied.score(x), expected)


@pytest.mark.parametrize(("cls", "shape"), [(Column, r"\(\d+, 1\)"), (Mean, r"\(\)")])
def test_a_score_that_is_not_one_for_each_sample_is_refused(
    fitted: Any, cls: type[AnomalyDetector], shape: str
) -> None:
    with pytest.raises(ValueError, match=rf"anomaly_score of {cls.__name__} must give .* shape {shape}$"):
        fitted(cls)


def test_a_trainers_step_has_gradients_and_a_score_within_it_has_none(
    fitted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector, x = fitted(Own)
    monkeypatch.setattr(detector, "_current_fx_name", "training_step")  # as Lightning has it during a step
    loss = detector.train().training_step(make_batch(x), 0)
    assert loss.requires_grad
    assert np.array_equal(detector.seen[0], detector.seen[1])


@pytest.mark.parametrize("stop", [ArithmeticError, KeyboardInterrupt])
def test_a_score_is_a_score_after_a_step_that_failed(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException]
) -> None:
    detector, data = DeepSVDD(**NETWORK, pretraining=AutoencoderPretraining(epochs=0)), make_data("table")
    make_trainer(max_epochs=1).fit(detector, datamodule=data)
    expected, x = detector.score(raw_test(data)), raw_test(data)

    def broken(x: Tensor) -> Tensor:
        raise stop

    with monkeypatch.context() as patched:
        patched.setattr(detector.sphere.encoder, "forward", broken)
        with pytest.raises((stop, SystemExit)):
            make_trainer(max_epochs=1).fit(detector, datamodule=data)
    assert detector.training
    before = state_of(detector)
    found = detector.anomaly_score(x)
    assert not found.requires_grad
    assert np.array_equal(found.double().numpy(), expected)
    require_same(before, state_of(detector))


def test_a_thread_that_scores_while_another_trains_scores(make_trainer: MakeTrainer) -> None:
    detector, data = Scored(preprocessing=StandardizeFeatures), make_data("table")
    make_trainer(max_epochs=1).fit(detector, datamodule=data)
    assert detector.by_others
    assert not any(scores.requires_grad for scores in detector.by_others)
    assert not any(detector.modes)


def test_modes_come_back_when_a_score_fails(fitted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    detector, x = fitted(Own)
    detector.train()
    detector.net[1].eval()
    before = state_of(detector)

    def broken(x: Tensor) -> Tensor:
        raise ArithmeticError("no")

    monkeypatch.setattr(detector.net[-1], "forward", broken)
    with pytest.raises(ArithmeticError):
        detector.score(x)
    require_same(before, state_of(detector))


def test_scores_of_threads_take_turns(fitted: Any) -> None:
    detector, x = fitted(Own)
    expected, found = detector.eval().score(x), []
    other = threading.Thread(target=lambda: found.append(detector.score(x)))
    detector.train()
    with detector.turn.lock:
        other.start()
        other.join(timeout=0.2)
        assert not found
        assert detector.net.training
    other.join()
    assert np.array_equal(found[0], expected)
    assert detector.net.training


def test_modes_within_an_evaluation_and_after_it() -> None:
    frozen, inner = nn.Sequential(nn.Dropout()), nn.Dropout()
    net = nn.Sequential(nn.Dropout(), frozen.append(inner).eval())
    inner.train()
    before = [module.training for module in net.modules()]
    with evaluating(net):
        assert not any(module.training for module in net.modules())
        assert not torch.is_grad_enabled()
    assert [module.training for module in net.modules()] == before
    assert torch.is_grad_enabled()
