"""The verb `check`, and the look at the head of `fit`: one look, one command that then works."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from adlightning.__main__ import main
from adlightning.cli.arguments import prepared
from adlightning.cli.before_fit import data_options
from adlightning.cli.look_words import WIDTH

QUICK = ["--trainer.max_epochs=2", "--model.pretraining.epochs=1", "--trainer.enable_progress_bar=false"]
QUICK += ["--trainer.enable_model_summary=false", "--trainer.accelerator=cpu", "--plots=false"]


def with_seven_problems(path: Path) -> Path:
    """Semicolons, decimal commas, row numbers, dates, kinds, gaps, a constant, a copy, and labels in words."""
    rng = np.random.default_rng(0)
    x, defect = rng.normal(size=(120, 3)), np.arange(120) % 10 == 0
    lines = [";day;temperature;pressure;speed; Status ;line;copy;unit"]
    for i, (row, bad) in enumerate(zip(x + 4 * defect[:, None], defect, strict=True)):
        a, b, c = (f"{value:.3f}".replace(".", ",") for value in row)
        b = "" if i % 40 == 7 else b
        lines.append(f"{i};2024-03-{i % 28 + 1:02};{a};{b};{c};{'Defect ' if bad else 'OK'};{'ABC'[i % 3]};{a};7")
    path.write_text("\n".join(lines) + "\n")
    return path


def command_in(text: str) -> list[str]:
    """The words of the command that a look proposes."""
    assert all(len(line) <= WIDTH for line in text.splitlines() if "pytest" not in line)  # a path is not broken
    words = shlex.split(text[text.index("  adlightning fit") :].replace("\\\n", ""))
    assert words[0] == "adlightning"
    return words[1:]


def test_one_look_and_one_command_that_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with_seven_problems(tmp_path / "my.csv")
    assert main(["check", "my.csv"]) == 2
    text = capsys.readouterr().out
    for said in (
        "my.csv: 120 rows, 9 columns, semicolons between values, commas in numbers",
        "' Status ' looks like the labels ('OK' in 108 rows, 'Defect ' in 12 rows): taken as label_column",
        "'Unnamed: 0' numbers the rows",
        "'day' holds dates or times",
        "'line' is text of 3 kinds",
        "Values are missing in 'pressure' (3 of 120)",
        "'unit' never varies",
        "'copy' of 'temperature'",
        "'OK' is normal, 'Defect ' is an anomaly",
    ):
        assert said in " ".join(text.split())
    command = command_in(text)
    assert main([*command, "--run_dir=run", *QUICK]) == 0
    assert (
        main(
            [
                "check",
                "my.csv",
                "--label_column",
                " Status ",
                "--drop_columns",
                "Unnamed: 0",
                "day",
                "line",
                "--missing=median",
                "--constant_features=drop",
            ]
        )
        == 0
    )
    assert "Nothing must be decided. Train with:" in capsys.readouterr().out


def test_a_fit_begins_with_the_look_and_keeps_what_was_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with_seven_problems(tmp_path / "my.csv")
    given = ["--config", "deep_sad/table", "--data.path", "my.csv", "--data.drop_columns=[line]", "--run_dir=my run"]
    assert main(["fit", *given, "--data.name_column", "day"]) == 2
    text = capsys.readouterr().err
    assert text.startswith("error: 4 things are to be decided before training\n\nmy.csv: 120 rows")
    assert command_in(text) == [
        *(
            "fit",
            "--config",
            "deep_sad/table",
            "--data.path",
            "my.csv",
            "--run_dir=my run",
            "--data.name_column",
            "day",
        ),
        "--data.label_column= Status ",
        '--data.drop_columns=[line, "Unnamed: 0", copy]',
        *("--data.missing=median", "--data.constant_features=drop"),
    ]
    assert not (tmp_path / "my run").exists()


def test_the_look_needs_neither_torch_nor_much_time(tmp_path: Path) -> None:
    path = with_seven_problems(tmp_path / "my.csv")
    code = (
        "import sys; from adlightning.__main__ import main\n"
        f"assert main(['fit', '--config=deep_sad/table', '--data.path={path}']) == 2\n"
        f"assert main(['check', {str(path)!r}]) == 2\n"
        "print([name for name in ('torch', 'pytorch_lightning', 'jsonargparse') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_table_to_score_is_looked_at_before_the_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.csv").write_text("".join(f"{i}.5,{i * i}\n" for i in range(20)) + "1\n")
    options = ["--ckpt_path", "a run", "--data", "my.csv", "--out=s.csv"]
    assert main(["score", *options]) == 2
    text = capsys.readouterr().err
    assert text.startswith("error: the table cannot be scored as it is\n\nmy.csv: 20 rows, 2 columns")
    assert "1 row of another length than the header" in text
    assert "no header" in text
    words = shlex.split(text[text.index("  adlightning score") :].replace("\\\n", ""))
    assert words == ["adlightning", "score", *options, "--header=false"]


def test_methods_are_compared_on_a_table_that_is_decided_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with_seven_problems(tmp_path / "my.csv")
    assert main(["compare", "--data", "my.csv", "--set", "data.drop_columns=[line]"]) == 2
    text = capsys.readouterr().err
    words = shlex.split(text[text.index("  adlightning compare") :].replace("\\\n", ""))
    assert words == [
        *("adlightning", "compare", "--data", "my.csv", "--set", "data.drop_columns=[line]", "--label_column= Status "),
        *("--set", 'data.drop_columns=[line, "Unnamed: 0", day, copy]', "--set", "data.missing=median"),
        *("--set", "data.constant_features=drop"),
    ]


def test_a_table_that_is_as_it_should_be_is_looked_at_in_silence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 2)), columns=["a", "b"])
    frame.to_csv(tmp_path / "my.csv", index=False)
    options = ["--config=deep_sad/table", f"--data.path={tmp_path / 'my.csv'}", f"--run_dir={tmp_path / 'run'}"]
    assert main(["fit", *options, "--model=NearestNeighbor", "--monitor=nonsense"]) == 2
    assert "nonsense" in capsys.readouterr().err  # the parser's own words: the look found nothing


@pytest.mark.parametrize(
    ("n", "anomaly", "wanted"),
    [
        (12, False, ["--config", "pca/folder"]),
        (12, True, ["--config", "deep_sad/folder"]),
        (4, False, ["--config", "pca/folder", "--data.validation_fraction=0"]),
    ],
)
def test_good_images_alone_get_a_command_that_runs(
    n: int, anomaly: bool, wanted: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    for kind in ["normal", "anomaly"] if anomaly else ["normal"]:
        (tmp_path / "parts/train" / kind).mkdir(parents=True)
        for i in range(n):
            Image.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8)).save(
                tmp_path / "parts/train" / kind / f"{i}.png"
            )
    assert main(["check", str(tmp_path / "parts")]) == 0
    command = command_in(capsys.readouterr().out)[1:]
    assert command == [*wanted[:2], f"--data.root={tmp_path / 'parts'}", *wanted[2:]]
    if not anomaly:
        assert main(["fit", *command, f"--run_dir={tmp_path / 'run'}", "--plots=false"]) == 0


def test_a_folder_of_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "my images"
    for part in ("train", "test"):
        for kind in ("good", "dent"):
            (root / part / kind).mkdir(parents=True)
            for i in range(3):
                Image.new("L", (8 + i % 2, 8)).save(root / part / kind / f"{i}.png")
    (root / "train/good/3.png").touch()
    assert main(["check", str(root)]) == 2
    text = capsys.readouterr().out
    assert command_in(text)[1:] == [
        *("--config", "deep_sad/cifar10", "--data.source=ImageFolder", f"--data.source.root={root}"),
        *("--data.source.resize=[8, 8]", "--data.source.on_bad=skip", "--data.normal_class=good"),
    ]
    assert main(["fit", "--config=deep_sad/folder", f"--data.root={root}"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "Images differ in size (height x width): 8 are 8x8" in said
    assert "train has the folders 'dent', 'good': rename them" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.csv"], "there is no file"),
        (["nowhere"], "there is no file or folder"),
        (["{here}", "--label_column=y"], "label_column is of a table"),
        (["{here}/x.txt"], "data must be a table"),
        (["x.csv", "--labelcolumn=y"], "there is no option --labelcolumn=y; nearest: --label_column"),
    ],
)
def test_what_cannot_be_looked_at_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    (tmp_path / "x.txt").write_text("text")
    assert main(["check", *(argument.format(here=tmp_path) for argument in arguments)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--config=deep_sad/table", "--data.path", "a.csv"], {"class_path": "TableData", "path": "a.csv"}),
        (
            ["--data=TableData", "--data.init_args.path=a.csv", "--data.drop_columns=[1e5, null]"],
            {"class_path": "TableData", "path": "a.csv", "drop_columns": ["1e5", "null"]},
        ),
        (
            ["--data=AnomalyLabelled", "--data.source=Table", "--data.source.path=a.csv", "--data.source.header=true"],
            {"class_path": "AnomalyLabelled", "source": {"class_path": "Table", "path": "a.csv", "header": True}},
        ),
        (["--config=deep_sad/table", "--data=FolderData"], {"class_path": "FolderData"}),
        (["--data.drop_columns+=a"], None),
        (["--data.path=${oc.env:HOME}"], None),
        (["fit"], None),
    ],
)
def test_what_the_look_reads_of_a_command_line(arguments: list[str], expected: dict[str, object] | None) -> None:
    assert data_options(prepared("fit", arguments)) == expected


def with_sensors(path: Path) -> Path:
    """Two machines over time, with row numbers, times, labels in words, a constant, and a column of text."""
    rng = np.random.default_rng(0)
    lines = [";when;machine;status;mode;site;a;b"]
    for i in range(240):
        values = ";".join(f"{value:.3f}".replace(".", ",") for value in rng.normal(size=2) + 5 * (i % 120 > 110))
        at = f"2026-01-01T{i % 120 // 60:02}:{i % 60:02}:00"
        lines.append(f"{i};{at};{'press' if i < 120 else 'saw'};{'Alarm' if i % 120 > 110 else 'OK'};auto;1;{values}")
    path.write_text("\n".join(lines) + "\n")
    return path


def test_sensors_over_time_are_looked_at_as_such(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with_sensors(tmp_path / "s.csv")
    assert main(["check", "s.csv"]) == 2
    assert "adlightning check s.csv --config autoencoder/windows" in " ".join(capsys.readouterr().out.split())

    assert main(["check", "s.csv", "--config", "nearest_neighbor/windows"]) == 2
    text = capsys.readouterr().out
    for said in ("taken as label_column", "taken as time_column", "taken as group_column", "'mode' holds 'auto' alone"):
        assert said in text
    words = command_in(text)
    expected = {"label_column=status", "time_column=when", "group_column=machine"}
    assert {word.removeprefix("--data.") for word in words} >= expected
    assert '--data.drop_columns=["Unnamed: 0", mode, site]' in words

    assert main(["fit", "--config", "nearest_neighbor/windows", "--data.path=s.csv"]) == 2  # says the same, by itself
    error = capsys.readouterr().err
    assert command_in(error)[1:] == words[1:]
    quick = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--plots=false"]
    with pytest.warns(UserWarning, match="'Alarm' as anomalies|semicolons"):
        assert main([*words, *quick, "--data.length=8", "--run_dir=run"]) == 0
    assert Path("run/metrics.json").is_file()


def test_of_sensors_a_gap_is_to_be_mended_and_time_and_group_may_be_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{i},{'xy'[i % 2]},{'' if i == 3 else i * i}" for i in range(30)]
    (tmp_path / "s.csv").write_text("\n".join(["t,kind,a", *rows]))
    said = ["check", str(tmp_path / "s.csv"), "--time_column=t"]
    assert main(said) == 2
    text = capsys.readouterr().out
    assert "Values are missing in 'a' (1 of 30): fill them in" in text
    assert "numbers the rows" not in text
    assert "--config autoencoder/windows" in text
    assert "'kind' is text of 2 kinds" in text
    assert main([*said, "--group_column=kinds"]) == 2
    assert "group_column: there is no column 'kinds': 'kind' is meant?" in capsys.readouterr().out


def test_a_folder_of_sounds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wav = b"RIFF" + (36).to_bytes(4, "little") + b"WAVE"
    for name in ("normal/1.wav", "normal/2.WAV", "anomaly/3.wav"):
        (tmp_path / "words" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "words" / name).write_bytes(wav)
    assert main(["check", str(tmp_path / "words")]) == 0
    text = capsys.readouterr().out
    assert "3 WAVs (anomaly 1, normal 2)" in " ".join(text.split())
    assert "group_pattern" in text
    assert command_in(text) == ["fit", "--config", "autoencoder/sounds", f"--data.root={tmp_path / 'words'}"]

    (tmp_path / "words" / "normal").rename(tmp_path / "words" / "seven")
    (tmp_path / "words" / "seven" / "4.wav").write_bytes(b"OggS")
    (tmp_path / "words" / "notes.txt").touch()
    assert main(["check", str(tmp_path / "words"), "--config", "kde/sounds"]) == 2
    text = " ".join(capsys.readouterr().out.split())
    assert "Taken: 'seven', which most files are of" in " ".join(text.split())
    assert "--data.normal_class=seven" in text
    assert "1 of the .wav files are no WAV by their first bytes: 'seven/4.wav'" in " ".join(text.split())
    assert "1 .txt" in text

    (tmp_path / "empty").mkdir()
    assert main(["check", str(tmp_path / "empty"), "--config", "kde/sounds"]) == 2
    assert "There are no .wav files." in capsys.readouterr().out
