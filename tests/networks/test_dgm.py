"""The fully connected VAE: sizes, what its parts depend on, finite numbers far from the data."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from adlightning.networks.dgm import VAE, fully_connected, sample_gaussian


def one_hot(*labels: int) -> torch.Tensor:
    return torch.eye(2)[list(labels)]


def test_widths_are_those_of_the_released_code() -> None:
    net = VAE(784, (128, 64), 32, n_classes=2)
    widths = [tuple(w.shape) for w in net.parameters() if w.dim() == 2]
    assert widths == [(128, 786), (64, 128), (64, 64), (64, 34), (128, 64), (784, 128)]


def test_fully_connected_by_hand() -> None:
    net = fully_connected((1, 2, 1))
    first, last = torch.tensor([[1.0], [-1.0]]), torch.tensor([[2.0, 5.0]])
    net.load_state_dict({"0.weight": first, "0.bias": torch.ones(2), "2.weight": last, "2.bias": torch.tensor([-3.0])})
    # x = 3: relu(4), relu(-2) -> 2 * 4 - 3; x = -3: relu(-2), relu(4) -> 5 * 4 - 3: the last layer is bare
    assert net(torch.tensor([[3.0], [-3.0], [0.0]])).tolist() == [[5.0], [17.0], [4.0]]
    assert net(torch.tensor([[1.0], [-1.0]])).tolist() == [[1.0], [7.0]]


def test_samples_have_the_mean_and_scale_they_were_asked_for() -> None:
    torch.manual_seed(0)
    z = sample_gaussian(torch.full((20000, 1), 3.0), torch.full((20000, 1), 0.5))
    assert z.mean().item() == pytest.approx(3.0, abs=0.02)
    assert z.std().item() == pytest.approx(0.5, abs=0.01)


def test_a_deviation_of_at_least_one_is_the_root_of_e_to_a_softplus() -> None:
    net = VAE(1, (1,), 1, deviation="at_least_one")
    with torch.no_grad():
        for parameter in net.encoder.parameters():
            parameter.zero_()
        bias = list(net.encoder.parameters())[-1]
        bias[1] = math.log(math.e - 1)  # whose softplus is 1
    assert net.encode(torch.zeros(1, 1))[1].item() == pytest.approx(math.exp(0.5))
    with pytest.raises(ValueError, match="deviation must be one of softplus, at_least_one, got 'free'"):
        VAE(1, (1,), 1, deviation="free")  # type: ignore[arg-type]


def test_the_label_reaches_encoder_and_decoder() -> None:
    torch.manual_seed(0)
    net = VAE(5, (8,), 3, n_classes=2)
    x = torch.randn(1, 5)
    normal, anomaly = net.encode(x, one_hot(0)), net.encode(x, one_hot(1))
    assert not torch.equal(normal[0], anomaly[0])
    z = torch.zeros(1, 3)
    assert not torch.equal(net.decoder(torch.cat([z, one_hot(0)], 1)), net.decoder(torch.cat([z, one_hot(1)], 1)))


def test_forward_gives_a_reconstruction_and_the_posterior_that_it_was_sampled_from() -> None:
    torch.manual_seed(0)
    net = VAE(5, (8, 7), 3)
    x = torch.randn(4, 5)
    output, mean, scale = net(x)
    assert output.shape == (4, 5)
    expected_mean, expected_scale = net.encode(x)
    assert torch.equal(mean, expected_mean)
    assert torch.equal(scale, expected_scale)
    assert not torch.equal(net(x)[0], output)  # another z


def test_far_from_the_data_scales_stay_positive_and_finite() -> None:
    torch.manual_seed(0)
    net = VAE(5, (8,), 3)
    _, scale = net.encode(torch.randn(50, 5) * 1e6)
    assert (scale > 0).all()
    assert torch.isfinite(scale.square()).all()
    assert torch.isfinite(scale.log()).all()


def test_the_posterior_is_float32_under_autocast() -> None:
    net = VAE(5, (8,), 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mean, scale = net.encode(torch.randn(2, 5))
    assert mean.dtype == scale.dtype == torch.float32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_features": 0}, "n_features must be at least 1, got 0"),
        ({"hidden": ()}, "hidden must name at least one hidden layer, got none"),
        ({"hidden": (4, 0)}, "hidden must be at least 1"),
        ({"latent_dim": 0}, "latent_dim must be at least 1, got 0"),
        ({"n_classes": -1}, "n_classes must not be negative, got -1"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VAE(**{"n_features": 5, "hidden": (4,), "latent_dim": 3, **arguments})
