"""AMA's networks: shapes and sizes, the critic's blocks by hand, spectral norms, and what is refused."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from adlightning.networks.residual_gan import ResidualCritic, ResidualGenerator, StridedEncoder

SHAPES = [(1, 8, 8), (1, 16, 16), (1, 28, 28), (3, 32, 32), (3, 64, 64)]


def size(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def blocks_of(network: ResidualCritic | ResidualGenerator) -> list[Any]:
    return list(network.blocks)


@pytest.mark.parametrize("shape", SHAPES)
def test_networks_fit_images_of_each_size(shape: tuple[int, int, int]) -> None:
    encoder, generator = StridedEncoder(shape, 5, 2), ResidualGenerator(5, shape, width=4)
    critic = ResidualCritic((2 * shape[0], *shape[1:]), 6)
    x = torch.randn(3, *shape)
    latents = encoder(x)
    assert latents.shape == (3, 5)
    made = generator(latents)
    assert made.shape == x.shape
    assert made.abs().max() <= 1
    pairs = torch.cat([x, made], dim=1)
    assert critic(pairs).shape == (3,)
    features = critic.features(pairs)
    assert features.shape == (3, 6)
    assert features.min() >= 0


def test_sizes_of_the_paper() -> None:
    encoder, generator = StridedEncoder((3, 32, 32), 128), ResidualGenerator(128, (3, 32, 32))
    critic = ResidualCritic((6, 32, 32))
    assert [m.out_channels for m in encoder.modules() if isinstance(m, nn.Conv2d)] == [64, 128, 256, 128]
    assert all(m.bias is None for m in encoder.modules() if isinstance(m, nn.Conv2d))
    assert size(encoder) == 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 128) + 2 * (64 + 128 + 256)
    conv3, conv1 = 9 * 256 * 256 + 256, 256 * 256 + 256
    block = 2 * conv3 + conv1 + 2 * 2 * 256
    assert size(generator) == (128 + 1) * 4096 + 3 * block + 2 * 256 + 9 * 256 * 3 + 3
    conv3, conv1 = 9 * 128 * 128 + 128, 128 * 128 + 128
    assert size(critic) == (9 * 6 * 128 + 128) + (6 * 128 + 128) + 7 * conv3 + conv1 + 128
    maps = critic.blocks(torch.randn(1, 6, 32, 32))
    assert maps.shape == (1, 128, 8, 8)
    downs = [[block.down for block in blocks_of(ResidualCritic((2, side, side), 2))] for side in (8, 16, 32, 64)]
    assert [sum(down) for down in downs] == [1, 1, 2, 3]
    assert all(down[-2:] == [False, False] for down in downs)


def test_the_critic_by_hand() -> None:
    torch.manual_seed(0)
    critic = ResidualCritic((2, 32, 32), 3, spectral_norm=False)
    x = torch.randn(2, 2, 32, 32)
    first, down, plain, last_plain = blocks_of(critic)
    h = F.avg_pool2d(first.conv2(first.conv1(x).relu()), 2) + first.shortcut(F.avg_pool2d(x, 2))
    h = F.avg_pool2d(down.conv2(down.conv1(h.relu()).relu()), 2) + F.avg_pool2d(down.shortcut(h), 2)
    for block in (plain, last_plain):
        h = block.conv2(block.conv1(h.relu()).relu()) + h
    features = h.relu().sum(dim=(2, 3))
    torch.testing.assert_close(critic.features(x), features)
    torch.testing.assert_close(critic(x), features @ critic.last.weight[0])
    assert critic.last.bias is None


@pytest.mark.parametrize(
    ("output", "low", "high"), [("tanh", -1, 1), ("sigmoid", 0, 1), ("linear", -math.inf, math.inf)]
)
def test_the_generators_range_is_that_of_its_output(output: Any, low: float, high: float) -> None:
    torch.manual_seed(0)
    made = ResidualGenerator(4, (1, 8, 8), output, width=8)(100 * torch.randn(20, 4))
    assert low <= made.min()
    assert made.max() <= high
    assert made.max() - made.min() > min(0.5, high - low)
    assert (made.abs().max() > 1) == (output == "linear")


def test_weights_start_as_xaviers() -> None:
    torch.manual_seed(0)
    generator, critic = (
        ResidualGenerator(64, (1, 16, 16), width=64),
        ResidualCritic((2, 16, 16), 64, spectral_norm=False),
    )
    for block, is_first in ((blocks_of(generator)[0], False), (blocks_of(critic)[0], True)):
        fan = 9 * (2 + 64 if is_first else 64 + 64)
        assert block.conv1.weight.abs().max().item() == pytest.approx(math.sqrt(2) * math.sqrt(6 / fan), rel=0.01)
        fan = 2 + 64 if is_first else 64 + 64
        assert block.shortcut.weight.abs().max().item() == pytest.approx(math.sqrt(6 / fan), rel=0.02)
    assert generator.linear.weight.abs().max().item() == pytest.approx(math.sqrt(6 / (64 + 64 * 16)), rel=0.01)


@pytest.mark.parametrize("spectral_norm", [True, False])
def test_biases_start_at_zero_but_for_the_generators_first_and_last_layer(spectral_norm: bool) -> None:
    torch.manual_seed(0)
    generator = ResidualGenerator(6, (1, 16, 16), width=8)
    critic = ResidualCritic((2, 16, 16), 8, spectral_norm=spectral_norm)
    of_critic = [layer.bias for layer in layers_of(critic) if layer.bias is not None]
    assert len(of_critic) == 7  # two a block, and the first block's shortcut
    assert not any(bias.any() for bias in of_critic)
    moved = {name for name, module in generator.named_modules() if getattr(module, "bias", None) is not None}
    moved = {name for name in moved if generator.get_parameter(f"{name}.bias").any()}
    assert moved == {"linear", "last.2"}
    bound = 1 / math.sqrt(6)  # the framework's: uniform up to 1 / sqrt(fan in), here of the linear layer
    assert generator.linear.bias.abs().max().item() == pytest.approx(bound, rel=0.05)


def layers_of(critic: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    return [module for module in critic.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]


def test_spectral_norms_are_one_and_stay_so_while_weights_move() -> None:
    torch.manual_seed(0)
    critic, free = ResidualCritic((2, 16, 16), 16), ResidualCritic((2, 16, 16), 16, spectral_norm=False)
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3)
    for _ in range(20):
        optimizer.zero_grad()
        (-critic(torch.ones(4, 2, 16, 16)).mean()).backward()
        optimizer.step()
    for _ in range(50):  # one step of power iteration a call: it converges while weights rest
        critic(torch.ones(1, 2, 16, 16))
    norms = [torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() for layer in layers_of(critic)]
    assert len(norms) == 8
    assert norms == pytest.approx([1.0] * 8, abs=0.05)
    assert max(torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() for layer in layers_of(free)) > 1.3


def test_a_call_takes_one_step_of_power_iteration_in_training_and_none_in_evaluation() -> None:
    torch.manual_seed(0)
    critic = ResidualCritic((2, 8, 8), 4)
    x = torch.randn(2, 2, 8, 8)
    layer = blocks_of(critic)[0].conv1
    with torch.no_grad():
        layer.parametrizations.weight.original.normal_()
    alone = copy.deepcopy(layer)
    critic(x)
    _ = alone.weight  # one step
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(layer.state_dict()[name], value)
    before = copy.deepcopy(critic.eval().state_dict())
    values = critic(x)
    assert torch.equal(values, critic(x))
    assert all(torch.equal(value, before[name]) for name, value in critic.state_dict().items())


def test_half_precision_leaves_the_norms_in_single_precision() -> None:
    torch.manual_seed(0)
    critic = ResidualCritic((2, 8, 8), 4)
    with torch.autocast("cpu", torch.bfloat16):
        values = critic(torch.randn(2, 2, 8, 8))
    assert values.dtype == torch.bfloat16
    values.float().sum().backward()
    assert all(weight.grad is not None and torch.isfinite(weight.grad).all() for weight in critic.parameters())


def test_other_images_are_refused() -> None:
    makers: list[Callable[[tuple[int, ...]], object]] = [
        partial(StridedEncoder, latent_dim=4),
        partial(ResidualGenerator, 4),
        ResidualCritic,
    ]
    for make in makers:
        with pytest.raises(ValueError, match="square images"):
            make((1, 16, 32))
        with pytest.raises(ValueError, match=r"side of 4 to 7 times a power of 2 .* got 30"):
            make((1, 30, 30))
    for thin in (partial(StridedEncoder, latent_dim=4), partial(ResidualGenerator, 4), ResidualCritic):
        with pytest.raises(ValueError, match="width must be at least 1, got 0"):
            thin((1, 16, 16), width=0)
