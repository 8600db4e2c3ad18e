"""docs/parts.md as it is written: its commands parse, its Python runs, its transformer trains, scores and goes on."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from adlightning.__main__ import main
from adlightning.methods import Autoencoder
from adlightning.testing import check_detector

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/parts.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", PAGE, re.DOTALL)
PYTHON = [text for kind, text in BLOCKS if kind == "python"]
COMMANDS = [line for kind, text in BLOCKS if not kind for line in text.replace("\\\n", " ").splitlines()]
FITS = [line for line in COMMANDS if line.startswith("adlightning fit") and "--import" not in line]
QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--trainer.accelerator=cpu"]


@pytest.fixture
def my_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package/vit.py").write_text(next(text for text in PYTHON if "class ViT" in text))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_package"]:
        del sys.modules[name]


@pytest.mark.parametrize("command", FITS)
def test_commands_parse(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as ended:
        main([*shlex.split(command)[1:], "--print_config"])
    assert not ended.value.code, capsys.readouterr().err


def test_the_python_runs_and_its_parts_keep_every_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    own: Any = ModuleType("own_parts")
    monkeypatch.setitem(sys.modules, "own_parts", own)  # as after an import
    for text in PYTHON:
        exec(text, vars(own))
    assert own.detector.threshold_rule == own.MeanAndDeviations(deviations=3.0)
    detector = Autoencoder(preprocessing=own.LogScale, threshold=own.MeanAndDeviations())
    check_detector(detector, "table", max_epochs=1)


def test_the_transformer_trains_scores_and_goes_on(my_package: None, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    series = rng.normal(size=(80, 64, 1)).astype(np.float32)
    arrays: dict[str, Any] = {"test_features": series[30:50], "test_labels": np.repeat([0, 1], 10)}
    arrays |= {"train_features": series, "train_labels": np.repeat([0, 1], 40)}
    np.savez(tmp_path / "s.npz", **arrays)
    np.save(tmp_path / "more.npy", series[:3])
    fit = ["fit", "--import", "my_package.vit", "--config", str(ROOT / "configs/drocc/epilepsy.yaml"), "--plots=false"]
    fit += ["--model.encoder=my_package.vit.ViT", "--model.encoder.width=8", "--model.ascent.steps=1", "--run_dir=run"]
    fit += ["--data=OneVsAll", "--data.source=Npz", "--data.source.path=s.npz", "--data.normal_class=0", *QUIET]
    assert main([*fit, "--trainer.max_epochs=1"]) == 0
    score = ["--ckpt_path=run", "--data=more.npy", "--out=scores.csv"]
    assert main(["score", "--import", "my_package.vit", *score]) == 0
    assert main([*fit, "--trainer.max_epochs=2", "--ckpt_path=last"]) == 0
