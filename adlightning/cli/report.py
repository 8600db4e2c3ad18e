"""The report verb: `adlightning report RESULTS... [--format html] [--out report.html] [--table deep_sad_table6]`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from adlightning.cli.plain_parser import PlainParser
from adlightning.files.disk import require_new, user_path, write_new

if TYPE_CHECKING:
    import pandas as pd

    from adlightning.report.compare import Comparison
    from adlightning.report.drawing import Picture
    from adlightning.report.grid import Grid
    from adlightning.report.page import Section

FORMATS = ("rich", "markdown", "latex", "csv", "html")
_FILE_WIDTH = 140


def run(arguments: list[str]) -> None:
    """Run the verb.

    Raises:
        ValueError: an argument that is not as it should be, results that cannot be read, or a table that there is not.
    """
    from adlightning.report.compare import compare
    from adlightning.report.runs import runs_frame

    options = _parser().parse_args(arguments)
    out = None if options.out is None else user_path(options.out)
    _check(options.results, options.table, options.metric, options.format, out)
    if options.ranks and not options.results:
        raise ValueError("results must be given to rank the methods of: adlightning report RESULTS --ranks")
    rows = []
    if options.results:
        from adlightning.benchmark.store import read_rows_with_scores

        rows = [row for path in options.results for row in read_rows_with_scores(user_path(path))]
        if not rows and not options.table:
            raise ValueError(f"results: there are no rows in {', '.join(options.results)}")
    runs = runs_frame(rows)
    if options.ranks:
        _report_ranks(runs, options.table, options.metric or "auroc", options.format, out)
        return
    comparisons = compare(runs, options.table, options.metric)
    if options.table:
        runs = _of_tables(runs, comparisons)
    if options.format == "rich":
        _write_rich(runs, comparisons, out)
        return
    pictures = _pictures(comparisons, options.format, out)
    text = _text(runs, comparisons, options.format, pictures, out)
    _write(text, {} if out is None or options.format != "markdown" else _files(pictures, out), out)


def _write(text: str, files: Mapping[str, Picture], out: Path | None) -> None:
    """Write a report and the pictures beside it, or nothing; without a file, to the terminal."""
    if out is None:
        sys.stdout.write(text)
        return
    written: list[Path] = []
    try:
        for name, picture in files.items():
            write_new(out.with_name(name), picture.png)
            written.append(out.with_name(name))
        write_new(out, text)
    except BaseException:
        for picture_file in written:  # of a report that is not there
            picture_file.unlink()
        raise
    print(f"report: {out}")


def _report_ranks(runs: pd.DataFrame, tables: list[str], metric: str, kind: str, out: Path | None) -> None:
    """Methods by their mean rank, in the place of tables beside published numbers."""
    from adlightning.published import table_id
    from adlightning.report.latex import latex_report
    from adlightning.report.markdown import markdown_report
    from adlightning.report.page import html_page
    from adlightning.report.rank_tables import rank_facts, rank_section
    from adlightning.report.ranks import rank_methods

    if tables:
        places = zip(runs["paper"], runs["table"], strict=True)
        runs = runs[[table_id(paper, table) in tables for paper, table in places]]
    ranking = rank_methods(runs, metric)
    if kind == "csv":
        _write(ranking.ranks.join(ranking.values, rsuffix=f" {metric}").to_csv(float_format="%.9g"), {}, out)
        return
    section, facts = rank_section(ranking), rank_facts(ranking)
    grids = [section.grid, *section.extras]
    if kind == "rich":
        _print_rich(grids, facts, out)
        return
    files = {} if out is None or kind == "html" else _files({"": list(section.pictures)}, out)
    captions = {name: picture.caption for name, picture in files.items()}
    title = f"{len(ranking.methods)} methods ranked over {len(ranking.values)} cells"
    if kind == "html":
        text = html_page(title, facts, [section])
    else:
        text = {"markdown": markdown_report, "latex": latex_report}[kind](title, facts, grids, captions)
    _write(text, files, out)


def _parser() -> argparse.ArgumentParser:
    description = (
        "Results beside the published numbers, in the papers' own layout. Without RESULTS the published alone."
    )
    parser = PlainParser(prog="adlightning report", description=description)
    parser.add_argument("results", metavar="RESULTS", nargs="*", help="results folder, or .csv file of rows")
    parser.add_argument("--format", choices=FORMATS, default="rich", help="default: rich, for the terminal")
    parser.add_argument("--out", metavar="FILE", help="file to write, which must not exist yet; default: the terminal")
    table_help = "only this table, with all its rows: deep_sad_table6, drocc_text; may be given several times"
    parser.add_argument("--table", action="append", default=[], help=table_help)
    parser.add_argument(
        "--ranks",
        action="store_true",
        help="rank the methods over all cells of data set and class instead: mean ranks, Friedman's test, Wilcoxon's "
        "of each pair with Holm's correction, a critical-difference diagram (html; markdown and latex with --out)",
    )
    metric_help = "our values of this metric instead of the paper's, f1_drocc_release or another of metrics.json"
    parser.add_argument("--metric", metavar="NAME", help=metric_help)
    return parser


def _check(results: list[str], tables: list[str], metric: str | None, kind: str, out: Path | None) -> None:
    if not results and not tables:
        from adlightning.published import layouts

        raise ValueError(f"results or --table must be given; published tables are {', '.join(layouts())}")
    if metric is not None and not results:
        raise ValueError(f"metric chooses what is shown of our runs: RESULTS must be given with --metric {metric}")
    if kind == "html" and out is None and sys.stdout.isatty():
        raise ValueError("out must be given for html on a terminal: --out report.html")
    if out is not None:
        require_new(out)


def _of_tables(runs: pd.DataFrame, comparisons: list[Comparison]) -> pd.DataFrame:
    """The runs of these tables, or of those whose runs they show."""
    from adlightning.published import table_id

    sources = {comparison.layout.runs_of or comparison.layout.id for comparison in comparisons}
    places = zip(runs["paper"], runs["table"], strict=True)
    return runs[[table_id(paper, table) in sources for paper, table in places]]


def _sections(comparisons: list[Comparison], pictures: Mapping[str, list[Picture]]) -> list[Section]:
    from adlightning.report.extras import costs_grid, significance_grid
    from adlightning.report.grid import comparison_grid
    from adlightning.report.page import Section

    sections = []
    for comparison in comparisons:
        extras = [grid for grid in (significance_grid(comparison), costs_grid(comparison)) if grid is not None]
        sections.append(Section(comparison_grid(comparison), extras, pictures.get(comparison.layout.id, [])))
    return sections


def _write_rich(runs: pd.DataFrame, comparisons: list[Comparison], out: Path | None) -> None:
    from adlightning.report.extras import overview

    grids = [grid for section in _sections(comparisons, {}) for grid in (section.grid, *section.extras)]
    _print_rich(grids, overview(runs, comparisons), out)


def _print_rich(grids: list[Grid], facts: list[tuple[str, str]], out: Path | None) -> None:
    import io

    from rich.console import Console

    from adlightning.report.terminal import print_grids

    if out is None:
        wide = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _FILE_WIDTH
        print_grids(Console(width=wide), grids, facts)
        return
    target = io.StringIO()
    print_grids(Console(file=target, width=_FILE_WIDTH), grids, facts)
    write_new(out, target.getvalue())
    print(f"report: {out}")


def _pictures(comparisons: list[Comparison], kind: str, out: Path | None) -> dict[str, list[Picture]]:
    """Pictures of each table, for the formats that show them."""
    if kind != "html" and (kind != "markdown" or out is None):
        return {}
    from adlightning.report.figures import pictures

    return {comparison.layout.id: pictures(comparison) for comparison in comparisons}


def _text(
    runs: pd.DataFrame,
    comparisons: list[Comparison],
    kind: str,
    pictures: Mapping[str, list[Picture]],
    out: Path | None,
) -> str:
    from adlightning.report.extras import overview
    from adlightning.report.latex import latex_report
    from adlightning.report.markdown import markdown_report
    from adlightning.report.page import html_page
    from adlightning.report.tidy import tidy_csv

    if kind == "csv":
        return tidy_csv(comparisons)
    sections, facts = _sections(comparisons, pictures), overview(runs, comparisons)
    names = [f"{section.grid.title}" for section in sections]
    title = f"Report: {names[0]}" if len(names) == 1 else f"Report: {len(names)} tables"
    if kind == "html":
        return html_page(title, facts, sections)
    grids = [grid for section in sections for grid in (section.grid, *section.extras)]
    if kind == "latex":
        return latex_report(title, facts, grids)
    files = {} if out is None else _files(pictures, out)
    return markdown_report(title, facts, grids, {name: picture.caption for name, picture in files.items()})


def _files(pictures: Mapping[str, list[Picture]], out: Path) -> dict[str, Picture]:
    """File names beside `out`; ValueError when one is there already."""
    files = {f"{out.stem}_{_word(picture.name)}.png": picture for group in pictures.values() for picture in group}
    for name in files:
        if out.with_name(name).exists():
            raise ValueError(f"out: {out.with_name(name)} exists already and is not overwritten")
    return files


def _word(name: str) -> str:
    """A name that rows gave, as part of a file's name: no folder, no markup."""
    return "".join(character if character.isalnum() or character in "-_." else "-" for character in name)[:100]
