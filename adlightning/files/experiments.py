"""The experiments, benchmark files and sweeps that come with the package, and where a name of one is looked for."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import adlightning
from adlightning.files.disk import user_path

CONFIGS, SWEEPS = "configs", "sweeps"
_PARTS = "parts"
"""What the experiments are made from, in a checkout: no experiment itself."""

_END = re.compile(r"(?<!al)[.:] +(?=[A-Z])")


def shipped() -> Path:
    """The folder that holds `configs/` and `sweeps/`: the package, or the checkout around it."""
    package = Path(adlightning.__file__).parent
    return package if (package / CONFIGS).is_dir() else package.parent


def find_config(given: str) -> Path:
    """The file that a name means: `deep_sad/digits`, `configs/deep_sad/digits.yaml`, or any path.

    The working folder comes first, and the package's own files after it. Where there is none it is the path as given.
    """
    path = user_path(given)
    if path.exists() or not given or path.is_absolute():
        return path
    names = [f"{given}.yaml", f"{CONFIGS}/{given}", f"{CONFIGS}/{given}.yaml"]
    places = [Path(name) for name in names] + [shipped() / name for name in (given, *names)]
    return next((place for place in places if place.is_file()), path)


def find_folder(given: str) -> Path:
    """A folder such as `configs/benchmarks`: of the working folder, else of the package."""
    path = user_path(given)
    return path if path.exists() or path.is_absolute() else shipped() / path


def experiments() -> dict[str, Path]:
    """What comes with the package, by name: `deep_sad/digits`, `benchmarks/deep_sad_table6`, `sweeps/deep_sad`."""
    root = shipped()
    files = [file for file in sorted((root / CONFIGS).glob("*/*.yaml")) if file.parent.name != _PARTS]
    named = {f"{file.parent.name}/{file.stem}": file for file in files}
    return named | {f"{SWEEPS}/{file.stem}": file for file in sorted((root / SWEEPS).glob("*.yaml"))}


def first_sentence(file: Path) -> str:
    """The first sentence of the comment that a file begins with: what it is."""
    with file.open(encoding="utf-8") as opened:
        lines = [line.removeprefix("#").strip() for line in itertools.takewhile(lambda line: line[0] == "#", opened)]
    return _END.split(" ".join(lines), maxsplit=1)[0].removesuffix(".")
