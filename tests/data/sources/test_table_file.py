"""What a file of rows and columns holds: names stay text, no column comes or goes, other formats are named."""

from __future__ import annotations

import bz2
import gzip
import warnings
import zipfile
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adlightning.data.sources import SourceError, Table
from adlightning.data.sources.base import Samples
from adlightning.data.sources.table_file import read_frame

NAMES = [
    "00012",
    "100000000000000017",
    "1e5",
    "yes",
    "null",
    "NA",
    "",
    "2020-01-02",
    'a "b", c',
    "ä\u00a0ö",
    " x ",
    "True",
]


def load(path: Path, **options: Any) -> Samples:
    samples = Table(str(path), **options).load("train")
    assert samples is not None
    return samples


def text(path: Path, content: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(content.encode(encoding))
    return path


# ---- names of rows and labels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.csv.gz", "t.parquet"])
@pytest.mark.parametrize("last", [False, True])
def test_names_of_rows_are_the_text_of_the_file(tmp_path: Path, name: str, last: bool) -> None:
    frame = pd.DataFrame({"id": NAMES, "a": np.arange(len(NAMES)) / 2})
    frame = frame[["a", "id"]] if last else frame
    path = tmp_path / name
    if name.endswith("parquet"):
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if name == "t.tsv" else ",")
    assert load(path, name_column="id").names == tuple(NAMES)


def test_names_of_other_types_lose_nothing(tmp_path: Path) -> None:
    columns: dict[str, tuple[list[Any], list[str]]] = {
        "whole": ([2**60 + 1, None, 3], ["1152921504606846977", "", "3"]),
        "broken": ([1.5, None, 3.0], ["1.5", "", "3.0"]),
        "bytes": ([b"abc", None, b"\xff"], ["abc", "", "ff"]),
        "day": ([date(2020, 1, 2), None, date(2021, 1, 1)], ["2020-01-02", "", "2021-01-01"]),
        "truth": ([True, None, False], ["True", "", "False"]),
    }
    table = pa.table({"x": [1.0, 2.0, 3.0], **{name: values for name, (values, _) in columns.items()}})
    pq.write_table(table, tmp_path / "t.parquet")
    for name, (_, expected) in columns.items():
        others = [other for other in columns if other != name]
        assert load(tmp_path / "t.parquet", name_column=name, drop_columns=others).names == tuple(expected)


@pytest.mark.parametrize(
    ("label", "expected"),
    [("0", 0), ("1", 1), ("0.0", 0), ("TRUE", 1), ("false", 0), (" Normal ", 0), ("NA", -1), ("nan", -1), ("", -1)],
)
def test_a_label_is_read_as_text(tmp_path: Path, label: str, expected: int) -> None:
    path = text(tmp_path / "t.csv", f"y,a\n{label},1\n0,2\n1,3\n")
    assert load(path, label_column="y").y[0] == expected


@pytest.mark.parametrize("label", ["null", "None", "yes", "01", "1e0", "-1", "2", "0.5", "anomaly.0", "so so"])
def test_another_label_is_refused_with_what_is_allowed(tmp_path: Path, label: str) -> None:
    path = text(tmp_path / "t.csv", f"a,y\n1,0\n2,{label}\n3,1\n")
    with pytest.raises(
        SourceError, match=f"label column 'y' holds '{label}' in row 1; allowed are 0, normal, false; 1"
    ):
        load(path, label_column="y")


# ---- names of columns -----------------------------------------------------------------------------------------------


def test_numbers_among_the_names_of_columns_are_text(tmp_path: Path) -> None:
    spec = Table(str(text(tmp_path / "t.csv", "1e5,007,null,a\n1,2,3,4\n5,6,7,8\n"))).input_spec()
    assert spec.features == ("1e5", "007", "null", "a")
    pd.DataFrame(np.arange(6).reshape(2, 3)).to_csv(tmp_path / "u.csv", index=False)
    assert Table(str(tmp_path / "u.csv")).input_spec().features == ("0", "1", "2")


@pytest.mark.parametrize("row", ["0.5,1.5,2.5", "1,2,3", "1e5,-3,nan", "0,2,1"])
def test_a_file_without_a_header_is_refused(tmp_path: Path, row: str) -> None:
    path = text(tmp_path / "t.csv", f"{row}\n3,4,5\n6,7,8\n")
    with pytest.raises(SourceError, match="has no header: its first row holds numbers only"):
        load(path)


@pytest.mark.parametrize("name", [" label", "label ", "Label", "\u00a0label", "\ufeff\ufefflabel", "LABELS", "label\t"])
def test_what_looks_like_the_label_is_no_feature(tmp_path: Path, name: str) -> None:
    path = text(tmp_path / "t.csv", f"a,{name}\n1,0\n2,1\n")
    shown = repr(name)
    with pytest.raises(SourceError) as caught:
        load(path)
    assert f"has a column {shown}: name it as label_column" in str(caught.value)
    if name != "LABELS":
        with pytest.raises(SourceError) as caught:
            load(path, label_column="label")
        assert f"has no column 'label'; it has 'a', {shown}; say label_column={shown}" in str(caught.value)
    assert load(path, label_column=name).y.tolist() == [0, 1]


def test_a_second_label_beside_the_one_named_is_no_feature(tmp_path: Path) -> None:
    path = text(tmp_path / "t.csv", "a,y, Y\n1,0,0\n2,1,1\n")
    with pytest.raises(SourceError, match="has a column ' Y' beside 'y'"):
        load(path, label_column="y")
    assert load(path, label_column="y", drop_columns=[" Y"]).y.tolist() == [0, 1]


def test_a_column_that_may_be_the_label_is_named(tmp_path: Path) -> None:
    path = text(tmp_path / "t.csv", "a,is_anomaly\n1,0\n2,1\n")
    with pytest.warns(UserWarning, match="'is_anomaly' taken as a feature"):
        load(path)


def test_a_feature_that_numbers_the_rows_or_tells_the_label_is_named(tmp_path: Path) -> None:
    y = np.repeat([0, 1], 10)
    frame = pd.DataFrame({"no": np.arange(20)[::-1] + 5, "a": np.arange(20) * 0.5, "label.1": 8 - y, "label": y})
    frame.to_csv(tmp_path / "t.csv", index=False)
    with pytest.warns(UserWarning, match="taken as a feature") as said:
        load(tmp_path / "t.csv", label_column="label")
    numbered, told = (str(warning.message) for warning in said)
    assert "'no' taken as a feature: it numbers the rows" in numbered
    assert "'label.1' taken as a feature: it has one value for normal rows" in told
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(tmp_path / "t.csv", label_column="label", drop_columns=["no", "label.1"])


def test_an_empty_file_is_called_empty(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"t\.csv is empty: a first row with the names"):
        load(text(tmp_path / "t.csv", ""))


@pytest.mark.parametrize("header", [",a", " ,a", "Unnamed: 0,a", "a,"])
def test_a_column_without_a_name_is_refused(tmp_path: Path, header: str) -> None:
    path = text(tmp_path / "t.csv", f"{header}\n0,1\n1,2\n")
    with pytest.raises(SourceError, match="has a column without a name"):
        load(path)


# ---- pandas' index --------------------------------------------------------------------------------------------------


def test_the_index_of_a_parquet_file_is_a_column(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [4.0, 6.0, 5.0], "label": [0, 1, 0]}).set_index("a")
    frame.to_parquet(tmp_path / "t.parquet")
    assert Table(str(tmp_path / "t.parquet"), label_column="label").input_spec().features == ("b", "a")
    assert load(tmp_path / "t.parquet", label_column="label", name_column="a").names == ("1.0", "2.0", "3.0")
    frame.reset_index().iloc[[2, 0, 1]].to_parquet(tmp_path / "u.parquet")
    with pytest.raises(SourceError, match=r"without a name .*put '__index_level_0__' in drop_columns"):
        load(tmp_path / "u.parquet", label_column="label")


def test_row_numbers_with_a_name_that_a_parquet_file_does_not_hold_are_refused(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0]}, index=pd.RangeIndex(5, 8, name="time"))
    frame.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(SourceError, match="'time' is an index that the file names and does not hold"):
        load(tmp_path / "t.parquet")
    frame.rename_axis(None).to_parquet(tmp_path / "u.parquet")
    assert load(tmp_path / "u.parquet").names == ("0", "1", "2")


def test_folders_of_a_path_are_no_columns(tmp_path: Path) -> None:
    (tmp_path / "year=2020").mkdir()
    pd.DataFrame({"a": [1.0, 2.0]}).to_parquet(tmp_path / "year=2020/t.parquet")
    assert list(read_frame(tmp_path / "year=2020/t.parquet").columns) == ["a"]


# ---- other formats under the name of a table ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,5,2,5\n3,5,4,5\n", "row 0 has 4 fields, the header has 2.*a number has a point and no commas"),
        ('a,b\n"1,234.5",2\n"3,000",4\n', "holds '1,234.5' in row 0: write numbers without separators of thousands"),
        ("a,b\n2020-01-02,2\n2020-01-03,4\n", "'2020-01-02' in row 0: a date is no number"),
        ("a,b\n12:30,2\n12:31,4\n", "'12:30' in row 0: a time of day is no number"),
        ("a,b\n1,NULL\n3,4\n", r"column 'b' has no value \(or NaN\) in row 0"),
        ("<!DOCTYPE html>\n<html></html>\n", "is no table but a page of HTML"),
        ("a,b\n100000000000000017,1\n100000000000000018,2\n", "has the whole number 100000000000000017 in row 0"),
        ("a,b\n18446744073709551615,1\n1,2\n", "has the whole number 18446744073709551615 in row 0"),
        ("a,b\n1,1\n123456789012345678901,2\n", "has the whole number 123456789012345678901 in row 1"),
    ],
)
def test_what_a_table_is_instead_is_said(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        load(text(tmp_path / "t.csv", content))
    assert "index_col" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    assert Table(str(text(tmp_path / "t.csv", "a,b\n1,2\n3,4\n", "utf-8-sig"))).input_spec().features == ("a", "b")


def test_other_files_with_the_name_of_a_table_are_named(tmp_path: Path) -> None:
    content = b"a,b\n1,2\n3,4\n"
    with zipfile.ZipFile(tmp_path / "zip.csv", "w") as archive:
        archive.writestr("t.csv", content)
    (tmp_path / "gzip.csv").write_bytes(gzip.compress(content))
    (tmp_path / "bzip2.csv").write_bytes(bz2.compress(content))
    (tmp_path / "twice.csv.gz").write_bytes(gzip.compress(gzip.compress(content)))
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "Parquet.csv")
    for name, words in (("zip", "a zip archive or an Excel workbook"), ("gzip", "compressed by gzip: call it .gz")):
        with pytest.raises(SourceError, match=f"is no text but {words}"):
            load(tmp_path / f"{name}.csv")
    for name in ("bzip2.csv", "Parquet.csv", "twice.csv.gz"):
        with pytest.raises(SourceError, match=f"{name} is no text but .*save it as CSV in UTF-8"):
            load(tmp_path / name)


def test_whole_numbers_that_float64_keeps_are_taken(tmp_path: Path) -> None:
    x = load(text(tmp_path / "t.csv", f"a\n{2**53}\n{10**18}\n-{2**60}\n")).x
    assert x[:, 0].tolist() == [2.0**53, 1e18, -(2.0**60)]  # type: ignore[index]


def test_decimals_are_numbers_that_float64_keeps_or_refused(tmp_path: Path) -> None:
    values = [Decimal("1.50"), Decimal(10**18), Decimal(10**18 + 1)]
    pq.write_table(pa.table({"a": values[:2]}), tmp_path / "t.parquet")
    assert load(tmp_path / "t.parquet").x[:, 0].tolist() == [1.5, 1e18]  # type: ignore[index]
    pq.write_table(pa.table({"a": values}), tmp_path / "u.parquet")
    with pytest.raises(SourceError, match=r"has the whole number 1000000000000000001\.00 in row 2"):
        load(tmp_path / "u.parquet")


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.array(["2020-01-01", "2020-01-02"], dtype="datetime64[ns]"), "datetime64"),
        (np.array([1, 2], dtype="timedelta64[ns]"), "timedelta64"),
    ],
)
def test_what_is_no_number_is_named_by_its_type(tmp_path: Path, values: Any, kind: str) -> None:
    pq.write_table(pa.table({"a": [1.0, 2.0], "b": values}), tmp_path / "t.parquet")
    with pytest.raises(SourceError, match=f"column 'b' is of type {kind}.*; features must be numbers"):
        load(tmp_path / "t.parquet")


def test_rows_that_are_all_the_same_are_said_to_be(tmp_path: Path) -> None:
    path = text(tmp_path / "t.csv", "a,b\n1,2\n1,2\n1,2\n")
    for constant_features in ("error", "drop"):
        with pytest.raises(SourceError, match="all 3 rows are the same in every feature"):
            load(path, constant_features=constant_features)


@pytest.mark.parametrize(
    "error", [MemoryError(), pd.errors.ParserError("Error tokenizing data. C error: out of memory")]
)
def test_too_little_memory_is_no_fault_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def lack(*_: Any, **__: Any) -> None:
        raise error

    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    monkeypatch.setattr("adlightning.data.sources.table_file._Text.read", lack)
    with pytest.raises(type(error)) as caught:
        read_frame(tmp_path / "t.csv")
    assert caught.value is error
