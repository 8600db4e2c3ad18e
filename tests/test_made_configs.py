"""Experiments and sweeps are what configs/parts/ makes of them, and say of an argument what its class does not."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from class_defaults import with_defaults, without_defaults
from configured import detector_of
from make_configs import made, merged, written

from adlightning.core.detector import AnomalyDetector

ROOT = Path(__file__).parents[1]
RATES = json.loads((Path(__file__).parent / "config_rates.json").read_text())
KDE = {"class_path": "KDE"}
DATA = {"class_path": "OneVsAll", "init_args": {"source": "Digits"}}


@pytest.fixture(scope="module")
def there() -> dict[str, str]:
    return written(ROOT)


def test_files_are_those_that_the_parts_make(there: dict[str, str]) -> None:
    wanted = made(ROOT)
    differing = [file for file in wanted.keys() | there.keys() if wanted.get(file) != there.get(file)]
    assert not differing, "run `make configs`"


@pytest.mark.parametrize(
    ("below", "above", "together"),
    [
        ({"a": 1, "b": {"c": 2}}, {"b": {"d": 3}}, {"a": 1, "b": {"c": 2, "d": 3}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": {"b": 1}}, {"a": None}, {"a": None}),
        ({"a": "X"}, {"a": {"class_path": "X"}}, {"a": {"class_path": "X"}}),
        (
            {"class_path": "X", "init_args": {"a": 1}},
            {"class_path": "X", "init_args": {"b": 2}},
            {"class_path": "X", "init_args": {"a": 1, "b": 2}},
        ),
        (
            {"class_path": "X", "init_args": {"a": 1}},
            {"class_path": "Y", "init_args": {"b": 2}},
            {"class_path": "Y", "init_args": {"b": 2}},
        ),
    ],
    ids=["keys", "list", "null", "name", "same-class", "other-class"],
)
def test_layers_are_merged_key_by_key(below: Any, above: Any, together: Any) -> None:
    assert merged(below, above) == together


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ({"eta": 1000, "eps": 1e-5}, {"eps": 1e-5}),
        ({"pretraining": {"epochs": 0, "transfer": False}}, {"pretraining": {"transfer": False}}),
        ({"optimizer": {"class_path": "Adam", "init_args": {"lr": 3e-4, "weight_decay": 1e-6, "eps": 1e-8}}}, {}),
        (
            {"optimizer": {"class_path": "Adam", "init_args": {"lr": 3e-4, "weight_decay": 0.0}}},
            {"optimizer": {"class_path": "Adam", "init_args": {"weight_decay": 0.0}}},
        ),
        (
            {"optimizer": {"class_path": "AdamW", "init_args": {"lr": 1e-3, "weight_decay": 0.01, "eps": 1e-8}}},
            {"optimizer": {"class_path": "AdamW", "init_args": {"lr": 1e-3, "weight_decay": 0.01}}},
        ),
        ({"lr_scheduler": None, "encoder": None}, {"lr_scheduler": None}),
        (
            {"encoder": {"class_path": "LeNetEncoder", "init_args": {"rep_dim": 32, "bias": False}}},
            {"encoder": "LeNetEncoder"},
        ),
        ({"threshold": {"class_path": "NormalQuantile", "init_args": {"quantile": 0.95}}}, {}),
        (
            {"threshold": {"class_path": "NormalQuantile", "init_args": {"quantile": 0.9}}},
            {"threshold": {"class_path": "NormalQuantile", "init_args": {"quantile": 0.9}}},
        ),
    ],
    ids=[
        "plain",
        "fields",
        "same-optimizer",
        "its-arguments",
        "other-optimizer",
        "null",
        "class",
        "rule",
        "other-rule",
    ],
)
def test_arguments_at_their_defaults_are_left_out(given: dict[str, Any], left: dict[str, Any]) -> None:
    config = {"trainer": {"max_epochs": 1}, "model": {"class_path": "DeepSAD", "init_args": given}, "data": DATA}
    assert without_defaults(config)["model"].get("init_args", {}) == left


def test_what_the_parser_takes_over_from_a_default_is_said() -> None:
    """Another class keeps the default's arguments of the same names, `weight_decay` of 1e-6 here."""
    model = {"class_path": "DeepSAD", "init_args": {"optimizer": {"class_path": "SGD", "init_args": {"lr": 1e-3}}}}
    optimizer = with_defaults(model)["init_args"]["optimizer"]["init_args"]
    made = detector_of(model).arguments["optimizer"].keywords
    assert {name: made[name] for name in ("lr", "weight_decay", "momentum")} == {
        name: optimizer[name] for name in ("lr", "weight_decay", "momentum")
    }
    given = without_defaults({"trainer": {}, "model": model, "data": DATA})["model"]
    assert detector_of(given).arguments["optimizer"].keywords == made


def test_what_the_command_line_sets_by_itself_is_said() -> None:
    config = {"trainer": {"use_distributed_sampler": True, "num_sanity_val_steps": 0}, "model": KDE, "data": DATA}
    assert without_defaults(config)["trainer"] == {"use_distributed_sampler": True}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"model": {**KDE, "init_args": {"gama": 1}}}, "KDE has no argument gama; it has "),
        ({"model": {"class_path": "KDE", "init_arg": {}}}, "must be class_path and init_args, a mapping, got"),
        ({"model": {"class_path": None}}, "must be class_path and init_args, a mapping, got"),
        ({"model": None}, "model must be a mapping, got None"),
        ({"trainer": {"max_epoch": 1}}, "Trainer has no argument max_epoch"),
        ({"data_set": "digit"}, "there is no data set digit in configs/parts/data"),
        ({"optimizer": 1}, "there is no option optimizer"),
        ({"header": {"methd": "x"}}, "header must have data and method"),
    ],
)
def test_a_wrong_part_is_named_by_file_and_experiment(tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    write_parts(tmp_path, {"experiments": {"digits": changed}})
    with pytest.raises(ValueError, match=f"configs/parts/methods/mine.yaml, digits: .*{re.escape(words)}"):
        made(tmp_path)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"setting": "labeled"}, "no data set has the setting labeled"),
        ({"kinds": {"tabels": {}}}, "there is no kind tabels; kinds are digits"),
        ({"experiment": {}}, "there is no experiment; keys are"),
        ({"experiments": None}, "it must have all and experiments"),
    ],
)
def test_a_wrong_key_of_a_part_is_named_by_file(tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    write_parts(tmp_path, changed)
    with pytest.raises(ValueError, match=f"configs/parts/methods/mine.yaml: {words}"):
        made(tmp_path)


def test_an_experiment_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    write_parts(tmp_path, {})
    file = tmp_path / "configs/parts/methods/mine.yaml"
    file.write_text("all: {}\nexperiments:\n  digits: {}\n  digits: {}\n")
    with pytest.raises(ValueError, match=r"configs/parts/methods/mine.yaml is not YAML: .*'digits' is given twice"):
        made(tmp_path)


def write_parts(root: Path, changed: dict[str, Any]) -> None:
    """One method on one data set, with something changed."""
    parts = root / "configs/parts"
    method = {"all": {"header": {"method": "mine"}, "trainer": {}, "model": KDE}, "experiments": {"digits": {}}}
    data = {"kind": "digits", "all": {"header": {"data": "digits"}, "data": DATA}}
    for file, content in (("methods/mine", {**method, **changed}), ("data/digits", data), ("sweep", {})):
        (parts / file).parent.mkdir(parents=True, exist_ok=True)
        (parts / f"{file}.yaml").write_text(yaml.safe_dump(content))


def test_arguments_at_their_defaults_are_filled_in() -> None:
    arguments = with_defaults({"class_path": "DeepSAD", "init_args": {"pretraining": {"epochs": 3}}})["init_args"]
    assert (arguments["eta"], arguments["encoder"]) == (1000.0, None)
    assert arguments["pretraining"]["epochs"] == 3
    assert arguments["pretraining"]["optimizer"]["class_path"] == "Adam"
    assert arguments["optimizer"]["init_args"]["weight_decay"] == 1e-6


def test_a_name_that_no_class_has_is_refused() -> None:
    with pytest.raises(ValueError, match="class_path must name one class, got NoSuchEncoder"):
        with_defaults({"class_path": "DeepSAD", "init_args": {"encoder": {"class_path": "NoSuchEncoder"}}})


def rates_of(config: dict[str, Any]) -> dict[str, Any]:
    """Epochs, optimisers and schedules of an experiment."""
    return {
        "max_epochs": config["trainer"]["max_epochs"],
        **rates_within(with_defaults(config["model"], AnomalyDetector)),
    }


def rates_within(part: dict[str, Any]) -> dict[str, Any]:
    """Optimisers and schedules of a detector or of a part of it."""
    found: dict[str, Any] = {}
    for name, value in part.get("init_args", part).items():
        if name.endswith("optimizer"):
            own = value["init_args"]
            found[name] = {key: own[key] for key in ("lr", "weight_decay", "betas", "momentum") if key in own}
            found[name] |= {"class": value["class_path"]}
        elif name == "lr_scheduler":
            found["milestones"] = value["init_args"]["milestones"] if value else []
            assert value is None or value["init_args"]["gamma"] == 0.1
        elif name in ("pretraining", "features") and isinstance(value, dict) and (inner := rates_within(value)):
            found[name] = {**({"epochs": value["epochs"]} if name == "pretraining" else {}), **inner}
        elif name == "pretrain_epochs":
            found[name] = value
    return found


def test_learning_rates_of_every_epoch_are_those_that_were_measured(there: dict[str, str]) -> None:
    """config_rates.json has those of before optimisers were parts of detectors, with which results were measured.

    Those of one's own tables are others now: tests/test_own_defaults.py.
    """
    for method, rows in RATES.items():
        for row in rows:
            wanted = {key: value for key, value in row.items() if key != "of"}
            for name in row["of"]:
                config = yaml.safe_load(there[f"configs/{method}/{name}.yaml"])
                assert rates_of(config) == wanted, f"{method}/{name}"
