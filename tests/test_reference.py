"""The five papers' methods against independent references: losses, gradients, weights and scores of a fit in float64.

`tests/reference/` has them, without torch and without anything of ours. Here a detector with their weights is fitted by
a Trainer to their samples, whole data a batch and a batch an epoch, with their draws in the place of torch's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from conftest import MakeTrainer
from reference import adgan, make
from reference.calculus import Array, Given
from reference_detectors import MAKERS
from torch import Tensor

from adlightning.core.contracts import InputSpec, TrainBatch
from adlightning.data.composition import Split
from adlightning.data.loading import IndexBatches, TensorLoader
from adlightning.data.modules import AnomalyDataModule
from adlightning.data.sources.base import AnomalySource, Part, Samples
from adlightning.methods.parts import inversion

NEAR = 1e-9
EXPECTED: dict[str, Any] = json.loads(make.FILE.read_text())


# ---- data, draws and what is watched ---------------------------------------------------------------------------------


class Rows(AnomalySource):
    name = "given"

    def __init__(self, given: Given) -> None:
        self.x = torch.from_numpy(given.x).to(torch.uint8 if given.x.ndim == 4 else torch.float32)

    def input_spec(self) -> InputSpec:
        return InputSpec("image" if self.x.ndim == 4 else "table", tuple(self.x.shape[1:]))

    def load(self, part: Part) -> Samples:
        return Samples(self.x, np.zeros(len(self.x), dtype=np.int64), tuple(map(str, range(len(self.x)))))


class InOrder(AnomalyDataModule):
    """All training samples in one batch, in the order given; nothing is held out or tested."""

    def __init__(self, given: Given) -> None:
        unlabelled = sum(label == 0 for label in given.known) if 1 in given.known else len(given.x)
        super().__init__(batch_size=unlabelled, validation_fraction=0.0, seed=0)
        self.given = given

    @property
    def data_source(self) -> Rows:
        return Rows(self.given)

    def make_split(self) -> tuple[Samples, Samples, Split, str]:
        samples, none = self.data_source.load("train"), np.empty(0, dtype=np.int64)
        split = Split(np.arange(len(samples.y)), np.array(self.given.known), none, none, none, none)
        return samples, samples, split, "given"

    def train_dataloader(self) -> TensorLoader[TrainBatch]:
        self._train_loader(shuffle=False)
        assert self._columns is not None
        return TensorLoader(self._columns, IndexBatches(len(self.given.x), len(self.given.x)), torch.device("cpu"))


class Draws:
    """What torch is to draw, in order; to ask for another kind or size than the reference has is a mistake."""

    def __init__(self, draws: tuple[Array, ...]) -> None:
        self.left = [torch.from_numpy(draw) for draw in draws]

    def take(self, kind: str, *size: int) -> Tensor:
        assert self.left, f"torch.{kind} of {size}, the reference draws nothing more"
        drawn = self.left.pop(0)
        assert (kind, size) == (kind_of(drawn), drawn.shape), f"the reference has {kind_of(drawn)} of {drawn.shape}"
        return drawn

    def replace_torchs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch, "rand", lambda *size, **_: self.take("rand", *size))
        monkeypatch.setattr(torch, "randn", lambda *size, **_: self.take("randn", *size))
        monkeypatch.setattr(torch, "randn_like", lambda x: self.take("randn", *x.shape))
        monkeypatch.setattr(torch, "randint", lambda high, size, **_: self.take("randint", *size))


def kind_of(drawn: Tensor) -> str:
    """What torch calls a draw of such values: whole, in [0, 1), or with some below 0."""
    return "randint" if not drawn.is_floating_point() else "rand" if drawn.min() >= 0 else "randn"


class Watch(pl.Callback):
    """Losses that are differentiated, and gradient norms at the steps of optimisers; players of one loss together."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.gradients: list[dict[str, float]] = []

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        self.losses.append(loss.item())
        self.gradients.append({})

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        moving = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
        for name, weight in pl_module.named_parameters():
            if id(weight) in moving and weight.grad is not None:
                self.gradients[-1][short(name)] = weight.grad.norm().item()


def short(name: str) -> str:
    """A weight's name as the references have it."""
    return name.removeprefix("sphere.").removeprefix("net.").replace("head.1.", "head.")


@pytest.fixture(autouse=True)
def in_float64(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Methods compute in float64 what they else keep in float32."""
    monkeypatch.setattr(Tensor, "float", Tensor.double)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


# ---- the comparison --------------------------------------------------------------------------------------------------


def test_what_is_expected_is_what_the_references_give() -> None:
    found = make.made()
    assert found.keys() == EXPECTED.keys(), "run tests/reference/make.py"
    for case, values in found.items():
        same(values, EXPECTED[case], case, 1e-12)


@pytest.mark.parametrize(
    ("reference", "case"), [pytest.param(module, case, id=case) for module in MAKERS for case in module.CASES]
)
def test_a_fit_is_that_of_the_reference(
    reference: Any, case: str, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, watch, (build, epochs) = reference.given(case), Watch(), MAKERS[reference]
    detector, data = build(case), InOrder(given)
    detector.configure_for(data.data_source.input_spec())
    weights = {short(name): weight for name, weight in detector.named_parameters()}
    assert {name: tuple(weight.shape) for name, weight in weights.items()} == {
        name: value.shape for name, value in given.weights.items()
    }
    for name, weight in weights.items():
        weight.data.copy_(torch.from_numpy(given.weights[name]))
    draws = given.draws
    if reference is adgan:  # the search's are drawn by what is in a sample
        *draws, starts = draws
        monkeypatch.setattr(
            inversion, "starting_latents", lambda x, n, *_: torch.from_numpy(starts).expand(len(x), *starts.shape)
        )
    drawn = Draws(tuple(draws))
    with monkeypatch.context() as patched:
        drawn.replace_torchs(patched)
        make_trainer(max_epochs=epochs(case), callbacks=[watch]).fit(detector, datamodule=data)
    assert not drawn.left, "the reference draws more"
    tested = torch.from_numpy(given.tested)
    found = {
        "losses": watch.losses,
        "gradients": watch.gradients,
        "weights": {name: weight.norm().item() for name, weight in weights.items()},
        "scores": detector.anomaly_score(tested.to(torch.uint8) if tested.ndim == 4 else tested.float()).tolist(),
    }
    same(found, EXPECTED[case], case, NEAR)


def same(found: Any, expected: Any, where: str, near: float) -> None:
    """All numbers are near, by the size of each; 1e-11 is what the penalty's 1e-12 under the root may make."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key, value in expected.items():
            same(found[key], value, f"{where}: {key}", near)
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for i, value in enumerate(expected):
            same(found[i], value, f"{where} {i}", near)
    else:
        assert found == pytest.approx(expected, rel=near, abs=1e-11), where
