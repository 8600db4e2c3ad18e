"""DSEBM: energies and their gradient by hand, denoising, scores, series whose past is given, refusals."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from conftest import MakeTrainer
from torch import Tensor, nn
from torch.optim import Adam

from adlightning.core.contracts import InputSpec, TrainBatch
from adlightning.methods import DSEBM
from adlightning.methods.dsebm import reconstruction
from adlightning.networks.energy import ConvolutionalEnergy, DenseEnergy, RecurrentEnergy, energy_of
from adlightning.preprocessing import Identity
from adlightning.testing import small_data

SHAPES: dict[str, tuple[int, ...]] = {"table": (6,), "image": (1, 16, 16), "series": (6, 2)}


def softplus(value: float) -> float:
    return math.log(1 + math.exp(value))


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def dense() -> DenseEnergy:
    """Two features, one hidden unit: h = softplus(2 x_1 - x_2 + 0.5), b' = (1, 0)."""
    energy = DenseEnergy((2,), hidden=(1,))
    energy.load_state_dict(
        {
            "visible_bias": torch.tensor([1.0, 0.0]),
            "layers.0.weight": torch.tensor([[2.0, -1.0]]),
            "layers.0.bias": torch.tensor([0.5]),
        }
    )
    return energy


def built(kind: Any = "table", **options: Any) -> DSEBM:
    torch.manual_seed(0)
    detector = DSEBM(**{"preprocessing": Identity if kind != "image" else None, **options})
    detector.configure_for(InputSpec(kind, SHAPES[kind]))
    return detector


# ---- energies --------------------------------------------------------------------------------------------------------


def test_energy_by_hand() -> None:
    x, bias, hidden = torch.tensor([[3.0, 1.0], [0.0, 0.0]]), torch.tensor([1.0, 0.0]), torch.tensor([[0.5], [2.0]])
    torch.testing.assert_close(energy_of(x, bias, hidden), torch.tensor([2.5 - 0.5, 0.5 - 2.0]))
    assert dense()(torch.tensor([[3.0, 1.0]])).item() == pytest.approx(2.5 - softplus(5.5))


def test_reconstruction_by_hand() -> None:
    # f(x) = x - dE/dx = b' + sigmoid(2 x_1 - x_2 + 0.5) (2, -1)
    with torch.no_grad():
        rebuilt = reconstruction(dense(), torch.tensor([[0.5, 1.0]]))
    s = sigmoid(0.5)
    torch.testing.assert_close(rebuilt, torch.tensor([[1 + 2 * s, -s]]))


def test_loss_and_its_gradient_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    detector = built(energy=partial(DenseEnergy, hidden=(3,)), noise=0.5)
    detector.energy = dense()
    monkeypatch.setattr(torch, "randn_like", lambda x: torch.tensor([[1.0, -2.0]]))
    batch = TrainBatch(torch.tensor([[0.0, 1.0]]), torch.zeros(1), torch.zeros(1, dtype=torch.long))
    loss = detector.training_step(batch, 0)
    s = sigmoid(2 * 0.5 - 0.0 + 0.5)  # the noisy sample is (0.5, 0)
    errors = (1 + 2 * s, -s - 1)
    assert loss.item() == pytest.approx((errors[0] ** 2 + errors[1] ** 2) / 2, rel=1e-6)
    loss.backward()
    network: Any = detector.energy
    torch.testing.assert_close(network.visible_bias.grad, torch.tensor(errors))
    slope = s * (1 - s) * (2 * errors[0] - errors[1])  # by the second derivative of the softplus
    torch.testing.assert_close(network.layers[0].bias.grad, torch.tensor([slope]))


def recurrent(through_time: bool) -> RecurrentEnergy:
    """One feature, one hidden unit with weight 1, state tanh(x_t); b'_t = 2 s, b_t = 3 s with s = tanh(x_(t-1))."""
    energy = RecurrentEnergy((2, 1), hidden=(1,), state_dim=1, cell="rnn", through_time=through_time)
    given = {
        "recurrent.weight_ih_l0": 1.0,
        "recurrent.weight_hh_l0": 0.0,
        "recurrent.bias_ih_l0": 0.0,
        "recurrent.bias_hh_l0": 0.0,
        "visible_bias.weight": 2.0,
        "visible_bias.bias": 0.0,
        "layers.0.weight": 1.0,
        "layers.0.bias": 0.0,
        "hidden_biases.0.weight": 3.0,
    }
    shapes = {name: value.shape for name, value in energy.state_dict().items()}
    energy.load_state_dict({name: torch.full(shapes[name], value) for name, value in given.items()})
    return energy


@pytest.mark.parametrize("through_time", [False, True])
def test_recurrent_energy_by_hand(through_time: bool) -> None:
    energy, x = recurrent(through_time), torch.tensor([[[0.5], [1.0]]])
    s = math.tanh(0.5)
    by_hand = 0.5**2 / 2 - softplus(0.5) + (1 - 2 * s) ** 2 / 2 - softplus(1 + 3 * s)
    assert energy(x).item() == pytest.approx(by_hand, rel=1e-6)
    first = sigmoid(0.5)  # f(x_1), whose biases are 0; the second step's energy depends on x_1 by the state alone
    if through_time:
        first -= (1 - s**2) * (-2 * (1 - 2 * s) - 3 * sigmoid(1 + 3 * s))
    second = 2 * s + sigmoid(1 + 3 * s)
    torch.testing.assert_close(reconstruction(energy, x), torch.tensor([[[first], [second]]]))


@pytest.mark.parametrize("cell", ["lstm", "rnn"])
@pytest.mark.parametrize("through_time", [False, True])
def test_every_weight_of_a_series_energy_is_trained(cell: Any, through_time: bool) -> None:
    torch.manual_seed(0)
    energy = RecurrentEnergy((5, 2), hidden=(3, 4), state_dim=3, cell=cell, through_time=through_time)
    x = torch.randn(4, 5, 2)
    (x - reconstruction(energy, x + 0.1, for_loss=True)).square().mean().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in energy.parameters())


def test_a_step_of_a_series_has_no_energy_of_its_future() -> None:
    torch.manual_seed(0)
    energy, x = RecurrentEnergy((5, 2), hidden=(3,), state_dim=3, through_time=False), torch.randn(1, 5, 2)
    changed = torch.cat([x[:, :4], x[:, 4:] + 1], dim=1)
    torch.testing.assert_close(reconstruction(energy, x)[:, :4], reconstruction(energy, changed)[:, :4])
    assert energy(x[:, :1]).shape == (1,)  # a series of one step


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: DenseEnergy((2, 2)), r"DenseEnergy takes tables \(D,\)"),
        (lambda: DenseEnergy((2,), hidden=()), "hidden must name at least one layer, got none"),
        (lambda: ConvolutionalEnergy((1, 3, 3)), "2 poolings need sides of at least 4 pixels"),
        (lambda: RecurrentEnergy((5, 2), state_dim=0), "state_dim must be at least 1"),
        (lambda: RecurrentEnergy((5, 2), cell="gru"), "cell must be one of lstm, rnn, got 'gru'"),  # type: ignore[arg-type]
    ],
)
def test_bad_energies_are_refused(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


# ---- the detector ----------------------------------------------------------------------------------------------------


class WithBatchNorm(nn.Module):
    """An energy that couples samples."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(shape[0], 2), nn.BatchNorm1d(2))

    def forward(self, x: Tensor) -> Tensor:
        energies: Tensor = self.layers(x).sum(dim=1)
        return energies


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="noise must be positive and finite, got 0"):
        DSEBM(noise=0.0)
    with pytest.raises(ValueError, match="energy must have no BatchNorm, which couples samples, got WithBatchNorm"):
        built(energy=WithBatchNorm)
    with pytest.raises(ValueError, match="energy must give"):
        built(energy=partial(nn.Identity))


@pytest.mark.parametrize(
    ("kind", "network"), [("table", DenseEnergy), ("image", ConvolutionalEnergy), ("series", RecurrentEnergy)]
)
def test_the_energy_suits_the_data(kind: str, network: type[nn.Module]) -> None:
    assert isinstance(built(kind).energy, network)


@pytest.mark.parametrize("kind", ["table", "series"])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_reconstruction_score_is_the_length_of_the_gradient(kind: str, mode: Any) -> None:
    detector = built(kind, score_type="reconstruction").eval()
    x = torch.randn(3, *SHAPES[kind])
    points = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(detector.energy(points).sum(), points)
    detector.training_record["epochs"] = 1
    with mode():
        scores = type(detector).anomaly_score.__wrapped__(detector, x)  # type: ignore[attr-defined]
    torch.testing.assert_close(scores, gradient.square().flatten(1).mean(dim=1))
    assert detector.score_needs == "the energy's gradient for each sample"
    assert built(kind).score_needs is None


def test_a_sum_of_energies_whose_past_is_given_is_remarked_on() -> None:
    past_given = partial(RecurrentEnergy, through_time=False)
    assert "score_type: reconstruction" in built("series", energy=past_given).remarks()[0]
    assert built("series", energy=past_given, score_type="reconstruction").remarks() == []
    assert built("series").remarks() == []


@pytest.mark.parametrize("score_type", ["energy", "reconstruction"])
def test_it_tells_loud_series_from_quiet_ones(make_trainer: MakeTrainer, score_type: Any) -> None:
    pl.seed_everything(0, verbose=False)
    energy = partial(RecurrentEnergy, hidden=(8,), state_dim=4)
    detector = DSEBM(energy=energy, score_type=score_type, optimizer=partial(Adam, lr=1e-2))
    data = small_data("series")
    trainer = make_trainer(max_epochs=5)
    trainer.fit(detector, datamodule=data)
    assert trainer.test(detector, datamodule=data, verbose=False)[0]["test/auroc"] > 0.9
