"""Command lines before they are parsed: configs as text, what follows what, `${...}`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from refusals import Capture, refused

from adlightning.__main__ import main
from adlightning.cli.arguments import prepared

ROOT = Path(__file__).parents[2]
DIGITS = str(ROOT / "configs/deep_sad/digits.yaml")
TRIAL = ["--trainer.fast_dev_run=true", "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]


@pytest.mark.parametrize("config", [["--config", "b"], ["--config=b"], ["-c", "b"], ["-cb"]])
@pytest.mark.parametrize("before", [[], ["--config=a"]])
def test_a_config_after_options_is_refused_however_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: list[str], before: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a").write_text("trainer: {max_epochs: 1}")
    Path("b").write_text("trainer: {max_epochs: 5}")
    with pytest.raises(ValueError, match=r"config must come before .*, got --trainer\.max_epochs before --config"):
        prepared("fit", [*before, "--trainer.max_epochs=3", *config])
    ready = prepared("fit", [*before, *config, "--trainer.max_epochs=3"])
    assert ready[-2:] == ["--config=trainer: {max_epochs: 5}", "--trainer.max_epochs=3"]


def test_a_checkpoint_may_be_named_before_the_config_and_is_not_undone(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("ckpt_path: old\n")
    given = ["--ckpt_path=new", f"--config={tmp_path / 'a'}"]
    assert prepared("test", given) == ["--config=ckpt_path: old\n", "--ckpt_path=new"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model.eta=3", "--model=DeepSVDD"], ["model=DeepSVDD must come before its own arguments", "--model.eta"]),
        (["--model.init_args.eta=3", "--model.class_path=DeepSVDD"], ["must come before its own arguments"]),
        (["--data.batch_size=3", "--data=OneVsAll"], ["data=OneVsAll must come before its own arguments"]),
        (["--trainer.max_epoch=3"], ["there is no option trainer.max_epoch", "trainer.max_epochs"]),
        (["--run=x"], ["there is no option run"]),
        (["--config+=x"], ["there is no option config"]),
        (["--model.eta"], ["model.eta needs a value"]),
        (["--model.eta", "--plots=false"], ["model.eta needs a value"]),
        (["words"], ["'words' is no option"]),
    ],
)
def test_what_would_be_undone_or_guessed_is_refused(
    tmp_path: Path, capsys: Capture, options: list[str], words: list[str]
) -> None:
    error = refused(capsys, ["fit", "--config", DIGITS, f"--run_dir={tmp_path / 'r'}", *options], *words)
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "r").exists()


def test_elements_of_a_list_have_their_own_arguments(capsys: Capture) -> None:
    options = ["--trainer.callbacks+=CompileNetworks", "--trainer.callbacks.backend=eager"]
    options += ["--trainer.callbacks+=EMAWeightAveraging", "--trainer.callbacks.decay=0.9"]
    with pytest.raises(SystemExit):
        main(["fit", "--config", DIGITS, *options, "--print_config"])
    first, second = yaml.safe_load(capsys.readouterr().out)["trainer"]["callbacks"]
    assert (first["init_args"]["backend"], second["init_args"]["decay"]) == ("eager", 0.9)


def test_the_later_of_two_values_is_taken(capsys: Capture) -> None:
    options = [
        "--model.eta=2",
        "--model.init_args.eta=3",
        "--model.encoder.conv_channels=[4]",
        "--model.encoder.conv_channels+=8",
    ]
    with pytest.raises(SystemExit):
        main(["fit", "--config", DIGITS, *options, "--print_config"])
    model = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]
    assert (model["eta"], model["encoder"]["init_args"]["conv_channels"]) == (3.0, [4, 8])


@pytest.mark.parametrize(
    ("option", "place", "value"),
    [
        (
            "--model.encoder.rep_dim=${data.init_args.batch_size}",
            ("model", "init_args", "encoder", "init_args", "rep_dim"),
            32,
        ),
        ("--trainer.max_epochs=${data.init_args.labelled_classes[0]}", ("trainer", "max_epochs"), 1),
        ("--run_dir=x/${data.init_args.normal_class}-${seed_everything}", ("run_dir",), "x/8-0"),
        (
            "--model.pretraining.epochs=${model.init_args.lr_scheduler.init_args.milestones[0]}",
            ("model", "init_args", "pretraining", "epochs"),
            40,
        ),
        ("--monitor=val/${oc.env:ADL_METRIC}", ("monitor",), "val/auroc"),
    ],
)
def test_interpolation_is_the_same_as_an_option_and_in_a_file(
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
    option: str,
    place: tuple[str, ...],
    value: object,
) -> None:
    monkeypatch.setenv("ADL_METRIC", "auroc")
    name, _, text = option.removeprefix("--").partition("=")
    content = yaml.safe_load(Path(DIGITS).read_text())
    inner = content["model"]["init_args"] if name.startswith("model.") else content
    if name.startswith("trainer."):
        inner = content["trainer"]
    for part in place[len(("model", "init_args")) : -1] if name.startswith("model.") else ():
        inner = inner[part]
    inner[name.rpartition(".")[2]] = text
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(content))
    for arguments in (["--config", DIGITS, option], ["--config", str(tmp_path / "c.yaml")]):
        with pytest.raises(SystemExit) as ended:
            main(["fit", *arguments, "--print_config"])
        assert ended.value.code == 0, capsys.readouterr().err
        found = yaml.safe_load(capsys.readouterr().out)
        for key in place:
            found = found[key]
        assert found == value


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--model.encoder.rep_dim=${nothing}", ["model.encoder.rep_dim", "no option nothing"]),
        ("--model.encoder.rep_dim=${data.init_args.${nothing}}", ["model.encoder.rep_dim", "nothing"]),
        (
            "--model.encoder.rep_dim=${model.init_args.encoder.init_args.rep_dim}",
            ["model.encoder.rep_dim", "Recursive"],
        ),
        ("--model.encoder.rep_dim=${oc.env:NO_SUCH_VARIABLE}", ["model.encoder.rep_dim", "NO_SUCH_VARIABLE"]),
        ("--model.encoder.rep_dim=${", ["model.encoder.rep_dim"]),
        ("--data=TableData", ["run_dir", "no option data.init_args.normal_class", "give --run_dir"]),
    ],
)
def test_interpolations_that_stand_for_nothing_are_named(capsys: Capture, option: str, words: list[str]) -> None:
    error = refused(
        capsys, ["fit", "--config", DIGITS, option, "--data.path=t.csv"][: 5 if "Table" in option else 4], *words
    )
    assert "object_type" not in error
    assert len(error.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.yaml", None, ["there is no file", "nearest", "mussing.yaml"]),
        ("empty.yaml", b"", ["got nothing"]),
        ("list.yaml", b"- a\n", ["got a list"]),
        ("text.yaml", b"hello", ["got a str"]),
        ("keys.yaml", b"1: 2\n", ["options by name"]),
        ("twice.yaml", b"a: 1\nb: {c: 1, c: 2}\n", ["line 2", "'c' is given twice"]),
        ("tabs.yaml", b"a:\n\t- b\n", ["line 2"]),
        ("binary.yaml", bytes(range(128, 256)), ["no UTF-8 text"]),
        ("folder.yaml", "folder", ["is a folder"]),
        ("https://example.com/c.yaml", None, ["there is no file"]),
    ],
)
def test_files_that_are_no_config_are_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, name: str, content: object, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mussing.yaml").write_text("a: 1")
    if isinstance(content, bytes):
        Path(name).write_bytes(content)
    elif content == "folder":
        Path(name).mkdir()
    error = refused(capsys, ["fit", "--config", name], "config: ", name, *words)
    assert len(error.strip().splitlines()) == 1


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_configs_as_editors_and_shells_write_them(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "c.yaml").write_text("run_dir: Prüfung\n", encoding=encoding)
    assert prepared("fit", ["-c", str(tmp_path / "c.yaml")]) == ["--config=run_dir: Prüfung\n"]


def test_a_config_may_come_from_a_pipe() -> None:
    end, begin = os.pipe()
    os.write(begin, b"run_dir: x\n")
    os.close(begin)
    assert prepared("fit", [f"--config=/dev/fd/{end}"]) == ["--config=run_dir: x\n"]
    os.close(end)


@pytest.mark.parametrize("verb", ["fit", "validate", "test", "predict", "score", "export", "benchmark", "report"])
def test_a_verb_alone_says_what_it_needs(capsys: Capture, verb: str) -> None:
    needed = {"fit": "model and data must be given", "score": "--ckpt_path, --data, --out", "export": "--format"}
    needed |= {"benchmark": "--config", "report": "--table"}
    error = refused(capsys, [verb], needed.get(verb, "ckpt_path is needed"))
    assert len(error.strip().splitlines()) == 1


def test_the_nearest_verb_is_said(capsys: Capture) -> None:
    refused(capsys, ["fti"], "there is no verb 'fti'", "nearest: fit")


def test_going_on_without_a_run_folder_says_that_it_must_be_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(capsys, ["fit", "--config", DIGITS, *TRIAL, "--ckpt_path", "last"], "run_dir must be given")
    assert list(tmp_path.iterdir()) == []
