from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from adlightning import methods, shallow
from adlightning.__main__ import main
from adlightning.cli import registry
from adlightning.core.detector import AnomalyDetector
from adlightning.data.modules import AnomalyDataModule

ROOT = Path(__file__).parents[2]
CLASSES = [name for method in registry.METHODS for name in method.classes]


def test_every_detector_is_in_the_registry_once() -> None:
    public = [*methods.__all__, *shallow.__all__]
    detectors = [
        n
        for n in public
        if isinstance(found := getattr(methods, n, getattr(shallow, n, None)), type)
        and issubclass(found, AnomalyDetector)
        and not getattr(found, "__abstractmethods__", None)
    ]
    assert sorted(CLASSES) == sorted(detectors)


def test_every_datamodule_is_in_the_registry() -> None:
    registry.import_all()
    left, found = [AnomalyDataModule], set()
    while left:
        cls = left.pop()
        left += cls.__subclasses__()
        if cls.__module__.startswith("adlightning.") and not getattr(cls, "__abstractmethods__", None):
            found.add((cls.__name__, cls.__module__))
    found -= {("Arrays", "adlightning.data.arrays")}  # samples in memory cannot be written on a command line
    assert {item for item in found if not item[0].startswith("_")} == set(registry.DATAMODULES.items())


def test_the_readme_has_the_table_of_the_registry() -> None:
    assert registry.table() in (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_row_has_experiments() -> None:
    for method in registry.METHODS:
        for folder in method.configs.replace("`", "").split(", "):
            assert folder == "..." or list((ROOT / folder).glob("*.yaml"))


def test_help_names_every_class(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in (*CLASSES, *registry.DATAMODULES))
    assert max(map(len, said.splitlines())) <= 120


def test_importing_the_registry_imports_no_torch() -> None:
    code = "import sys, adlightning.cli.registry; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
