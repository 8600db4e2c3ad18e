"""The formats: every cell is in each, text is escaped, tables are wide enough to read, footnotes have marks."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from html.parser import HTMLParser

import pandas as pd
import pytest
from rich.console import Console
from test_report_rows import Row, row, rows_like

from adlightning.published import layouts
from adlightning.report.compare import Comparison, compare
from adlightning.report.extras import costs_grid, overview, significance_grid
from adlightning.report.footnotes import assign_marks
from adlightning.report.grid import Grid, comparison_grid
from adlightning.report.latex import escape as latex_escape, latex_report
from adlightning.report.markdown import markdown_report
from adlightning.report.page import Section, html_page
from adlightning.report.runs import runs_frame
from adlightning.report.terminal import print_grids
from adlightning.report.tidy import COLUMNS, tidy_csv

NASTY = 'Error: <b>50 %</b> & a_b $x$ {#1} ~^ \\ | * "土"'


def failed(seed: int = 9) -> Row:
    return row(status="failed", error=NASTY, seed=seed, metrics={})


def comparison_of(rows: list[Row], table: str = "deep_sad_table6") -> Comparison:
    return compare(runs_frame(rows), [table])[0]


def grid_of(rows: list[Row], table: str = "deep_sad_table6") -> Grid:
    return comparison_grid(comparison_of(rows, table))


@pytest.fixture(scope="module")
def grid() -> Grid:
    return grid_of([*rows_like("deep_sad_table6"), failed()])


def texts(grid: Grid) -> set[str]:
    return {entry.text for line in grid.lines for entry in line.entries} - {"-"}


def rich_text(grids: Sequence[Grid], width: int) -> str:
    target = io.StringIO()
    print_grids(Console(file=target, width=width), grids, [("runs", "1")])
    return target.getvalue()


# ---- the table -------------------------------------------------------------------------------------------------------


def entry_of(grid: Grid, data: str, kind: str, heading: str) -> str:
    number = [h.text for h in grid.headings].index(heading)
    (line,) = [x for x in grid.lines if x.stub[0].text == data and x.kind == kind]
    return line.entries[number].text


def test_ours_the_papers_and_the_difference() -> None:
    rows = [row(value=value, seed=seed) for seed, value in enumerate((0.90, 0.92, 0.94))]
    found = grid_of([*rows, failed()])
    assert entry_of(found, "cardio", "ours", "Deep SAD") == "92.0±2.0 (n=3) (1 failed)"
    assert entry_of(found, "cardio", "paper", "Deep SAD") == "95.0±1.6"
    assert entry_of(found, "cardio", "diff", "Deep SAD") == "-3.0*"
    assert [x.kind for x in found.lines if x.stub[0].text == "thyroid"] == ["paper"]


def test_a_difference_that_rounds_to_zero_has_no_sign() -> None:
    for change in (-0.0004, 0.0, 0.0004):
        found = grid_of([row(value=0.95 + change + 0.01 * (seed % 2 * 2 - 1), seed=seed) for seed in range(10)])
        assert entry_of(found, "cardio", "diff", "Deep SAD") == "0.0"


def test_what_is_left_of_a_table_says_which_rows() -> None:
    one = row(table="4", dataset="mnist", setting="gamma_l=0.05;gamma_p=0;k_l=1", normal="1", labelled="2")
    found = comparison_grid(compare(runs_frame([one]), [])[0])
    assert found.stub_headings == ("data", "gamma_p", "")
    stubs = [tuple(entry.text for entry in line.stub) for line in found.lines]
    assert stubs == [
        ("MNIST", "0", kind) for kind in ("ours", "paper")
    ]  # one class and an average of ten do not compare
    assert "KDE Raw" in {entry.text for entry in found.headings}


def test_what_is_left_of_a_table_with_methods_down_are_columns() -> None:
    found = comparison_grid(
        compare(runs_frame([row(paper="drocc", table="2", method="drocc", dataset="abalone", setting="")]), [])[0]
    )
    assert [entry.text for entry in found.headings] == ["abalone"]
    lines = {(line.stub[0].text, line.kind): line.entries[0].text for line in found.lines}
    assert lines["DROCC", "paper"] == "0.68±0.02"
    assert lines["OC-SVM", "paper"] == "0.48±0.00"
    assert any(remark.startswith("columns without a run") for remark in found.remarks)


def test_complete_cells_do_not_say_n() -> None:
    rows = [row(value=0.89 + 0.02 * (seed % 2), seed=seed) for seed in range(10)]
    assert entry_of(grid_of(rows), "cardio", "ours", "Deep SAD") == "90.0±1.1"


def test_published_digits_and_doubts_are_as_printed() -> None:
    found = grid_of([], "drocc_table1")
    assert found.stub_headings == ("normal class",)
    by_class = {line.stub[0].text: [entry.text for entry in line.entries] for line in found.lines}
    assert by_class["automobile"][-1] == "76.738±0.99"
    assert by_class["ship"][5] == "75.6±1.7?"
    assert any("doubtful" in remark for remark in found.remarks)


def test_a_table_with_methods_down_is_laid_out_so() -> None:
    found = grid_of([], "drocc_table2")
    assert [entry.text for entry in found.headings] == ["thyroid", "arrhythmia", "abalone"]
    assert [line.stub[0].text for line in found.lines][-1] == "DROCC"
    assert [entry.text for entry in found.lines[-1].entries] == ["0.78±0.03", "0.69±0.02", "0.68±0.02"]


def test_the_best_of_a_row_is_bold_among_ours_and_among_the_papers() -> None:
    found = grid_of([row(value=0.5), row(value=0.7, method="cae")])
    lines = {line.kind: line.entries for line in found.lines if line.stub[0].text == "cardio"}
    bold = {kind: [e.text for e in entries if e.bold] for kind, entries in lines.items()}
    assert bold == {"ours": ["70.0 (n=1)"], "paper": ["98.8±0.3"], "diff": []}


def test_a_significant_best_has_a_star() -> None:
    rows = [row(value=0.9 + 0.001 * s, seed=s) for s in range(8)] + [
        row(value=0.8, seed=s, method="cae") for s in range(8)
    ]
    assert "★" in entry_of(grid_of(rows), "cardio", "ours", "Deep SAD")
    assert "★" not in "".join(texts(grid_of(rows[:4] + rows[8:12])))


def test_parts_of_a_wide_table_hold_every_entry(grid: Grid) -> None:
    parts = grid.split(80)
    assert len(parts) > 2
    assert [e.text for part in parts for e in part.headings] == [e.text for e in grid.headings]
    assert set().union(*(texts(part) for part in parts)) == texts(grid)
    assert [part.caption for part in parts[1:]] == [""] * (len(parts) - 1)


def test_marks_go_to_whole_rows_and_columns() -> None:
    places = [(i, j) for i in range(3) for j in range(4)]
    notes: dict[tuple[int, int], list[str]] = {
        place: [
            *(["row"] if place[0] == 1 else []),
            *(["column"] if place[1] == 2 else []),
            *(["cell"] if place == (0, 0) else []),
            "all",
        ]
        for place in places
    }
    found = assign_marks(notes)
    mark = {text: letter for letter, text in found.texts.items()}
    assert found.everywhere == ["all"]
    assert found.rows == {1: [mark["row"]]}
    assert found.columns == {2: [mark["column"]]}
    assert found.cells == {(0, 0): [mark["cell"]]}


def test_every_footnote_has_a_mark_in_the_table() -> None:
    for name in layouts():
        found = grid_of([], name)
        stubs = [entry for line in found.lines for entry in (*line.stub, *line.entries)]
        used = {mark for entry in (*found.headings, *stubs) for mark in entry.marks}
        assert used == set(found.footnotes), name


# ---- every format ----------------------------------------------------------------------------------------------------


def test_rich_holds_every_entry_and_keeps_to_its_width(grid: Grid) -> None:
    shown = rich_text([grid], 100)
    assert all(text in shown for text in texts(grid))
    assert max(len(line) for line in shown.splitlines()) <= 100
    assert "[b>" not in shown
    assert NASTY.split("土")[0] in " ".join(shown.split())


def test_rich_keeps_every_entry_at_any_width() -> None:
    values = [row(value=0.9, seed=s, method="deep_svdd", variant="one_class") for s in range(3)]
    found = comparison_grid(comparison_of(values, "deep_sad_table6"))
    for width in (60, 81, 102, 123):
        assert all(text in rich_text([found], width) for text in texts(found)), width


def test_markdown_holds_every_entry_in_even_rows(grid: Grid) -> None:
    text = markdown_report("A & B", [("runs", "1")], [grid], {"a.png": "see <this>"})
    tables = [part.splitlines() for part in text.split("\n\n") if part.startswith("|")]
    cells = [[re.split(r"(?<!\\)\|", line)[1:-1] for line in table] for table in tables]
    widths = [{len(row) for row in table} for table in cells]
    assert all(len(width) == 1 for width in widths)
    assert sum(max(width) - len(grid.stub_headings) for width in widths) == len(grid.headings)
    assert {len(table) for table in tables} == {2 + 6}  # a row a data set
    assert "| cardio | ours<br>paper<br>diff |" in text
    plain = re.sub(r"\\(.)", r"\1", text).replace("\u00a0", " ")
    assert all(entry in plain for entry in texts(grid))
    assert "\\<b\\>50 %\\</b\\>" in text
    assert "![see \\<this\\>](a.png)" in text


def test_latex_holds_every_entry_in_even_rows(grid: Grid) -> None:
    text = latex_report("title\nof two lines", [("runs", "1")], [grid])
    assert text.startswith("% title of two lines\n")
    for body in re.findall(r"\\begin\{longtable\}(.*?)\\end\{longtable\}", text, re.DOTALL):
        columns = len(re.match(r"\{([lr]+)\}", body)[1])  # type: ignore[index]
        lines = [line for line in body.splitlines() if " & " in line]
        assert {len(re.split(r"(?<!\\)&", line)) for line in lines} == {columns}
        assert all(line.endswith(("\\\\", "\\\\*")) for line in lines)
    plain = text.replace("$\\pm$", "±").replace("$^{*}$", "*").replace("$\\star$", "★")
    assert all(entry in plain for entry in texts(grid))
    unescaped = re.sub(r"\\[\\{}%&#_$]", "", "\n".join(x for x in text.splitlines() if not x.startswith("%")))
    assert unescaped.count("{") == unescaped.count("}")
    assert unescaped.count("$") % 2 == 0
    assert "%" not in unescaped
    assert "#" not in unescaped


def test_latex_escapes() -> None:
    assert latex_escape("50 % & a_b #1 {x} $y$") == r"50 \% \& a\_b \#1 \{x\} \$y\$"
    assert latex_escape("\\ ~ ^ [*] ±") == r"\textbackslash{} \textasciitilde{} \textasciicircum{} {[}$^{*}${]} $\pm$"
    assert latex_escape("é 土") == "é {[}U+571F{]}"


class Page(HTMLParser):
    """Text, tags and addresses of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.cells: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        if tag == "td":
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.tags and self.tags[-1] == "td":
            self.cells[-1] += data


def test_html_holds_every_entry_and_nothing_from_elsewhere(grid: Grid) -> None:
    text = html_page("Report <1>", [("runs", "3 & 4")], [Section(grid, [], []), Section(grid, [], [])])
    page = Page(text)
    assert texts(grid) <= {cell.strip() for cell in page.cells}
    assert not {"script", "link", "iframe", "b"} & set(page.tags)
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in page.addresses)
    assert "url(" not in text
    assert "@import" not in text
    assert "<title>Report &lt;1&gt;</title>" in text
    assert NASTY in page.text
    assert page.text.count("3 & 4") == 1


def test_html_keeps_what_names_a_line_in_sight_and_marks_what_differs() -> None:
    found = grid_of([row(value=value, seed=seed) for seed, value in enumerate((0.90, 0.92, 0.94))])
    text = html_page("Report", [], [Section(found, [], [])])
    assert '<td class="outside">-3.0*</td>' in text
    assert text.count('class="outside"') == 1
    assert '<th class="stub s1 kind" scope="row">paper</th>' in text
    assert re.search(r"th\.stub \{ position: sticky;", text)
    # satimage-2 and arrhythmia are the longest of the first column, paper of the second
    assert "--w0: calc(min(11, var(--cap)) * 1ch" in text
    assert "--w1: calc(min(6, var(--cap)) * 1ch" in text


def test_tables_of_html_fit_a_screen_of_1024_pixels() -> None:
    """In DejaVu Sans, the widest of the page's fonts, 8.9 pixels a character with its share of padding."""
    found = grid_of(rows_like("deep_sad_table6"))
    pixels = [sum(max(len(e) for e in c) for c in zip(*t, strict=True)) * 8.9 for t in tables_of(found)]
    assert len(pixels) > 1
    assert all(width < 1024 - 2 * 19 for width in pixels)


def tables_of(grid: Grid) -> list[list[list[str]]]:
    """Texts of each line of each part that the page shows, two characters between columns."""
    text = html_page("Report", [], [Section(grid, [], [])])
    lines = [re.findall(r"<tr class.*?</tr>", t, re.DOTALL) for t in text.split("<tbody>")[1:]]
    cells = [[re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line) for line in part] for part in lines]
    return [[[re.sub(r"<[^>]*>", "", cell) + "  " for cell in line] for line in part] for part in cells]


def test_csv_round_trips() -> None:
    rows = [*rows_like("deep_sad_table6"), failed()]
    comparison = comparison_of(rows)
    frame = pd.read_csv(io.StringIO(tidy_csv([comparison])), dtype={"table": str, "outside_2se": str})
    assert frame.columns.tolist() == COLUMNS
    assert len(frame) == len(comparison.cells) == 54
    for name in ("ours_mean", "ours_std", "published_mean", "published_std", "difference"):
        assert frame[name].to_numpy() == pytest.approx(comparison.cells[name].to_numpy(dtype=float), nan_ok=True)
    assert set(frame["outside_2se"]) == {"true", "false"}
    cell = frame[(frame["dataset"] == "cardio") & (frame["method"] == "deep_sad")].iloc[0]
    assert cell["footnotes"] == f"failed: {NASTY}"


# ---- beside the table ------------------------------------------------------------------------------------------------


def test_costs_are_means_of_finished_runs() -> None:
    rows = [row(seed=0, seconds={"fit": 10.0, "test": 1.0}, peak_memory_mb=1500), row(seed=1, peak_memory_mb=2500)]
    found = costs_grid(comparison_of([*rows, failed()]))
    assert found is not None
    lines = {line.kind: [entry.text for entry in line.entries] for line in found.lines}
    assert lines == {"fit s": ["6"], "score s": ["0.75"], "peak MB": ["2,000"]}
    assert costs_grid(comparison_of([failed()])) is None


def test_seconds_are_shown_to_the_millisecond() -> None:
    tests = {0.0004: "<0.001", 0.0: "<0.001", 0.00213: "0.002", 0.0374: "0.037", 0.633: "0.633", 123.4: "123"}
    for seconds, text in tests.items():
        found = costs_grid(comparison_of([row(seconds={"fit": 12.34, "test": seconds})]))
        assert found is not None
        assert {line.kind: line.entries[0].text for line in found.lines}["score s"] == text


def test_tests_are_a_table_of_their_own() -> None:
    rows = [row(value=0.9 + 0.01 * s, seed=s) for s in range(3)] + [
        row(value=0.8, seed=s, method="cae") for s in range(3)
    ]
    found = significance_grid(comparison_of(rows))
    assert found is not None
    assert [e.text for e in found.lines[0].entries] == ["Deep SAD 91.0", "CAE 80.0", "3", "0.25"]  # 2 / 2^3
    assert significance_grid(comparison_of(rows[:3])) is None


def test_overview_says_what_was_run() -> None:
    rows = [row(value=0.5, seed=s, seconds={"total": 3600.0}) for s in range(2)] + [row(code="ef01", seed=3), failed()]
    frame = runs_frame(rows)
    facts = dict(overview(frame, compare(frame, [])))
    assert facts["runs"] == "3 done, 1 failed"
    assert facts["code"] == "abcd, ef01"
    assert facts["computing time"] == "2 h 00 min"
    assert facts["cells"].startswith("1 with runs, 1 beside a published value")
    assert dict(overview(runs_frame([]), compare(runs_frame([]), ["drocc_text"])))["tables"] == "drocc_text"
