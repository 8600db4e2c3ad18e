from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from adlightning.networks import TimmEncoder, require_collapse_free

needs_timm = pytest.mark.skipif(find_spec("timm") is None, reason="the extra timm is not installed")
IMAGE, GREY = (3, 32, 32), (1, 32, 32)


def test_without_timm_a_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"TimmEncoder needs timm: pip install 'adlightning\[timm\]'"):
        TimmEncoder(IMAGE, "resnet18")


@needs_timm
@pytest.mark.parametrize(("name", "size"), [("resnet18", 512), ("vit_tiny_patch16_224", 192), ("convnext_atto", 320)])
def test_pooled_features_of_colour_and_grey_images(name: str, size: int) -> None:
    torch.manual_seed(0)
    encoder, grey = TimmEncoder(IMAGE, name).eval(), TimmEncoder(GREY, name).eval()
    grey.load_state_dict(encoder.state_dict())
    x = torch.rand(2, *GREY)
    with torch.no_grad():
        features = encoder(x.expand(-1, 3, -1, -1))
        assert features.shape == (2, size)
        torch.testing.assert_close(grey(x), features)
    assert encoder.rep_dim == size


@needs_timm
def test_other_numbers_of_channels() -> None:
    assert TimmEncoder((4, 32, 32), "resnet18").rep_dim == 512


@needs_timm
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_weights_of_a_file_are_taken_over_without_their_classifier(suffix: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = import_module("timm").create_model("resnet18", num_classes=7)
    file = tmp_path / f"weights.{suffix}"
    if suffix == "pt":
        torch.save(network.state_dict(), file)
    else:
        import_module("safetensors.torch").save_file(network.state_dict(), file)
    encoder = TimmEncoder(IMAGE, "resnet18", weights=str(file)).eval()
    encoder.load_pretrained()
    x = torch.rand(2, *IMAGE)
    with torch.no_grad():
        maps = network.eval().forward_features(x)
        torch.testing.assert_close(encoder(x), network.forward_head(maps, pre_logits=True))
    again = TimmEncoder(IMAGE, "resnet18", weights=str(file))
    again.load_state_dict(encoder.state_dict())
    file.unlink()
    again.load_pretrained()


@needs_timm
def test_damaged_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(ValueError, match=r"a\.safetensors is truncated, corrupt or no \.safetensors"):
        TimmEncoder(IMAGE, "resnet18", weights=str(tmp_path / "a.safetensors")).load_pretrained()


@needs_timm
def test_timms_own_weights_are_had_when_a_fit_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    timm = import_module("timm")

    torch.manual_seed(0)
    make, asked = timm.create_model, []

    def create(name: str, pretrained: bool, **arguments: object) -> nn.Module:
        asked.append((name, pretrained))
        network: nn.Module = make(name, pretrained=False, **arguments)
        if pretrained:
            nn.init.ones_(network.get_parameter("conv1.weight"))
        return network

    monkeypatch.setattr(timm, "create_model", create)
    for weights, wanted in ((True, "resnet18"), ("a2_in1k", "resnet18.a2_in1k")):
        encoder = TimmEncoder(IMAGE, "resnet18", weights=weights)
        assert asked == [("resnet18", False)]
        encoder.load_pretrained()
        encoder.load_pretrained()
        assert asked.pop() == (wanted, True)
        assert (encoder.network.get_parameter("conv1.weight") == 1).all()
        asked.clear()


@needs_timm
def test_weights_that_cannot_be_had_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    timm = import_module("timm")

    def unreachable(*args: object, **arguments: object) -> nn.Module:
        raise ConnectionError("no network")

    encoder = TimmEncoder(IMAGE, "resnet18", weights=True)
    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(ValueError, match="weights: those of resnet18 cannot be had: no network"):
        encoder.load_pretrained()


@needs_timm
@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "tf_efficientnet_b0"])
def test_stripped_networks_cannot_collapse(name: str) -> None:
    torch.manual_seed(0)
    encoder = TimmEncoder(IMAGE, name, strip_biases=True)
    require_collapse_free(encoder)
    assert not encoder.eval()(torch.zeros(2, *IMAGE)).any()


@needs_timm
def test_what_is_frozen_stays_in_eval_mode() -> None:
    encoder = TimmEncoder(IMAGE, "resnet18", frozen=True).train()
    assert not any(layer.training for layer in encoder.modules())
    assert not any(weight.requires_grad for weight in encoder.parameters())


@needs_timm
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet19"}, r"encoder\.name must be one of timm\.list_models\(\), got 'resnet19'"),
        ({"name": "hf-hub:timm/resnet18"}, r"encoder\.name must be one of timm\.list_models\(\), got 'hf-hub"),
        ({"name": "resnet18.none"}, r"resnet18 has the tags a1_in1k, .*, got 'resnet18\.none'"),
        ({"name": "inception_v3"}, r"inception_v3 does not take images of 32x32 pixels"),
        ({"name": "convnext_atto", "strip_biases": True}, r"convnext_atto cannot be made .* stem\.1 \(LayerNorm2d\)"),
        ({"weights": True, "strip_biases": True}, r"those of resnet18 count on the biases that strip_biases takes"),
    ],
)
def test_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TimmEncoder(IMAGE, **{"name": "resnet18", **arguments})
