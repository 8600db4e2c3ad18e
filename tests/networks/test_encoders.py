from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from adlightning.networks import (
    LeNetEncoder,
    LSTMEncoder,
    MLPEncoder,
    MobileNetV2Encoder,
    build_decoder,
    build_encoder,
    require_collapse_free,
)
from adlightning.networks.encoders import representation_size

IMAGE, LARGE, TABLE, SERIES = (1, 16, 16), (3, 32, 32), (6,), (7, 3)

Case = tuple[str, tuple[int, ...], Callable[..., nn.Module], int]

CASES: list[Case] = [
    ("lenet", IMAGE, partial(LeNetEncoder, conv_channels=(4, 2), dense=(16,), rep_dim=16), 16),
    ("mlp", TABLE, partial(MLPEncoder, dense=(5,), rep_dim=4), 4),
    ("lstm", SERIES, partial(LSTMEncoder, rep_dim=4), 4),
    ("mobilenet_v2", LARGE, MobileNetV2Encoder, 1280),
    ("mlp of series", SERIES, partial(MLPEncoder, dense=(5,), rep_dim=4), 4),
]


def encoder_of(case: Case, bias: bool = False) -> nn.Module:
    named = {"affine" if case[0] == "mobilenet_v2" else "bias": bias}
    return build_encoder(partial(case[2], **named), case[1])


def decoder_of(case: Case) -> nn.Module:
    return build_decoder(None, encoder_of(case), case[1], "linear")


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_codes_and_reconstructions(case: Case, bias: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, *case[1])
    codes = encoder_of(case, bias=bias)(x)
    assert codes.shape == (3, case[3])
    if case[0] != "mobilenet_v2":
        assert decoder_of(case)(codes).shape == x.shape


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_no_encoder_can_collapse_unless_asked_for_biases(case: Case) -> None:
    require_collapse_free(encoder_of(case))
    with pytest.raises(ValueError, match=r"has a bias|is affine"):
        require_collapse_free(encoder_of(case, bias=True))


@pytest.mark.parametrize("case", CASES[:3], ids=lambda case: case[0])
def test_with_bias_every_layer_has_one(case: Case) -> None:
    owners = [layer for layer in encoder_of(case, bias=True).modules() if [*layer.parameters(recurse=False)]]
    assert all(any("bias" in name for name, _ in layer.named_parameters(recurse=False)) for layer in owners)
    plain = [*encoder_of(case).named_parameters(), *decoder_of(case).named_parameters()]
    assert not [name for name, _ in plain if "bias" in name]


def test_the_first_weights_without_biases_are_those_of_bare_layers() -> None:
    torch.manual_seed(5)
    encoder = encoder_of(CASES[0])
    torch.manual_seed(5)
    bare = [
        nn.Conv2d(1, 4, 5, bias=False),
        nn.Conv2d(4, 2, 5, bias=False),
        nn.Linear(2 * 4 * 4, 16, bias=False),
        nn.Linear(16, 16, bias=False),
    ]
    for weight, layer in zip(encoder.parameters(), bare, strict=True):
        assert torch.equal(weight, layer.get_parameter("weight"))


def test_the_networks_of_drocc() -> None:
    tabular = MLPEncoder((6,), (), 128, 0.0, bias=True)
    assert {name: tuple(p.shape) for name, p in tabular.named_parameters()} == {
        "net.0.weight": (128, 6),
        "net.0.bias": (128,),
    }
    cifar = LeNetEncoder((3, 32, 32), (32, 64, 128), (), 128, 0.01)
    assert [tuple(p.shape) for p in cifar.parameters()] == [
        (32, 3, 5, 5),
        (64, 32, 5, 5),
        (128, 64, 5, 5),
        (128, 2048),
    ]
    mnist = LeNetEncoder((1, 28, 28), (8, 4), (), 64, 0.01)
    assert [tuple(p.shape) for p in mnist.parameters()] == [(8, 1, 5, 5), (4, 8, 5, 5), (64, 196)]
    series = LSTMEncoder((178, 1), 128, bias=True)
    assert {tuple(p.shape) for p in series.parameters()} == {(512, 1), (512, 128), (512,)}


@pytest.mark.parametrize(
    ("case", "shape", "message"),
    [
        (CASES[0], TABLE, r"LeNetEncoder takes images \(C, H, W\), the data have samples of shape \(6,\)"),
        (CASES[1], IMAGE, r"MLPEncoder takes tables \(D,\) and series \(T, D\), .* \(1, 16, 16\)"),
        (CASES[2], TABLE, r"LSTMEncoder takes series \(T, D\), .* \(6,\)"),
        (CASES[3], SERIES, r"MobileNetV2Encoder takes images \(3, H, W\), .* \(7, 3\)"),
    ],
)
def test_samples_of_another_kind_are_refused(case: Case, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_encoder(case[2], shape)


@pytest.mark.parametrize(("shape", "kind"), [(IMAGE, LeNetEncoder), (TABLE, MLPEncoder), (SERIES, LSTMEncoder)])
def test_without_an_encoder_the_samples_decide(shape: tuple[int, ...], kind: type[nn.Module]) -> None:
    encoder = build_encoder(None, shape)
    assert isinstance(encoder, kind)
    assert representation_size(encoder, shape) == 32


class Pooled(nn.Module):
    """A user's own encoder, with a layer that is in a mode of its own."""

    def __init__(self, shape: tuple[int, ...], width: int = 3) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(shape[0]).eval()
        self.linear = nn.Linear(shape[0], width)

    def forward(self, x: Tensor) -> Tensor:
        pooled: Tensor = self.linear(self.norm(x).mean(dim=(2, 3)))
        return pooled


class Unpooled(nn.Module):
    """No encoder: it gives maps."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_the_size_of_a_representation_is_found_by_a_dry_run_that_changes_nothing() -> None:
    encoder = build_encoder(partial(Pooled, width=5), LARGE)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    state = torch.get_rng_state()
    assert representation_size(encoder, LARGE) == 5
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
    assert (encoder.training, encoder.get_submodule("norm").training) == (True, False)


@pytest.mark.parametrize(
    ("encoder", "shape", "message"),
    [
        (Unpooled, LARGE, r"encoder must give representations \(B, d\), Unpooled gives \(2, 3, 32, 32\) for B = 2"),
        (Pooled, TABLE, r"encoder: Pooled does not take samples \(B, 6\)"),
    ],
)
def test_what_gives_no_representation_is_refused(encoder: Any, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        representation_size(build_encoder(encoder, shape), shape)


def test_a_class_that_cannot_be_made_of_a_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"encoder cannot be made for samples of shape \(6,\): .*unexpected keyword"):
        build_encoder(partial(cast(Any, Pooled), depth=3), TABLE)


def test_an_encoder_without_a_mirror_image_needs_a_decoder() -> None:
    with pytest.raises(ValueError, match="decoder must be given for MobileNetV2Encoder, which has no mirror image"):
        decoder_of(CASES[3])
