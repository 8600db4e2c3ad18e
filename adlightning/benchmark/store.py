"""A results folder: what each cell gave, written at once and whole, and the rows that a report reads.

manifest.json         the cells of the grid: their place in the table and their configuration's hash
cells/HASH-CODE.json  one cell's result, or its error
runs/HASH-CODE/       its run folder
rows.csv              all rows, to keep or to commit: one a cell, or one for each test set of a cell that names several
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from adlightning.benchmark.grid import LABELS, Cell, Grid, with_test_set
from adlightning.files.disk import NotWritten, make_folder, remove_made, sweep, write_atomically
from adlightning.files.locks import NoLocks, folder_locked, lock_folder, unlock

Row = dict[str, Any]

_OF_TEST_SET = ("metrics", "n_test")


class Results:
    """A results folder.

    Args:
        folder: where it is, or shall be.
        any_code: count a cell as done also when another version of the code did it.
    """

    def __init__(self, folder: Path, any_code: bool = False) -> None:
        self.folder = folder
        self.any_code = any_code
        self._rows_due = 0.0  # on the clock that only runs forward
        self._rows_lag = False

    def key(self, cell: Cell) -> str:
        """What a cell's result is filed under: hash of its configuration and version of the code behind it."""
        return f"{cell.config_hash}-{cell.code}"

    def path(self, cell: Cell) -> Path:
        """The file of a cell's result by this code."""
        return self.folder / "cells" / f"{self.key(cell)}.json"

    def run_folder(self, cell: Cell) -> Path:
        """The run folder of a cell's result by this code."""
        return self.folder / "runs" / self.key(cell)

    def has_checkpoint(self, cell: Cell) -> bool:
        """Whether the checkpoint of a cell's fit is there."""
        return any((self.run_folder(cell) / "checkpoints").glob("*.ckpt"))

    # ---- writing --------------------------------------------------------------------------------------------------

    def open(self, cells: Iterable[Cell] = (), grid: Grid | None = None) -> None:
        """Make the folder, bring the manifest up to date, and clear away what broken-off runs left on this machine.

        Args:
            cells: what is to be run; added to the manifest.
            grid: the whole benchmark file as it is now: what it holds no longer leaves the manifest, what it holds
                with other options gets its new hash. None for cells of no table, without a manifest.

        Raises:
            ValueError: the folder cannot be written.
        """
        made: list[Path] = []
        try:
            for name in ("cells", "runs", "partial"):
                made += make_folder(self.folder / name)
            if grid is not None:
                self._bring_up_to_date(cells, grid)
        except NotWritten:
            remove_made(made)
            raise
        except OSError as error:
            remove_made(made)
            raise ValueError(f"results: {self.folder} cannot be written: {error.strerror}") from error
        if not (shelf := self.folder / "pretraining").is_symlink():
            with contextlib.suppress(OSError):  # another command is at it
                sweep(shelf)
        for left in (self.folder / "partial").glob(f"{socket.gethostname()}-*"):
            with contextlib.suppress(OSError):  # somebody is at it, or there are no locks to tell
                lock = lock_folder(left)
                shutil.rmtree(left, ignore_errors=True)
                unlock(lock)

    def _bring_up_to_date(self, cells: Iterable[Cell], grid: Grid) -> None:
        with folder_locked(self.folder):
            entries = self._still_there(grid)
            for cell in cells:
                entries[_text(cell.labels)] = {"labels": cell.labels, "config_hash": cell.config_hash}
            content = [entry | {"title": grid.title} for entry in entries.values()]
            write_atomically(self.folder / "manifest.json", json.dumps(content, indent=0) + "\n")

    def _still_there(self, grid: Grid) -> dict[str, dict[str, Any]]:
        """Entries of the manifest that the benchmark file still has, by labels, each with its hash by now."""
        now = {_text(cell.labels): cell.config_hash for cell in grid.cells}
        places = {_text(cell.labels | {"seed": None}) for cell in grid.cells}
        return {
            _text(entry["labels"]): entry | {"config_hash": now.get(_text(entry["labels"]), entry["config_hash"])}
            for entry in self.manifest()
            if _text(entry["labels"] | {"seed": None}) in places
        }

    @contextlib.contextmanager
    def partial(self, cell: Cell) -> Iterator[Path]:
        """A folder for a run to grow in; locked, so that what a killed process left can be told and cleared away."""
        folder, lock = self._begin(self._prefix(cell))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            if lock is not None:
                unlock(lock)

    def growing(self, cell: Cell) -> Path | None:
        """The folder in which a cell's run grows on this machine; None where there is none."""
        return next((self.folder / "partial").glob(f"{self._prefix(cell)}*"), None)

    def _prefix(self, cell: Cell) -> str:
        return f"{socket.gethostname()}-{self.key(cell)}-"

    def _begin(self, prefix: str) -> tuple[Path, int | None]:
        while True:
            folder = Path(tempfile.mkdtemp(prefix=prefix, dir=self.folder / "partial"))
            try:
                return folder, lock_folder(folder)
            except NoLocks:
                return folder, None
            except (BlockingIOError, FileNotFoundError):  # not locked yet, it was taken for one that is left over
                continue

    def write(self, cell: Cell, row: Row, run: Path | None = None) -> None:
        """Keep a cell's result and its run folder; the result comes last, and is there whole or not at all.

        A failure never takes the place of a finished result, which another runner may have written meanwhile.
        """
        path = self.path(cell)
        if row["status"] != "done" and cell.test_sets:
            row = row | {"test_sets": {name: {} for name in cell.test_sets}}  # each has failed
        kept = self.run_folder(cell)
        with folder_locked(self.folder):  # another runner's row would stand beside this one's run folder
            is_done = path.exists() and self._read(path).get("status") == "done"
            if is_done and (row["status"] != "done" or self._lacks_none(cell, run)):
                return
            if run is not None and run.exists():
                if kept.exists():
                    shutil.rmtree(kept)  # of a failed try
                run.rename(kept)
            write_atomically(path, json.dumps(row, indent=1) + "\n")

    def _lacks_none(self, cell: Cell, run: Path | None) -> bool:
        """Whether a run has no checkpoint that the kept one lacks, for other scorings of it."""
        brought = run is not None and any((run / "checkpoints").glob("*.ckpt"))
        return not brought or self.has_checkpoint(cell)

    def forget_checkpoint(self, cell: Cell) -> None:
        """Remove the checkpoint of a cell's fit, which takes far more room than the rest."""
        shutil.rmtree(self.run_folder(cell) / "checkpoints", ignore_errors=True)

    def forget_failures(self, cells: Iterable[Cell]) -> None:
        """Remove the failed rows of cells that are tried again, so that what is there was written by the new try."""
        for cell in cells:
            path = self.path(cell)
            if path.exists() and self._read(path).get("status") != "done":
                path.unlink()

    def adopt(self, rows: Iterable[Row]) -> None:
        """Take finished rows of another results folder, or of a file of rows, as this one's own where it lacks them.

        Raises:
            ValueError: a row without the hash of its configuration and the version of its code.
        """
        results: dict[str, Row] = {}
        for row in rows:
            name = f"{row.get('key')}-{row.get('code')}"
            if not re.fullmatch(r"[0-9a-f]{16}-[0-9a-f]{8}", name):
                raise ValueError(f"rows_from: rows must hold key and code as rows.csv has them, got {name}")
            result = {key: value for key, value in row.items() if key not in ("key", "title", *LABELS)}
            test_set = result.pop("test_set", "")
            if row["status"] == "done" and test_set:
                part = {key: result.pop(key) for key in _OF_TEST_SET if key in result}
                results.setdefault(name, result | {"test_sets": {}})["test_sets"][test_set] = part
            elif row["status"] == "done":
                results[name] = result
        for name, result in results.items():
            file = self.folder / "cells" / f"{name}.json"
            if not file.exists():
                write_atomically(file, json.dumps(result, indent=1) + "\n")

    def write_rows(self) -> Path:
        """All rows as `rows.csv`."""
        import pandas as pd

        path = self.folder / "rows.csv"
        write_atomically(path, pd.json_normalize(self.rows()).to_csv(index=False))
        self._rows_lag = False
        return path

    def keep_rows(self, finished: bool = False) -> None:
        """Bring `rows.csv` up to date after a cell, so that a command that is killed leaves one.

        Where it takes long, for thousands of cells, it is done less often: at most a tenth of the time goes into it.

        Args:
            finished: whether a cell has ended since the last call, which is made every now and then.
        """
        self._rows_lag |= finished
        if self._rows_lag and time.monotonic() >= self._rows_due:
            import pandas as pd  # noqa: F401  # before the clock starts

            began = time.monotonic()
            self.write_rows()
            self._rows_due = time.monotonic() + 9 * (time.monotonic() - began)

    # ---- reading --------------------------------------------------------------------------------------------------

    def leaving(self, grid: Grid) -> int:
        """How many finished cells this benchmark file takes off the table: it has other options for them, or none."""
        stays = {entry["config_hash"] for entry in self._still_there(grid).values()}
        gone = [entry["config_hash"] for entry in self.manifest() if entry["config_hash"] not in stays]
        stored = self.stored() if gone else {}
        return sum(stored[old][0]["status"] == "done" for old in gone if old in stored)

    def manifest(self) -> list[dict[str, Any]]:
        """Labels, configuration hash and the grid's title of every cell that this folder is about.

        Raises:
            ValueError: the file is damaged.
        """
        path = self.folder / "manifest.json"
        try:
            entries: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
            return [
                {"labels": _place(e["labels"]), "config_hash": str(e["config_hash"]), "title": str(e["title"])}
                for e in entries
            ]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ValueError(f"results: {path} is damaged ({error}); without it the cells are still there") from error

    def _read(self, path: Path) -> Row:
        """A cell's row; an empty one, with a warning, where the file is damaged."""
        try:
            row: Row = json.loads(path.read_text(encoding="utf-8"))
            if _is_row(row):
                return row
            problem = "it is no row"
        except (ValueError, RecursionError) as error:
            problem = str(error)
        warnings.warn(f"{path} is damaged and left out: {problem}", stacklevel=2)
        return {}

    def stored(self) -> dict[str, list[Row]]:
        """Results by configuration hash: finished ones first, the newest first of these."""
        found: dict[str, list[Row]] = {}
        for path in (self.folder / "cells").glob("*.json"):
            if row := self._read(path):
                found.setdefault(path.stem.partition("-")[0], []).append(row)
        for rows in found.values():
            rows.sort(key=lambda row: (row["status"] == "done", row["finished"]), reverse=True)
        return found

    def own_row(self, cell: Cell) -> Row | None:
        """A cell's row by this code, None where there is none."""
        path = self.path(cell)
        return (self._read(path) or None) if path.exists() else None

    def done(self, cells: Iterable[Cell]) -> dict[str, Row]:
        """Rows of finished cells by configuration hash; failed ones count as missing."""
        stored, done = self.stored(), {}
        for cell in cells:
            rows = [row for row in stored.get(cell.config_hash, []) if self.any_code or row["code"] == cell.code]
            if rows and rows[0]["status"] == "done":
                done[cell.config_hash] = rows[0]
        return done

    def rows(self) -> list[Row]:
        """Rows of each cell of the manifest that has a result, finished or failed, with their place in the table."""
        stored = self.stored()
        cells: list[Row] = [
            {"key": entry["config_hash"], "title": entry["title"], **entry["labels"], **stored[entry["config_hash"]][0]}
            for entry in self.manifest()
            if entry["config_hash"] in stored
        ]
        return [row for cell in cells for row in _by_test_set(cell)]


def _place(labels: Any) -> dict[str, Any]:
    """A cell's labels, and nothing else that could stand for what its row says."""
    return {key: value for key, value in dict(labels).items() if key in LABELS}


def _is_row(row: object) -> bool:
    """Whether it has what every row has: words for how and when it ended, and a mapping for each test set."""
    if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("status", "code", "finished")):
        return False
    parts = row.get("test_sets", {})
    return isinstance(parts, dict) and all(isinstance(part, dict) for part in parts.values())


def _by_test_set(row: Row) -> list[Row]:
    """A cell's row, or one for each of its named test sets, whose setting names it: `ood=mnist`, as in AMA's tables."""
    if "test_sets" not in row:
        return [row]
    common = {key: value for key, value in row.items() if key != "test_sets"}
    rows = []
    for name, part in row["test_sets"].items():
        rows.append(common | {"setting": with_test_set(str(row["setting"]), name), "test_set": name} | part)
    return rows


def _text(labels: dict[str, Any]) -> str:
    return json.dumps(labels, sort_keys=True)


def read_rows_with_scores(path: Path) -> list[Row]:
    """Rows as :func:`read_rows` has them; those of a results folder with the file of their `scores`."""
    rows = read_rows(path)
    if not path.is_dir():
        return rows
    return [row | {"scores": str(path / "runs" / f"{row['key']}-{row['code']}" / "scores.csv")} for row in rows]


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
    text += ["title", "test_set", "selection", "protocol", "code", "device", "finished", "scored_from"]
    frame = pd.read_csv(path, dtype=dict.fromkeys(text, str), keep_default_na=False, na_values={})
    if missing := {"status", "paper", "table", "dataset", "method", "seed"} - set(frame.columns):
        raise ValueError(f"results: {path} is no file of rows, it lacks {', '.join(sorted(missing))}")
    return [_nested(record) for record in frame.to_dict("records")]


def _nested(record: dict[Any, Any]) -> Row:
    row: Row = {}
    for name, value in record.items():
        outer, _, inner = str(name).partition(".")
        if inner and value != "":
            group = row.setdefault(outer, {})
            if not isinstance(group, dict):
                raise ValueError(f"results: the columns {outer} and {name} exclude each other")
            group[inner] = value
        elif not inner:
            row[outer] = value
    return row
