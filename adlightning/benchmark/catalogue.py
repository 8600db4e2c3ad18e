"""`benchmark --list`: the papers' tables, what of them can be run here, what is done, what is missing and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from adlightning.benchmark.grid import Cell, Grid, read_grid
from adlightning.benchmark.store import Results
from adlightning.published import layouts, published

# What a source reads below its root, and what there is to do when it is not there.
_FILES = {
    "MNIST": ("MNIST/raw",),
    "FashionMNIST": ("FashionMNIST/raw",),
    "CIFAR10": ("cifar10.npz", "cifar-10-batches-py"),
    "CIFAR100": ("cifar100.npz", "cifar-100-python"),
    "SVHN": ("train_32x32.mat",),
}


def print_catalogue(configs: Path, runs: Path) -> None:
    """Print one line a table, published or our own.

    Args:
        configs: folder of benchmark files.
        runs: folder of results folders, each named as its benchmark file.
    """
    table = Table(title="tables", title_justify="left")
    for heading, justify in (("table", "left"), ("cells done", "right"), ("can be run", "left"), ("missing", "left")):
        table.add_column(heading, justify=justify, overflow="fold")  # type: ignore[arg-type]
    files = {file.stem: file for file in sorted(configs.glob("*.yaml"))}
    for name in [*layouts(), *(stem for stem in files if stem not in layouts())]:
        if name not in files:
            table.add_row(name, "", "no", f"methods: {', '.join(_published_methods(name))}")
            continue
        grid = read_grid(files[name])
        done = len(Results(runs / name).done(grid.cells))
        lacking = [f"methods: {', '.join(rest)}"] if (rest := _absent_methods(name, grid)) else []
        lacking += absent_data(grid.cells)
        runnable = "in part" if lacking else "yes"
        table.add_row(name, f"{done} / {len(grid.cells)}", runnable, "; ".join(lacking))
    console = Console()
    console.print(table)
    console.print(f"a table is run by: adlightning benchmark --config {configs}/TABLE.yaml", highlight=False)


def _published_methods(name: str) -> list[str]:
    if name not in layouts():
        return []
    layout = layouts()[name]
    return list(dict.fromkeys(published(layout.paper, layout.table)["method"]))


def _absent_methods(name: str, grid: Grid) -> list[str]:
    there = {cell.labels["method"] for cell in grid.cells}
    return [method for method in _published_methods(name) if method not in there]


def absent_data(cells: tuple[Cell, ...]) -> list[str]:
    """Data that the cells need and that are not where their configurations say, with what to do about it."""
    absent = {}
    for cell in cells:
        source = cell.config["data"]["init_args"].get("source")
        if isinstance(source, dict) and (message := _absence(source["class_path"], source.get("init_args", {}))):
            absent[cell.labels["dataset"]] = message
    return [f"data: {dataset} ({message})" for dataset, message in absent.items()]


def _absence(name: str, arguments: dict[str, Any]) -> str | None:
    root = Path(arguments.get("root", "data"))
    if name == "Odds":
        found = any((root / f"{arguments['dataset']}{suffix}").is_file() for suffix in (".mat", ".npz"))
        return None if found else f"put {arguments['dataset']}.mat of the ODDS library into {root}"
    if name not in _FILES or any((root / file).exists() for file in _FILES[name]):
        return None
    return "download with --set data.source.init_args.download=true"
