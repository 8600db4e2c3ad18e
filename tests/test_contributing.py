"""The example objective of CONTRIBUTING.md is whole: it passes the linter, and all checks of a detector."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch

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
