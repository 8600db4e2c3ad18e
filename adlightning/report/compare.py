"""Our runs beside the published values, cell by cell."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adlightning.published import AVERAGE, Column, Layout, Row, class_names, layouts, metrics, published
from adlightning.report.notes import cell_notes, other_variants_notes, table_notes
from adlightning.report.places import empty_layout, placed
from adlightning.report.significance import RUN, best_two_tests

if TYPE_CHECKING:
    import pandas as pd

Record = dict[str, Any]


@dataclass(frozen=True)
class Comparison:
    """A table, ours beside published.

    Args:
        layout: with the rows and columns that only we have.
        cells: one line for each cell that has runs or a published value: its place and the numbers of its `row` and
            `column` in the layout, `ours_mean`, `ours_std` (sample, ddof = 1), `ours_n`, `n_failed`, `published_mean`,
            `published_std`, `published_n`, `difference`, `deviation` (the difference in standard errors, NaN where it
            cannot be said), `outside_2se` (None where it cannot be said, or of a single run), `chosen` (of several
            variants), `covered` (whether the runs are of all classes that an average is over), `classes` (`2 of 10`
            where they are not), `aside` (whether they
            are of fewer classes than others of the row, so that they cannot be set beside them), and `notes` and
            `published_notes`, lists of texts.
        tests: one line for each row of the table that has a best and a second best.
        runs: the runs behind it, with `row`, `column` and `value`; of several variants, only the chosen one's.
        notes: what holds for the whole table.
    """

    layout: Layout
    cells: pd.DataFrame
    tests: pd.DataFrame
    runs: pd.DataFrame
    notes: list[str]

    @property
    def heading(self) -> str:
        """What the benchmark file calls itself, which says how it differs from the paper's table; else the table's."""
        titles = set(self.runs["title"]) - {""} if "title" in self.runs else set()
        return str(titles.pop()) if len(titles) == 1 else self.layout.heading


def compare(runs: pd.DataFrame, tables: list[str], metric: str | None = None) -> list[Comparison]:
    """A comparison for each table, in the order of the papers: those named, whole, or all that have runs.

    Of the latter, rows without a run are left out, and a note says so.

    Args:
        runs: of :func:`adlightning.report.runs.runs_frame`.
        tables: ids; a published one may have no runs.
        metric: shown instead of that of the paper, as `metrics.json` names it; published values of another metric, and
            runs without it, are then left out. Tables of training times stay as they are.

    Raises:
        ValueError: a table that is neither published nor has runs, or a metric that there is not.
    """
    shown = None if metric is None else _metric_of(metric)
    if shown is not None and not _has(runs, shown).any():
        raise ValueError(f"metric: no run of the results has {metric}")
    known = layouts()
    named = runs[["paper", "table", "title"]].drop_duplicates().groupby(["paper", "table"])["title"]
    ours = [empty_layout(str(p), str(t), sorted(set(titles) - {""})) for (p, t), titles in named]
    own = {layout.id: layout for layout in ours}
    available = known | {name: layout for name, layout in own.items() if name not in known}
    if unknown := [name for name in tables if name not in available]:
        raise ValueError(f"table must be one of {', '.join(available)}, got {', '.join(unknown)}")
    chosen = tables or [name for name, layout in available.items() if name in own or layout.runs_of in own]
    found = [_compare(available[name], runs, bool(tables), shown) for name in dict.fromkeys(chosen)]
    if empty := [comparison.layout.id for comparison in found if tables and comparison.cells.empty]:
        raise ValueError(f"metric: there are neither runs nor published values of {metric} for {', '.join(empty)}")
    return [comparison for comparison in found if not comparison.cells.empty]


def _metric_of(measured: str) -> str:
    """Name in the tables of what `metrics.json` names `measured`."""
    names = {m.measured.removeprefix("metrics."): name for name, m in metrics().items() if _is_ranking(name)}
    if measured not in names:
        raise ValueError(f"metric must be one of {', '.join(names)}, got {measured}")
    return names[measured]


def _is_ranking(metric: str) -> bool:
    return metrics()[metric].measured.startswith("metrics.")


def _has(runs: pd.DataFrame, metric: str) -> pd.Series[bool]:
    """Which runs have a value of the metric."""
    measured = metrics()[metric].measured
    return runs[measured].notna() if measured in runs else runs["status"].isna()


def _compare(layout: Layout, runs: pd.DataFrame, whole: bool, metric: str | None) -> Comparison:
    source = layouts().get(layout.runs_of, layout)
    mine = runs[(runs["paper"] == source.paper) & (runs["table"] == source.table)].copy()
    printed, n_without = {row.metric for row in layout.rows}, 0
    if metric is not None and _is_ranking(layout.metric):
        without = (mine["status"] == "done") & ~_has(mine, metric)
        mine, n_without = mine[~without], int(without.sum())
        of_metric = tuple(dataclasses.replace(row, metric=metric) for row in layout.rows)
        layout = dataclasses.replace(layout, metric=metric, rows=of_metric)
    layout, mine = placed(layout, mine)
    measured = [metrics()[layout.rows[row].metric].measured for row in mine["row"]]
    for name in {*measured} - {*mine.columns}:
        mine[name] = math.nan
    mine["value"] = [float(row[name]) for row, name in zip(mine.to_dict("records"), measured, strict=True)]
    unmeasured = (mine["status"] == "done") & mine["value"].isna()
    mine.loc[unmeasured, "error"] = [f"no {name} in the row" for name, u in zip(measured, unmeasured, strict=True) if u]
    mine.loc[mine["status"] == "failed", "value"] = math.nan
    cells, kept = _cells(layout, mine)
    shown = cells if whole else _rows_with_runs(cells)
    notes = table_notes(layout, shown, kept)
    if others := sorted(metrics()[name].heading for name in printed - {row.metric for row in layout.rows}):
        notes.append(f"left out, because it is another metric: what the paper prints, {', '.join(others)}")
    if n_without:
        notes.append(f"left out: {n_without} runs without {metric}, of code that did not measure it")
    if len(shown) < len(cells):
        rows = "columns" if layout.transposed else "rows"
        notes.append(f"{rows} without a run of ours are left out (report RESULTS --table {layout.id} shows all)")
    return Comparison(layout, shown, best_two_tests(layout, shown, kept), kept, notes)


# ---- cells -----------------------------------------------------------------------------------------------------------


def _cells(layout: Layout, runs: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    import pandas as pd

    printed = _published_values(layout)
    groups: dict[Any, pd.DataFrame] = dict(iter(runs.groupby(["row", "column"])))
    records: dict[tuple[int, int], Record] = {}
    kept = [runs.iloc[:0]]
    for i, row in enumerate(layout.rows):
        for j, column in enumerate(layout.columns):
            setting = layout.cell_setting(row, column)
            place = (row.dataset, setting, row.normal, column.method, column.variant, row.metric)
            group, value = groups.get((i, j)), printed.get(place)
            averages = row.normal == AVERAGE and len(layout.normals(row)) > 1
            if group is None and value is None and not averages:
                continue
            records[i, j] = _place(layout, i, j) | _printed(value or {})
            if group is None:  # as most cells of most tables
                records[i, j] |= {**_NO_RUNS, "notes": []}
                continue
            variant = best_variant(group, column, metrics()[row.metric].lower_is_better)
            own = _of_shown_variant(group, column, variant)
            kept.append(own)
            records[i, j] |= _measured(row, column, own, variant)
            if len(own) < len(group):
                records[i, j]["notes"] += other_variants_notes(group.drop(own.index))
    for (i, j), record in records.items():
        row = layout.rows[i]
        if row.normal == AVERAGE and len(layout.normals(row)) > 1:
            same = [k for k, r in enumerate(layout.rows) if _same_but_class(r, row) and k != i]
            record |= _average([records.get((k, j)) for k in same])
        record |= _difference(record)
    shown = [r for r in records.values() if r["ours_n"] or r["n_failed"] or not math.isnan(r["published_mean"])]
    whole = {r["row"] for r in shown if r["ours_n"] and r["covered"]}
    for record in shown:
        record["aside"] = not record["covered"] and record["row"] in whole
    cells = pd.DataFrame(shown, columns=_NAMES).sort_values(["row", "column"], ignore_index=True)
    return cells, pd.concat(kept, ignore_index=True)


_NAMES = ["paper", "table", "dataset", "setting", "normal", "method", "variant", "metric", "row", "column"]
_NAMES += ["ours_mean", "ours_std", "ours_n", "n_failed", "published_mean", "published_std", "published_n"]
_NAMES += ["published_mean_printed", "published_std_printed", "doubtful", "difference", "deviation"]
_NAMES += ["outside_2se", "chosen", "selection", "protocol", "covered", "classes", "aside"]
_NAMES += ["notes", "published_notes"]


_NO_RUNS: Record = {"ours_mean": math.nan, "ours_std": math.nan, "ours_n": 0, "n_failed": 0}
_NO_RUNS |= {"chosen": "", "selection": "", "protocol": "", "covered": True, "classes": ""}


def _place(layout: Layout, i: int, j: int) -> Record:
    """Where a cell is."""
    row, column = layout.rows[i], layout.columns[j]
    return {
        "paper": layout.paper,
        "table": layout.table,
        "dataset": row.dataset,
        "setting": layout.cell_setting(row, column),
        "normal": row.normal,
        "method": column.method,
        "variant": column.variant,
        "metric": row.metric,
        "row": i,
        "column": j,
    }


def _printed(value: Record) -> Record:
    """What the paper prints in a cell; `value` is empty where it prints nothing."""
    return {
        "published_mean": value.get("mean", math.nan),
        "published_std": value.get("std", math.nan),
        "published_n": value.get("n_runs", math.nan),
        "published_mean_printed": value.get("mean_printed", ""),
        "published_std_printed": value.get("std_printed", ""),
        "doubtful": value.get("doubtful", False),
        "published_notes": [value["note"]] if value.get("note") else [],
    }


def _measured(row: Row, column: Column, group: pd.DataFrame, variant: str | None) -> Record:
    """What a cell's runs say."""
    done = group[group["value"].notna()]
    pools = row.normal == AVERAGE or (row.normal == "" and bool((done["normal"] != "").any()))
    n_classes = len(class_names(row.dataset)) if pools else 0
    covered = not (0 < done["normal"].nunique() < n_classes)
    return {
        "ours_mean": float(done["value"].mean()),
        "ours_std": float(done["value"].std(ddof=1)),
        "ours_n": len(done),
        "n_failed": len(group) - len(done),
        "chosen": variant or "",
        "selection": "oracle" if variant is not None else _union(done["selection"]),
        "protocol": _union(done["protocol"]),
        "covered": covered,
        "classes": "" if covered else f"{done['normal'].nunique()} of {n_classes}",
        "notes": cell_notes(column, group, variant, n_classes if not covered else 0),
    }


def best_variant(group: pd.DataFrame, column: Column, lower_is_better: bool) -> str | None:
    """The variant with the best mean over the runs that all of them have, where the paper prints the best of several.

    None where there is nothing to choose: the column is of one variant, or only one has finished runs.
    """
    done = group[group["value"].notna()]
    if not column.best_of or done["variant"].nunique() < 2:
        return None
    wide = done.pivot_table(index=RUN, columns="variant", values="value")
    common = wide.dropna()
    means = (wide if common.empty else common).mean()
    return str(means.idxmin() if lower_is_better else means.idxmax())


def _of_shown_variant(group: pd.DataFrame, column: Column, chosen: str | None) -> pd.DataFrame:
    """The runs of the variant that a cell shows: the chosen one, or the only one that has finished runs."""
    done = group[group["value"].notna()]
    if not column.best_of or done.empty:
        return group
    return group[group["variant"] == (done["variant"].iloc[0] if chosen is None else chosen)]


def _average(classes: list[Record | None]) -> Record:
    """The average over classes: mean of their means, n of the class with the fewest runs.

    Its standard deviation is that of an average over one run a class, the classes' runs being independent.
    """
    there = [record for record in classes if record is not None and record["ours_n"]]
    if len(there) < len(classes):
        return {"notes": [f"no average: runs of {len(there)} of {len(classes)} classes"] if there else []}
    k = len(there)
    return {
        "ours_mean": sum(record["ours_mean"] for record in there) / k,
        "ours_std": math.sqrt(sum(record["ours_std"] ** 2 for record in there)) / k,
        "ours_n": min(record["ours_n"] for record in there),
        "selection": _union(record["selection"] for record in there),
        "protocol": _union(record["protocol"] for record in there),
    }


def _difference(record: Record) -> Record:
    """Ours minus published, the same in standard errors, and whether it lies outside two of them."""
    difference = record["ours_mean"] - record["published_mean"]
    deviation = math.nan
    if record["covered"] and metrics()[record["metric"]].comparable and not math.isnan(difference):
        digits = len(record["published_mean_printed"].partition(".")[2])
        deviation = difference / standard_error(
            record["ours_std"], record["ours_n"], record["published_std"], record["published_n"], 10.0**-digits
        )
    judged = not math.isnan(deviation) and record["ours_n"] > 1 and not math.isnan(record["ours_std"])
    outside = abs(deviation) > 2 if judged else None
    return {"difference": difference, "deviation": deviation, "outside_2se": outside}


def standard_error(std: float, n: int, published_std: float, published_n: float, unit: float) -> float:
    """Standard error of the difference between our mean and a published one; what is not known makes it wider.

    NaN where neither standard deviation is known.

    Args:
        std: sample standard deviation of our runs; NaN of a single run, then the published one stands in for it.
        n: our runs.
        published_std: NaN when not printed; then ours stands in for it.
        published_n: NaN when not stated; then the published value counts as a single run.
        unit: of the last printed digit, whose rounding has the variance unit^2 / 12.
    """
    ours = published_std if math.isnan(std) else std
    theirs = std if math.isnan(published_std) else published_std
    n_theirs = 1.0 if math.isnan(published_n) else published_n
    return math.sqrt(ours**2 / n + theirs**2 / n_theirs + unit**2 / 12)


def _rows_with_runs(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells of rows where a run of ours finished or failed, or where there is something to say of them."""
    ours = (cells["ours_n"] > 0) | (cells["n_failed"] > 0) | cells["notes"].map(bool)
    return cells[cells["row"].isin(cells.loc[ours, "row"])].reset_index(drop=True)


def _published_values(layout: Layout) -> dict[tuple[str, ...], Record]:
    if not layout.printed:
        return {}
    records = published(layout.paper, layout.table).to_dict("records")
    names = ("dataset", "setting", "normal", "method", "variant", "metric")
    return {tuple(str(record[name]) for name in names): {str(k): v for k, v in record.items()} for record in records}


def _same_but_class(one: Row, other: Row) -> bool:
    return (one.dataset, one.setting, one.metric) == (other.dataset, other.setting, other.metric)


def _union(values: Iterable[str]) -> str:
    return ", ".join(sorted({value for value in values if value}))
