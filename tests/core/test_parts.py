from __future__ import annotations

import sys
import types
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from adlightning.core.parts import as_part, described, from_description
from adlightning.core.saved_arguments import rebuilt_arguments
from adlightning.core.thresholds import Contamination
from adlightning.methods import DROCC, DeepSAD
from adlightning.methods.parts.hypersphere import AutoencoderPretraining
from adlightning.networks import LeNetEncoder


class Own(nn.Module):
    """A user's own encoder."""

    class Inner(nn.Module):
        """A class within a class."""

    def __init__(self, shape: tuple[int, ...], width: int = 4) -> None:
        super().__init__()
        self.linear = nn.Linear(shape[0], width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        codes: Tensor = self.linear(x)
        return codes


UNTYPED: Any = Own


def made_by_parser(cls: type[Any], **arguments: Any) -> Any:
    """What jsonargparse makes of a class path and arguments."""

    def call(instantiate: Any, *args: Any, **kwargs: Any) -> Any:
        return instantiate(*args, **kwargs)

    return partial(call, lambda cls, *args, **kwargs: cls(*args, **kwargs), cls, **arguments)


@pytest.mark.parametrize("given", [partial(Own, width=3), made_by_parser(Own, width=3), partial(partial(Own), width=3)])
def test_a_part_is_a_class_with_its_arguments_however_it_is_given(given: Any) -> None:
    part = as_part("encoder", given, nn.Module)
    assert part.func is Own
    assert part.keywords == {"width": 3}
    assert part((7,))(torch.zeros(2, 7)).shape == (2, 3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda shape: Own(shape), "encoder must be a subclass of Module, or functools.partial of one"),
        (Own((3,)), "encoder must be a subclass of Module"),
        (Adam, "encoder must be a subclass of Module"),
        (partial(Own, (3,)), "encoder must be a subclass of Module, or functools.partial of one with named arguments"),
        (partial(UNTYPED, width=torch.tensor(3)), r"encoder must have plain arguments .*, got width=tensor\(3\)"),
        (partial(UNTYPED, width=float("nan")), r"encoder must have plain arguments .*, got width=nan"),
        ("lenet", "encoder must be a subclass of Module"),
        (Own.Inner, r"encoder must be a class at the top of a module, where it can be found, got .*Own.Inner"),
    ],
)
def test_what_no_checkpoint_can_hold_is_refused(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_part("encoder", given, nn.Module)


def test_arguments_become_plain_values_and_parts_again() -> None:
    pretraining = AutoencoderPretraining(epochs=3, optimizer=partial(SGD, lr=0.1), lr_scheduler=None)
    encoder = partial(LeNetEncoder, conv_channels=(4, 2), rep_dim=16)
    model = DeepSAD(encoder=encoder, pretraining=pretraining, optimizer=AdamW, threshold=Contamination(0.2))
    saved = described(model.arguments)
    assert saved["encoder"] == {
        "class_path": "adlightning.networks.lenet.LeNetEncoder",
        "init_args": {"conv_channels": [4, 2], "rep_dim": 16},
    }
    assert saved["optimizer"] == {"class_path": "torch.optim.adamw.AdamW", "init_args": {}}
    again = DeepSAD(**rebuilt_arguments(DeepSAD, saved))
    assert described(again.arguments) == saved
    assert again.pretraining.epochs == 3
    assert again.pretraining.lr_scheduler is None
    assert again.threshold_rule == Contamination(0.2)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("os.system", "os.system is no class"),
        ("torch.nn.Linear", "a checkpoint names no class of torch"),
        ("torch.distributed.nn.api.remote_module.RemoteModule", "a checkpoint names no class of torch"),
        ("pytorch_lightning.Trainer", "a checkpoint names no class of pytorch_lightning"),
        ("not_there.ViT", "not_there.ViT is not imported, .* give --import not_there on the command line"),
        ("torch.optim.Adam", "torch.optim.Adam is no Module"),
        ("adlightning.networks.nothing.ViT", "there is no adlightning.networks.nothing.ViT"),
        ("LeNetEncoder", "LeNetEncoder is not imported"),
        ("", " is not imported"),
    ],
)
def test_a_checkpoint_names_no_class_that_is_not_a_part(path: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_description("encoder", {"class_path": path, "init_args": {}}, nn.Module)


def test_a_module_is_not_imported_because_a_checkpoint_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "owned_part.py").write_text("from torch import nn\nclass ViT(nn.Module): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    description = {"class_path": "owned_part.ViT", "init_args": {}}
    with pytest.raises(ValueError, match=r"owned_part\.ViT is not imported"):
        from_description("encoder", description, nn.Module)
    assert "owned_part" not in sys.modules
    __import__("owned_part")
    assert from_description("encoder", description, nn.Module).func.__name__ == "ViT"
    monkeypatch.delitem(sys.modules, "owned_part")


def test_a_package_that_imports_what_it_is_asked_for_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    lazy, asked = types.ModuleType("lazy_package"), list[str]()
    monkeypatch.setattr(lazy, "__getattr__", asked.append, raising=False)
    monkeypatch.setitem(sys.modules, "lazy_package", lazy)
    with pytest.raises(ValueError, match=r"lazy_package\.ViT is not imported"):
        from_description("encoder", {"class_path": "lazy_package.ViT", "init_args": {}}, nn.Module)
    assert not asked


@pytest.mark.parametrize(
    "description",
    [
        "adlightning.networks.lenet.LeNetEncoder",
        {"class_path": "adlightning.networks.lenet.LeNetEncoder"},
        {"class_path": 3, "init_args": {}},
        {"class_path": "adlightning.networks.lenet.LeNetEncoder", "init_args": [1]},
        {"class_path": "adlightning.networks.lenet.LeNetEncoder", "init_args": {}, "more": 1},
        {"class_path": "adlightning.networks.lenet.LeNetEncoder", "init_args": {"rep_dim": float("inf")}},
    ],
)
def test_what_describes_no_part_is_refused(description: Any) -> None:
    with pytest.raises(ValueError, match=r"encoder must be a class path and"):
        from_description("encoder", description, nn.Module)


def test_an_optimiser_by_its_public_path() -> None:
    part = from_description("optimizer", {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.1}}, Optimizer)
    assert part.func is AdamW


ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)
ANY: Any = partial


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: DeepSAD(pretraining=cast(Any, "no")),
            "pretraining must be made by AutoencoderPretraining.*, got 'no'",
        ),
        (lambda: DeepSAD(pretraining=cast(Any, AutoencoderPretraining)), "pretraining must be made by"),
        (lambda: DeepSAD(threshold=cast(Any, 0.3)), "threshold must be made by ThresholdRule.*, got 0.3"),
        (lambda: DeepSAD(threshold=cast(Any, Contamination)), "threshold must be made by ThresholdRule"),
        (lambda: DROCC(head=cast(Any, None)), "head must be made by Head.*, got None"),
        (lambda: DeepSAD(encoder=ANY(LeNetEncoder, dense=ENDLESS)), "encoder .* dense is nested without end"),
    ],
)
def test_what_is_no_part_is_refused_when_a_detector_is_made(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
