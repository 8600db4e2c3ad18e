"""Networks by name for density ratio and geometric transformations, and the MLP among them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from adlightning.networks.backbones import build_backbone
from torch import nn

from adlightning.networks.mlp import MLP
from adlightning.networks.vgg import VGG11
from adlightning.networks.wide_resnet import WideResNet10x4

OPTIONS: dict[str, Any] = {"head": "compact", "dropout": 0.3, "dropout_placement": "per_stage", "dense": (7, 5)}


def test_an_mlp_by_hand() -> None:
    net = MLP(2, (2,), 1)
    weights = {"net.1.weight": [[1.0, -1.0], [2.0, 0.0]], "net.1.bias": [0.0, -3.0]}
    weights |= {"net.4.weight": [[10.0, 1.0]], "net.4.bias": [0.5]}
    net.load_state_dict({name: torch.tensor(values) for name, values in weights.items()})
    # hidden: max(0, x - y), max(0, 2x - 3)
    x = torch.tensor([[3.0, 1.0], [0.0, 1.0]])
    assert net(x).tolist() == [[20 + 3 + 0.5], [0.5]]
    assert net(x[:, :, None]).tolist() == net(x).tolist()  # whatever the shape


def test_dropout_of_an_mlp_acts_in_training_only() -> None:
    torch.manual_seed(0)
    net, x = MLP(20, (50,), 1, dropout=0.5), torch.randn(4, 20)
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))


def test_networks_by_name() -> None:
    vgg = build_backbone("vgg11", (3, 32, 32), 4, batch_norm=False, **OPTIONS)
    assert isinstance(vgg, VGG11)
    rates = {layer.p for layer in vgg.modules() if isinstance(layer, nn.Dropout)}
    assert rates == {0.3}
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in vgg.modules())
    assert vgg(torch.rand(2, 3, 32, 32)).shape == (2, 4)
    with_norm = build_backbone("vgg11", (3, 32, 32), 4, batch_norm=True, **OPTIONS)
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in with_norm.modules())
    wide = build_backbone("wide_resnet", (1, 8, 8), 72, batch_norm=True, **OPTIONS)
    assert isinstance(wide, WideResNet10x4)
    assert wide(torch.rand(2, 1, 8, 8)).shape == (2, 72)
    for shape in ((6,), (5, 3), (1, 8, 8)):
        mlp = build_backbone("mlp", shape, 2, batch_norm=False, **OPTIONS)
        assert [layer.out_features for layer in mlp.modules() if isinstance(layer, nn.Linear)] == [7, 5, 2]
        assert mlp(torch.rand(3, *shape)).shape == (3, 2)


@pytest.mark.parametrize(
    ("network", "shape", "options", "message"),
    [
        ("resnet", (3, 32, 32), {}, "network must be one of vgg11, wide_resnet, mlp, got 'resnet'"),
        ("vgg11", (6,), {}, r"network: vgg11 takes images \(C, H, W\), the data have samples of shape \(6,\)"),
        ("vgg11", (1, 28, 28), {}, "images of at least 32x32 pixels"),
        ("wide_resnet", (3, 32, 32), {}, "batch_norm must be true for network: wide_resnet"),
        ("mlp", (6,), {"batch_norm": True}, "batch_norm must be false for network: mlp"),
        ("mlp", (6,), {"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
        ("vgg11", (3, 32, 32), {"dropout": -0.1}, r"dropout must lie in \[0, 1\), got -0.1"),
        ("mlp", (6,), {"dense": (0,)}, "hidden must be at least 1, got 0"),
    ],
)
def test_refusals(network: Any, shape: tuple[int, ...], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_backbone(network, shape, 1, **{"batch_norm": False, **OPTIONS, **options})
