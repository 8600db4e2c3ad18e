from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops.misc import SqueezeExcitation

from adlightning.networks import require_collapse_free, strip_biases_
from adlightning.networks.initialisation import STAND_INS


class Sigmoid(nn.Module):
    """As timm has it: no class of torch's."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sigmoid()


def users_network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU6(inplace=True),
        SqueezeExcitation(8, 4, scale_activation=nn.Hardsigmoid),
        nn.Sequential(nn.Conv2d(8, 8, 3), nn.InstanceNorm2d(8, affine=True), nn.SiLU()),
        nn.Flatten(),
        nn.Linear(8 * 6 * 6, 16),
        nn.Tanh(),
        nn.Linear(16, 4),
    )


def test_what_lets_a_network_collapse_is_taken_away_and_the_rest_stays() -> None:
    torch.manual_seed(0)
    network = users_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    strip_biases_(network)
    require_collapse_free(network)
    after = network.state_dict()
    assert not [name for name, _ in network.named_parameters() if "bias" in name]
    assert all(torch.equal(before[name], value) for name, value in after.items())
    assert {"0.weight", "1.running_mean", "3.fc1.weight", "4.0.weight", "8.weight"} <= after.keys()
    assert "1.weight" not in after
    layers = dict(network.named_modules())
    assert isinstance(layers["2"], nn.ReLU)
    assert layers["2"].inplace
    assert isinstance(layers["4.2"], nn.SiLU)
    assert isinstance(layers["7"], nn.LeakyReLU)
    assert isinstance(layers["3.scale_activation"], nn.Hardsigmoid)


def test_a_stripped_network_maps_nothing_to_nothing_and_trains() -> None:
    torch.manual_seed(0)
    network = users_network()
    assert network.eval()(torch.zeros(2, 3, 8, 8)).any()
    strip_biases_(network)
    assert not network.eval()(torch.zeros(2, 3, 8, 8)).any()
    network.train()(torch.randn(8, 3, 8, 8)).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in network.parameters())


@pytest.mark.parametrize("kind", ["linear", "attention", "transposed"])
def test_layers_work_without_their_biases(kind: str) -> None:
    torch.manual_seed(0)
    if kind == "attention":
        attention = nn.MultiheadAttention(8, 2, add_bias_kv=True, batch_first=True)
        strip_biases_(attention)
        x = torch.randn(2, 5, 8)
        given: Tensor = attention(x, x, x)[0]
    elif kind == "transposed":
        transposed = nn.ConvTranspose2d(3, 4, 2)
        strip_biases_(transposed)
        given = transposed(torch.randn(2, 3, 4, 4))
    else:
        linear = nn.Linear(3, 4)
        strip_biases_(linear)
        given = linear(torch.randn(2, 3))
    assert given.isfinite().all()


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.Linear(2, 2), r"0 \(Linear\) has a bias: build it with bias=False, or strip_biases"),
        (nn.BatchNorm1d(2), r"0 \(BatchNorm1d\) is affine: build it with affine=False, or strip_biases"),
        (nn.Tanh(), r"0 \(Tanh\) is a bounded activation: use LeakyReLU, or strip_biases"),
        (nn.Softplus(), r"0 \(Softplus\) is a bounded activation: use LeakyReLU, or strip_biases"),
        (Sigmoid(), r"0 \(Sigmoid\) is a bounded activation: use LeakyReLU$"),
        (nn.LayerNorm(2, elementwise_affine=False), r"0 \(LayerNorm\) normalises each sample by itself"),
        (nn.LSTM(2, 2), r"0 \(LSTM\) has a bias: build it with bias=False$"),
    ],
)
def test_a_network_that_can_collapse_is_refused_by_the_name_of_its_layer(layer: nn.Module, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        require_collapse_free(nn.Sequential(layer))


@pytest.mark.parametrize("layer", [nn.Sigmoid(), nn.LayerNorm(2), nn.GroupNorm(1, 2), nn.RMSNorm(2), nn.GRU(2, 2)])
def test_what_cannot_be_stripped_is_refused(layer: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"Ruff et al\., 2018, Propositions 2 and 3"):
        strip_biases_(nn.Sequential(nn.Linear(2, 2), layer))


KEPT = [nn.ReLU(), nn.LeakyReLU(), nn.PReLU(), nn.GELU(), nn.SiLU(), nn.Hardswish(), nn.Mish()]


@pytest.mark.parametrize("layer", KEPT, ids=lambda layer: type(layer).__name__)
def test_activations_without_a_bound_that_they_keep_to_stay(layer: nn.Module) -> None:
    network = nn.Sequential(nn.Linear(2, 2), layer)
    strip_biases_(network)
    assert network[1] is layer


@pytest.mark.parametrize("name", STAND_INS)
def test_those_that_go_can_stand_in_for_a_bias(name: str) -> None:
    if hasattr(nn, name):
        activation = getattr(nn, name)()
        far = activation(torch.tensor([-1e4, 1e4]))
        bounded = (far.abs() < 1e3) & (far != 0)
        assert bounded.any() or activation(torch.zeros(())) != 0


def test_normalising_each_sample_makes_a_constant_of_positive_multiples_of_one_vector() -> None:
    torch.manual_seed(0)
    x = torch.rand(64, 5) + 0.1
    linear = nn.Linear(5, 3, bias=False)
    linear.weight.data = torch.randn(3, 1) @ torch.ones(1, 5)
    for norm in (nn.LayerNorm(3, elementwise_affine=False, eps=0), nn.RMSNorm(3, elementwise_affine=False, eps=0)):
        codes = norm(linear(x))
        assert codes.norm() > 1
        torch.testing.assert_close(codes, codes[:1].expand_as(codes))
