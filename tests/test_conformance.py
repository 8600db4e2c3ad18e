"""What every detector promises, by every method of ours; and that a broken promise is found and named."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

import pytest
import torch
from small_detectors import TRIALS
from torch import Tensor, nn
from torch.optim import SGD

from adlightning import methods, shallow
from adlightning.core.contracts import TrainBatch
from adlightning.core.detector import AnomalyDetector
from adlightning.core.optimization import one_optimizer, optimizer_part
from adlightning.core.parts import OptimizerFactory
from adlightning.testing import CHECKS, Trial, check_detector, parametrize_with_checks


@parametrize_with_checks(list(TRIALS.values()))
def test_what_every_detector_promises(trial: Trial, check: Callable[[Trial], None]) -> None:
    check(trial)


def test_every_method_is_on_trial() -> None:
    tried = {type(trial.given) for trial in TRIALS.values()}
    ours = {getattr(module, name) for module in (methods, shallow) for name in module.__all__}
    assert {cls for cls in ours if inspect.isclass(cls) and not inspect.isabstract(cls)} <= tried


# ---- broken promises -----------------------------------------------------------------------------------------------


class Sound(AnomalyDetector):
    """Squared outputs of a linear layer; it keeps all promises."""

    def __init__(self, optimizer: OptimizerFactory = partial(SGD, lr=1e-3), width: int = 4) -> None:
        super().__init__()
        self.make_optimizer = optimizer_part("optimizer", optimizer)
        self.width = width

    def build(self, shape: tuple[int, ...]) -> None:
        self.net = nn.Linear(shape[0], self.width)

    def configure_optimizers(self) -> Any:
        return one_optimizer(self.parameters(), self.make_optimizer, None)

    def training_step(self, batch: TrainBatch, batch_idx: int) -> Tensor:
        return self.anomaly_score(batch.x).mean()

    def anomaly_score(self, x: Tensor) -> Tensor:
        scores: Tensor = self.net(self.preprocess(x)).square().sum(dim=1)
        return scores


class BuiltTooSoon(Sound):
    def __init__(self, width: int = 4) -> None:
        super().__init__(width=width)
        self.early = nn.Linear(6, width)


class OfItsCompany(Sound):
    def anomaly_score(self, x: Tensor) -> Tensor:
        scores = super().anomaly_score(x)
        return scores - scores.mean()


class OfItsMode(Sound):
    calls: Tensor

    def build(self, shape: tuple[int, ...]) -> None:
        super().build(shape)
        self.register_buffer("calls", torch.zeros(()))

    def anomaly_score(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().anomaly_score(x)


class Still(Sound):
    def configure_optimizers(self) -> Any:
        return SGD(self.parameters(), lr=0.0)


class Forgetful(Sound):
    def build(self, shape: tuple[int, ...]) -> None:
        super().build(shape)
        self.scale = 1.0

    def on_train_epoch_end(self) -> None:
        super().on_train_epoch_end()
        self.scale += 1.0  # fitted, and no buffer

    def anomaly_score(self, x: Tensor) -> Tensor:
        return self.scale * super().anomaly_score(x)


class OfItsOwnDraws(Sound):
    made = count()

    def build(self, shape: tuple[int, ...]) -> None:
        super().build(shape)
        nn.init.constant_(self.net.weight, 1 + next(self.made))


class HalfPrecision(Sound):
    def build(self, shape: tuple[int, ...]) -> None:
        super().build(shape)
        self.register_buffer("moment", torch.zeros(3, dtype=torch.bfloat16))


@pytest.mark.parametrize(
    ("broken", "check", "words"),
    [
        (BuiltTooSoon, "constructor_keeps_arguments", "weights before `build` knows the data: early.weight"),
        (OfItsCompany, "score_is_of_sample_alone", "in batches of 3"),
        (OfItsMode, "score_changes_nothing", "value of calls differs"),
        (Still, "training_moves_weights_of_score", r"training did not change net.weight, net.bias"),
        (Forgetful, "checkpoint_is_whole_detector", "scores of the loaded detector are others"),
        (OfItsOwnDraws, "same_seed_gives_same_detector", "threshold differs"),
        (HalfPrecision, "mixed_precision", "bfloat16"),
    ],
)
def test_a_broken_promise_is_found(broken: type[Sound], check: str, words: str) -> None:
    (found,) = (function for function in CHECKS if function.__name__ == f"check_{check}")
    with pytest.raises(AssertionError, match=words):
        found(Trial(broken(), "table", max_epochs=2))


def test_all_checks_at_once_name_the_one_that_failed() -> None:
    check_detector(Sound(), "table", max_epochs=2)
    with pytest.raises(AssertionError) as failed:
        check_detector(OfItsCompany(), "table", max_epochs=2)
    assert failed.value.__notes__ == [
        "in check_score_is_of_sample_alone of OfItsCompany: A sample's score depends neither on the batch's size "
        "nor on the order or company of samples."
    ]
