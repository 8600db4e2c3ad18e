"""The example objective of CONTRIBUTING.md is whole: it passes the linter, and all checks of a detector."""

from __future__ import annotations

import shlex
import subprocess
import sys
import textwrap
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch
import yaml

from adlightning.__main__ import main
from adlightning.testing import check_detector

ROOT = Path(__file__).parents[1]


def example() -> str:
    """The indented block that begins with the docstring of the example's module."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    start = text.rindex("\n", 0, text.index('"""My method (Author')) + 1
    block = text[start : text.index("\n2. ", start)]
    return textwrap.dedent(block).rstrip() + "\n"


def test_the_example_passes_the_linter() -> None:
    ruff = [sys.executable, "-m", "ruff"]
    name = ["--stdin-filename", str(ROOT / "adlightning/methods/mymethod.py"), "-"]
    for command in (["check", "--no-cache"], ["format", "--check", "--no-cache"]):
        ran = subprocess.run([*ruff, *command, *name], input=example(), text=True, capture_output=True, cwd=ROOT)
        assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_example_keeps_every_promise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mymethod.py"
    path.write_text(example())
    spec = spec_from_file_location("mymethod", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "mymethod", module)  # as after an import
    spec.loader.exec_module(module)
    assert module.my_loss(torch.tensor([0.5, 2.0]), 1.0).item() == 0.5
    check_detector(module.MyMethod(margin=0.1), max_epochs=2)


def test_a_package_of_ones_own_is_fitted_as_its_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs/adding_a_method.md").read_text()
    command = next(line for line in page.splitlines() if line.startswith("    adlightning fit "))
    (tmp_path / "mypackage.py").write_text(example())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setitem(sys.modules, "mypackage", None)  # restored after the test
    monkeypatch.delitem(sys.modules, "mypackage")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    with pytest.raises(SystemExit) as ended:
        main([*shlex.split(command)[1:], "--print_config"])
    said = capsys.readouterr()
    assert not ended.value.code, said.err
    model = yaml.safe_load(said.out)["model"]
    assert model["class_path"] == "mypackage.MyMethod"
    arguments = model["init_args"]
    assert arguments["encoder"]["class_path"] == "adlightning.MLPEncoder"  # the config's
    assert arguments["preprocessing"]["class_path"] == "adlightning.StandardizeFeatures"
    assert arguments["margin"] == 0.1
    assert "lr_scheduler" not in arguments
