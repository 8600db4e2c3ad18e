"""Methods at their defaults on somebody's own data, as cells for the pool: which suit, and in which order."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from adlightning.benchmark.code import code_version
from adlightning.benchmark.configuration import config_hash, copied, override
from adlightning.benchmark.grid import LABELS, Cell
from adlightning.benchmark.grid_file import read_mapping
from adlightning.core.messages import nearest
from adlightning.files.disk import write_atomically
from adlightning.files.experiments import experiments

Kind = Literal["table", "windows", "folder", "sounds"]

PLACES: dict[Kind, str] = {"table": "path", "windows": "path", "folder": "root", "sounds": "root"}
"""What the datamodule of each kind calls the data."""

FIRST = ("nearest_neighbor", "isolation_forest", "kde", "ocsvm", "lof", "gmm", "deep_svdd", "autoencoder", "deep_sad")
"""Begun with: quick ones and well-known ones, so that a limit of time leaves something to compare."""

_FINGERPRINT = "data.json"


@dataclass(frozen=True)
class Contender:
    """A method with its experiment on this kind of data.

    Args:
        name: of its configs, `deep_svdd`.
        config: the experiment, with the data in it.
        class_name: of the detector.
    """

    name: str
    config: dict[str, Any]
    class_name: str

    def cell(self, seed: int, data: str) -> Cell:
        """Its fit with this seed of weights and split."""
        config = self.config | {"seed_everything": seed}
        labels: dict[str, Any] = dict.fromkeys(LABELS, "") | {"paper": "own", "table": "comparison", "dataset": data}
        labels |= {"method": self.name, "seed": seed}
        return Cell(labels, config, config_hash(config), code_version(config))


def contenders(kind: Kind, options: Mapping[str, Any], methods: Sequence[str] | None, test: bool) -> list[Contender]:
    """Methods that have an experiment on this kind of data, quick ones first.

    Args:
        kind: of the data.
        options: options of every experiment, `data.path` and what else the data need.
        methods: names of configs, or of classes; None for all.
        test: whether there are labels to test with; else all samples are scored.

    Raises:
        ValueError: a method that there is not.
    """
    files = {name.partition("/")[0]: file for name, file in experiments().items() if name.endswith(f"/{kind}")}
    every = [_contender(name, files[name], options, test) for name in sorted(files, key=_place)]
    if methods is None:
        return every
    by_name = {key.lower(): one for one in every for key in (one.name, one.class_name)}
    chosen = []
    for method in methods:
        if (found := by_name.get(method.lower())) is None:
            near = nearest(method, [one.name for one in every])
            hint = f"; nearest: {', '.join(near)}" if near else ""
            raise ValueError(f"methods: there is no {method} for {kind}{hint}; there are {', '.join(files)}")
        if found not in chosen:
            chosen.append(found)
    return chosen


def _contender(name: str, file: Path, options: Mapping[str, Any], test: bool) -> Contender:
    config = copied(read_mapping(file))
    config.pop("run_dir", None)
    override(config, options)
    if not test:
        config["test_after_fit"] = False
    model = config["model"]
    path = str(model["class_path"] if isinstance(model, dict) else model)
    return Contender(name, config, path.rpartition(".")[2])


def _place(name: str) -> tuple[int, str]:
    return (FIRST.index(name) if name in FIRST else len(FIRST), name)


def require_same_data(folder: Path, data: Path) -> None:
    """Note what the data are, or refuse other data than those that the folder has results of.

    Raises:
        ValueError: the data changed since, or the note is damaged.
    """
    files = [data] if data.is_file() else sorted(path for path in data.rglob("*") if path.is_file())
    sizes = [(path.relative_to(data.parent).as_posix(), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    now = {
        "files": len(sizes),
        "bytes": sum(size for _, size, _ in sizes),
        "changed": max((changed for *_, changed in sizes), default=0),
    }
    note = folder / _FINGERPRINT
    if not note.exists():
        write_atomically(note, json.dumps(now) + "\n")
        return
    try:
        before = json.loads(note.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"out: {note} is damaged ({error}): give another --out, or remove it") from error
    if before != now:
        raise ValueError(f"out: {folder} has results of before {data} changed: give another --out, or remove it")
