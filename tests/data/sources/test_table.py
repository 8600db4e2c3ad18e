from __future__ import annotations

import gzip
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from adlightning.core.features import features_of
from adlightning.data.sources import SourceError, Table
from adlightning.data.sources.base import Part, Samples
from adlightning.data.sources.table_file import read_frame

CSV = "id,a,b,kind\nx1,1,0.5,normal\nx2,2,-3,Anomaly\nx3,4,1e3,\n"


def write(path: Path, text: str, name: str = "table.csv") -> str:
    (path / name).write_text(text)
    return str(path / name)


def load(source: Table, part: Part = "train") -> Samples:
    samples = source.load(part)
    assert samples is not None
    assert isinstance(samples.x, torch.Tensor)
    assert samples.x.dtype == torch.float64
    assert samples.y.dtype == np.int64
    return samples


def rows(samples: Samples) -> list[list[float]]:
    assert isinstance(samples.x, torch.Tensor)
    return samples.x.tolist()


# ---- what is read ---------------------------------------------------------------------------------------------------


def test_columns_are_features_labels_or_names(tmp_path: Path) -> None:
    source = Table(write(tmp_path, CSV), label_column="kind", name_column="id")
    samples = load(source)
    assert rows(samples) == [[1, 0.5], [2, -3], [4, 1000]]
    assert samples.y.tolist() == [0, 1, -1]
    assert samples.names == ("x1", "x2", "x3")
    spec = source.input_spec()
    assert (spec.kind, spec.shape, spec.features, spec.ignored) == ("table", (2,), ("a", "b"), ("kind", "id"))
    assert source.load("test") is None


def test_without_a_label_column_nothing_is_labelled(tmp_path: Path) -> None:
    samples = load(Table(write(tmp_path, CSV), drop_columns=["id", "kind"]))
    assert samples.y.tolist() == [-1, -1, -1]
    assert samples.names == ("0", "1", "2")


@pytest.mark.parametrize("name", ["t.tsv", "t.csv.gz", "t.parquet", "T.CSV"])
def test_every_format_gives_the_same(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("gz"):
        path.write_bytes(gzip.compress(CSV.encode()))
    elif name.endswith("parquet"):
        pd.read_csv(write(tmp_path, CSV)).to_parquet(path)
    else:
        path.write_text(CSV.replace(",", "\t") if name.endswith("tsv") else CSV)
    samples = load(Table(str(path), label_column="kind", name_column="id"))
    assert rows(samples) == [[1, 0.5], [2, -3], [4, 1000]]
    assert samples.y.tolist() == [0, 1, -1]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["0", "1", ""], [0, 1, -1]),
        (["1.0", "0.0", "1.0"], [1, 0, 1]),
        (["True", "False", ""], [1, 0, -1]),
        (["NORMAL", " anomaly", "1"], [0, 1, 1]),
        (["", "NaN", ""], [-1, -1, -1]),
    ],
)
def test_labels_have_several_spellings(tmp_path: Path, labels: list[str], expected: list[int]) -> None:
    text = "a,y,b\n" + "".join(f"{i},{label},{i}\n" for i, label in enumerate(labels))
    assert load(Table(write(tmp_path, text), label_column="y")).y.tolist() == expected


@pytest.mark.parametrize(("label", "shown"), [("2", "2"), ("-1", "-1"), ("scratch", "scratch")])
def test_other_labels_are_named_with_their_row(tmp_path: Path, label: str, shown: str) -> None:
    source = Table(write(tmp_path, f"a,y\n1,0\n2,1\n3,{label}\n4,{label}\n"), label_column="y")
    with pytest.raises(SourceError, match=rf"label column 'y' holds '{shown}' in row 2; allowed are 0, normal"):
        source.load("train")


def test_booleans_become_numbers(tmp_path: Path) -> None:
    assert rows(load(Table(write(tmp_path, "a,b\nTrue,1\nFalse,2\n")))) == [[1, 1], [0, 2]]


def test_numbers_change_from_whole_to_broken_late_in_a_long_file(tmp_path: Path) -> None:
    text = "a\n" + "1\n" * 150_000 + "2.5\n"
    assert rows(load(Table(write(tmp_path, text))))[-1] == [2.5]


# ---- two tables -----------------------------------------------------------------------------------------------------


def test_test_columns_are_matched_by_name(tmp_path: Path) -> None:
    train = write(tmp_path, "a,b\n1,2\n3,4\n")
    test = write(tmp_path, "y,b,a\n1,20,10\n0,40,30\n", "test.csv")
    source = Table(train, test_path=test, label_column="y")
    assert rows(load(source, "test")) == [[10, 20], [30, 40]]
    assert load(source, "test").y.tolist() == [1, 0]
    assert load(source).y.tolist() == [-1, -1]  # only the test table is labelled


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ("a\n1\n", "test.csv lacks 'b'"),
        ("a,b,c\n1,2,3\n", "test.csv has in addition 'c'"),
        ("a,B\n1,2\n", "test.csv lacks 'b' and has in addition 'B'"),
    ],
)
def test_differing_columns_are_named(tmp_path: Path, test: str, message: str) -> None:
    source = Table(write(tmp_path, "a,b\n1,2\n3,4\n"), test_path=write(tmp_path, test, "test.csv"))
    with pytest.raises(SourceError, match=message):
        source.load("test")


# ---- features that never vary ---------------------------------------------------------------------------------------


def test_constant_features_are_an_error_dropped_or_kept(tmp_path: Path) -> None:
    path = write(tmp_path, "a,b,c\n1,5,7\n2,5,7\n")
    with pytest.raises(SourceError, match="features never vary: 'b', 'c'; set constant_features to drop or keep"):
        Table(path).load("train")
    dropped = Table(path, constant_features="drop")
    assert rows(load(dropped)) == [[1], [2]]
    assert (dropped.input_spec().features, dropped.input_spec().ignored) == (("a",), ("b", "c"))
    assert rows(load(Table(path, constant_features="keep"))) == [[1, 5, 7], [2, 5, 7]]


def test_constancy_is_a_matter_of_training_rows(tmp_path: Path) -> None:
    train = write(tmp_path, "a,b\n1,5\n2,5\n")
    test = write(tmp_path, "a,b\n1,6\n1,7\n", "test.csv")
    source = Table(train, test_path=test, constant_features="drop")
    assert rows(load(source, "test")) == [[1], [1]]


# ---- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["label", "Label"])
def test_a_label_is_never_taken_for_a_feature(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, f"a,{name}\n1,0\n2,1\n")
    with pytest.raises(SourceError, match=f"has a column '{name}': name it as label_column or in drop_columns"):
        Table(path).load("train")
    assert rows(load(Table(path, drop_columns=[name]))) == [[1], [2]]


def test_row_numbers_without_a_name_are_never_taken_for_a_feature(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    pd.DataFrame({"a": [1, 2]}).to_csv(path)
    with pytest.raises(SourceError, match="put 'Unnamed: 0' in drop_columns"):
        Table(str(path)).load("train")
    assert rows(load(Table(str(path), drop_columns=["Unnamed: 0"]))) == [[1], [2]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("a,b\n", "has no rows"),
        ("a,b\n1,2\n3,4,5\n", "row 1 has 3 fields, the header has 2"),
        ("a,b\n1,2,9\n3,4,5\n", "row 0 has 3 fields, the header has 2"),
        ("a,b,c\n1,2,3\n\n3,4\n", "row 1 has 2 fields, the header has 3"),
        ("a,b,a\n1,2,3\n", "several columns of the name 'a'"),
        ("a,b\n1,2\n3,red\n", "column 'b' is not numeric, it holds 'red' in row 1"),
        ("a,b\n1,2\n3,\n", r"column 'b' has no value \(or NaN\) in row 1"),
        ("a,b\n1,True\n3,\n", r"column 'b' has no value \(or NaN\) in row 1"),
        ("a,b\n1,\n3,\n", r"column 'b' has no value \(or NaN\) in row 0"),
        ("a,b\n1,2\n3,-inf\n", "column 'b' has -inf in row 1"),
        ("a,b\n1,2\n3,1e39\n", r"column 'b' has 1e\+39, too large for float32, in row 1"),
    ],
)
def test_bad_tables_are_explained(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        Table(write(tmp_path, text)).load("train")
    assert "table.csv" in str(caught.value)


@pytest.mark.parametrize("argument", ["label_column", "name_column", "drop_columns"])
def test_missing_columns_are_named_with_those_there(tmp_path: Path, argument: str) -> None:
    value: Any = ["speed"] if argument == "drop_columns" else "speed"
    with pytest.raises(SourceError, match=f"{argument}: .* has no column 'speed'; it has 'id', 'a', 'b', 'kind'"):
        Table(write(tmp_path, CSV), **{argument: value}).load("train")


def test_a_table_of_no_features_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="has no feature columns"):
        Table(write(tmp_path, "y\n0\n1\n"), label_column="y").load("train")


def test_missing_and_unknown_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"there is no file .*none\.csv"):
        Table(str(tmp_path / "none.csv")).load("train")
    with pytest.raises(SourceError, match=r"t\.xlsx must end in one of \.csv, .*\.parquet"):
        Table(write(tmp_path, "a\n1\n", "t.xlsx")).load("train")


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.parquet"])
def test_damaged_files_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x80\x81,\xff\n\x80,1\n")
    with pytest.raises(SourceError, match=rf"{name} (cannot be read as a table|is not UTF-8)"):
        Table(str(tmp_path / name)).load("train")


def test_arguments_are_checked_at_once() -> None:
    with pytest.raises(ValueError, match="constant_features must be one of error, drop, keep, got 'skip'"):
        Table("t.csv", constant_features="skip")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="label_column and name_column must differ, got 'y'"):
        Table("t.csv", label_column="y", name_column="y")


def test_labels_of_one_kind_are_refused_or_said(tmp_path: Path) -> None:
    path = write(tmp_path, "a,y\n1,1\n2,anomaly\n3,1\n")
    with pytest.raises(SourceError, match="label column 'y' calls all 3 rows anomalies: rows that are normal or not"):
        Table(path, label_column="y").load("train")
    path = write(tmp_path, "a,y\n1,0\n2,normal\n3,\n")
    with pytest.warns(UserWarning, match="'y' calls all labelled rows normal: nothing can be ranked"):
        Table(path, label_column="y").load("train")
    test = write(tmp_path, "a,y\n1,1\n2,\n", "test.csv")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        source = Table(path, test_path=test, label_column="y")
        assert load(source).y.tolist() == [0, 0, -1]
    with pytest.warns(UserWarning, match=r"test\.csv: label column 'y' calls all labelled rows anomalies"):
        source.load("test")


# ---- for scoring ----------------------------------------------------------------------------------------------------


def test_features_are_taken_in_the_order_asked_for(tmp_path: Path) -> None:
    path = Path(write(tmp_path, CSV))
    frame = read_frame(path)
    assert features_of(frame, ["b", "a"], path).tolist() == [[0.5, 1], [-3, 2], [1000, 4]]
    with pytest.raises(SourceError, match="has no column 'c', 'd'; it has 'id', 'a', 'b', 'kind'"):
        features_of(frame, ["a", "c", "d"], path)


def test_columns_of_parquet_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pd.DataFrame({"a": [1, 2], "when": pd.to_datetime(["2020-01-01", "2020-01-02"])}).to_parquet(path)
    with pytest.raises(SourceError, match=r"column 'when' is of type datetime64.*; features must be numbers"):
        Table(str(path)).load("train")
    pd.DataFrame({"a": [1, 2], "b": [[1], [2]]}).to_parquet(path)
    with pytest.raises(SourceError, match=r"column 'b' is not numeric, it holds .* in row 0"):
        Table(str(path)).load("train")


def test_nullable_columns_of_parquet_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    frame = pd.DataFrame({"a": pd.array([1, 2], "Int64"), "b": pd.array([True, False], "boolean")})
    frame.to_parquet(path)
    assert rows(load(Table(str(path)))) == [[1, 1], [2, 0]]
    frame.loc[1, "a"] = pd.NA
    frame.to_parquet(path)
    with pytest.raises(SourceError, match=r"column 'a' has no value \(or NaN\) in row 1"):
        Table(str(path)).load("train")
