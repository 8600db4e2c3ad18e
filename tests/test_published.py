"""The published numbers and the layouts of their tables: each finds the other."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

import adlightning.published
from adlightning.published import (
    class_names,
    layout,
    layouts,
    metrics,
    printed_number,
    published,
    table_id,
)

FOLDER = Path(adlightning.published.__file__).parent
TABLES = [path.stem for path in FOLDER.glob("*.csv") if path.stem not in ("datasets", "hyperparameters")]


def test_every_file_of_results_has_a_layout() -> None:
    assert sorted(TABLES) == sorted(layouts())
    assert len(TABLES) == 24


@pytest.mark.parametrize("name", sorted(TABLES))
def test_every_value_has_a_place_and_every_place_a_value(name: str) -> None:
    table = layout(name)
    frame = published(table.paper, table.table)
    places = {
        (row.dataset, table.cell_setting(row, column), row.normal, column.method, column.variant, row.metric)
        for row in table.rows
        for column in table.columns
        if column.prints(row)
    }
    names = ["dataset", "setting", "normal", "method", "variant", "metric"]
    values = list(frame[names].itertuples(index=False, name=None))
    assert len(values) == len(set(values))
    assert places == set(values)
    assert {*frame["dataset"]} == set(table.datasets)
    assert {*frame["method"]} == set(table.methods)
    assert {None if math.isnan(n) else n for n in frame["n_runs"]} == {table.n_runs}


@pytest.mark.parametrize("name", sorted(TABLES))
def test_layouts_are_whole(name: str) -> None:
    table = layout(name)
    assert table_id(table.paper, table.table) == name
    assert table.caption.endswith(".")
    assert len({column.heading for column in table.columns}) == len(table.columns)
    assert {row.metric for row in table.rows} <= metrics().keys()
    assert not table.runs_of or table.runs_of in layouts()


def test_values_are_as_in_the_file() -> None:
    cell = published("deep_sad", "6").iloc[0]
    assert (cell["dataset"], cell["method"], cell["variant"]) == ("arrhythmia", "ocsvm", "raw")
    assert (cell["mean"], cell["std"], cell["n_runs"]) == (0.845, 0.039, 10)
    assert cell["mean_printed"] == "0.845"
    assert cell["setting"] == "gamma_l=0.01;gamma_p=0;k_l=1"


def test_classes_stay_text_and_what_is_not_printed_is_missing() -> None:
    frame = published("adgan", "1")
    assert set(frame["normal"]) == {*"0123456789", "avg"}
    assert frame["std"].isna().all()
    assert frame["n_runs"].isna().all()


# The list in published/README.md, "Kept as in the OCR text, but doubtful".
DOUBTFUL = {
    "adgan_table1": 11,  # MNIST, OC-SVM PCA
    "adgan_table2": 12,  # CIFAR-10, DCAE; average of ADGAN, n_seed=8
    "ama_table2": 12,  # CIFAR-10, FGAN; average of ALAD
    "density_ratio_table3": 3,  # average of CIFAR-100; horse; Sandal
    "deep_sad_table3": 3,  # SSAD raw, three data sets
    "deep_sad_table4": 3,
    "drocc_table1": 2,  # ship, airplane
}


def test_doubtful_values_are_those_of_the_readme() -> None:
    found = {name: int(published(t.paper, t.table)["doubtful"].sum()) for name, t in layouts().items()}
    assert {name: n for name, n in found.items() if n} == DOUBTFUL


def test_printed_digits_are_kept_in_percent() -> None:
    assert [printed_number(text, "percent") for text in ("0.76738", "0.0099", "1.00", "0.845", "")] == [
        "76.738",
        "0.99",
        "100",
        "84.5",
        "",
    ]
    assert printed_number("0.39", "plain") == "0.39"


def test_classes_have_names() -> None:
    assert class_names("cifar10")["3"] == "cat"
    assert class_names("fashion_mnist")["9"] == "Ankle boot"
    assert len(class_names("cifar100")) == 20
    assert class_names("cardio") == {}


def test_best_of_and_printed_rows() -> None:
    table = layout("deep_sad_table3")
    svdd = next(column for column in table.columns if column.method == "deep_svdd")
    assert svdd.takes("deep_svdd", "soft nu=0.1")
    assert not svdd.takes("deep_svdd", "released")
    assert [svdd.prints(row) for row in table.rows[:2]] == [True, False]


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match=r"paper must be one of density_ratio, .*, got 'deep_sat'"):
        published("deep_sat", "6")
    with pytest.raises(ValueError, match="table must be one of 3, 4, 5, 6 for deep_sad, got '7'"):
        published("deep_sad", "7")
    with pytest.raises(ValueError, match="got 'deep_sad_table7'"):
        layout("deep_sad_table7")


@pytest.mark.parametrize("name", ["datasets.csv", "hyperparameters.csv", "README.md", "tables.yaml"])
def test_package_data_are_there(name: str) -> None:
    assert (FOLDER / name).stat().st_size > 0
