"""Networks that end in logits, with a linear layer on them or by themselves; the MLP among them."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from adlightning.networks import VGG11, LeNetEncoder, LSTMEncoder, MLPEncoder, PlainMLP, WideResNet10x4
from adlightning.networks.logits import build_logits


def test_an_mlp_by_hand() -> None:
    net = PlainMLP((2,), 1, dense=(2,), dropout=0.0)
    weights = {"net.1.weight": [[1.0, -1.0], [2.0, 0.0]], "net.1.bias": [0.0, -3.0]}
    weights |= {"net.4.weight": [[10.0, 1.0]], "net.4.bias": [0.5]}
    net.load_state_dict({name: torch.tensor(values) for name, values in weights.items()})
    # hidden: max(0, x - y), max(0, 2x - 3)
    x = torch.tensor([[3.0, 1.0], [0.0, 1.0]])
    assert net(x).tolist() == [[20 + 3 + 0.5], [0.5]]
    assert net(x[:, :, None]).tolist() == net(x).tolist()  # whatever the shape


def test_dropout_of_an_mlp_acts_in_training_only() -> None:
    torch.manual_seed(0)
    net, x = PlainMLP((20,), dense=(50,), dropout=0.5), torch.randn(4, 20)
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))


def test_networks_that_take_a_number_of_outputs_end_in_logits() -> None:
    vgg = build_logits(partial(VGG11, head="compact", dropout=0.3), (3, 32, 32), 4)
    assert isinstance(vgg, VGG11)
    assert {layer.p for layer in vgg.modules() if isinstance(layer, nn.Dropout)} == {0.3}
    assert vgg(torch.rand(2, 3, 32, 32)).shape == (2, 4)
    wide = build_logits(WideResNet10x4, (1, 8, 8), 72)
    assert isinstance(wide, WideResNet10x4)
    assert wide(torch.rand(2, 1, 8, 8)).shape == (2, 72)
    for shape in ((6,), (5, 3), (1, 8, 8)):
        mlp = build_logits(partial(PlainMLP, dense=(7, 5)), shape, 2)
        assert [layer.out_features for layer in mlp.modules() if isinstance(layer, nn.Linear)] == [7, 5, 2]
        assert mlp(torch.rand(3, *shape)).shape == (3, 2)
    assert all(module.training for module in vgg.modules())


@pytest.mark.parametrize(
    ("encoder", "shape"),
    [(LeNetEncoder, (1, 16, 16)), (partial(MLPEncoder, rep_dim=5), (6,)), (LSTMEncoder, (5, 3)), (nn.Linear, None)],
)
def test_a_linear_layer_is_put_on_any_other_encoder(encoder: Any, shape: Any) -> None:
    if shape is None:  # a class of one's own: whatever gives (B, d)
        encoder, shape = lambda shape: nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), (4, 3)
    net = build_logits(encoder, shape, 9)
    assert net(torch.rand(2, *shape)).shape == (2, 9)
    assert net.get_parameter("head.weight").shape[0] == 9


@pytest.mark.parametrize(
    ("encoder", "shape", "message"),
    [
        (VGG11, (6,), r"VGG11 takes images \(C, H, W\), the data have samples of shape \(6,\)"),
        (VGG11, (1, 28, 28), "images of at least 32x32 pixels"),
        (WideResNet10x4, (6,), r"WideResNet10x4 takes images \(C, H, W\)"),
        (partial(PlainMLP, dropout=1.0), (6,), r"dropout must lie in \[0, 1\), got 1.0"),
        (partial(VGG11, dropout=-0.1), (3, 32, 32), r"dropout must lie in \[0, 1\), got -0.1"),
        (partial(PlainMLP, dense=(0,)), (6,), "dense must be at least 1, got 0"),
        (
            partial(PlainMLP, n_outputs=2),
            (6,),
            r"encoder\.n_outputs must be 1, or null for .*, got 2",
        ),
    ],
)
def test_refusals(encoder: Any, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_logits(encoder, shape, 1)
