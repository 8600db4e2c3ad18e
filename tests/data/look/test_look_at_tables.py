"""A look at a table: everything that must be decided, at once, and what is proposed."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from adlightning.data.look.findings import Look, Said
from adlightning.data.look.table import look_at_tables

N = 60


def look_at(path: Path, **said: Any) -> Look:
    return look_at_tables(path, None, Said.of(said))


def table(folder: Path, name: str = "t.csv", **columns: Any) -> Path:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=N), "b": rng.normal(size=N), **columns})
    if name.endswith(".parquet"):
        frame.to_parquet(folder / name)
    else:
        frame.to_csv(folder / name, index=False)
    return folder / name


def texts(look: Look) -> str:
    return "\n".join(finding.text for finding in look.findings)


def test_a_table_of_numbers_needs_no_decision(tmp_path: Path) -> None:
    look = look_at(table(tmp_path))
    assert not look.blocks
    assert (look.findings, look.faults, look.notes) == ([], [], [])
    assert look.facts == "60 rows, 2 columns"


COLUMNS: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("an index", {"Unnamed: 0": range(N)}, {"drop_columns": ["Unnamed: 0"]}, "'Unnamed: 0' numbers the rows"),
    ("dates", {"day": ["2024-03-01"] * 30 + ["2024-03-02 10:30"] * 30}, {"drop_columns": ["day"]}, "dates or times"),
    ("times", {"at": [f"10:{i:02}" for i in range(N)]}, {"drop_columns": ["at"]}, "dates or times"),
    ("kinds", {"kind": ["A", "B"] * 30}, {"categorical": "one_hot"}, "text of 2 kinds ('A', 'B')"),
    ("prose", {"note": [f"note {i * i}" for i in range(N)]}, {"drop_columns": ["note"]}, "text with 60 different"),
    ("row names", {"part_id": [f"p{i}" for i in range(N)]}, {"name_column": "part_id"}, "names the rows"),
    ("a gap", {"c": [None, *range(1, N)]}, {"missing": "median"}, "'c' (1 of 60)"),
    ("no value", {"c": [None] * N}, {"drop_columns": ["c"]}, "no value in any row"),
    (
        "a constant with a gap",
        {"c": [7] * 59 + [None]},
        {"constant_features": "drop", "missing": "median"},
        "(1 of 60)",
    ),
    ("a constant", {"c": [7] * N}, {"constant_features": "drop"}, "'c' never varies"),
    ("one word", {"c": ["x"] * N}, {"drop_columns": ["c"]}, "'x' alone"),
    ("a mark", {"c": ["?", *map(str, range(3, N + 2))]}, {"drop_columns": ["c"]}, "text in 1 cell ('?' in row 0)"),
    ("thousands", {"c": ["1'200", *map(str, range(3, N + 2))]}, {"drop_columns": ["c"]}, "separators of thousands"),
    ("infinity", {"c": [1.5, np.inf, *range(N - 2)]}, {"drop_columns": ["c"]}, "inf in row 1 (1 cell of this kind)"),
    ("long ids", {"c": [2**60 + 1 + i * 7 for i in range(N)]}, {"drop_columns": ["c"]}, "float64 does not keep"),
]


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
@pytest.mark.parametrize(("columns", "options", "said"), [case[1:] for case in COLUMNS], ids=[c[0] for c in COLUMNS])
def test_what_a_column_needs(
    tmp_path: Path, name: str, columns: dict[str, Any], options: dict[str, Any], said: str
) -> None:
    look = look_at(table(tmp_path, name, **columns))
    assert look.blocks
    assert look.options == options
    assert said in texts(look)
    assert not look_at(table(tmp_path, name, **columns), **look.options).blocks


def test_booleans_and_columns_left_out_already_need_nothing(tmp_path: Path) -> None:
    path = table(tmp_path, on=[True, False] * 30, note=[f"note {i * i}" for i in range(N)])
    assert not look_at(path, drop_columns=["note"]).blocks
    path = table(tmp_path, day=["2024-03-01"] * 30 + ["2024-03-02 10:30"] * 30, kind=["A", "B", None] * 20)
    assert not look_at(path, dates="seconds", categorical="ordinal", missing="indicator").blocks


def test_what_is_only_worth_a_look_stops_nobody(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=N)
    look = look_at(table(tmp_path, copied=values, count=np.random.default_rng(1).permutation(N) + 5))
    assert not look.blocks
    assert look.options == {"drop_columns": ["count", "copied"]}
    assert "'count' numbers the rows from 5 to 64" in texts(look)
    assert "'copied' of 'a'" in texts(look)


def test_everything_is_said_at_once(tmp_path: Path) -> None:
    columns = {f"{name}_{i}": cells for i, case in enumerate(COLUMNS) for name, cells in case[1].items()}
    look = look_at(table(tmp_path, **columns))
    assert look.options.keys() == {"drop_columns", "categorical", "constant_features", "missing"}
    assert len(look.findings) >= 10


# ---- labels ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "labels", "options"),
    [
        ("status", ["ok"] * 50 + ["defect"] * 10, {"label_column": "status"}),
        ("Label", [0] * 50 + [1] * 10, {"label_column": "Label"}),
        (" label", ["A"] * 50 + ["B"] * 10, {"label_column": " label", "normal_label": "A"}),
        ("label", ["ok"] * 10 + ["dent"] * 25 + ["hole"] * 25, {"label_column": "label", "normal_label": "ok"}),
        ("fraud", ["no"] * 50 + ["yes"] * 10, {"label_column": "fraud"}),
    ],
)
def test_labels_are_found(tmp_path: Path, column: str, labels: list[Any], options: dict[str, str]) -> None:
    columns: dict[str, Any] = {column: labels}
    path = table(tmp_path, **columns)
    look = look_at(path)
    assert look.options == options
    assert not look_at(path, **options).blocks


def test_labels_by_their_words_are_said(tmp_path: Path) -> None:
    look = look_at(table(tmp_path, y=["OK "] * 50 + ["nok"] * 10), label_column="y")
    assert not look.blocks
    assert look.notes == ["labels in 'y': 'OK ' is normal, 'nok' is an anomaly. normal_label says it otherwise."]


def test_a_column_of_two_numbers_that_may_be_a_label_stops_nobody(tmp_path: Path) -> None:
    columns: dict[str, Any] = {"class": [1] * 30 + [2] * 30}
    look = look_at(table(tmp_path, **columns))
    assert not look.blocks
    assert look.options == {"label_column": "class", "normal_label": "1"}


@pytest.mark.parametrize(("given", "found"), [("Y", "y"), ("labl", "label"), ("quite another", None)])
def test_a_label_column_that_is_not_there(tmp_path: Path, given: str, found: str | None) -> None:
    columns: dict[str, Any] = {found or "y": [0] * 50 + [1] * 10}
    look = look_at(table(tmp_path, **columns), label_column=given)
    assert look.blocks
    assert look.options.get("label_column") == found
    assert bool(look.faults) == (found is None)


def test_anomalies_alone_are_nothing_to_train_on(tmp_path: Path) -> None:
    look = look_at(table(tmp_path, y=["defect"] * N), label_column="y")
    assert look.faults == ["All rows are anomalies by 'y': nothing normal is left to train on."]
    assert not look_at(table(tmp_path, y=["defect"] * 50 + [None] * 10), label_column="y").faults


# ---- how a file is written ------------------------------------------------------------------------------------------


def test_what_is_found_of_a_text_is_said(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    frame = pd.read_csv(table(tmp_path))
    path.write_bytes(gzip.compress(frame.to_csv(index=False, sep=";", decimal=",").encode("utf-16")))
    look = look_at(path)
    assert not look.blocks
    assert "semicolons between values" in look.facts
    assert "commas in numbers" in look.facts


def test_a_point_is_no_decimal_mark_beside_commas(tmp_path: Path) -> None:
    rows = [f"{i},5;{i * i},25;{i}" + (".5" if i == 7 else "") for i in range(N)]
    (tmp_path / "t.csv").write_text("\n".join(["a;b;c", *rows]))
    assert "'c' has numbers, and text in 1 cell ('7.5' in row 7)" in texts(look_at(tmp_path / "t.csv", decimal="comma"))


def test_what_may_be_meant_in_two_ways_is_to_be_decided(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("".join(f"{i}.5,{i * i}\n" for i in range(N)))
    look = look_at(tmp_path / "t.csv")
    assert look.options == {"header": "false"}
    assert "no header" in texts(look)
    assert look.facts == "60 rows, 2 columns"
    assert not look_at(tmp_path / "t.csv", header="false").blocks


def test_faults_that_no_option_mends(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,a,b\n1,2,3\n4,5\n6,7,8,9\n0,1,1\n")
    look = look_at(tmp_path / "t.csv", drop_columns=["z"])
    assert look.faults == [
        "2 rows of another length than the header, which has 3 (row 1 has 2 fields, row 2 has 4 fields): text with a "
        "separator in it needs quotes.",
        "Several columns are called 'a': give each a name of its own in the file.",
        "drop_columns: there is no column 'z': there are 'a', 'a', 'b'.",
    ]
    (tmp_path / "t.csv").write_text("a,b\n")
    assert look_at(tmp_path / "t.csv").faults[0] == "There are no rows below the header."
    with pytest.raises(ValueError, match="there is no file"):
        look_at(tmp_path / "nowhere.csv")
    (tmp_path / "t.parquet").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="cannot be read as a table"):
        look_at(tmp_path / "t.parquet")


def test_two_tables_are_made_to_agree(tmp_path: Path) -> None:
    train = table(tmp_path, c=np.arange(N) ** 1.5)
    test = table(tmp_path, "test.csv", d=np.arange(N) ** 1.5, y=["ok", "defect"] * 30, e=[None, *range(1, N)])
    look = look_at_tables(train, test, Said.of({"label_column": "y"}))
    assert look.options == {"drop_columns": ["c", "d", "e"], "missing": "median"}
    assert not look_at_tables(train, test, Said.of({"label_column": "y", **look.options})).blocks
    assert "test.csv: 60 rows, 5 columns" in look.facts


def test_many_rows_are_taken_in_batches(tmp_path: Path) -> None:
    n = 150_000
    frame = pd.DataFrame({"a": np.arange(n) % 977, "b": np.arange(n)[::-1], "c": 1.5})
    frame.loc[n - 1, "c"] = 2.5
    frame.to_parquet(tmp_path / "t.parquet")
    look = look_at(tmp_path / "t.parquet")
    assert look.options == {"drop_columns": ["b"]}
    frame.astype({"a": str}).assign(a=frame.a.astype(str).where(frame.index != n - 2, "x")).to_csv(
        tmp_path / "t.csv", index=False
    )
    assert "text in 1 cell ('x' in row 149998)" in texts(look_at(tmp_path / "t.csv"))
