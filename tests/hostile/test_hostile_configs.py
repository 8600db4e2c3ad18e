"""Hostile configurations: given, in a benchmark file, and stored in a checkpoint."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hostile_cases import ODD_VALUES, damaged, drawn, places, put, works_or_is_refused
from hypothesis import given, strategies as st
from refusals import refused

import adlightning.cli.trainer_verbs  # noqa: F401  # makes every class known
from adlightning.benchmark.grid import read_grid
from adlightning.checkpoints.stored_config import trusted_part
from adlightning.cli.arguments import prepared
from adlightning.data.sources import SpeechCommands
from adlightning.files.plain_yaml import read_yaml

ROOT = Path(__file__).parents[2]
DIGITS = (ROOT / "configs/autoencoder/digits.yaml").read_text(encoding="utf-8")
GRID = yaml.safe_load((ROOT / "configs/benchmarks/deep_sad_digits.yaml").read_text(encoding="utf-8"))

LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
TEXTS = {
    "object": "model: !!python/object/apply:os.system ['touch was_run']",
    "name": "model: !!python/name:os.system",
    "new": "model: !!python/object/new:subprocess.Popen [[touch, was_run]]",
    "module": "model: !!python/module:antigravity",
    "laughs": LAUGHS,
    "recursive": "model: &a [*a]",
    "deep": "[" * 300,
    "number": "a: !!int ''",  # IndexError
    "truth": "a: !!bool x",  # KeyError
    "date": "a: 2026-99-99",
    "timestamp": "a: !!timestamp x",  # AttributeError
    "digits": "a: " + "9" * 5000,
    "tabs": "a:\n\t- b",
    "key": "? {a: 1}\n: b",
    "merge": "<<: 3",
    "alias": "a: *b",
    "control": "a: \x00",
    "open": "a: [",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_yaml_that_is_more_than_plain_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="config of mine"):
        read_yaml(text, "config of mine")
    (tmp_path / "c.yaml").write_text(text)
    for read in (lambda: prepared("fit", ["--config", "c.yaml"]), lambda: read_grid(Path("c.yaml"))):
        assert "c.yaml" in (works_or_is_refused(read) or "")
    assert [path.name for path in tmp_path.iterdir()] == ["c.yaml"]


@pytest.mark.parametrize("name", ["object", "laughs", "deep", "truth"])
@pytest.mark.parametrize("verb", ["fit", "benchmark"])
def test_the_command_line_refuses_it_in_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, verb: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(TEXTS[name])
    refused(capsys, [verb, "--config=c.yaml"], "config: c.yaml")
    assert [path.name for path in tmp_path.iterdir()] == ["c.yaml"]


def test_files_that_are_no_text_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.yaml").write_bytes(b"\xff\xfe\x00")
    for verb in ("fit", "benchmark"):
        refused(capsys, [verb, "--config", str(tmp_path / "c.yaml")], "c.yaml")


@drawn(60)
@given(content=damaged([DIGITS.encode()]))
def test_damaged_config_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "c.yaml").write_bytes(content)
    works_or_is_refused(lambda: prepared("fit", ["-c", str(tmp_path / "c.yaml")]))


@drawn(60)
@given(data=st.data())
def test_any_value_in_a_benchmark_file(tmp_path: Path, data: st.DataObject) -> None:
    content = copy.deepcopy(GRID)
    odd = [value for value in ODD_VALUES if not isinstance(value, bytes)]
    put(content, data.draw(st.sampled_from(places(content))), data.draw(st.sampled_from(odd)))
    folder = tmp_path / str(data.draw(st.integers()))  # a file is read once a process
    (folder / "benchmarks").mkdir(parents=True, exist_ok=True)
    for name in ("deep_sad", "autoencoder"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / "configs" / name)
    file = folder / "benchmarks" / "g.yaml"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    works_or_is_refused(lambda: read_grid(file, seeds=1))


@pytest.mark.parametrize("text", ["[", "!!int ''", "!!python/name:os.system", "*a"])
def test_an_option_that_is_no_yaml(capsys: pytest.CaptureFixture[str], text: str) -> None:
    config = str(ROOT / "configs/benchmarks/deep_sad_digits.yaml")
    refused(capsys, ["benchmark", "--config", config, "--set", f"data.seed={text}", "--dry-run"], "set: data.seed")


@pytest.mark.parametrize("value", ["a\x00b", "x" * 5000, "../" * 2000 + "x"])
def test_run_folders_that_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str], value: str) -> None:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({**yaml.safe_load(DIGITS), "run_dir": f"{tmp_path}/{value}"}))
    refused(capsys, ["fit", "--config", str(tmp_path / "c.yaml"), "--trainer.accelerator=cpu"])
    assert [path.name for path in tmp_path.iterdir()] == ["c.yaml"]


# ---- stored in a checkpoint -----------------------------------------------------------------------------------------

ONE_VS_ALL = "adlightning.data.one_vs_all.OneVsAll"
SOURCE = {"class_path": "adlightning.data.sources.digits.Digits"}
STORED: dict[str, Any] = {
    "seed_everything": 0,
    "monitor": None,
    "model": {"class_path": "adlightning.methods.autoencoder.Autoencoder", "init_args": {"weight_init": "glorot"}},
    "data": {"class_path": ONE_VS_ALL, "init_args": {"source": SOURCE, "normal_class": "3", "batch_size": 64}},
}
ELSEWHERE = {"class_path": "evilmod.Data"}
OUT = "adlightning.data.out_of_distribution.OutOfDistribution"
LIMITED = "adlightning.data.limited_negatives"


def data(class_path: Any, **arguments: Any) -> dict[str, Any]:
    return {"class_path": class_path, "init_args": arguments}


@pytest.mark.parametrize(
    "section",
    [
        ELSEWHERE,
        "evilmod.Data",  # text is the path of a class, or of a file that names one
        "evil.yaml",
        ["evilmod.Data"],
        data(["evilmod.Data"]),
        data(ONE_VS_ALL, source="evilmod.Data"),
        data(ONE_VS_ALL, source=ELSEWHERE),
        data(OUT, source=SOURCE, anomaly_sources={"a": "evilmod.Data"}),
        data(OUT, source=SOURCE, anomaly_sources={"a": ELSEWHERE}),
        data("adlightning.data.unlabelled.InductiveOneVsAll", source=SOURCE, unlabelled="evilmod.Data"),
        data(f"{LIMITED}.LimitedNegatives", source=SOURCE, close_negatives="evilmod.Data"),
        data(f"{LIMITED}.OtherSource", source="evilmod.Data"),
        data("adlightning.data.sources.augmented.Augmented", source="evilmod.Data"),
        data(ONE_VS_ALL, there_is_none="evilmod.Data"),
        {**data(ONE_VS_ALL), "dict_kwargs": {"source": "evilmod.Data"}},
        {"class_path": ONE_VS_ALL, "init_args": "evil.yaml"},
        data("os.system", command="touch was_run"),
        data("adlightning.data.sources.digits.load_digits"),
        data(ONE_VS_ALL, source=SOURCE, normal_class="${oc.env:HOME}"),
    ],
)
def test_a_stored_configuration_imports_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, section: Any) -> None:
    (tmp_path / "evilmod.py").write_text("open('was_run', 'w')\nclass Data: pass\n")
    (tmp_path / "evil.yaml").write_text("class_path: evilmod.Data\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match=r"ckpt_path: .*a\.ckpt.*refused"):
        trusted_part({**STORED, "data": section}, [], Path("a.ckpt"))
    assert "evilmod" not in sys.modules
    assert not (tmp_path / "was_run").exists()


def test_a_stored_configuration_of_our_own_is_taken(tmp_path: Path) -> None:
    kept = trusted_part({**copy.deepcopy(STORED), "run_dir": "elsewhere"}, [], tmp_path)
    assert kept == {**STORED, "trainer": {"precision": None}}
    close = data(f"{LIMITED}.OtherSource", source=SOURCE)
    section = data(
        f"{LIMITED}.LimitedNegatives", source=SOURCE, normal_class=1, far_classes=["2"], close_negatives=close
    )
    assert trusted_part({**STORED, "data": section}, [], tmp_path)["data"] == section


def test_a_stored_configuration_writes_and_fetches_nothing(tmp_path: Path) -> None:
    name = f"{SpeechCommands.__module__}.SpeechCommands"
    own = data(name, root="r", cache=str(tmp_path / "elsewhere"), download=True)
    kept = trusted_part({**STORED, "data": data(ONE_VS_ALL, source=own, normal_class="yes")}, [], tmp_path)
    arguments = kept["data"]["init_args"]["source"]["init_args"]
    assert arguments == {"root": "r", "download": False}


@drawn(60)
@given(draw=st.data())
def test_any_value_in_a_stored_configuration(tmp_path: Path, draw: st.DataObject) -> None:
    content: Any = copy.deepcopy(STORED)
    for _ in range(draw.draw(st.integers(1, 2))):
        place = draw.draw(st.sampled_from(places(content)))
        put(content, place, draw.draw(st.sampled_from([*ODD_VALUES, ELSEWHERE, "evilmod.Data"])))
    works_or_is_refused(lambda: trusted_part(content, [], tmp_path))


def test_a_part_that_is_one_of_a_family_is_taken_with_its_class(tmp_path: Path) -> None:
    penalty = {"class_path": "adlightning.methods.parts.adversarial.GradientPenalty", "init_args": {"weight": 1.0}}
    arguments: dict[str, Any] = {"penalty": penalty, "interpolation": {"weight": 0.5}}
    model = {"class_path": "adlightning.methods.AMA", "init_args": arguments}
    kept = trusted_part({"model": model}, [], tmp_path / "a.ckpt")
    assert kept["model"] == model
    for wrong in ("os.system", ["os.system"]):
        arguments["penalty"] = wrong
        with pytest.raises(ValueError, match="text in the place of a class"):
            trusted_part({"model": model}, [], tmp_path / "a.ckpt")
