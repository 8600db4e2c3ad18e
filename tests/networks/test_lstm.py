from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from adlightning.networks import (
    LSTMDecoder,
    LSTMEncoder,
    RecurrentEnergy,
    glorot_uniform_,
    require_collapse_free,
    reset_parameters_,
)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def set_weights(module: nn.Module, **values: list[list[float]]) -> None:
    for name, value in values.items():
        module.get_parameter(name.replace("__", ".")).data = torch.tensor(value)


def test_encoder_by_hand() -> None:
    encoder = LSTMEncoder((5, 1), 1)
    # gates in PyTorch's order: input, forget, cell, output
    set_weights(
        encoder, lstm__weight_ih_l0=[[1.0], [2.0], [3.0], [4.0]], lstm__weight_hh_l0=[[0.5], [0.0], [1.0], [0.0]]
    )
    cell = hidden = 0.0
    for x in (0.5, -1.0):
        gate, forget, output = sigmoid(x + 0.5 * hidden), sigmoid(2 * x), sigmoid(4 * x)
        cell = forget * cell + gate * math.tanh(3 * x + hidden)
        hidden = output * math.tanh(cell)
    assert encoder(torch.tensor([[[0.5], [-1.0]]])).item() == pytest.approx(hidden, rel=1e-5)


def test_decoder_by_hand_sees_the_code_at_each_step_and_ends_with_the_first_time_step() -> None:
    decoder = LSTMDecoder((2, 1), 1)
    weights = {"lstm__weight_ih_l0": [[1.0], [2.0], [3.0], [4.0]], "lstm__weight_hh_l0": [[0.5], [0.0], [1.0], [0.0]]}
    set_weights(decoder, **weights, out__0__weight=[[10.0]])
    cell = hidden = 0.0
    steps = []
    for x in (0.5, 0.5):
        gate, forget, output = sigmoid(x + 0.5 * hidden), sigmoid(2 * x), sigmoid(4 * x)
        cell = forget * cell + gate * math.tanh(3 * x + hidden)
        hidden = output * math.tanh(cell)
        steps.append(10 * hidden)
    torch.testing.assert_close(decoder(torch.tensor([[0.5]])).flatten(), torch.tensor(steps[::-1]))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("steps", "features"), [(1, 3), (7, 1)])
def test_shapes_and_batch_independence(steps: int, features: int, bias: bool) -> None:
    torch.manual_seed(0)
    encoder, decoder = LSTMEncoder((steps, features), 5, bias).eval(), LSTMDecoder((steps, features), 5).eval()
    x = torch.randn(4, steps, features)
    codes = encoder(x)
    assert codes.shape == (4, 5)
    assert codes.abs().max() < 1
    assert decoder(codes).shape == x.shape
    alone = torch.cat([decoder(encoder(x[i : i + 1])) for i in (3, 2, 1, 0)]).flip(0)
    torch.testing.assert_close(alone, decoder(codes))


def test_the_published_size() -> None:
    encoder = LSTMEncoder((5, 32), 512, bias=True)
    assert sum(p.numel() for p in encoder.parameters()) == 4 * 512 * (32 + 512 + 2)
    decoder = LSTMDecoder((98, 32), 512)
    assert sum(p.numel() for p in decoder.parameters()) == 4 * 512 * (512 + 512) + 512 * 32


def test_output_ranges() -> None:
    torch.manual_seed(0)
    decoder = LSTMDecoder((3, 2), 4, output="sigmoid")
    decoder.out[0].get_parameter("weight").data.mul_(100)
    x = decoder(torch.randn(64, 4))
    assert 0 <= x.min() < 0.05
    assert 0.95 < x.max() <= 1


def test_an_autoencoder_learns_to_repeat_series() -> None:
    torch.manual_seed(0)
    x = torch.stack([torch.full((5,), -1.0), torch.full((5,), 1.0), torch.linspace(-1, 1, 5)])[..., None]
    encoder, decoder = LSTMEncoder((5, 1), 8, bias=True), LSTMDecoder((5, 1), 8)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=0.02)
    for _ in range(400):
        optimizer.zero_grad()
        loss = (decoder(encoder(x)) - x).square().mean()
        loss.backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in parameters)
    assert loss < 0.02


def test_without_biases_it_cannot_collapse() -> None:
    encoder = LSTMEncoder((5, 3), 4)
    require_collapse_free(encoder)
    assert torch.equal(encoder(torch.zeros(2, 6, 3)), torch.zeros(2, 4))
    assert not LSTMDecoder((6, 3), 4)(torch.zeros(2, 4)).any()
    with pytest.raises(ValueError, match=r"lstm \(LSTM\) has a bias"):
        require_collapse_free(LSTMEncoder((5, 3), 4, bias=True))


def test_eval_mode_reaches_the_encoder_but_leaves_its_lstm_differentiable_by_cudnn() -> None:
    encoder = LSTMEncoder((5, 2), 3).eval()
    assert not encoder.training
    assert encoder.lstm.training
    assert encoder.train().training


@pytest.mark.skipif(not torch.cuda.is_available(), reason="cuDNN refuses gradients of an LSTM in eval mode")
def test_gradients_for_the_input_in_eval_mode_on_a_gpu() -> None:
    encoder = LSTMEncoder((5, 2), 3, bias=True).cuda().eval()
    x = torch.randn(4, 5, 2, device="cuda", requires_grad=True)
    (gradient,) = torch.autograd.grad(encoder(x).sum(), x)
    assert gradient.abs().sum() > 0


def test_reset_restores_the_start_and_glorot_leaves_the_lstm_alone() -> None:
    torch.manual_seed(3)
    decoder = LSTMDecoder((4, 2), 3)
    start = {name: value.clone() for name, value in decoder.state_dict().items()}
    glorot_uniform_(decoder)
    changed = {name for name, value in decoder.state_dict().items() if not torch.equal(value, start[name])}
    assert changed == {"out.0.weight"}
    torch.manual_seed(3)
    reset_parameters_(decoder)
    assert all(torch.equal(value, start[name]) for name, value in decoder.state_dict().items())


def test_refused_arguments() -> None:
    with pytest.raises(ValueError, match=r"shape must be at least 1, got \(5, 0\)"):
        LSTMEncoder((5, 0), 4)
    with pytest.raises(ValueError, match="rep_dim must be at least 1, got -1"):
        LSTMEncoder((5, 2), -1)
    with pytest.raises(ValueError, match=r"shape must be at least 1, got \(0, 2\)"):
        LSTMDecoder((0, 2), 4)
    with pytest.raises(ValueError, match="rep_dim must be at least 1, got 0"):
        LSTMDecoder((3, 2), 0)
    with pytest.raises(ValueError, match="output must be one of sigmoid, tanh, linear, got 'relu'"):
        LSTMDecoder((3, 2), 4, output="relu")  # type: ignore[arg-type]


@pytest.mark.parametrize("without_avx512", [False, True])  # as this CPU is, and one that has none
def test_autocast_on_any_cpu(monkeypatch: pytest.MonkeyPatch, without_avx512: bool) -> None:
    if without_avx512:
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    torch.manual_seed(0)
    networks = [LSTMEncoder((7, 3), 4), nn.Sequential(LSTMEncoder((7, 3), 4), LSTMDecoder((7, 3), 4))]
    x = torch.randn(5, 7, 3)
    for network in [*networks, RecurrentEnergy((7, 3), state_dim=4)]:
        expected = network(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = network(x)
            found.float().sum().backward()
        torch.testing.assert_close(found.float(), expected, atol=0.05, rtol=0.05)
