from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from adlightning.networks import EncoderName, build_decoder, build_encoder, require_collapse_free

IMAGE, LARGE, TABLE, SERIES = (1, 16, 16), (3, 32, 32), (6,), (7, 3)

Case = tuple[EncoderName, tuple[int, ...], tuple[int, ...], int]

CASES: list[Case] = [
    ("lenet", IMAGE, (16,), 16),
    ("mlp", TABLE, (5,), 4),
    ("lstm", SERIES, (), 4),
    ("mobilenet_v2", LARGE, (), 1280),
]


def encoder_of(case: Case, **changed: Any) -> nn.Module:
    network, shape, dense, rep_dim = case
    arguments = {"shape": shape, "conv_channels": (4, 2), "dense": dense, "rep_dim": rep_dim, "leakiness": 0.1}
    return build_encoder(network, **{**arguments, **changed})


def decoder_of(case: Case, **changed: Any) -> nn.Module:
    network, shape, dense, rep_dim = case
    arguments = {"shape": shape, "conv_channels": (4, 2), "dense": dense, "rep_dim": rep_dim, "leakiness": 0.1}
    return build_decoder(network, **{**arguments, "output": "linear", **changed})


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
    tabular = build_encoder("mlp", (6,), (8, 4), (), 128, 0.0, bias=True)
    assert {name: tuple(p.shape) for name, p in tabular.named_parameters()} == {
        "net.0.weight": (128, 6),
        "net.0.bias": (128,),
    }
    cifar = build_encoder("lenet", (3, 32, 32), (32, 64, 128), (), 128, 0.01)
    assert [tuple(p.shape) for p in cifar.parameters()] == [
        (32, 3, 5, 5),
        (64, 32, 5, 5),
        (128, 64, 5, 5),
        (128, 2048),
    ]
    mnist = build_encoder("lenet", (1, 28, 28), (8, 4), (), 64, 0.01)
    assert [tuple(p.shape) for p in mnist.parameters()] == [(8, 1, 5, 5), (4, 8, 5, 5), (64, 196)]
    series = build_encoder("lstm", (178, 1), (8, 4), (), 128, 0.0, bias=True)
    assert {tuple(p.shape) for p in series.parameters()} == {(512, 1), (512, 128), (512,)}


@pytest.mark.parametrize(
    ("case", "changed", "message"),
    [
        (CASES[0], {"shape": TABLE}, r"network: lenet takes images \(C, H, W\), the data have samples of shape \(6,\)"),
        (CASES[1], {"shape": SERIES}, r"network: mlp takes tables \(D,\), .* \(7, 3\)"),
        (CASES[2], {"shape": TABLE}, r"network: lstm takes series \(T, D\), .* \(6,\)"),
        (CASES[3], {"shape": SERIES}, r"network: mobilenet_v2 takes images \(3, H, W\), .* \(7, 3\)"),
        (CASES[2], {"dense": (8,)}, r"dense must be empty for network: lstm, got \(8,\)"),
        (CASES[3], {"dense": [8]}, r"dense must be empty for network: mobilenet_v2, got \(8,\)"),
        (CASES[3], {"rep_dim": 128}, "rep_dim must be 1280 for network: mobilenet_v2, got 128"),
        (("resnet", IMAGE, (), 4), {}, "network must be one of lenet, mlp, lstm, mobilenet_v2, got 'resnet'"),
    ],
)
def test_refused_by_both(case: Case, changed: dict[str, Any], message: str) -> None:
    for build in (encoder_of, decoder_of):
        with pytest.raises(ValueError, match=message):
            build(case, **changed)


def test_mobilenet_has_no_decoder() -> None:
    with pytest.raises(ValueError, match="network: mobilenet_v2 has no decoder: set pretrain_epochs to 0"):
        decoder_of(CASES[3])
