"""WRN-10-4: its published size, one block against its definition, behaviour on images of any size."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from adlightning.networks.wide_resnet import PreActivationBlock, WideResNet10x4


@pytest.fixture(scope="module")
def network() -> WideResNet10x4:
    torch.manual_seed(0)
    return WideResNet10x4((3, 32, 32), 72)


def test_parameters_counted_by_hand(network: WideResNet10x4) -> None:
    # a block: two BatchNorms, two 3x3 convolutions and the 1x1 shortcut, none with a bias
    first = 2 * 16 + 16 * 64 * 9 + 2 * 64 + 64 * 64 * 9 + 16 * 64
    second = 2 * 64 + 64 * 128 * 9 + 2 * 128 + 128 * 128 * 9 + 64 * 128
    third = 2 * 128 + 128 * 256 * 9 + 2 * 256 + 256 * 256 * 9 + 128 * 256
    expected = 3 * 16 * 9 + first + second + third + 2 * 256 + 256 * 72 + 72
    assert sum(p.numel() for p in network.parameters()) == expected == 1214744


def test_a_block_projects_what_its_first_relu_gives() -> None:
    torch.manual_seed(0)
    block = PreActivationBlock(2, 3, stride=2).eval()
    x = torch.randn(2, 2, 5, 6)
    # BatchNorms as they start: mean 0, variance 1, eps 1e-5
    scale = 1 / math.sqrt(1 + 1e-5)
    a = F.relu(x * scale)
    h = F.relu(F.conv2d(a, block.conv1.weight, stride=2, padding=1) * scale)
    expected = F.conv2d(h, block.conv2.weight, padding=1) + F.conv2d(a, block.shortcut.weight, stride=2)
    with torch.no_grad():
        out = block(x)
    assert out.shape == (2, 3, 3, 3)
    torch.testing.assert_close(out, expected)


def test_stages_halve_the_image_twice(network: WideResNet10x4) -> None:
    sizes: list[tuple[int, ...]] = []
    handles = [b.register_forward_hook(lambda _, __, out: sizes.append(tuple(out.shape[1:]))) for b in network.blocks]
    with torch.no_grad():
        network.eval()(torch.rand(1, 3, 16, 16))
    for handle in handles:
        handle.remove()
    assert sizes == [(64, 16, 16), (128, 8, 8), (256, 4, 4)]


def test_it_starts_as_the_released_code(network: WideResNet10x4) -> None:
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            fan_in = layer.weight[0].numel()
            assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / fan_in), rel=0.1)
            assert layer.bias is None
    assert network.linear.weight.abs().max() <= 1 / 16
    assert network.linear.weight.std().item() == pytest.approx(1 / 16 / math.sqrt(3), rel=0.05)
    assert not network.linear.bias.any()
    assert not any(isinstance(layer, nn.Dropout) for layer in network.modules())


def test_logits_do_not_depend_on_company_and_images_may_have_any_size(network: WideResNet10x4) -> None:
    torch.manual_seed(1)
    x = torch.rand(3, 3, 12, 12)
    with torch.no_grad():
        network.train()(x)  # running statistics of some data
        network.eval()
        logits = network(x)
        torch.testing.assert_close(network(x[1:2]), logits[1:2], rtol=1e-4, atol=1e-5)
        assert logits.shape == (3, 72)
        for height, width in ((1, 1), (7, 10)):
            assert network(torch.rand(2, 3, height, width)).shape == (2, 72)


def test_every_weight_moves() -> None:
    torch.manual_seed(0)
    net = WideResNet10x4((1, 8, 8), 4)
    F.cross_entropy(net(torch.rand(4, 1, 8, 8)), torch.arange(4)).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


@pytest.mark.parametrize(("sizes", "name"), [(((0, 8, 8), 72), "shape"), (((3, 8, 8), 0), "n_outputs")])
def test_refused_sizes(sizes: tuple[tuple[int, ...], int], name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got "):
        WideResNet10x4(*sizes)
