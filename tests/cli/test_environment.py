"""Paths as people write them, and what shells, notebooks and services hand to the command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from refusals import Capture, refused

from adlightning.__main__ import main
from adlightning.checkpoints.loading import checkpoint_file
from adlightning.cli.loggers import log_into, stay_offline_without_account
from adlightning.data.sources import Npz
from adlightning.data.sources.table import Table

ROOT = Path(__file__).parents[2]
LOF = str(ROOT / "configs/lof/table.yaml")
QUIET = ["--plots=false", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
QUIET += ["--trainer.enable_model_summary=false", "--data.label_column=label"]


def write_table(path: Path) -> Path:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(90, 3)), columns=list("abc"))
    frame.loc[70:] += 5
    frame.assign(label=np.repeat([0, 1], [70, 20])).to_csv(path, index=False)
    return path


def test_a_tilde_is_the_home_folder_wherever_a_path_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    (home := tmp_path / "home").mkdir()
    (cwd := tmp_path / "cwd").mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(cwd)
    write_table(home / "t.csv")
    config = yaml.safe_load(Path(LOF).read_text())
    config["data"]["init_args"] = {"path": "~/t.csv"}
    (home / "c.yaml").write_text(yaml.safe_dump({**config, "run_dir": "~/r"}))
    assert main(["fit", "--config", "~/c.yaml", *QUIET]) == 0
    assert main(["test", "--ckpt_path=~/r", "--run_dir=~/again", "--plots=false"]) == 0
    assert main(["score", "--ckpt_path=~/r", "--data=~/t.csv", "--out=~/s.csv", "--plots=~/p", "--device=cpu"]) == 0
    assert main(["report", "--table", "deep_sad_table6", "--format=csv", "--out=~/report.csv"]) == 0
    assert {"r", "again", "s.csv", "p", "report.csv"} <= {path.name for path in home.iterdir()}
    assert list(cwd.iterdir()) == []


def test_a_tilde_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    (tmp_path / "run/checkpoints/best.ckpt").write_text("")
    assert checkpoint_file("~/run") == tmp_path / "run/checkpoints/best.ckpt"
    assert Table("~/t.csv").path == tmp_path / "t.csv"
    assert Npz("~/t.npz").path == tmp_path / "t.npz"
    logger: Any = type("Logger", (), {"init_args": {"save_dir": "~/logs"}})()
    log_into(Path("r"), logger)
    assert logger.init_args == {"save_dir": str(tmp_path / "logs")}


@pytest.mark.parametrize("name", ["runs [try] 1", "x[/y]", ":smile: [bold]", "-x", "two\nlines"])
def test_paths_are_printed_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path / "t[v2] :cat:.csv")
    assert main(["fit", "--config", LOF, *QUIET, "--data.path=t[v2] :cat:.csv", f"--run_dir={name}"]) == 0
    printed = capsys.readouterr().out
    assert f"run folder: {name}\n" in printed
    assert "t[v2] :cat:.csv" in printed
    assert (tmp_path / name / "metrics.json").is_file()


def test_results_say_what_was_not_as_in_training(tmp_path: Path, capsys: Capture) -> None:
    config = str(ROOT / "configs/lof/digits.yaml")
    fit = ["fit", "--config", config, *QUIET[:-1], f"--run_dir={tmp_path / 'r'}", "--data.normal_class=8"]
    assert main(fit) == 0
    notes = {}
    for name, options in {"same": ["--data.batch_size=16"], "other": ["--data.normal_class=3"]}.items():
        assert (
            main(["test", f"--ckpt_path={tmp_path / 'r'}", f"--run_dir={tmp_path / name}", *QUIET[:-1], *options]) == 0
        )
        said = json.loads((tmp_path / name / "metrics.json").read_text())["notes"]
        notes[name] = [note for note in said if not note.startswith("the threshold is by")]  # few held-out samples
    assert notes == {"same": [], "other": ["data.normal_class=3, the checkpoint was trained with 8"]}
    assert f"note: {notes['other'][0]}\n" in capsys.readouterr().out


@pytest.mark.parametrize("netrc", ["folder", "missing", "wandb"])
def test_accounts_are_looked_for_only_when_wandb_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, netrc: str
) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    if netrc == "folder":
        (tmp_path / "netrc").mkdir()
    if netrc == "wandb":
        (tmp_path / "netrc").write_text("machine api.wandb.ai")
    stay_offline_without_account(None)
    stay_offline_without_account([type("Logger", (), {"class_path": "pytorch_lightning.loggers.CSVLogger"})()])
    assert "WANDB_MODE" not in os.environ
    stay_offline_without_account([type("Logger", (), {"class_path": "pytorch_lightning.loggers.WandbLogger"})()])
    assert os.environ.get("WANDB_MODE") == (None if netrc == "wandb" else "offline")
    monkeypatch.delenv("WANDB_MODE", raising=False)


def command(code: str, *, shell: str = "{}", **environment: str) -> subprocess.CompletedProcess[str]:
    """Some Python after `settle`, in a shell line of its own."""
    line = f"{sys.executable} -c 'from adlightning.cli.environment import settle; settle(); {code}'"
    paths = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    return subprocess.run(
        ["bash", "-c", "set -o pipefail; " + shell.format(line)],
        capture_output=True,
        text=True,
        env={**paths, **environment},
        check=False,
    )


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "Qt5Agg", "nonsense"])
def test_the_backend_of_a_notebook_does_not_matter(backend: str) -> None:
    done = command("import matplotlib; print(matplotlib.get_backend())", MPLBACKEND=backend, MPLCONFIGDIR="/proc/none")
    assert (done.returncode, done.stdout.strip().lower()) == (0, "agg")


def test_what_an_encoding_lacks_is_escaped() -> None:
    done = command('print("Pr\\u00fcfung \\u03a9")', PYTHONIOENCODING="ascii", LANG="C")
    assert (done.returncode, done.stdout) == (0, "Pr\\xfcfung \\u03a9\n")


def test_a_reader_that_leaves_ends_nothing(tmp_path: Path) -> None:
    end = tmp_path / "end"
    code = f'[print("x" * 70, flush=True) for _ in range(9999)]; open("{end}", "w").close()'
    done = command(code, shell="{} | head -n 1")
    assert (done.returncode, done.stderr) == (0, "")
    assert end.exists()


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_never_a_file_that_is_written(tmp_path: Path, closed: str) -> None:
    kept = tmp_path / "kept"
    code = f'f = open("{kept}", "w"); print("lost"); import os; os.system("echo lost"); f.write("kept"); f.close()'
    assert command(code, shell="{} " + closed).returncode == 0
    assert kept.read_text() == "kept"


def test_a_current_folder_that_is_gone_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    refused(capsys, ["fit", "--config", LOF], "the current folder cannot be used")
    monkeypatch.chdir(tmp_path)
