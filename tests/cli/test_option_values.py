"""Values that are none, for every argument; names that are not there, with the nearest that are."""

from __future__ import annotations

import inspect
import math
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning import Trainer
from refusals import Capture, refused

import adlightning.experiments  # noqa: F401  # makes its data known, as the registry does all others
from adlightning.__main__ import main
from adlightning.cli import registry
from adlightning.cli.types_in_words import admits, check_values, hints_of, in_words
from adlightning.core.detector import AnomalyDetector
from adlightning.data.modules import AnomalyDataModule
from adlightning.data.sources.base import Source

DIGITS = str(Path(__file__).parents[2] / "configs/deep_sad/digits.yaml")


def concrete(root: type) -> list[type]:
    own = not inspect.isabstract(root) and root.__module__.startswith("adlightning")
    children: list[type] = type.__subclasses__(root)
    return [root] * own + [cls for child in children for cls in concrete(child)]


registry.import_all()
ROOTS = (AnomalyDetector, AnomalyDataModule, Source)
FOUND = [cls for root in ROOTS for cls in concrete(root) if not cls.__module__.startswith("adlightning.testing")]
CLASSES = {cls.__name__: cls for cls in FOUND}


@pytest.mark.parametrize("cls", [*CLASSES.values(), Trainer], ids=[*CLASSES, "Trainer"])
def test_null_and_nan_are_refused_by_every_argument_that_has_no_place_for_them(cls: type) -> None:
    hints = hints_of(cls)
    assert hints or cls.__name__ in ("Digits", "MNIST")
    for name, hint in hints.items():
        if not admits(hint, type(None)):
            with pytest.raises(ValueError, match=rf"^x\.{name} must be .+, got null$"):
                check_values("x", cls, {name: None})
        else:
            check_values("x", cls, {name: None})
        for value in (math.nan, math.inf, [1.0, -math.inf], {"a": math.nan}):
            with pytest.raises(ValueError, match=rf"^x\.{name} must be .+ finite; got -?(nan|inf)$"):
                check_values("x", cls, {name: value})


def test_every_argument_of_every_detector_has_a_hint() -> None:
    for cls in CLASSES.values():
        for base in cls.__mro__:
            constructor = vars(base).get("__init__")
            if inspect.isfunction(constructor) and base.__module__.startswith("adlightning"):
                named = {p.name for p in inspect.signature(constructor).parameters.values() if p.kind not in (2, 4)}
                assert named - {"self"} <= hints_of(cls).keys(), (cls, base)


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (int, "a whole number"),
        (float | None, "a number or null"),
        (tuple[int, int] | None, "a list of 2 whole numbers or null"),
        (list[str | int], "a list of texts or whole numbers"),
        (tuple[str, ...], "a list of texts"),
        (Any, "of class Any"),
        (dict[str, float], "names with values"),
    ],
)
def test_hints_in_words(hint: Any, words: str) -> None:
    assert in_words(hint) == words


WRONG = [
    ("--model.eta=null", "model.eta must be a number, got null"),
    (
        "--model.encoder.conv_channels=[8, null]",
        "model.encoder.conv_channels must be a list of whole numbers or null, got null",
    ),
    ("--data.batch_size=null", "data.batch_size must be a whole number, got null"),
    ("--data.validation_fraction=null", "data.validation_fraction must be a number, got null"),
    ("--trainer.num_nodes=null", "trainer.num_nodes must be a whole number, got null"),
    ("--run_dir=null", "run_dir must be a folder, got null"),
    ("--run_dir=", "run_dir must be a folder, got nothing"),
    ("--model.eta=abc", "model.eta must be a number, got abc"),
    ("--model.eta=.nan", "model.eta must be a number, and finite; got nan"),
    ("--model.eta=true", "model.eta must be a number, got True"),
    ("--model.encoder.rep_dim=1.5", "model.encoder.rep_dim must be a whole number, got 1.5"),
    ("--model.encoder.rep_dim=", "model.encoder.rep_dim must be a whole number, got nothing"),
    ("--model.encoder.rep_dim=[3]", "model.encoder.rep_dim must be a whole number, got [3]"),
    (
        "--model.encoder.conv_channels=8",
        "model.encoder.conv_channels must be a list of whole numbers or null, got 8",
    ),
    ("--data.labelled_classes=abc", "must be a list of texts or whole numbers or null, got abc"),
    (
        "--data.batch_size=9223372036854775808",
        "data.batch_size must be a whole number of at most 9223372036854775807",
    ),
    (
        "--model.optimizer=SDG",
        "model.optimizer: there is no class SDG; nearest: SGD, or the import path of your own",
    ),
    ("--trainer.max_epochs=abc", "trainer.max_epochs must be a whole number or null, got abc"),
    ("--trainer.gradient_clip_val=-1", "trainer.gradient_clip_val must not be negative, got -1"),
    ("--trainer.accumulate_grad_batches=0", "trainer.accumulate_grad_batches must be positive, got 0"),
    ("--trainer.val_check_interval=0", "trainer.val_check_interval must be positive, got 0"),
    ("--trainer.val_check_interval=-0.5", "trainer.val_check_interval must be positive, got -0.5"),
    ("--trainer.check_val_every_n_epoch=0", "trainer.check_val_every_n_epoch must be positive, got 0"),
    ("--trainer.log_every_n_steps=-1", "trainer.log_every_n_steps must not be negative, got -1"),
    ("--ckpt_path=", "ckpt_path must be a checkpoint or a run folder, got nothing"),
    ("--plots=maybe", "plots must be true or false, got maybe"),
    ("--seed_everything=-1", "seed_everything must lie in [0, 4294967296), got -1"),
    ("--model.etaa=3", "there is no model.etaa: DeepSAD has no argument etaa; nearest: model.eta"),
    ("--data.path=t.csv", "OneVsAll has no argument path; it is an argument of TableData"),
    ("--modle.eta=3", "there is no option modle.eta; nearest: model.eta"),
    ("--eta=3", "there is no option eta; nearest: model.eta"),
    ("--optimizer=Adam", "there is no option optimizer; nearest: model.optimizer"),
    ("--model=DeepSADD", "model: there is no class DeepSADD; nearest: DeepSAD"),
    ("--model=adlightning.methods.DeepSADD", "nearest: DeepSAD"),
    (
        "--model=no.such.Model",
        "model: no.such.Model cannot be imported: there is no module 'no'; --import",
    ),
    ("--data=OneVsAl", "data: there is no class OneVsAl; nearest: OneVsAll"),
    ("--data.source=Digitss", "data.source: there is no class Digitss; nearest: Digits"),
    ("--trainer.logger=WandbLoger", "trainer.logger: there is no class WandbLoger; nearest: WandbLogger"),
    ("--trainer.accelerator=tpu", "trainer: accelerator=tpu cannot be used here"),
    ("--trainer.accelerator=xyz", "trainer: accelerator=xyz cannot be used here"),
    ("--trainer.strategy=horovod", "trainer: accelerator=cpu, strategy=horovod cannot be used here"),
    ("--trainer.devices=abc", "trainer: accelerator=cpu, devices=abc cannot be used here"),
    ("--trainer.max_time=abc", "trainer: accelerator=cpu, max_time=abc cannot be used here"),
    ("--trainer.profiler=xla", "trainer.profiler: xla needs torch_xla"),
]
ALIKE = {
    "--data.validation_fraction=null",
    "--trainer.num_nodes=null",
    "--model.encoder.rep_dim=",
    "--model.encoder.rep_dim=[3]",
    "--model.encoder.conv_channels=8",
    "--trainer.gradient_clip_val=-1",
    "--trainer.val_check_interval=-0.5",
    "--trainer.check_val_every_n_epoch=0",
    "--trainer.accumulate_grad_batches=0",
    "--trainer.max_epochs=abc",
    "--optimizer=Adam",
    "--data=OneVsAl",
    "--data.source=Digitss",
    "--trainer.logger=WandbLoger",
    "--trainer.accelerator=xyz",
    "--trainer.devices=abc",
    "--trainer.max_time=abc",
    "--model=adlightning.methods.DeepSADD",
}
"""Options that are refused by the same rule as another of the list."""


@pytest.mark.parametrize(
    ("option", "words"),
    [pytest.param(*case, marks=[pytest.mark.slow] if case[0] in ALIKE else []) for case in WRONG],
)
def test_a_wrong_value_or_name_is_one_line(tmp_path: Path, capsys: Capture, option: str, words: str) -> None:
    arguments = ["fit", "--config", DIGITS, f"--run_dir={tmp_path / 'r'}", "--trainer.accelerator=cpu", option]
    error = refused(capsys, arguments, words)
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "<class" not in error
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("trainer: {foo: 3}\n", "there is no option trainer.foo"),
        ("modell: 3\n", "there is no option modell; nearest: model"),
        ("model: {class_path: DeepSAD, initargs: {eta: 3}}\n", "there is no model.initargs"),
        ("model: {class_path: DeepSAD, init_args: {etaa: 3}}\n", "nearest: model.eta"),
        (
            "data: {class_path: OneVsAll, init_args: {source: {class_path: CIFAR10, init_args: {rot: x}}}}\n",
            "source.root",
        ),
        ("run_dir: null\n", "run_dir must be a folder, got null"),
        ("plots: null\n", "plots must be true or false, got null"),
        ("model: {class_path: DeepSAD, init_args: {eta: null}}\n", "model.eta must be a number, got null"),
    ],
)
def test_keys_and_values_of_a_config_that_cannot_be(tmp_path: Path, capsys: Capture, text: str, words: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    refused(capsys, ["fit", "--config", DIGITS, "--config", str(tmp_path / "c.yaml")], words)


@pytest.mark.parametrize(
    ("option", "argument"), [("model.preprocessing.resize", "resize: null"), ("model.encoder.weights", "weights: null")]
)
def test_null_for_an_argument_of_a_part_is_none(capsys: Capture, option: str, argument: str) -> None:
    config = DIGITS.replace("deep_sad/digits", "density_ratio/cifar10_imagenet")
    with pytest.raises(SystemExit) as ended:
        main(["fit", "--config", config, f"--{option}=null", "--print_config"])
    assert ended.value.code == 0
    assert argument in capsys.readouterr().out


def test_a_name_of_two_classes_asks_for_a_path(capsys: Capture) -> None:
    fit = ["fit", "--config", DIGITS, "--model.lr_scheduler=ReduceLROnPlateau"]
    refused(capsys, fit, "model.lr_scheduler: there are several", "torch.optim.lr_scheduler.ReduceLROnPlateau")
