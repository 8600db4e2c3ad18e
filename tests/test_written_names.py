"""Names of classes and columns are text: in files, on the command line and in what a run keeps of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from omegaconf import OmegaConf
from PIL import Image

from adlightning.__main__ import main
from adlightning.data.limited_negatives import LimitedNegatives
from adlightning.data.one_vs_all import OneVsAll
from adlightning.data.out_of_distribution import OutOfDistribution
from adlightning.data.unlabelled import InductiveOneVsAll, TransductiveOneVsAll
from adlightning.files.plain_yaml import read_yaml
from adlightning.files.written_names import NAMES, dump_yaml, names_as_written, value_as_written

NAMES_LIKE_NUMBERS = ["010", "008", "1e5", "0x1F", "1_000", "1.50", "2020-01-01", "1:30", "-1"]
NAMES_LIKE_VALUES = ["yes", "no", "on", "off", "true", "null", "~", "=", ".inf"]
LOF = ["fit", "--config", "configs/lof/cifar10.yaml"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images in class folders of such names, the first class bright."""
    folder, rng = tmp_path_factory.mktemp("classes"), np.random.default_rng(0)
    for part, n in (("train", 30), ("test", 6)):
        for name in ("010", "008", "8", "1e5", "yes", "null"):
            (folder / part / name).mkdir(parents=True)
            for i in range(n):
                x = rng.integers(0, 60, size=(8, 8)) + (120 if name == "010" else 0)
                Image.fromarray(x.astype(np.uint8)).save(folder / part / name / f"{i}.png")
    return folder


def options_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """What a command line makes of the data's options."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--print_config"])
    assert ended.value.code == 0
    read: dict[str, Any] = read_yaml(capsys.readouterr().out, "config")["data"]["init_args"]
    return read


@pytest.mark.parametrize("name", NAMES_LIKE_NUMBERS + NAMES_LIKE_VALUES)
def test_yaml_keeps_a_name_as_it_is_written(name: str) -> None:
    arguments = f"normal_class: {name}, far_classes: [{name}], x: &a {name}, data.labelled_classes: [*a]"
    text = f"data: {{init_args: {{{arguments}}}}}"
    read = read_yaml(text, "config")["data"]["init_args"]
    alone = None if name in ("null", "~") else int(name) if name == "-1" else name
    assert (read["normal_class"], str(read["far_classes"][0])) == (alone, name)
    assert str(read["data.labelled_classes"][0]) == name
    assert read_yaml(f"normal_class: '{name}'", "config")["normal_class"] == name
    assert yaml.safe_load(dump_yaml({"a": name})) == {"a": name}
    assert OmegaConf.to_container(OmegaConf.create(dump_yaml({"a": name}))) == {"a": name}
    assert read_yaml(dump_yaml({"normal_class": name}), "")["normal_class"] == name
    assert str(read_yaml(f"anomaly_sources: {{{name}: Noise}}", "config")).count(f"'{name}'") == (name != "-1")


def test_other_values_stay_what_yaml_makes_of_them() -> None:
    text = "{a: 010, b: [yes, 1.5], normal_class: 3, far_classes: null, labelled_classes: ['5', cat, {x: on}]}"
    assert read_yaml(text, "config") == {
        **{"a": 8, "b": [True, 1.5], "normal_class": 3, "far_classes": None},
        "labelled_classes": ["5", "cat", {"x": True}],
    }
    assert names_as_written("a: [010]") == "a: [010]"
    assert value_as_written("data.normal_class", "null") == "null"


def test_every_argument_that_names_classes_is_known() -> None:
    for kind in (OneVsAll, LimitedNegatives, OutOfDistribution, TransductiveOneVsAll, InductiveOneVsAll):
        hints = {
            k: v for cls in kind.__mro__ for k, v in getattr(vars(cls).get("__init__"), "__annotations__", {}).items()
        }
        assert {name for name, hint in hints.items() if "ClassName" in str(hint)} <= NAMES


@pytest.mark.parametrize("name", ["010", "1e5", "0x1F", "1_000", "1.50", "yes", "true", "2020-01-01"])
def test_the_command_line_keeps_a_name_as_it_is_written(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lists = [f"--data.labelled_classes=[{name}, 8]", f"--data.labelled_classes+={name}"]
    options = options_of(capsys, *LOF, f"--data.normal_class={name}", *lists)
    assert (options["normal_class"], options["labelled_classes"]) == (name, [name, 8, name])
    file = tmp_path / "own.yaml"
    file.write_text(f"data: {{init_args: {{normal_class: [{name}], labelled_classes: [{name}]}}}}")
    from_file = options_of(capsys, *LOF, "--config", str(file), "--data.normal_class", f"[8, {name}]")
    assert (from_file["normal_class"], from_file["labelled_classes"]) == ([8, name], [name])


def test_columns_have_no_index_so_that_plain_numbers_name_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = ["fit", "--config", "configs/lof/table.yaml", "--data.path=t.csv"]
    options = options_of(capsys, *table, "--data.drop_columns=[2, -1, '3']", "--data.label_column=7")
    assert (options["drop_columns"], options["label_column"]) == (["2", "-1", "3"], "7")
    file = tmp_path / "own.yaml"
    file.write_text("data: {init_args: {name_column: 1, label_column: 0, drop_columns: [2]}}")
    options = options_of(capsys, *table[:3], "--config", str(file), table[3])
    assert [options[name] for name in ("name_column", "label_column", "drop_columns")] == ["1", "0", ["2"]]


def test_names_of_test_sets_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--data.anomaly_sources={001: UniformNoise, yes: GaussianNoise}", "--data.validation_source=001"]
    options = options_of(capsys, "fit", "--config", "configs/lof/cifar10.yaml", "--data=OutOfDistribution", *given)
    assert list(options["anomaly_sources"]) == ["001", "yes"]
    assert options["validation_source"] == "001"


@pytest.mark.parametrize("name", ["1e5", "null"])
def test_the_class_that_is_named_is_normal_also_from_the_checkpoint(name: str, root: Path, tmp_path: Path) -> None:
    given = "[null]" if name == "null" else name  # alone it is YAML's null, of which there is no class
    data = ["--data.source=ImageFolder", f"--data.source.root={root}", f"--data.normal_class={given}"]
    quiet = ["--plots=false", "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
    assert main([*LOF, *data, *quiet, f"--run_dir={tmp_path / 'run'}"]) == 0
    assert main(["test", f"--ckpt_path={tmp_path / 'run'}", *quiet, f"--run_dir={tmp_path / 'again'}"]) == 0
    for run in ("run", "again"):
        assert json.loads((tmp_path / run / "metrics.json").read_text())["data"].endswith(f"normal class {name}")


def test_an_index_among_numbers_is_refused(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ["--data.source=ImageFolder", f"--data.source.root={root}", "--data.normal_class=5"]
    assert main([*LOF, *data, f"--run_dir={tmp_path / 'run'}"]) == 2
    assert "there is no class '5'; classes are 008, 010, 1e5, 8, null, yes" in capsys.readouterr().err
