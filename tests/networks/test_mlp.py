from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from adlightning.networks import MLPDecoder, MLPEncoder, require_collapse_free


def widths(module: nn.Module) -> list[tuple[int, int]]:
    return [(layer.in_features, layer.out_features) for layer in module.modules() if isinstance(layer, nn.Linear)]


def test_arrhythmia_network_and_its_mirror() -> None:
    assert widths(MLPEncoder((274,), (128, 64), 32)) == [(274, 128), (128, 64), (64, 32)]
    assert widths(MLPDecoder(274, (128, 64), 32)) == [(32, 64), (64, 128), (128, 274)]


def test_without_hidden_layers_it_is_linear() -> None:
    encoder = MLPEncoder((3,), (), 2)
    x = torch.randn(5, 3)
    torch.testing.assert_close(encoder(x), x @ next(encoder.parameters()).T)


def test_encoder_by_hand() -> None:
    encoder = MLPEncoder((2,), (2,), 1, leakiness=0.1).eval()
    hidden, last = (layer for layer in encoder.modules() if isinstance(layer, nn.Linear))
    hidden.weight.data = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    last.weight.data = torch.tensor([[2.0, 10.0]])
    # hidden units 3 and -1; leaky: 3 and -0.1; code 2 * 3 + 10 * -0.1 = 5, all over sqrt(1 + eps)
    assert encoder(torch.tensor([[1.0, 2.0]])).item() == pytest.approx(5 / math.sqrt(1.0001), rel=1e-6)


def test_decoder_by_hand() -> None:
    code = torch.tensor([[2.0]])
    for output, expected in (("linear", -4.0), ("sigmoid", 1 / (1 + math.exp(4))), ("tanh", math.tanh(-4))):
        decoder = MLPDecoder(1, (), 1, output=output)  # type: ignore[arg-type]
        next(decoder.parameters()).data = torch.tensor([[-2.0]])
        assert decoder(code).item() == pytest.approx(expected, rel=1e-5)


def test_training_normalises_each_hidden_unit() -> None:
    torch.manual_seed(0)
    encoder = MLPEncoder((4,), (3,), 2)
    seen: list[torch.Tensor] = []
    norm = next(layer for layer in encoder.modules() if isinstance(layer, nn.BatchNorm1d))
    norm.register_forward_hook(lambda _, __, out: seen.append(out))
    encoder(torch.randn(64, 4) * 100 + 7)
    torch.testing.assert_close(seen[0].mean(dim=0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(seen[0].std(dim=0, correction=0), torch.ones(3), atol=1e-4, rtol=0)


def test_encoder_cannot_collapse() -> None:
    encoder = MLPEncoder((6,), (32, 16), 8).eval()
    require_collapse_free(encoder)
    assert torch.equal(encoder(torch.zeros(2, 6)), torch.zeros(2, 8))


def encoder(n_features: int, hidden: tuple[int, ...], rep_dim: int, leakiness: float = 0.1) -> MLPEncoder:
    return MLPEncoder((n_features,), hidden, rep_dim, leakiness)


@pytest.mark.parametrize("network", [encoder, MLPDecoder])
def test_refused_arguments(network: Callable[..., MLPEncoder | MLPDecoder]) -> None:
    with pytest.raises(ValueError, match="n_features must be at least 1, got 0"):
        network(0, (4,), 2)
    with pytest.raises(ValueError, match=r"hidden must be at least 1, got \(4, -1\)"):
        network(3, (4, -1), 2)
    with pytest.raises(ValueError, match="rep_dim must be at least 1, got 0"):
        network(3, (4,), 0)
    with pytest.raises(ValueError, match=r"leakiness must lie in \[0, 1\), got -0.1"):
        network(3, (4,), 2, leakiness=-0.1)
