"""A results folder: what each cell gave, written at once and whole, and the rows that a report reads.

manifest.json         the cells of the grid: their place in the table and their configuration's hash
cells/HASH-CODE.json  one cell's result, or its error
runs/HASH-CODE/       its run folder
rows.csv              all rows, to keep or to commit
"""

from __future__ import annotations

import ast
import contextlib
import fcntl
import functools
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import adlightning
from adlightning.benchmark.grid import LABELS, Cell
from adlightning.files import write_atomically

Row = dict[str, Any]

_WITHOUT_INFLUENCE = ("benchmark", "published", "files.py", "messages.py", "score.py", "summary.py")


@functools.cache
def code_version() -> str:
    """Digest of the package's code, apart from comments, docstrings and what only runs or reports a benchmark."""
    root = Path(adlightning.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        name = file.relative_to(root)
        if name.parts[0] not in _WITHOUT_INFLUENCE:
            digest.update(f"{name.as_posix()}\n{_without_docstrings(file.read_text(encoding='utf-8'))}\n".encode())
    return digest.hexdigest()[:8]


def _without_docstrings(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        first = body[0] if isinstance(body, list) and body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            first.value = ast.Constant(None)
    return ast.unparse(tree)


class Results:
    """A results folder.

    Args:
        folder: where it is, or shall be.
        any_code: count a cell as done also when another version of the code did it.
    """

    def __init__(self, folder: Path, any_code: bool = False) -> None:
        self.folder = folder
        self.any_code = any_code
        self.code = code_version()

    def key(self, cell: Cell) -> str:
        """What a cell's result is filed under: hash of its configuration and version of the code."""
        return f"{cell.config_hash}-{self.code}"

    # ---- writing --------------------------------------------------------------------------------------------------

    def open(self, cells: Iterable[Cell]) -> None:
        """Make the folder, add these cells to the manifest, and clear away what broken-off runs left."""
        try:
            for name in ("cells", "runs", "partial"):
                (self.folder / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"results: {self.folder} cannot be written: {error.strerror}") from error
        entries = {json.dumps(entry["labels"]): entry for entry in self.manifest()}
        for cell in cells:
            entries[json.dumps(cell.labels)] = {"labels": cell.labels, "config_hash": cell.config_hash}
        write_atomically(self.folder / "manifest.json", json.dumps(list(entries.values()), indent=0) + "\n")
        for lock in (self.folder / "partial").glob("*/lock"):
            with lock.open("w") as file, contextlib.suppress(BlockingIOError):  # somebody is at it
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock.parent)

    @contextlib.contextmanager
    def partial(self, cell: Cell) -> Iterator[Path]:
        """A folder for a run to grow in; locked, so that what a killed process left can be told and cleared away."""
        folder = Path(tempfile.mkdtemp(prefix=f"{self.key(cell)}-", dir=self.folder / "partial"))
        with (folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield folder
        shutil.rmtree(folder)

    def write(self, cell: Cell, row: Row, run: Path | None = None) -> None:
        """Keep a cell's result and its run folder; the result comes last, and is there whole or not at all."""
        kept = self.folder / "runs" / self.key(cell)
        if run is not None and run.exists():
            if kept.exists():
                shutil.rmtree(kept)  # of a failed try, or the same cell done at the same time by another process
            run.rename(kept)
        write_atomically(self.folder / "cells" / f"{self.key(cell)}.json", json.dumps(row, indent=1) + "\n")

    def adopt(self, rows: Iterable[Row]) -> None:
        """Take finished rows of another results folder, or of a file of rows, as this one's own where it lacks them."""
        for row in rows:
            file = self.folder / "cells" / f"{row['key']}-{row['code']}.json"
            if row["status"] == "done" and not file.exists():
                result = {name: value for name, value in row.items() if name not in ("key", *LABELS)}
                write_atomically(file, json.dumps(result, indent=1) + "\n")

    def write_rows(self) -> Path:
        """All rows as `rows.csv`."""
        import pandas as pd

        path = self.folder / "rows.csv"
        write_atomically(path, pd.json_normalize(self.rows()).to_csv(index=False))
        return path

    # ---- reading --------------------------------------------------------------------------------------------------

    def manifest(self) -> list[dict[str, Any]]:
        """Labels and configuration hash of every cell that this folder is about."""
        path = self.folder / "manifest.json"
        entries: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        return entries

    def stored(self) -> dict[str, list[Row]]:
        """Results by configuration hash: finished ones first, of these this code's, then the newest."""
        found: dict[str, list[Row]] = {}
        for file in (self.folder / "cells").glob("*.json"):
            row = json.loads(file.read_text(encoding="utf-8"))
            found.setdefault(file.stem.partition("-")[0], []).append(row)
        for rows in found.values():
            rows.sort(key=self._rank, reverse=True)
        return found

    def _rank(self, row: Row) -> tuple[bool, bool, str]:
        return row["status"] == "done", row["code"] == self.code, row["finished"]

    def done(self, cells: Iterable[Cell]) -> dict[str, Row]:
        """Rows of finished cells by configuration hash; failed ones count as missing."""
        stored, wanted = self.stored(), {cell.config_hash for cell in cells}
        return {
            config: rows[0]
            for config, rows in stored.items()
            if config in wanted and rows[0]["status"] == "done" and (self.any_code or rows[0]["code"] == self.code)
        }

    def rows(self) -> list[Row]:
        """One row for each cell of the manifest that has a result, finished or failed, with its place in the table."""
        stored = self.stored()
        return [
            {"key": entry["config_hash"], **entry["labels"], **stored[entry["config_hash"]][0]}
            for entry in self.manifest()
            if entry["config_hash"] in stored
        ]


def read_rows(path: Path) -> list[Row]:
    """Rows of a results folder, or of a `.csv` that `rows.csv` was copied to.

    Raises:
        ValueError: neither is there, or the file is none of rows.
    """
    if path.is_dir() and (path / "manifest.json").is_file():
        return Results(path).rows()
    if path.suffix != ".csv" or not path.is_file():
        raise ValueError(f"results: {path} is neither a results folder nor a .csv of rows")
    import pandas as pd

    text = ["key", "status", "error", "paper", "table", "dataset", "setting", "normal", "labelled", "method", "variant"]
    text += ["selection", "protocol", "code", "device", "finished"]
    frame = pd.read_csv(path, dtype=dict.fromkeys(text, str), keep_default_na=False, na_values={})
    if missing := {"status", "paper", "table", "dataset", "method", "seed"} - set(frame.columns):
        raise ValueError(f"results: {path} is no file of rows, it lacks {', '.join(sorted(missing))}")
    return [_nested(record) for record in frame.to_dict("records")]


def _nested(record: dict[Any, Any]) -> Row:
    row: Row = {}
    for name, value in record.items():
        outer, _, inner = str(name).partition(".")
        if inner and value != "":
            row.setdefault(outer, {})[inner] = float(value) if outer in ("metrics", "seconds") else value
        elif not inner:
            row[outer] = value
    return row
