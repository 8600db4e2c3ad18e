"""docs/results/papers/: what the rows give today, and what is written by hand beside them."""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "benchmarks"))

import paper_pages  # noqa: E402
from paper_cells import Cell, Explanation, Table, by_hand, explanations, tables  # noqa: E402
from paper_words import counted, in_errors, label, means, own_column, signed, verdict  # noqa: E402

from adlightning.published import layout  # noqa: E402


def cell(method: str, **ours: float | bool) -> Cell:
    """A cell of DROCC's Table 6 with such numbers of ours; without any it was not measured."""
    found = layout("drocc_table6")
    place = (0, [column.method for column in found.columns].index(method))
    whole = {"ours_n": 5, "ours_mean": 0.99, "covered": True, "deviation": 0.0, "normal": "", "row": 0, **ours}
    return Cell({"metric": "auroc", "mean": 0.98}, place, whole if ours else None)


def table(*cells: Cell) -> Table:
    return Table(layout("drocc_table6"), list(cells), [], {}, None)


def test_pages_and_readme_are_those_of_the_rows() -> None:
    for path, text in paper_pages.texts().items():
        assert path.read_text("utf-8") == text, f"{path.name}: run python benchmarks/paper_pages.py"


def test_every_printed_number_has_one_cell() -> None:
    folder = ROOT / "adlightning/published"
    files = [path for path in folder.glob("*_*.csv") if path.stem not in ("datasets", "hyperparameters")]
    n_lines = {path.stem: len(list(csv.reader(path.open(encoding="utf-8")))) - 1 for path in files}
    assert {name: len(found.cells) for name, found in tables().items()} == n_lines
    assert sum(n for name, n in n_lines.items() if "figure" not in name) == 1473
    for found in tables().values():
        assert len({cell.place for cell in found.cells}) == len(found.cells)


def test_what_is_written_by_hand_leads_somewhere() -> None:
    places = [explanation.place for explanation in explanations()]
    places += [f"results.md#{anchor}" for anchor in by_hand()["more"].values()]
    for place in places:
        page, _, anchor = place.partition("#")
        headings = re.findall(r"^#+ (.+)$", (ROOT / "docs" / page).read_text("utf-8"), re.MULTILINE)
        assert anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}, place
    for names in (by_hand()["more"], by_hand()["said"]):
        assert set(names) <= set(tables())
    assert set(by_hand()["files"]) == {file.name for found in tables().values() for file in found.files}
    for found in tables().values():
        own_column(found.layout)  # or ValueError


def test_every_explanation_explains_a_cell() -> None:
    used = {cell.explanation for found in tables().values() for cell in found.cells}
    assert set(explanations()) <= used


@pytest.mark.parametrize(
    ("ours", "status"),
    [
        ({}, "missing"),
        ({"deviation": 2.0}, "within"),
        ({"deviation": -2.01}, "outside"),
        ({"deviation": float("nan")}, "unjudged"),
        ({"covered": False}, "part"),
    ],
)
def test_what_becomes_of_a_cell(ours: dict[str, float], status: str) -> None:
    assert cell("ocsvm", **ours).status == status


def test_a_shortened_run_is_no_number_of_ours() -> None:
    shortened = cell("ocsvm")
    shortened.shortened = {"ours_n": 5}
    assert (shortened.status, shortened.measured) == ("shortened", False)


def test_neither_a_guess_nor_what_was_tried_explains() -> None:
    outside = cell("ocsvm", deviation=9.0)
    for kind in ("guess", "tried"):
        outside.explanation = Explanation("drocc_table6", kind, "perhaps", "results.md")
        assert not outside.explained
    outside.explanation = Explanation("drocc_table6", "open", "not stated", "results.md")
    assert outside.explained
    assert (counted([outside])["explained"], counted([outside])["unexplained"]) == (1, 0)


def test_verdicts() -> None:
    within, outside, missing = cell("ocsvm", deviation=1.0), cell("ocsvm", deviation=3.0), cell("ocsvm")
    assert verdict(table(missing)) == "Not measured."
    assert label(table(*[within] * 9, outside)) == "Reproduced"
    assert label(table(within, outside)) == "Reproduced in part"
    assert label(table(within, outside, outside)) == "Not reproduced"
    assert label(table(within, missing, missing)) == "Only 1 of 3 measured"
    assert verdict(table(cell("drocc", deviation=1.0), outside)) == (
        "Reproduced in part: 1 of 2 judged cells within two standard errors, 0 outside are explained, 1 not; of DROCC "
        "1 of 1 within. 2 of 2 cells have a number of ours."
    )


def test_means_are_over_the_cells_that_both_have() -> None:
    found = table(cell("ocsvm", ours_mean=0.90), cell("drocc", ours_mean=0.95), cell("drocc"))
    assert means(found)[:2] == ("92.50", "98.00")
    ours, theirs, count = means(found, own_column(found.layout))
    assert (ours, theirs, count["ours"], count["printed"]) == ("95.00", "98.00", 1, 2)


def test_numbers_as_they_are_shown() -> None:
    found = layout("drocc_table6")
    assert [signed(found, value) for value in (0.0123, -0.0123, 0.0)] == ["+1.23", "-1.23", "0.00"]
    assert [in_errors(value) for value in (1.23, -250.0, float("nan"))] == ["+1.2", "< -100", ""]
