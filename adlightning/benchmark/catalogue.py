"""`benchmark --list`: the papers' tables, what of them can be run here, what is done, what is missing and why."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.table import Table

from adlightning.benchmark.grid import Cell, Grid, read_grid
from adlightning.benchmark.store import Results
from adlightning.core.terminal import plain, print_table, say
from adlightning.published import layouts, published

# For each source its default root, what it reads below it, any of it, and what there is to do when it is not there.
_DOWNLOAD = "downloaded with --set {key}.download=true"
_FILES = {
    "MNIST": ("data", ("MNIST/raw",), _DOWNLOAD),
    "FashionMNIST": ("data", ("FashionMNIST/raw",), _DOWNLOAD),
    "CIFAR10": ("data", ("cifar10.npz", "cifar-10-batches-py"), _DOWNLOAD),
    "CIFAR100": ("data", ("cifar100.npz", "cifar-100-python"), _DOWNLOAD),
    "SVHN": ("data", ("train_32x32.mat",), _DOWNLOAD),
    "Odds": ("data/odds", ("{dataset}.mat", "{dataset}.npz"), "put {dataset}.mat of the ODDS library into {root}"),
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
    """Print one line a table, published or our own.

    Args:
        configs: folder of benchmark files.
        runs: folder of results folders, each named as its benchmark file.

    Raises:
        ValueError: there is no such folder of benchmark files.
    """
    table = Table(title="tables", title_justify="left")
    for heading, justify in (("table", "left"), ("cells done", "right"), ("can be run", "left"), ("missing", "left")):
        table.add_column(heading, justify=justify, overflow="fold")  # type: ignore[arg-type]
    if not configs.is_dir():
        raise ValueError(f"configs: there is no folder {configs}")
    grids: dict[str, Grid] = {}
    broken: dict[str, str] = {}
    for file in sorted(configs.glob("*.yaml")):
        try:
            grids[file.stem] = read_grid(file)
        except ValueError as error:
            broken[file.stem] = str(error)
    there = {cell.labels["method"] for grid in grids.values() for cell in grid.cells}
    for name in dict.fromkeys((*layouts(), *sorted((*grids, *broken)))):
        cells = grids[name].cells if name in grids else ()
        run = {cell.labels["method"] for cell in cells}
        wanted = _published_methods(name)
        absent, left_out = set(wanted) - there, (set(wanted) & there) - run if cells else set()
        words = {"methods not there yet": absent, "methods left out": left_out}
        lacking = [
            f"{what}: {', '.join(m for m in wanted if m in methods)}" for what, methods in words.items() if methods
        ]
        if name in broken:
            table.add_row(plain(name), "", "no", plain(broken[name]))
            continue
        if not cells:
            source = layouts()[name].runs_of
            without = f"its runs are those of {source}" if source else "no benchmark file yet"
            table.add_row(plain(name), "", "no", plain("; ".join(lacking) or without))
            continue
        lacking += absent_data(cells)
        done = Results(runs / name).done(cells)
        n_done = sum(cell.config_hash in done for cell in cells)
        table.add_row(
            plain(name), f"{n_done} / {len(cells)}", "in part" if lacking else "yes", plain("; ".join(lacking))
        )
    print_table(table)
    say("run one with: adlightning benchmark --config benchmarks/TABLE")


def _published_methods(name: str) -> list[str]:
    if name not in layouts():
        return []
    layout = layouts()[name]
    return list(dict.fromkeys(published(layout.paper, layout.table)["method"]))


def absent_data(cells: tuple[Cell, ...]) -> list[str]:
    """Data and weights that the cells need and that are not where their configurations say, and what to do about it."""
    remedies: dict[str, dict[str, None]] = {}
    for cell in cells:
        model = cell.config["model"].get("init_args", {})
        for source in _classes(cell.config["data"], "data"):
            if remedy := _absence(*source):
                remedies.setdefault(remedy, {})[cell.labels["dataset"]] = None
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
    words = {"key": key, "root": arguments.get("root", root), "dataset": arguments.get("dataset", "")}
    found = any((Path(words["root"]) / file.format(**words)).exists() for file in files)
    return None if found else remedy.format(**words)
