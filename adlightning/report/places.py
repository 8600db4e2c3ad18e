"""Where a run belongs in its table; rows and columns that the paper does not print are added to the layout."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import adlightning
from adlightning.published import AVERAGE, Column, Layout, Row, column_of, layouts, table_id
from adlightning.report.runs import setting_values

if TYPE_CHECKING:
    import pandas as pd


class _Key(NamedTuple):
    dataset: str
    setting: str
    normal: str
    method: str
    variant: str


def placed(layout: Layout, runs: pd.DataFrame) -> tuple[Layout, pd.DataFrame]:
    """The layout with rows and columns for all runs, and the runs with the numbers of their `row` and `column`.

    Args:
        layout: as published, or empty.
        runs: of :func:`adlightning.report.runs.runs_frame`.
    """
    names = ["dataset", "setting", "normal", "method", "variant"]
    keys = [_Key(*values) for values in runs[names].drop_duplicates().itertuples(index=False)]
    if not layout.varies:
        settings = [*(row.setting or "" for row in layout.rows), *(key.setting for key in keys)]
        layout = dataclasses.replace(layout, varies=_varying_key(settings))
    columns = list(layout.columns)
    for key in keys:
        if column_of(columns, key.method, key.variant, key.setting) is None:
            columns.append(_extra_column(layout, key.method, key.variant, key.setting))
    layout = dataclasses.replace(layout, columns=tuple(columns))
    pooled = not layout.rows and len({key.setting for key in keys}) > 1 and len({key.normal for key in keys}) > 1
    found: list[tuple[int, Row]] = []
    for key in keys:
        column = column_of(columns, key.method, key.variant, key.setting)
        assert column is not None  # just added where there was none
        setting = None if columns[column].setting is not None else key.setting
        normal = AVERAGE if pooled else layout.normal_of(key.dataset, setting, key.normal)
        found.append((column, Row(key.dataset, setting, normal, layout.metric)))
    layout = dataclasses.replace(layout, rows=_with_extra_rows(layout, [row for _, row in found]))
    numbers = {(row.dataset, row.setting, row.normal): i for i, row in enumerate(layout.rows)}
    places = {
        key: (numbers[row.dataset, row.setting, row.normal], column)
        for key, (column, row) in zip(keys, found, strict=True)
    }
    of_runs = [places[_Key(*values)] for values in runs[names].itertuples(index=False)]
    return layout, runs.assign(row=[row for row, _ in of_runs], column=[column for _, column in of_runs])


def empty_layout(paper: str, table: str, titles: Sequence[str]) -> Layout:
    """The layout of a table that no paper prints numbers of: a figure of a paper, or a benchmark of your own.

    Args:
        paper: whose methods it shows.
        table: its name.
        titles: that its benchmark files give it; one names it.
    """
    known = next((found for found in layouts().values() if found.paper == paper), None)
    return Layout(
        id=table_id(paper, table),
        paper=paper,
        table=table,
        title=titles[0] if len(titles) == 1 else f"{paper}, {table}",
        venue="",
        caption="Our own table: the paper has none like it."
        + (f" Methods of {known.title} ({known.venue})." if known else ""),
        metric="auroc",
        scale="percent",
        decimals=1,
        n_runs=None,
        test=True,
        varies="",
        transposed=False,
        runs_of="",
        rows=(),
        columns=(),
        printed=False,
    )


def _varying_key(settings: Iterable[str]) -> str:
    """The numeric part of the settings with the most values, if there is one with more than all others."""
    values: dict[str, set[float]] = {}
    for setting in settings:
        for key, value in setting_values(setting).items():
            values.setdefault(key, set()).add(value)
    sizes = sorted(((len(v), key) for key, v in values.items()), reverse=True)
    if not sizes or sizes[0][0] < 2 or (len(sizes) > 1 and sizes[0][0] == sizes[1][0]):
        return ""
    return sizes[0][1]


def _extra_column(layout: Layout, method: str, variant: str, setting: str) -> Column:
    """A column of ours; in a table that is ours alone it is as in the paper's other tables, where they have it."""
    of_paper = [column for found in layouts().values() if found.paper == layout.paper for column in found.columns]
    if not layout.printed:
        for column in of_paper:
            if column.takes(method, variant) and column.setting is None:
                return dataclasses.replace(column, printed=False)
    in_columns = any(column.setting is not None for column in layout.columns)
    details = [variant, setting if in_columns else ""]
    heading = _method_heading([*layout.columns, *of_paper], method)
    heading += "".join(f" ({detail})" for detail in details if detail)
    return Column(method, variant, heading, setting=setting if in_columns else None, printed=False)


def _method_heading(of_paper: Sequence[Column], method: str) -> str:
    """A method as its paper prints it, without a variant: `OC-SVM` of `OC-SVM Raw`; else as another paper does.

    What no paper prints has the name of its class.
    """
    for columns in of_paper, [column for found in layouts().values() for column in found.columns]:
        of_method = [column for column in columns if column.method == method]
        plain = [column.heading for column in of_method if not column.variant]
        ends = [rf"(\s+(on|using|with))?\s*{re.escape(column.variant)}$" for column in of_method]
        stems = [re.sub(end, "", c.heading, flags=re.IGNORECASE) for end, c in zip(ends, of_method, strict=True)]
        # a heading with its variant elsewhere, `Typicality test on Glow model`, is no name of the method alone
        named = plain or [stem for stem, column in zip(stems, of_method, strict=True) if stem != column.heading]
        if named:
            return min(named, key=len)
    classes = (name for name in dir(adlightning) if name.lower() == method.replace("_", ""))
    return next(classes, method.replace("_", " "))


def _with_extra_rows(layout: Layout, wanted: Sequence[Row]) -> tuple[Row, ...]:
    """The layout's rows and those wanted beside them, by data set and varying setting, averages last."""
    rows = list(layout.rows)
    there = {(row.dataset, row.setting, row.normal) for row in rows}
    extra = [row for row in dict.fromkeys(wanted) if (row.dataset, row.setting, row.normal) not in there]
    if not extra:
        return tuple(rows)
    averaged = not rows or any(row.normal == AVERAGE for row in rows)
    groups = dict.fromkeys((row.dataset, row.setting) for row in extra)
    for dataset, setting in groups if averaged else ():
        classes = {row.normal for row in (*rows, *extra) if (row.dataset, row.setting) == (dataset, setting)}
        if AVERAGE not in classes and len(classes) > 1:
            extra.append(Row(dataset, setting, AVERAGE, layout.metric))
    rows += sorted(extra, key=lambda row: (row.normal == AVERAGE, row.normal.zfill(4)))
    of_papers = [dataset for found in layouts().values() for dataset in found.datasets]
    datasets = list(dict.fromkeys([*layout.datasets, *of_papers, *(row.dataset for row in rows)]))
    settings = list(dict.fromkeys(row.setting for row in rows))

    def order(row: Row) -> tuple[int, float, int, bool]:
        value = setting_values(row.setting or "").get(layout.varies, float("-inf"))
        return datasets.index(row.dataset), value, settings.index(row.setting), row.normal == AVERAGE

    return tuple(sorted(rows, key=order))
