"""What every detector promises, by every method of ours; and that a broken promise is found and named."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

import pytest
import torch
from small_detectors import TRIALS
from torch import Tensor, nn
from torch.optim import LBFGS, SGD, Optimizer
from torch.optim.lr_scheduler import StepLR

from adlightning import methods, shallow
from adlightning.core.contracts import TrainBatch
from adlightning.core.detector import AnomalyDetector
from adlightning.core.optimization import one_optimizer, optimizer_part, scheduler_part
from adlightning.core.parts import OptimizerFactory
from adlightning.testing import CHECKS, Trial, check_detector, parametrize_with_checks
from adlightning.testing.checks import check_checkpoint_is_whole_detector, check_fit_goes_on_to_same_bits


def _again(name: str) -> bool:
    """Whether another trial has the same detector: on the other kind of data, by another score, or a near relative."""
    method, _, kind = name.partition(" on ")
    twice = kind == "image" and f"{method} on table" in TRIALS and method not in ("autoencoder", "deep_sad", "drocc")
    return twice or name in ("adgan by its critic", "vae drawing", "semi_supervised_ama", "s_score", "typicality")


@parametrize_with_checks([trial for name, trial in TRIALS.items() if not _again(name)])
def test_what_every_detector_promises(trial: Trial, check: Callable[[Trial], None]) -> None:
    check(trial)


@pytest.mark.slow
@parametrize_with_checks([trial for name, trial in TRIALS.items() if _again(name)])
def test_what_every_detector_promises_elsewhere(trial: Trial, check: Callable[[Trial], None]) -> None:
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


class Drawn(Sound):
    def build(self, shape: tuple[int, ...]) -> None:
        super().build(shape)
        self.scale = 1 + torch.rand(()).item()  # no buffer

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


class Hooked(Sound):
    def anomaly_score(self, x: Tensor) -> Tensor:
        self.net.register_forward_hook(lambda *_: None)
        return super().anomaly_score(x)


class Growing(Sound):
    def __init__(self, widths: Sequence[int] = (4,)) -> None:
        super().__init__()
        self.widths = widths

    def build(self, shape: tuple[int, ...]) -> None:
        super().build(shape)
        self.arguments["widths"] = [*self.widths, 8]


class Column(Sound):
    def anomaly_score(self, x: Tensor) -> Tensor:
        return super().anomaly_score(x)[:, None]


class Whole(Sound):
    def anomaly_score(self, x: Tensor) -> Tensor:
        scores = super().anomaly_score(x)
        return scores if scores.requires_grad else scores.long()


class Squeezed(Sound):
    def anomaly_score(self, x: Tensor) -> Tensor:
        return super().anomaly_score(x).squeeze()


class Lazy(Sound):
    def build(self, shape: tuple[int, ...]) -> None:
        self.net = nn.LazyLinear(4)


class Kind(ABC):
    @abstractmethod
    def power(self) -> int: ...


@dataclass(frozen=True)
class Square(Kind):
    def power(self) -> int:
        return 2


class OfAFamily(Sound):
    def __init__(self, kind: Kind = Square()) -> None:
        super().__init__()
        self.kind = kind


class Untyped(Sound):
    def __init__(self, optimizer: Any = partial(SGD, lr=1e-3)) -> None:
        super().__init__(optimizer)


@pytest.mark.parametrize(
    ("broken", "check", "words"),
    [
        (Hooked, "score_changes_nothing", "hooks of net differs"),
        (Growing, "checkpoint_is_whole_detector", "changed the argument widths"),
        (BuiltTooSoon, "constructor_keeps_arguments", "weights before `build` knows the data: early.weight"),
        (OfItsCompany, "score_is_of_sample_alone", "in batches of 3"),
        (OfItsMode, "score_changes_nothing", "value of calls, buffer calls differ"),
        (Still, "training_moves_weights_of_score", r"training did not change net.weight, net.bias"),
        (Forgetful, "checkpoint_is_whole_detector", "scores of the loaded detector are others"),
        (Drawn, "checkpoint_is_whole_detector", "scores of the loaded detector are others"),
        (OfItsOwnDraws, "same_seed_gives_same_detector", "threshold, held_out_scores, net.weight, net.bias differ"),
        (HalfPrecision, "mixed_precision", "bfloat16"),
    ],
)
def test_a_broken_promise_is_found(broken: type[Sound], check: str, words: str) -> None:
    (found,) = (function for function in CHECKS if function.__name__ == f"check_{check}")
    with pytest.raises(AssertionError, match=words):
        found(Trial(broken(), "table", max_epochs=2))


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (Column, r"anomaly_score of Column must give .* of shape \(6,\) here, got float32 of shape \(6, 1\)"),
        (Whole, r"anomaly_score of Whole must give a tensor of floats.* got int64 of shape \(6,\)"),
        (Lazy, "build of Lazy must make weights of sizes that it knows .* got lazy ones: net.weight, net.bias"),
        (OfAFamily, "kind: Kind must be a subclass of adlightning.core.parts.Part, .* got Square"),
        (Untyped, "optimizer must have the type of a part in the constructor of Untyped"),
    ],
)
def test_what_no_fit_can_do_without_is_named_by_the_fit(broken: type[Sound], words: str) -> None:
    with pytest.raises(ValueError, match=words) as refused:
        _ = Trial(broken(), "table", max_epochs=2).fitted
    assert refused.value.__notes__ == [f"in the fit of {broken.__name__} that all checks share, not in a check"]


def test_a_score_of_one_sample_is_one_of_a_batch() -> None:
    trained = Trial(Squeezed(), "table", max_epochs=1)
    with pytest.raises(ValueError, match=r"must give a tensor of floats, one a sample, of shape \(1,\) here"):
        trained.fitted.score(trained.test_input()[:1])


def test_arguments_without_a_name_are_refused() -> None:
    with pytest.raises(ValueError, match=r"arguments of Unnamed must be given by name, got \(4,\) as \*sizes"):
        Unnamed(4)


class Unnamed(Sound):
    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self.sizes = sizes


# ---- unusual, and sound ---------------------------------------------------------------------------------------------


class Derived(Sound):
    def __init__(self, factor: float = 2.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor = factor

    def anomaly_score(self, x: Tensor) -> Tensor:
        return self.factor * super().anomaly_score(x)


class Doubles(Sound):
    def build(self, shape: tuple[int, ...]) -> None:
        self.net = nn.Linear(shape[0], self.width).double()

    def anomaly_score(self, x: Tensor) -> Tensor:
        scores: Tensor = self.net(self.preprocess(x).double()).square().sum(dim=1)
        return scores


class Slope(Sound):
    """A score that takes gradients, and keeps their graph only for a loss."""

    def anomaly_score(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            point = self.preprocess(x).detach().requires_grad_()
            heights = self.net(point).square().sum(dim=1)
            (slope,) = torch.autograd.grad(heights.sum(), point, create_graph=self.training)
        scores: Tensor = slope.square().sum(dim=1) + heights
        return scores


class BeforeBatchNorm(Sound):
    def build(self, shape: tuple[int, ...]) -> None:
        self.net = nn.Sequential(nn.Linear(shape[0], 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))  # type: ignore[assignment]


@pytest.mark.parametrize("sound", [Derived(width=3), Doubles(), Slope(), BeforeBatchNorm()])
def test_what_keeps_its_promises_passes(sound: Sound) -> None:
    check_detector(sound, "table", max_epochs=2)


def test_all_checks_at_once_name_the_one_that_failed() -> None:
    check_detector(Sound(), "table", max_epochs=2)
    with pytest.raises(AssertionError) as failed:
        check_detector(OfItsCompany(), "table", max_epochs=2)
    assert failed.value.__notes__ == [
        "in check_score_is_of_sample_alone of OfItsCompany: A sample's score depends neither on the batch's size "
        "nor on the order or company of samples."
    ]


class Rated(Optimizer):
    """An optimiser of one's own: without `lr`, and with an argument that has no default."""

    def __init__(self, params: Any, rate: float) -> None:
        super().__init__(params, {"rate": rate})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    weight.sub_(group["rate"] * weight.grad)
        return loss


def test_an_optimiser_of_ones_own_needs_no_learning_rate() -> None:
    trial = Trial(Sound(partial(Rated, rate=1e-3)), "table", max_epochs=2)
    check_fit_goes_on_to_same_bits(trial)
    check_checkpoint_is_whole_detector(trial)
    with pytest.raises(ValueError, match="lr_scheduler must be null with Rated, which has no learning rate `lr`"):
        one_optimizer(
            [nn.Parameter(torch.zeros(1))],
            optimizer_part("optimizer", partial(Rated, rate=1e-3)),
            scheduler_part("lr_scheduler", partial(StepLR, step_size=1)),
        )


def test_a_fit_by_an_optimiser_that_needs_a_closure_does_not_go_on() -> None:
    trial = Trial(Sound(partial(LBFGS, lr=1e-2, max_iter=2)), "table", max_epochs=2)
    with pytest.raises(
        ValueError, match="a fit by LBFGS cannot go on from a checkpoint, since its steps need a closure"
    ):
        check_fit_goes_on_to_same_bits(trial)
