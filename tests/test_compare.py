"""`compare`: methods at their defaults on one's own data, by labels or by agreement."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from adlightning.__main__ import main
from adlightning.benchmark.comparison import contenders, require_same_data
from adlightning.report.own_comparison import Trained, compared, nothing_to_compare

QUICK = "--methods=kde,nearest_neighbor,LOF"


def table(path: Path, labels: bool = True) -> Path:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(90, 4)), rng.normal(size=(12, 4)) + 6])
    frame = pd.DataFrame(x, columns=list("abcd")).assign(unit=[f"u{i}" for i in range(102)])
    if labels:
        frame["y"] = [0] * 90 + [1] * 12
    frame.to_csv(path, index=False)
    return path


def test_methods_are_ranked_on_held_out_rows_and_the_command_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = table(tmp_path / "my.csv"), tmp_path / "out"
    arguments = ["compare", f"--data={data}", "--label_column=y", "--name_column=unit", f"--out={out}", "--seeds=2"]
    assert main([*arguments, "--methods=kde,lof"]) == 0
    first = capsys.readouterr().out
    assert "0 of 4 fits were done before" in first
    assert main([*arguments, QUICK]) == 0
    said = capsys.readouterr().out
    assert "4 of 6 fits were done before" in said
    command = next(line for line in said.splitlines() if line.startswith("train it: "))
    assert f"/table --data.path {data} --data.label_column y --data.name_column unit --run_dir runs/" in command
    page = (out / "comparison.html").read_text()
    for text in ("kde", "lof", "nearest_neighbor", "AUROC", "data:image/png", "The samples most agreed upon"):
        assert text in page
    assert re.search(r">u(9\d|10[01])<", page)  # an anomaly, of those that were tested
    assert "src=" not in page.replace('src="data:', "")
    rows = [json.loads(file.read_text()) for file in (out / "cells").iterdir()]
    assert len(rows) == 6
    assert all(row["selection"] == "none" and row["metrics"]["auroc"] > 0.95 for row in rows)
    data.write_text(data.read_text() + "1,2,3,4,u200,0\n")
    assert main([*arguments, QUICK]) == 2
    assert f"has results of before {data} changed" in capsys.readouterr().err


def test_without_labels_each_half_scores_the_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = table(tmp_path / "my.csv", labels=False), tmp_path / "out"
    arguments = ["compare", f"--data={data}", "--name_column=unit", f"--out={out}", "--seeds=2", QUICK]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "agrees" in said
    assert "validation_fraction" not in said
    runs = [pd.read_csv(path) for path in (out / "runs").glob("*/held_out.csv")]
    assert {len(frame) for frame in runs} == {51}
    page = (out / "comparison.html").read_text()
    assert "without labels nothing says which method is right" in page
    assert "export it" not in page  # none of these has a graph


def test_sensors_over_time_without_labels(tmp_path: Path) -> None:
    t = np.arange(300)
    frame = pd.DataFrame({"time": t, "a": np.sin(t / 5), "b": np.cos(t / 5)})
    frame.to_csv(tmp_path / "s.csv", index=False)
    arguments = ["compare", f"--data={tmp_path / 's.csv'}", "--time_column=time", f"--out={tmp_path / 'out'}"]
    assert main([*arguments, "--methods=pca,kde", "--seeds=1"]) == 0
    held_out = pd.read_csv(next((tmp_path / "out" / "runs").glob("*/held_out.csv")))
    assert held_out["name"].between(150, 299).all()  # rows by their numbers, of the later half


@pytest.mark.slow  # it waits until the time is over
def test_time_runs_out_and_says_for_whom(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = table(tmp_path / "my.csv")
    arguments = ["compare", f"--data={data}", "--label_column=y", "--set=data.drop_columns=[unit]", "--seeds=1"]
    options = ["--methods=kde,nearest_neighbor,drocc_oe", f"--out={tmp_path / 'out'}", "--minutes=0.12"]
    main([*arguments, *options, "--set=trainer.max_epochs=100000"])
    said = capsys.readouterr().out
    lines = [line for line in said.splitlines() if "not done in time" in line]
    assert len(lines) == 1
    assert "drocc_oe" in lines[0]


def test_fits_that_scored_nothing_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = table(tmp_path / "my.csv", labels=False)
    arguments = ["compare", f"--data={data}", "--name_column=unit", "--seeds=1", f"--out={tmp_path / 'out'}"]
    assert main([*arguments, "--methods=nearest_neighbor,lof", "--set=data.validation_fraction=0"]) == 1
    said = capsys.readouterr().out
    assert "there is nothing to compare" in said
    assert "nearest_neighbor, lof: nothing was scored with these options" in said


def test_a_test_of_one_kind_ranks_nothing(tmp_path: Path) -> None:
    assert nothing_to_compare(tmp_path, tested=True) == "nothing was scored with these options"
    (tmp_path / "scores.csv").write_text("name,score\na,1\n")
    for report, words in (
        ({"test_sets": {"test": {"metrics": {}, "note": "no ranking metrics: no anomaly"}}}, "no ranking metrics: no"),
        ({"test_sets": {}}, "nothing was tested with these options"),
    ):
        (tmp_path / "metrics.json").write_text(json.dumps(report))
        assert str(nothing_to_compare(tmp_path, tested=True)).startswith(words)
        assert nothing_to_compare(tmp_path, tested=False) is None


def test_images_of_a_folder(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for part, n in {"train/normal": 30, "test/normal": 8, "test/anomaly": 8}.items():
        (tmp_path / "d" / part).mkdir(parents=True)
        for i in range(n):
            x = rng.integers(0, 60, (8, 8)) + (150 if "anomaly" in part else 0)
            Image.fromarray(x.astype(np.uint8)).save(tmp_path / "d" / part / f"{i}.png")
    arguments = ["compare", f"--data={tmp_path / 'd'}", f"--out={tmp_path / 'out'}", "--seeds=1"]
    assert main([*arguments, "--methods=kde,nearest_neighbor"]) == 0
    assert "test/anomaly/" in (tmp_path / "out" / "comparison.html").read_text()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--data=nowhere.csv"], "data: there is no file or folder"),
        (["--methods=kdee"], "methods: there is no kdee for table; nearest: kde"),
        (["--methods=kde"], "methods must be two or more to compare, there are 1"),
        (["--methods=,"], "methods must be two or more to compare, there are 0\n"),
        (["--minutes=0"], "must be a positive number, got 0"),
        (["--seeds=0"], "must be a whole number of at least 1, got 0"),
    ],
)
def test_what_is_wrong_is_said(
    options: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = table(tmp_path / "my.csv")
    named = ["--label_column=y", "--name_column=unit"]
    assert main(["compare", f"--data={data}", f"--out={tmp_path / 'out'}", *named, *options]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_command_that_decides_has_each_option_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "my.csv").write_text("a,label\n" + "".join(f"{i}.5,{int(i > 15)}\n" for i in range(20)))
    assert main(["compare", f"--data={tmp_path / 'my.csv'}", "--label_column", "lable", "--methods=kde,lof"]) == 2
    command = capsys.readouterr().err.partition("adlightning compare")[2]
    assert command.count("--label_column") == 1
    assert "--label_column=label" in command


def test_a_damaged_note_of_the_data_is_named(tmp_path: Path) -> None:
    data = table(tmp_path / "my.csv")
    require_same_data(tmp_path, data)
    require_same_data(tmp_path, data)
    (tmp_path / "data.json").write_bytes(b"\xff{")
    with pytest.raises(ValueError, match=r"out: .*data\.json is damaged .*: give another --out, or remove it"):
        require_same_data(tmp_path, data)


def test_every_method_with_an_experiment_on_tables_takes_part() -> None:
    found = contenders("table", {"data.path": "my.csv"}, None, test=True)
    assert {"deep_svdd", "drocc", "goad", "isolation_forest"} <= {one.name for one in found}
    assert found[0].name == "nearest_neighbor"
    assert all(one.config["data"]["init_args"]["path"] == "my.csv" for one in found)


def test_agreement_and_stability_by_hand(tmp_path: Path) -> None:
    scores = {("a", 0): [1, 2, 3, 4], ("a", 1): [4, 3, 2, 1], ("b", 0): [1, 2, 3, 5], ("b", 1): [1, 2, 3, 4]}
    trained = []
    for (method, seed), values in scores.items():
        run = tmp_path / f"{method}{seed}"
        run.mkdir()
        pd.DataFrame({"name": list("wxyz"), "score": values}).to_csv(run / "scores.csv", index=False)
        row = {"seconds": {"fit": 1.0}, "peak_memory_mb": 5.0}
        trained.append(Trained(method, seed, row, run))
    found = compared(trained, tested=False)
    assert found.table.loc["a", "stability"] == -1
    assert found.table.loc["b", "stability"] == 1
    assert found.correlation.loc["a", "b"] == 0  # 1 with seed 0, -1 with seed 1
    assert found.top["name"][0] == "z"


def test_a_folder_of_another_layout_is_refused_before_a_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "good").mkdir()
    assert main(["compare", f"--data={tmp_path}", "--methods=pca"]) == 2
    assert "must have a folder train/normal or train/unlabelled" in " ".join(capsys.readouterr().err.split())
