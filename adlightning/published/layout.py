"""What a published table looks like: its rows, its columns, and which of their cells the paper fills."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

AVERAGE = "avg"
"""The normal class of a cell that averages over all of them."""

Condition = tuple[tuple[str, str], ...]

_ROW_KEYS = {"dataset", "settings", "normals", "metric"}
_COLUMN_KEYS = {"method", "variant", "heading", "setting", "only", "skip", "best_of"}
_TABLE_KEYS = {"caption", "metric", "scale", "decimals", "n_runs", "test", "varies", "transposed", "runs_of"}
_TABLE_KEYS |= {"rows", "columns"}


@dataclass(frozen=True)
class Row:
    """A row of a table: data set, setting (None: the column has it), normal class (or `avg`, or none), metric."""

    dataset: str
    setting: str | None
    normal: str
    metric: str


@dataclass(frozen=True)
class Column:
    """A column of a table: a method and its variant.

    Args:
        method: as in the CSV files.
        variant: of the method, empty when there is none.
        heading: as the paper prints it.
        setting: when it belongs to the column, not to the row.
        only: conditions, of which a row fits one where the paper prints this column; empty for all rows.
        skip: conditions of the rows where it does not.
        best_of: variants, of which the paper prints the best on test data.
        printed: False for a column that is ours alone.
    """

    method: str
    variant: str
    heading: str
    setting: str | None = None
    only: tuple[Condition, ...] = ()
    skip: tuple[Condition, ...] = ()
    best_of: tuple[str, ...] = ()
    printed: bool = True

    def prints(self, row: Row) -> bool:
        """Whether the paper fills this column in this row."""
        return (not self.only or any(_fits(row, c) for c in self.only)) and not any(_fits(row, c) for c in self.skip)

    def takes(self, method: str, variant: str) -> bool:
        """Whether a run of this method and variant belongs in this column."""
        return method == self.method and (variant == self.variant or variant in self.best_of)


@dataclass(frozen=True)
class Layout:
    """A table: where it comes from, what it shows, and how it is laid out.

    Args:
        id: `deep_sad_table6`, `drocc_text`.
        paper: as in the CSV files.
        table: number in the paper, or `text`.
        title: of the paper, or of a table that is ours alone.
        venue: authors, venue and arXiv number, as far as they are known.
        caption: what the table shows.
        metric: of its rows, unless they say otherwise.
        scale: `percent` shows a fraction times 100, `plain` as it is.
        decimals: of our numbers; published ones have their own.
        n_runs: runs of each cell in the paper, None where it does not say.
        test: whether best and second best are compared by a Wilcoxon signed-rank test.
        varies: the key of the setting that goes down the rows, empty when there is none.
        transposed: the paper prints methods down and data across.
        runs_of: id of the table whose runs this one shows, empty for its own.
        rows: in order.
        columns: in order.
        printed: False for a table that is ours alone.
    """

    id: str
    paper: str
    table: str
    title: str
    venue: str
    caption: str
    metric: str
    scale: Literal["percent", "plain"]
    decimals: int
    n_runs: int | None
    test: bool
    varies: str
    transposed: bool
    runs_of: str
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    printed: bool = True

    @property
    def heading(self) -> str:
        """Paper and table in a line; a table that is ours alone says so."""
        if not self.printed:
            return f"Ours: {self.title}"
        return f"{self.title}: {f'Table {self.table}' if self.table.isdecimal() else self.table}"

    @property
    def datasets(self) -> tuple[str, ...]:
        """Data sets in order of appearance."""
        return tuple(dict.fromkeys(row.dataset for row in self.rows))

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods in order of appearance."""
        return tuple(dict.fromkeys(column.method for column in self.columns))

    def cell_setting(self, row: Row, column: Column) -> str:
        """Setting of the cell where row and column meet."""
        return column.setting if column.setting is not None else row.setting or ""

    def normals(self, row: Row) -> tuple[str, ...]:
        """Normal classes of all rows with this row's data set, setting and metric."""
        key = (row.dataset, row.setting, row.metric)
        return tuple(r.normal for r in self.rows if (r.dataset, r.setting, r.metric) == key)

    def normal_of(self, dataset: str, setting: str | None, normal: str) -> str:
        """The normal class of the row that a run belongs in: its own, or that of a row for all classes."""
        same_dataset = [row for row in self.rows if row.dataset == dataset]
        same_setting = [row for row in same_dataset if row.setting == setting]
        listed = {row.normal for row in same_setting or same_dataset or self.rows}
        if listed in ({AVERAGE}, {""}):
            return listed.pop()
        return normal

    def covered(self, rows: Iterable[Mapping[str, str]]) -> dict[tuple[Row, Column], bool]:
        """The cells that the paper fills, and whether such rows of a grid would fill them.

        An average is filled once all that it averages over are.

        Args:
            rows: labels with `dataset`, `setting`, `normal`, `method` and `variant`.
        """
        found = set()
        for labels in rows:
            place = column_of(self.columns, labels["method"], labels["variant"], labels["setting"])
            if place is not None:
                setting = None if self.columns[place].setting is not None else labels["setting"]
                normal = self.normal_of(labels["dataset"], setting, labels["normal"])
                found.add((labels["dataset"], setting, normal, place))
        cells: dict[tuple[Row, Column], bool] = {}
        for number, column in enumerate(self.columns):
            for row in filter(column.prints, self.rows):
                own = None if column.setting is not None else row.setting
                classes = [n for n in self.normals(row) if n != AVERAGE] if row.normal == AVERAGE else []
                wanted = classes or [row.normal]
                cells[row, column] = all((row.dataset, own, normal, number) in found for normal in wanted)
        return cells


def column_of(columns: Sequence[Column], method: str, variant: str, setting: str) -> int | None:
    """The number of the first column that takes such runs; None when there is none."""
    for number, column in enumerate(columns):
        if column.takes(method, variant) and column.setting in (None, setting):
            return number
    return None


def table_id(paper: str, table: str) -> str:
    """`deep_sad_table6`, `drocc_text`: a paper's table in one word."""
    return f"{paper}_table{table}" if table.isdecimal() else f"{paper}_{table}"


def parse_layout(
    name: str, spec: Mapping[str, Any], paper: Mapping[str, str], classes: Mapping[str, Mapping[str, str]]
) -> Layout:
    """A layout from its entry in `tables.yaml`; ValueError for a key that there is not, or a class list that lacks."""
    _check(name, spec, _TABLE_KEYS)
    abbreviation, _, table = name.rpartition("_")
    rows = [row for group in spec["rows"] for row in _rows(name, group, spec["metric"], classes)]
    return Layout(
        id=name,
        paper=abbreviation,
        table=table.removeprefix("table"),
        title=paper["title"],
        venue=paper["venue"],
        caption=spec["caption"],
        metric=spec["metric"],
        scale=spec["scale"],
        decimals=spec["decimals"],
        n_runs=spec.get("n_runs"),
        test=spec.get("test", False),
        varies=spec.get("varies", ""),
        transposed=spec.get("transposed", False),
        runs_of=spec.get("runs_of", ""),
        rows=tuple(rows),
        columns=tuple(_column(name, column) for column in spec["columns"]),
    )


def _rows(name: str, group: Mapping[str, Any], metric: str, classes: Mapping[str, Mapping[str, str]]) -> list[Row]:
    _check(name, group, _ROW_KEYS)
    dataset, normals = group["dataset"], []
    for normal in group.get("normals", [""]):
        if normal == "each" and dataset not in classes:
            raise ValueError(f"{name}: `each` needs the classes of {dataset}")
        normals += list(classes[dataset]) if normal == "each" else [normal]
    metric = group.get("metric", metric)
    return [Row(dataset, setting, normal, metric) for setting in group.get("settings", [""]) for normal in normals]


def _column(name: str, spec: Mapping[str, Any]) -> Column:
    _check(name, spec, _COLUMN_KEYS)
    return Column(
        method=spec["method"],
        variant=spec.get("variant", ""),
        heading=spec["heading"],
        setting=spec.get("setting"),
        only=_conditions(spec.get("only", ())),
        skip=_conditions(spec.get("skip", ())),
        best_of=tuple(spec.get("best_of", ())),
    )


def _conditions(specs: Sequence[Mapping[str, str]]) -> tuple[Condition, ...]:
    return tuple(tuple(spec.items()) for spec in specs)


def _fits(row: Row, condition: Condition) -> bool:
    return all(getattr(row, key) == value for key, value in condition)


def _check(name: str, spec: Mapping[str, Any], known: set[str]) -> None:
    if unknown := set(spec) - known:
        raise ValueError(f"{name}: keys must be among {', '.join(sorted(known))}, got {', '.join(sorted(unknown))}")
