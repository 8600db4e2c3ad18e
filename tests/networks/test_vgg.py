"""VGG11: torchvision's network by size, name and value; where the dropout lies; weights from files."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from adlightning.networks.vgg import VGG11, DropoutPlacement

SHAPE = (3, 32, 32)

State = dict[str, Tensor]

# eight 3x3 convolutions with biases, of 3, 64, 128, 256, 256, 512, 512 and 512 input channels
CONVOLUTIONS = 1792 + 73856 + 295168 + 590080 + 1180160 + 2359808 + 2359808 + 2359808
FIRST, SECOND = 4096 + 25088 * 4096, 4096 + 4096 * 4096


def unallocated(*args: Any, **kwargs: Any) -> VGG11:
    """Names and shapes only: the torchvision head alone would take half a gigabyte."""
    with torch.device("meta"):
        return VGG11(*args, **kwargs)


def n_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.fixture(scope="module")
def compact() -> VGG11:
    torch.manual_seed(0)
    return VGG11(SHAPE, n_outputs=2, head="compact").eval()


def test_parameters_counted_by_hand() -> None:
    assert n_parameters(unallocated(SHAPE)) == CONVOLUTIONS + FIRST + SECOND + 4097 == 128770433
    assert n_parameters(unallocated(SHAPE, 1000)) == 132863336  # as torchvision documents its vgg11
    assert n_parameters(unallocated(SHAPE, head="compact")) == CONVOLUTIONS + 4096 + 512 * 4096 + SECOND + 4097
    gray = unallocated((1, 32, 32), n_outputs=72)
    assert n_parameters(gray) == CONVOLUTIONS - 2 * 64 * 9 + FIRST + SECOND + 72 * 4097


@pytest.mark.parametrize("placement", ["per_stage", "per_conv", "fc_only"])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_names_and_shapes_are_torchvisions(placement: DropoutPlacement, batch_norm: bool) -> None:
    with torch.device("meta"):
        reference = models.vgg11_bn(num_classes=5) if batch_norm else models.vgg11(num_classes=5)
    ours = unallocated(SHAPE, 5, dropout_placement=placement, batch_norm=batch_norm)
    assert [(k, v.shape) for k, v in ours.state_dict().items()] == [
        (k, v.shape) for k, v in reference.state_dict().items()
    ]


def test_there_is_no_batch_norm_unless_asked_for() -> None:
    def norms(net: nn.Module) -> int:
        return sum(isinstance(layer, nn.BatchNorm2d) for layer in net.modules())

    assert norms(unallocated(SHAPE)) == 0
    assert norms(unallocated(SHAPE, batch_norm=True)) == 8


@pytest.mark.parametrize(
    ("placement", "before", "n_features"),
    [("per_stage", nn.MaxPool2d, 5), ("per_conv", nn.ReLU, 8), ("fc_only", nn.Dropout, 0)],
)
def test_dropout_lies_where_it_was_asked_for(
    placement: DropoutPlacement, before: type[nn.Module], n_features: int
) -> None:
    net = unallocated(SHAPE, head="compact", dropout_placement=placement)
    layers = list(net.features)
    found = [i for i, layer in enumerate(layers) if isinstance(layer, nn.Dropout)]
    assert len(found) == n_features
    assert all(isinstance(layers[i - 1], before) for i in found)
    dropouts = [layer for layer in net.modules() if isinstance(layer, nn.Dropout)]
    assert len(dropouts) == n_features + 2
    assert all(layer.p == 0.5 for layer in dropouts)


def test_it_starts_as_torchvision(compact: VGG11) -> None:
    for name, weight in compact.named_parameters():
        if name.endswith("bias"):
            assert not weight.any()
        elif weight.dim() == 4:  # Kaiming by fan-out: sqrt(2 / (9 * filters))
            assert weight.std().item() == pytest.approx(math.sqrt(2 / (9 * weight.shape[0])), rel=0.05)
        else:
            assert weight.std().item() == pytest.approx(0.01, rel=0.05)


def test_scores_do_not_depend_on_company_nor_on_dropout_in_eval_mode(compact: VGG11) -> None:
    x = torch.rand(3, *SHAPE)
    other = unallocated(SHAPE, 2, "compact", dropout_placement="per_conv").eval()
    other.load_state_dict(compact.state_dict(), assign=True)
    with torch.no_grad():
        logits = compact(x)
        torch.testing.assert_close(compact(x[1:2]), logits[1:2])
        torch.testing.assert_close(other(x), logits)
        assert logits.shape == (3, 2)
        assert compact(torch.rand(1, 3, 40, 64)).shape == (1, 2)
        assert logits.std(dim=0).min() > 0


def test_dropout_acts_on_the_features_in_training(compact: VGG11) -> None:
    x = torch.rand(1, *SHAPE)
    torch.manual_seed(0)
    with torch.no_grad():
        compact.train()
        first, second = compact.features(x), compact.features(x)
        compact.eval()
        assert not torch.equal(first, second)
        assert torch.equal(compact.features(x), compact.features(x))


def test_every_weight_moves() -> None:
    torch.manual_seed(0)
    net = VGG11((1, 32, 32), head="compact", dropout_placement="fc_only")
    net(torch.rand(4, 1, 32, 32)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


# ---- pretrained weights ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pretrained() -> State:
    """Of vgg11, with random convolutions; a dense layer's inputs all have the same weight, which keeps files small."""
    torch.manual_seed(0)
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in models.vgg11().state_dict().items()}
    state = {}
    for key, shape in shapes.items():
        if len(shape) == 4:
            state[key] = torch.randn(shape) * math.sqrt(2 / (9 * shape[0]))
        elif len(shape) == 2:
            state[key] = (torch.randn(shape[0], 1) / shape[1]).expand(shape)
        else:
            state[key] = torch.rand(shape) / 10
    return state


def saved(tmp_path: Path, content: Any) -> str:
    file = tmp_path / "weights.pt"
    torch.save(content, file)
    return str(file)


def test_weights_of_a_file_give_torchvisions_network_with_a_last_layer_of_our_own(
    pretrained: State, tmp_path: Path
) -> None:
    net = unallocated(SHAPE).to_empty(device="cpu").eval()
    last = net.classifier[6]
    nn.init.constant_(last.get_parameter("weight"), 0.5)
    nn.init.constant_(last.get_parameter("bias"), 2.0)
    net.load_weights(saved(tmp_path, pretrained))
    with torch.device("meta"):
        reference = models.vgg11().eval()
    reference.load_state_dict(pretrained, assign=True)
    x = torch.rand(2, *SHAPE)
    with torch.no_grad():
        hidden = reference.classifier[:6](reference.avgpool(reference.features(x)).flatten(1))
        expected = 0.5 * hidden.sum(dim=1, keepdim=True) + 2
        torch.testing.assert_close(net(x), expected, rtol=1e-4, atol=1e-4)


def change(key: str, value: Any) -> Callable[[State], Any]:
    return lambda state: {**state, key: value}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (lambda state: {k: v for k, v in state.items() if k != "features.3.bias"}, r"lacks features\.3\.bias and 0 "),
        (change("features.1.weight", torch.zeros(64)), r"has features\.1\.weight, which vgg11 has not"),
        (change("features.0.weight", torch.zeros(2)), r"features\.0\.weight in .* shape \(2,\), .* \(64, 3, 3, 3\)"),
        (change("features.0.weight", 1.0), r"features\.0\.weight in .* is no tensor"),
        (lambda state: torch.zeros(1), "must hold a state_dict, got Tensor"),
        (lambda state: Path("x"), "is truncated, corrupt or holds pickled objects"),
    ],
)
def test_files_that_do_not_fit_are_refused_by_file_and_key(
    pretrained: State, tmp_path: Path, changed: Callable[[State], Any], message: str
) -> None:
    file = saved(tmp_path, changed(pretrained))
    with pytest.raises(ValueError, match=message) as caught:
        unallocated(SHAPE).load_weights(file)
    assert file in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "arguments", "has"),
    [
        (SHAPE, {"head": "compact"}, "compact, false and 3"),
        (SHAPE, {"batch_norm": True}, "torchvision, true and 3"),
        ((1, 32, 32), {}, "torchvision, false and 1"),
    ],
)
def test_weights_need_the_network_that_they_are_of(
    shape: tuple[int, int, int], arguments: dict[str, Any], has: str
) -> None:
    with pytest.raises(ValueError, match=f"this network has {has}, got IMAGENET1K_V1"):
        unallocated(shape, **arguments).load_weights("IMAGENET1K_V1")
    with pytest.raises(ValueError, match=r"weights must be a file, null or one of IMAGENET1K_V1, .* got vgg\.pt"):
        unallocated(SHAPE).load_weights("vgg.pt")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (3, 28, 28)}, r"shape: VGG11 takes images of at least 32x32 pixels, got \(3, 28, 28\)"),
        ({"shape": (3, 64, 31)}, r"at least 32x32 pixels, got \(3, 64, 31\)"),
        ({"shape": (0, 32, 32)}, r"shape must be at least 1, got \(0, 32, 32\)"),
        ({"n_outputs": 0}, "n_outputs must be at least 1, got 0"),
        ({"head": "global"}, "head must be torchvision or compact, got 'global'"),
        ({"dropout_placement": "none"}, "dropout_placement must be per_stage, per_conv or fc_only, got 'none'"),
    ],
)
def test_refused_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VGG11(**{"shape": SHAPE, **arguments})
