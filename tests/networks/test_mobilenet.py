from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from adlightning.networks import (
    MobileNetV2Encoder,
    glorot_uniform_,
    require_collapse_free,
    reset_parameters_,
)

SHAPE = (3, 32, 32)

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def network() -> models.MobileNetV2:
    torch.manual_seed(0)
    net = models.mobilenet_v2()
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):  # as after some training
            nn.init.normal_(layer.get_buffer("running_mean"))
            nn.init.uniform_(layer.get_buffer("running_var"), 0.5, 2)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias)
    return net.eval()


def saved(tmp_path: Path, content: Any) -> str:
    file = tmp_path / "weights.pt"
    torch.save(content, file)
    return str(file)


def test_weights_of_a_file_give_torchvisions_penultimate_features(network: models.MobileNetV2, tmp_path: Path) -> None:
    encoder = MobileNetV2Encoder(SHAPE, affine=True).eval()
    encoder.load_weights(saved(tmp_path, network.state_dict()))
    seen: list[Tensor] = []
    handle = network.classifier.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = torch.randn(2, 3, 48, 64)
    with torch.no_grad():
        network(x)
        features = encoder(x)
        alone = encoder(x[1:])
    handle.remove()
    assert features.shape == (2, 1280)
    torch.testing.assert_close(features, seen[0])
    torch.testing.assert_close(alone, features[1:], rtol=1e-4, atol=1e-5)


def test_files_without_classifier_or_batch_counts_will_do(network: models.MobileNetV2, tmp_path: Path) -> None:
    state = {k: v for k, v in network.state_dict().items() if "classifier" not in k and "num_batches" not in k}
    encoder = MobileNetV2Encoder(SHAPE, affine=True)
    encoder.load_weights(saved(tmp_path, state))
    assert all(torch.equal(encoder.state_dict()[key], value) for key, value in state.items())


def change(key: str, value: Any) -> Callable[[State], Any]:
    return lambda state: {**state, key: value}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            lambda state: {k: v for k, v in state.items() if k != "features.0.0.weight"},
            r"lacks features\.0\.0\.weight ",
        ),
        (change("features.0.0.bias", torch.zeros(32)), r"has features\.0\.0\.bias, which mobilenet_v2 has not"),
        (
            change("features.0.0.weight", torch.zeros(2)),
            r"features\.0\.0\.weight in .* shape \(2,\), .* \(32, 3, 3, 3\)",
        ),
        (change("features.0.0.weight", 1.0), r"features\.0\.0\.weight in .* is no tensor"),
        (lambda state: torch.zeros(1), "must hold a state_dict, got Tensor"),
        (lambda state: Path("x"), "is truncated, corrupt or holds pickled objects"),
    ],
)
def test_files_that_do_not_fit_are_refused_by_file_and_key(
    network: models.MobileNetV2, tmp_path: Path, changed: Callable[[State], Any], message: str
) -> None:
    file = saved(tmp_path, changed(network.state_dict()))
    encoder = MobileNetV2Encoder(SHAPE, affine=True)
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    with pytest.raises(ValueError, match=message) as caught:
        encoder.load_weights(file)
    assert file in str(caught.value)
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())


def test_refused_arguments() -> None:
    with pytest.raises(ValueError, match=r"weights must be a file, null or one of IMAGENET1K_V1, .* got resnet\.pt"):
        MobileNetV2Encoder(SHAPE, affine=True).load_weights("resnet.pt")
    with pytest.raises(ValueError, match=r"affine BatchNorms, which this network has not, got IMAGENET1K_V1"):
        MobileNetV2Encoder(SHAPE, affine=False).load_weights("IMAGENET1K_V1")
    with pytest.raises(ValueError, match=r"takes images of 3 channels, .* shape \(1, 32, 32\)"):
        MobileNetV2Encoder((1, 32, 32), affine=True)
    with pytest.raises(ValueError, match=r"shape must be at least 1, got \(3, 0, 32\)"):
        MobileNetV2Encoder((3, 0, 32), affine=True)


def test_without_affine_it_cannot_collapse() -> None:
    torch.manual_seed(0)
    encoder = MobileNetV2Encoder(SHAPE, affine=False)
    require_collapse_free(encoder)
    assert not encoder.eval()(torch.zeros(1, *SHAPE)).any()
    with pytest.raises(ValueError, match="is affine"):
        require_collapse_free(MobileNetV2Encoder(SHAPE, affine=True))


def test_published_features_end_at_six_and_collapse_free_ones_do_not() -> None:
    torch.manual_seed(0)
    x = 1e12 * torch.randn(4, *SHAPE)
    published = MobileNetV2Encoder(SHAPE, affine=True)
    free = MobileNetV2Encoder(SHAPE, affine=False)
    free.load_state_dict({k: v for k, v in published.state_dict().items() if k in free.state_dict()})
    assert published.eval()(x).max() <= 6
    assert free.eval()(x).max() > 6


@pytest.mark.parametrize("affine", [False, True])
def test_every_weight_moves_and_can_be_reset(affine: bool) -> None:
    torch.manual_seed(0)
    encoder = MobileNetV2Encoder(SHAPE, affine=affine)
    encoder(torch.randn(4, *SHAPE)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters())
    glorot_uniform_(encoder)
    first = {key: value.clone() for key, value in encoder.state_dict().items()}
    assert first["features.0.1.running_mean"].any()
    reset_parameters_(encoder)
    assert not encoder.state_dict()["features.0.1.running_mean"].any()
    convolutions = [key for key, value in first.items() if value.dim() == 4]
    assert len(convolutions) == 52
    assert not any(torch.equal(first[key], encoder.state_dict()[key]) for key in convolutions)


def test_it_is_the_published_size() -> None:
    # 3,504,872 weights of mobilenet_v2 without 1,281,000 of its classifier
    assert sum(p.numel() for p in MobileNetV2Encoder(SHAPE, affine=True).parameters()) == 3504872 - 1281000
