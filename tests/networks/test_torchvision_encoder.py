from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from short_fits import slow_but
from torch import Tensor, nn
from torchvision import models

from adlightning.networks import TorchvisionEncoder, require_collapse_free
from adlightning.networks.encoders import representation_size

IMAGE, GREY = (3, 64, 64), (1, 64, 64)
CONVOLUTIONAL = {"resnet18": 512, "vgg11_bn": 512, "mobilenet_v3_small": 576, "efficientnet_b0": 1280}
SIZES = {**CONVOLUTIONAL, "convnext_tiny": 768, "vit_b_16": 768}


@pytest.fixture(scope="module")
def resnet() -> models.ResNet:
    torch.manual_seed(0)
    network = models.resnet18(num_classes=7)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):  # as after some training
            nn.init.normal_(layer.get_buffer("running_mean"))
            nn.init.uniform_(layer.get_buffer("running_var"), 0.5, 2)
    return network.eval()


@pytest.fixture
def file(resnet: models.ResNet, tmp_path: Path) -> str:
    torch.save(resnet.state_dict(), tmp_path / "resnet.pt")
    return str(tmp_path / "resnet.pt")


@pytest.mark.parametrize("name", slow_but(["resnet18", "mobilenet_v3_small", "efficientnet_b0"], SIZES))
def test_pooled_features_of_colour_and_grey_images(name: str) -> None:
    torch.manual_seed(0)
    encoder = TorchvisionEncoder(IMAGE, name).eval()
    x = torch.rand(2, *GREY)
    with torch.no_grad():
        features = encoder(x.expand(-1, 3, -1, -1))
    assert features.shape == (2, SIZES[name])
    assert encoder.rep_dim == representation_size(encoder, IMAGE) == SIZES[name]
    if name != "vgg11_bn":  # made as quickly as the others
        grey = TorchvisionEncoder(GREY, name).eval()
        grey.load_state_dict(encoder.state_dict())
        with torch.no_grad():
            torch.testing.assert_close(grey(x), features)


def test_features_are_what_torchvisions_classifier_sees(resnet: models.ResNet, file: str) -> None:
    encoder = TorchvisionEncoder(IMAGE, "resnet18", weights=file).eval()
    encoder.load_pretrained()
    seen: list[Tensor] = []
    handle = resnet.fc.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = torch.randn(2, *IMAGE)
    with torch.no_grad():
        resnet(x)
        features = encoder(x)
    handle.remove()
    torch.testing.assert_close(features, seen[0])


def test_convnext_keeps_the_normalisation_at_the_head_of_its_classifier(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = models.convnext_tiny()
    nn.init.normal_(network.classifier[0].weight)
    torch.save(network.state_dict(), tmp_path / "convnext.pt")
    encoder = TorchvisionEncoder(IMAGE, "convnext_tiny", weights=str(tmp_path / "convnext.pt"))
    encoder.load_pretrained()
    assert torch.equal(encoder.state_dict()["network.classifier.0.weight"], network.classifier[0].weight)


def test_weights_are_taken_over_once_and_a_checkpoint_needs_no_file(file: str) -> None:
    encoder = TorchvisionEncoder(IMAGE, "resnet18", weights=file)
    encoder.load_pretrained()
    state = encoder.state_dict()
    Path(file).unlink()
    encoder.load_pretrained()
    again = TorchvisionEncoder(IMAGE, "resnet18", weights=file)
    again.load_state_dict(state)
    again.load_pretrained()
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in state.items())
    with pytest.raises(ValueError, match=r"weights must be a file, null or one of IMAGENET1K_V1, .*resnet\.pt"):
        TorchvisionEncoder(IMAGE, "resnet18", weights=file).load_pretrained()


def test_weights_that_do_not_fit_are_refused_by_name(file: str) -> None:
    encoder = TorchvisionEncoder(IMAGE, "resnet34", weights=file)
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    with pytest.raises(ValueError, match=r"resnet\.pt lacks layer1\.2\.conv1\.weight and \d+ others of resnet34"):
        encoder.load_pretrained()
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())


def test_what_is_frozen_is_not_trained_and_keeps_its_statistics() -> None:
    torch.manual_seed(0)
    encoder = TorchvisionEncoder(IMAGE, "resnet18", frozen=True)
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    head = nn.Linear(512, 1)
    whole = nn.Sequential(encoder, head).train()
    optimizer = torch.optim.SGD(whole.parameters(), lr=0.1, weight_decay=0.1)
    whole(torch.randn(4, *IMAGE)).sum().backward()
    optimizer.step()
    assert head.weight.grad is not None
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
    assert not any(layer.training for layer in encoder.modules())
    assert head.training


def test_what_is_not_frozen_trains_all_of_its_weights() -> None:
    torch.manual_seed(0)
    encoder = TorchvisionEncoder(IMAGE, "resnet18").train()
    encoder(torch.randn(4, *IMAGE)).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in encoder.parameters())
    assert encoder.state_dict()["network.bn1.running_mean"].any()


@pytest.mark.parametrize("name", [name for name in CONVOLUTIONAL if name != "vgg11_bn"])
def test_stripped_networks_cannot_collapse(name: str) -> None:
    torch.manual_seed(0)
    encoder = TorchvisionEncoder(IMAGE, name, strip_biases=True)
    require_collapse_free(encoder)
    assert not encoder.eval()(torch.zeros(2, *IMAGE)).any()
    encoder.train()(torch.randn(4, *IMAGE)).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in encoder.parameters())
    with pytest.raises(ValueError, match=r"network\.\S+ \(BatchNorm2d\) is affine: .* or strip_biases"):
        require_collapse_free(TorchvisionEncoder(IMAGE, name))


@pytest.mark.parametrize(("name", "layer"), [("convnext_tiny", "LayerNorm2d"), ("vit_b_16", "LayerNorm")])
def test_networks_that_cannot_be_stripped_are_refused_by_layer(name: str, layer: str) -> None:
    with pytest.raises(ValueError, match=rf"strip_biases: {name} cannot be .*\({layer}\) normalises each sample"):
        TorchvisionEncoder(IMAGE, name, strip_biases=True)


def test_weights_of_a_stripped_network_fit_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    trained = TorchvisionEncoder(IMAGE, "resnet18", strip_biases=True)
    torch.save(trained.network.state_dict(), tmp_path / "free.pt")
    encoder = TorchvisionEncoder(IMAGE, "resnet18", weights=str(tmp_path / "free.pt"), strip_biases=True)
    encoder.load_pretrained()
    assert all(map(torch.equal, encoder.parameters(), trained.parameters()))


@pytest.mark.parametrize("name", ["regnet_y_400mf", "swin_v2_t", "mobilenet_v3_small"])
def test_networks_are_described_without_memory_as_a_checkpoint_is_checked(name: str) -> None:
    with torch.device("meta"):
        encoder = TorchvisionEncoder(IMAGE, name)
    assert all(weight.is_meta for weight in encoder.parameters())


@pytest.mark.parametrize(
    ("shape", "arguments", "message"),
    [
        ((6,), {}, r"takes images \(C, H, W\), the data have samples of shape \(6,\)"),
        ((2, 32, 32), {}, r"takes images of 1 or 3 channels, the data have samples of shape \(2, 32, 32\)"),
        (
            IMAGE,
            {"name": "resnet19"},
            r"encoder\.name must be a torchvision network .*, got 'resnet19'",
        ),
        (IMAGE, {"name": "fcn_resnet50"}, r"encoder\.name must be a torchvision network for classification"),
        ((3, 32, 32), {"name": "alexnet"}, r"alexnet does not take images of 32x32 pixels .*it takes 63x63 and more"),
        ((3, 32, 28), {"name": "vit_b_16"}, r"vit_b_16 does not take images of 32x28 .*multiples of 16 .*224x224"),
        (
            (3, 32, 32),
            {"name": "vit_b_16", "weights": "IMAGENET1K_V1"},
            r"vit_b_16 does not take images of 32x32 .*weights IMAGENET1K_V1 are for 224x224 pixels",
        ),
        (
            IMAGE,
            {"weights": "IMAGENET1K_V1", "strip_biases": True},
            r"encoder\.weights: IMAGENET1K_V1 of resnet18 count on the biases that strip_biases takes away",
        ),
    ],
)
def test_refused(shape: tuple[int, ...], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TorchvisionEncoder(shape, **{"name": "resnet18", **arguments})
