"""Hostile CSV, TSV and Parquet files."""

from __future__ import annotations

import datetime
import decimal
import gzip
import io
import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile_cases import damaged, drawn, works_or_is_refused
from hypothesis import example, given, strategies as st

from adlightning.core.contracts import InputSpec
from adlightning.data.own_samples import read_samples
from adlightning.data.sources import SourceError, Table
from adlightning.files import unpacking

SPEC = InputSpec("table", (2,), features=("a", "b"), ignored=("label",), name_column="id")
FRAME = pd.DataFrame(
    {"a": [0.5, 1.0, 2.0], "b": [1.0, 3.0, 2.0], "label": ["normal", "anomaly", None], "id": list("xyz")}
)


def read_everything(path: Path) -> None:
    """Both ways in which a table is read."""
    for options in ({"label_column": "label", "name_column": "id"}, {"drop_columns": ["label", "id"]}):
        table = Table(str(path), constant_features="keep", **options)
        if works_or_is_refused(partial(table.load, "train")) is None:
            samples = table.load("train")
            assert samples is not None
            assert all(isinstance(name, str) for name in samples.names)
            assert set(samples.y.tolist()) <= {-1, 0, 1}
    works_or_is_refused(lambda: read_samples(path, SPEC))


NUMBERS = st.sampled_from(["0", "1", "-1.5", "2e3", "7"])
CELLS = st.sampled_from(
    [
        *("", "normal", "anomaly", "ANOMALY ", "True", "nan", "inf", "1e400", "1e39", "1_000", "0x10", "1j", "-0"),
        *("9" * 400, "x" * 200_000, '"', "'", "\x00", "\ufeff", "\u202e", "é", "\x1b[31m", "\r", "a\nb", "2026-01-01"),
        *("=cmd|'/C calc'!A0", "<script>", "../../x", "#", "[1]", "{}"),
    ]
)
HEADS = st.sampled_from(["a", "b", "label", "id", "Label", "", "Unnamed: 0", "0", "\x00", "x\ny", "a.1", "é"])


@st.composite
def csv_text(draw: st.DrawFn) -> str:
    heads = ["a", "b", "label", "id"] if draw(st.booleans()) else draw(st.lists(HEADS, max_size=6))
    rows = [heads]
    for _ in range(draw(st.integers(0, 4))):
        n = len(heads) if draw(st.integers(0, 9)) else draw(st.integers(0, 8))
        row = [draw(NUMBERS) for _ in range(n)]
        for _ in range(draw(st.integers(0, 2)) if n else 0):
            row[draw(st.integers(0, n - 1))] = draw(CELLS)
        rows.append(row)
    separator, end = draw(st.sampled_from([",", "\t", ";"])), draw(st.sampled_from(["\n", "\r\n", "\r"]))
    return end.join(separator.join(row) for row in rows)


@drawn(60)
@given(text=csv_text(), suffix=st.sampled_from([".csv", ".tsv", ".CSV"]), encoding=st.sampled_from(["utf-8", "utf-16"]))
@example(text=f"a,b,label,id\n1,{'9' * 400},0,x\n2,3,0,y", suffix=".csv", encoding="utf-8")  # no float has 400 digits
@example(text="a,b,label,id\n1,2,0,x\n2,3," + "x" * 200_000, suffix=".csv", encoding="utf-8")  # csv's own limit
def test_csv_of_any_text(tmp_path: Path, text: str, suffix: str, encoding: str) -> None:
    (tmp_path / f"t{suffix}").write_bytes(text.encode(encoding))
    read_everything(tmp_path / f"t{suffix}")


def parquet(table: pa.Table, **options: Any) -> bytes:
    target = io.BytesIO()
    pq.write_table(table, target, **options)
    return target.getvalue()


TEXT = FRAME.to_csv(index=False).encode()
WHOLE = [parquet(pa.Table.from_pandas(FRAME), compression=name) for name in ("none", "snappy", "zstd")]


@drawn(40)
@given(content=damaged([TEXT, gzip.compress(TEXT, mtime=0), *WHOLE]))
def test_damaged_tables(tmp_path: Path, content: bytes) -> None:
    suffix = ".parquet" if content.startswith(b"PAR1") else ".csv.gz" if content.startswith(b"\x1f\x8b") else ".csv"
    (tmp_path / f"t{suffix}").write_bytes(content)
    read_everything(tmp_path / f"t{suffix}")


COLUMNS: dict[str, pa.Array] = {
    "lists": pa.array([[1.0, 2.0]] * 3),
    "structs": pa.array([{"a": 1}] * 3),
    "maps": pa.array([[("k", 1)]] * 3, type=pa.map_(pa.string(), pa.int64())),
    "bytes": pa.array([b"\xff\x00"] * 3),
    "decimals": pa.array([decimal.Decimal("1.5"), None, decimal.Decimal(2)]),
    "dates": pa.array([datetime.date(2020, 1, 1)] * 3),
    "times": pa.array([datetime.datetime(2020, 1, 1)] * 3),
    "durations": pa.array([datetime.timedelta(1)] * 3),
    "booleans": pa.array([True, None, False]),
    "nulls": pa.nulls(3),
    "categories": pa.array(["normal", "anomaly", None]).dictionary_encode(),
    "labels": pa.array([0, 1, None]),
    "large": pa.array([2**63] * 3, type=pa.uint64()),
    "halves": pa.array([0.5, 1.0, 0.0], type=pa.float16()),
    "text": pa.array(["\x1b[31m", "a\nb", "../../x"]),
}


@pytest.mark.parametrize("kind", COLUMNS)
@pytest.mark.parametrize("place", ["a", "label", "id"])
def test_parquet_columns_of_any_type(tmp_path: Path, kind: str, place: str) -> None:
    table = pa.Table.from_pandas(FRAME, preserve_index=False)
    table = table.set_column(table.column_names.index(place), place, COLUMNS[kind])
    (tmp_path / "t.parquet").write_bytes(parquet(table))
    read_everything(tmp_path / "t.parquet")


@pytest.mark.parametrize("kind", ["lists", "structs", "maps"])
def test_labels_that_cannot_be_told_apart_are_refused(tmp_path: Path, kind: str) -> None:
    table = pa.table({"a": [1.0, 2.0, 3.0], "label": COLUMNS[kind]})
    (tmp_path / "t.parquet").write_bytes(parquet(table))
    with pytest.raises(SourceError, match=r"t\.parquet: label column 'label'"):
        Table(str(tmp_path / "t.parquet"), label_column="label").load("train")


@pytest.mark.parametrize(
    "said",
    [
        "{",
        "[]",
        '{"index_columns": ["a"], "columns": [], "column_indexes": []}',
        '{"index_columns": [{"kind": "range", "name": null, "start": 0, "stop": 99999999999, "step": 1}], '
        '"columns": [], "column_indexes": []}',
        '{"index_columns": [], "columns": [{"name": "a", "field_name": "a", "pandas_type": "categorical", '
        '"numpy_type": "os.system", "metadata": {"num_categories": 3}}], "column_indexes": []}',
    ],
)
def test_what_a_parquet_file_says_of_its_frame(tmp_path: Path, said: str) -> None:
    table = pa.Table.from_pandas(FRAME, preserve_index=False).replace_schema_metadata({"pandas": said})
    (tmp_path / "t.parquet").write_bytes(parquet(table))
    read_everything(tmp_path / "t.parquet")


# ---- what is small on disk only -------------------------------------------------------------------------------------


@pytest.fixture
def low_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "FLOOR", 2**20)


@pytest.mark.usefixtures("low_floor")
def test_a_gzip_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"a,b\n" + b"0,1\n" * 2**19))
    with pytest.raises(SourceError, match=r"t\.csv\.gz unpacks to more than 1 MiB"):
        Table(str(tmp_path / "t.csv.gz")).load("train")


@pytest.mark.usefixtures("low_floor")
def test_a_parquet_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    one_text = pa.DictionaryArray.from_arrays(np.zeros(300, np.int32), ["x" * 10_000])
    tables = {
        "rows": pa.table({str(i): np.zeros(20_000, np.int8) for i in range(20)}),
        "text": pa.table({"a": np.arange(300.0), "b": one_text}),
    }
    for name, table in tables.items():
        path = tmp_path / f"{name}.parquet"
        path.write_bytes(parquet(table, store_schema=False))
        assert path.stat().st_size < 100_000
        with pytest.raises(SourceError, match=r"\.parquet unpacks to more than"):
            Table(str(path), label_column="b" if name == "text" else None).load("train")


@pytest.mark.usefixtures("low_floor")
def test_a_table_that_is_data_is_read(tmp_path: Path) -> None:
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(20_000, 10)), columns=list("abcdefghij")).round(3)
    frame.to_csv(tmp_path / "t.csv.gz")  # 1.5 MiB
    frame.assign(label=0, name="row").to_parquet(tmp_path / "t.parquet")
    assert len(Table(str(tmp_path / "t.csv.gz"), drop_columns=["Unnamed: 0"]).load("train").x) == 20_000  # type: ignore[union-attr]
    table = Table(str(tmp_path / "t.parquet"), label_column="label", name_column="name")
    assert len(table.load("train").x) == 20_000  # type: ignore[union-attr]


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".csv.gz"])
def test_a_pipe_is_not_waited_for(tmp_path: Path, suffix: str) -> None:
    os.mkfifo(tmp_path / f"t{suffix}")
    with pytest.raises(SourceError, match="there is no file"):
        Table(str(tmp_path / f"t{suffix}")).load("train")
