"""`benchmark --list`: the papers' tables, what of them can be run here, what is done, what is missing and why."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from adlightning.benchmark.grid import Cell, read_grid
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
    grids = {file.stem: read_grid(file) for file in sorted(configs.glob("*.yaml"))}
    there = {cell.labels["method"] for grid in grids.values() for cell in grid.cells}
    for name in [*layouts(), *(stem for stem in grids if stem not in layouts())]:
        cells = grids[name].cells if name in grids else ()
        run = {cell.labels["method"] for cell in cells}
        absent = [method for method in _published_methods(name) if method not in (run or there)]
        lacking = [f"methods not there yet: {', '.join(absent)}"] if absent else []
        if not cells:
            table.add_row(name, "", "no", "; ".join(lacking) or "no benchmark file yet")
            continue
        lacking += absent_data(cells)
        done = Results(runs / name).done(cells)
        n_done = sum(cell.config_hash in done for cell in cells)
        table.add_row(
            escape(name), f"{n_done} / {len(cells)}", "in part" if lacking else "yes", escape("; ".join(lacking))
        )
    console = Console()
    console.print(table)
    console.print(f"run one with: adlightning benchmark --config {configs}/TABLE.yaml", highlight=False, soft_wrap=True)


def _published_methods(name: str) -> list[str]:
    if name not in layouts():
        return []
    layout = layouts()[name]
    return list(dict.fromkeys(published(layout.paper, layout.table)["method"]))


def absent_data(cells: tuple[Cell, ...]) -> list[str]:
    """Data and weights that the cells need and that are not where their configurations say, and what to do about it."""
    remedies: dict[str, dict[str, None]] = {}
    for cell in cells:
        source, model = cell.config["data"]["init_args"].get("source"), cell.config["model"].get("init_args", {})
        if isinstance(source, dict) and (remedy := _absence(source["class_path"], source.get("init_args", {}))):
            remedies.setdefault(remedy, {})[cell.labels["dataset"]] = None
        if model.get("features") == "torchvision" and _lacks_weights(model):
            remedies.setdefault("torchvision downloads them", {})[f"weights of {_backbone(model)}"] = None
    return [f"not here: {', '.join(what)} ({remedy})" for remedy, what in remedies.items()]


def _lacks_weights(model: dict[str, Any]) -> bool:
    if model.get("backbone_weights", "DEFAULT") is None or Path(str(model.get("backbone_weights"))).is_file():
        return False
    home = Path(os.environ.get("TORCH_HOME", Path.home() / ".cache" / "torch"))
    return not any((home / "hub" / "checkpoints").glob(f"{_backbone(model)}*"))


def _backbone(model: dict[str, Any]) -> str:
    return str(model.get("backbone", "alexnet"))  # as ShallowDetector has it


def _absence(name: str, arguments: dict[str, Any]) -> str | None:
    root = Path(arguments.get("root", "data"))
    if name == "Odds":
        found = any((root / f"{arguments['dataset']}{suffix}").is_file() for suffix in (".mat", ".npz"))
        return None if found else f"put {arguments['dataset']}.mat of the ODDS library into {root}"
    if name not in _FILES or any((root / file).exists() for file in _FILES[name]):
        return None
    return "downloaded with --set data.source.download=true"
