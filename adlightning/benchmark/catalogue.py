"""`benchmark --list`: the papers' tables, what of them can be run here, what is done, what is missing and why."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from adlightning.benchmark.grid import Outline, read_grid, read_outline
from adlightning.benchmark.store import Results
from adlightning.core.messages import nearest
from adlightning.core.terminal import plain, print_table, say
from adlightning.published import layouts, table_id

# For each source its default root, what it reads below it, any of it, and what there is to do when it is not there.
_DOWNLOAD = "downloaded with --set {key}.download=true"
_FILES = {
    "MNIST": ("data", ("MNIST/raw",), _DOWNLOAD),
    "FashionMNIST": ("data", ("FashionMNIST/raw",), _DOWNLOAD),
    "CIFAR10": ("data", ("cifar10.npz", "cifar-10-batches-py"), _DOWNLOAD),
    "CIFAR100": ("data", ("cifar100.npz", "cifar-100-python"), _DOWNLOAD),
    "SVHN": ("data", ("train_32x32.mat",), _DOWNLOAD),
    "Odds": ("data/odds", ("{dataset}.mat", "{dataset}.npz"), "put {dataset}.mat of the ODDS library into {root}"),
    "AnomalyFile": ("", ("{path}",), "there is no {path}"),
    "Abalone": ("data/abalone", ("abalone.data",), "put abalone.data of the UCI repository into {root}"),
    "Epilepsy": ("data/epilepsy", ("data.csv",), "put data.csv of UCI's Epileptic Seizure Recognition into {root}"),
    "SpeechCommands": ("data/speech_commands", ("",), "unpack Speech Commands into {root}"),
    "Omniglot": ("data", ("omniglot-py/images_evaluation",), _DOWNLOAD),
    "GTSRB": ("data", ("gtsrb/GT-final_test.csv",), _DOWNLOAD),
    "CelebA": ("data", ("celeba/img_align_celeba",), _DOWNLOAD),
    "LSUN": ("data/lsun", ("",), "unpack LSUN's databases into {root}"),
    "FlatFolder": ("", ("",), "put images into {root}"),
    "ImageFolder": ("", ("train",), "put images into {root}/train/CLASS and {root}/test/CLASS"),
}


def print_catalogue(configs: Path, runs: Path) -> None:
    """Print one line a table, published or our own: cells done, the paper's numbers that its files run, data here.

    Args:
        configs: folder of benchmark files.
        runs: folder of results folders, each named as its benchmark file.

    Raises:
        ValueError: there is no such folder of benchmark files.
    """
    outlines, broken = _outlines(configs)
    table = Table(title="tables of the papers, then our own", title_justify="left")
    for heading in ("table", "cells done", "printed numbers in it", "can be run"):
        table.add_column(heading, justify="left" if heading in ("table", "can be run") else "right")
    for name in _names(outlines, broken):
        words = ["", "", "no"]
        if name in outlines:
            outline = outlines[name]
            words[0] = f"{_n_done(outline, runs)} / {outline.n_cells}"
            words[2] = "in part" if absent_data(outline.configs) else "yes"
        if name in layouts():
            cells = layouts()[name].covered(_rows_of(name, outlines))
            words[1] = f"{sum(cells.values())} / {len(cells)}"
        table.add_row(plain(name), *words)
    print_table(table)
    say(f"done: in {runs}; what the project itself has measured: docs/results/papers")
    say("more of one: adlightning benchmark --list TABLE")
    say("run one with: adlightning benchmark --config benchmarks/TABLE")


def print_table_entry(name: str, configs: Path, runs: Path) -> None:
    """Print what there is of one table: cells done, the paper's numbers that nothing runs, data that are missing.

    Args:
        name: of the table or its benchmark file, `drocc_table1`.
        configs: folder of benchmark files.
        runs: folder of results folders.

    Raises:
        ValueError: there is no such folder of benchmark files, or no such table.
    """
    outlines, broken = _outlines(configs)
    names = _names(outlines, broken)
    if name not in names:
        near = nearest(name, names)
        raise ValueError(f"list: there is no table {name}" + (f"; nearest: {', '.join(near)}" if near else ""))
    say(name)
    if name in broken:
        say(f"  cannot be run: {broken[name]}")
        return
    if name in outlines:
        outline = outlines[name]
        say(f"  cells done: {_n_done(outline, runs)} of {outline.n_cells}")
        for line in absent_data(outline.configs) or ["data and weights are here"]:
            say(f"  {line}")
    elif source := layouts()[name].runs_of:
        say(f"  its runs are those of {source}")
    else:
        say("  no benchmark file yet")
    if name in layouts():
        _say_coverage(name, outlines)
    if name in outlines:
        say(f"  run it with: adlightning benchmark --config benchmarks/{name}")


def _outlines(configs: Path) -> tuple[dict[str, Outline], dict[str, str]]:
    """Benchmark files at a glance, and of those that cannot be read the reason."""
    if not configs.is_dir():
        raise ValueError(f"configs: there is no folder {configs}")
    outlines: dict[str, Outline] = {}
    broken: dict[str, str] = {}
    for file in sorted(configs.glob("*.yaml")):
        try:
            outlines[file.stem] = read_outline(file)
        except ValueError as error:
            broken[file.stem] = str(error)
    return outlines, broken


def _names(outlines: Mapping[str, Outline], broken: Mapping[str, str]) -> list[str]:
    return list(dict.fromkeys((*layouts(), *sorted((*outlines, *broken)))))


def _n_done(outline: Outline, runs: Path) -> int:
    """Cells with a result; they are spread out, which takes longer, only where there are results."""
    results = Results(runs / outline.file.stem)
    if not results.folder.is_dir():
        return 0
    cells = read_grid(outline.file).cells
    done = results.done(cells)
    return sum(cell.config_hash in done for cell in cells)


def _files_of(name: str, outlines: Mapping[str, Outline]) -> list[str]:
    """Benchmark files whose rows belong in a published table."""
    wanted = layouts()[name].runs_of or name
    return [file for file, outline in outlines.items() if table_id(outline.paper, outline.table) == wanted]


def _rows_of(name: str, outlines: Mapping[str, Outline]) -> list[dict[str, Any]]:
    return [row for file in _files_of(name, outlines) for row in outlines[file].rows]


def _say_coverage(name: str, outlines: Mapping[str, Outline]) -> None:
    cells = layouts()[name].covered(_rows_of(name, outlines))
    others = [file for file in _files_of(name, outlines) if file != name]
    together = f", together with {', '.join(others)}" if others and name in outlines else ""
    say(f"  the paper prints {len(cells)} numbers; {sum(cells.values())} of them have cells here{together}")
    lacking: dict[str, dict[str, None]] = {}
    for (row, column), is_run in cells.items():
        if not is_run:
            where = " ".join(part for part in (row.dataset, row.setting or "", row.normal) if part)
            lacking.setdefault(f"{column.method} {column.variant}".strip(), {})[where] = None
    for method, places in lacking.items():
        say(f"  without a cell: {method}: {', '.join(places)}")


def absent_data(configs: Iterable[tuple[str, dict[str, Any]]]) -> list[str]:
    """Data and weights that are not where configurations say, and what to do about it.

    Args:
        configs: data sets and configurations, of :class:`adlightning.benchmark.grid.Outline`.
    """
    remedies: dict[str, dict[str, None]] = {}
    for dataset, config in configs:
        model = config["model"].get("init_args", {})
        for source in _classes(config["data"], "data"):
            if remedy := _absence(*source):
                remedies.setdefault(remedy, {})[dataset] = None
        for network in _absent_weights(model):
            remedies.setdefault("torchvision downloads them", {})[f"weights of {network}"] = None
    return [f"not here: {', '.join(what)} ({remedy})" for remedy, what in remedies.items()]


def _absent_weights(model: dict[str, Any]) -> Iterator[str]:
    """Networks of a model's parts whose weights would have to be downloaded."""
    for _, name, arguments in _classes(model, "model"):
        given = arguments.get("weights", "DEFAULT" if name == "BackboneFeatures" else None)
        if given is None or Path(str(given)).is_file():
            continue
        network = str(arguments.get("name", "alexnet" if name == "BackboneFeatures" else name.lower()))
        home = Path(os.environ.get("TORCH_HOME", Path.home() / ".cache" / "torch"))
        if not any((home / "hub" / "checkpoints").glob(f"{network}*")):
            yield network


def _classes(value: Any, key: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Keys as `--set` has them, names and arguments of classes, also of those within the arguments of others."""
    if isinstance(value, str) and (value in _FILES or value == "BackboneFeatures"):  # by its name alone
        yield key, value, {}
    if not isinstance(value, dict):
        return
    arguments = value
    if "class_path" in value:
        arguments = value.get("init_args") or {}
        yield key, value["class_path"].rpartition(".")[2], arguments
    for argument, inner in arguments.items():
        yield from _classes(inner, f"{key}.{argument}")


def _absence(key: str, name: str, arguments: dict[str, Any]) -> str | None:
    """What there is to do about the data of a source; None when they are there, or nothing is known of them."""
    if name not in _FILES:
        return None
    root, files, remedy = _FILES[name]
    words = {name: arguments.get(name, "") for name in ("dataset", "path")}
    words |= {"key": key, "root": arguments.get("root", root)}
    found = any((Path(words["root"]) / file.format(**words)).exists() for file in files)
    return None if found else remedy.format(**words)
