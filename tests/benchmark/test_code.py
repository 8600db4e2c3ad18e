"""The version of the code behind a cell: which changes count for which methods."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import adlightning
from adlightning.benchmark import code


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the package that may be changed."""
    shutil.copytree(Path(adlightning.__file__).parent, tmp_path / "adlightning", ignore=shutil.ignore_patterns("*.pyc"))
    monkeypatch.setattr(code, "_ROOT", tmp_path / "adlightning")
    yield tmp_path / "adlightning"
    forget()


def forget() -> None:
    for cached in (code._digest, code._imported, code._trees, code._text):
        cached.cache_clear()


def version(detector: str = "DeepSAD", source: Any = "Digits") -> str:
    forget()
    data = {"class_path": "OneVsAll", "init_args": {"source": source}}
    return code.code_version({"model": {"class_path": detector}, "data": data})


def append(file: Path, text: str = "CHANGED = True") -> None:
    file.write_text(f"{file.read_text()}\n{text}\n")


def test_comments_docstrings_and_reports_do_not_count(package: Path) -> None:
    before = version()
    append(package / "methods/deep_sad.py", "# a comment")
    deep_sad = package / "methods/deep_sad.py"
    deep_sad.write_text(deep_sad.read_text().replace('"""Equation 7."""', '"""Equation 7, and more."""'))
    append(package / "benchmark/grid.py")
    append(package / "cli/summary.py")
    assert version() == before


@pytest.mark.parametrize(
    "file",
    [
        *(
            "core/detector.py",
            "cli/trainer_verbs.py",
            "data/splits.py",
            "data/composition.py",
            "data/modules.py",
            "core/metrics.py",
            "preprocessing/images.py",
        ),
        *("methods/deep_sad.py", "methods/parts/hypersphere.py", "core/optimization.py", "networks/lenet.py"),
        *("data/sources/digits.py", "data/sources/base.py"),
    ],
)
def test_what_a_cell_runs_through_counts(package: Path, file: str) -> None:
    before = version()
    append(package / file)
    assert version() != before


def test_other_methods_networks_and_sources_do_not_count(package: Path) -> None:
    before, ssad = version(), version("SSAD")
    append(package / "shallow/ssad_dual.py")
    append(package / "methods/ss_dgm.py")
    append(package / "networks/dgm.py")
    append(package / "data/sources/odds.py")
    (package / "methods/new_method.py").write_text("class NewMethod: ...")
    assert version() == before
    assert version("SSAD") != ssad


def test_a_source_counts_by_name_and_by_class_path(package: Path) -> None:
    odds = {"class_path": "adlightning.data.sources.Odds", "init_args": {"dataset": "cardio"}}
    before = version(source=odds)
    append(package / "data/sources/odds.py")
    assert version(source=odds) != before


def test_for_a_class_of_another_package_everything_counts(package: Path) -> None:
    before = version("mine.Detector")
    append(package / "shallow/lof.py")
    assert version("mine.Detector") != before
