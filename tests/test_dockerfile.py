"""What of the Dockerfile can be checked without an engine: its dependency layer, run for real, and what enters it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
IGNORED = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]


def instructions() -> list[tuple[str, str]]:
    """Instructions in order, continued lines joined."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    lines = [line.partition(" ") for line in text.splitlines() if line.strip()]
    return [(name, rest.strip()) for name, _, rest in lines]


def copied(until: int | None = None) -> list[str]:
    """What is copied from the context, by the instructions before a position."""
    return [source for name, rest in instructions()[:until] if name == "COPY" for source in rest.split()[:-1]]


def step(pattern: str) -> int:
    """Position of the one instruction with this text."""
    (position,) = [i for i, (_, rest) in enumerate(instructions()) if re.search(pattern, rest)]
    return position


EXTRAS = PROJECT["project"]["optional-dependencies"]


@pytest.mark.parametrize("extras", ["", "export,audio,lsun,cluster", "audio, cluster"])
def test_dependency_layer_installs_what_the_project_declares(extras: str) -> None:
    more = [requirement for extra in extras.split(",") if extra for requirement in EXTRAS[extra.strip()]]
    code = re.search(r'python -c "([^"]+)" > requirements.txt', instructions()[step("requirements.txt")][1])
    assert code is not None
    command, environment = [sys.executable, "-c", code[1]], os.environ | {"EXTRAS": extras}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines() == [
        *PROJECT["build-system"]["requires"],
        *PROJECT["project"]["dependencies"],
        *more,
    ]


def test_no_extras_are_installed_unless_they_are_asked_for_before_the_dependency_layer() -> None:
    assert instructions()[step(r"^EXTRAS=")] == ("ARG", 'EXTRAS=""')
    assert step(r"^EXTRAS=") < step("requirements.txt")


def test_torch_compile_finds_its_compiler_and_pythons_headers() -> None:
    (packages,) = re.findall(r"apt-get install (.*?) &&", instructions()[step("apt-get install")][1])
    (version,) = set(re.findall(r"python(3\.\d+)", packages))
    assert {"g++", f"python{version}-dev"} <= set(packages.split())


def test_a_change_of_source_leaves_the_dependency_layer() -> None:
    assert copied(until=step("--requirement requirements.txt")) == ["pyproject.toml", "constraints.txt"]
    assert step("--no-deps") > step("--requirement requirements.txt")


def test_context_holds_what_is_copied_and_no_more() -> None:
    assert IGNORED[0] == "*"
    assert {line[1:] for line in IGNORED if line.startswith("!")} == set(copied())
    assert all((ROOT / source).exists() for source in copied())
    assert {PROJECT["project"]["readme"], *PROJECT["project"]["license-files"], "adlightning"} <= set(copied())


def test_python_of_the_image_is_one_that_the_project_supports() -> None:
    (version,) = set(re.findall(r"python(3\.\d+)", (ROOT / "Dockerfile").read_text()))
    assert version in SpecifierSet(PROJECT["project"]["requires-python"])


def test_image_is_pinned_and_runs_the_verbs_as_no_root() -> None:
    steps = dict(instructions())  # the last of each kind
    assert re.fullmatch(r"nvidia/cuda:\d+\.\d+\.\d+-base-ubuntu\d\d\.04", steps["FROM"])
    assert steps["USER"] == "adlightning"
    assert json.loads(steps["ENTRYPOINT"]) == ["python", "-m", "adlightning"]
    assert json.loads(steps["CMD"]) == ["--help"]
