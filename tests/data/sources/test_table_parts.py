"""A large file is read in parts: the same table, without a second copy of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import adlightning as ad
from adlightning.data.sources import SourceError, Table, table_parts
from adlightning.data.sources.table_parts import FramePart, LargePart, RowNumbers, read_part
from adlightning.files.dialects import AUTO

N = 3000


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_parts, "LARGE", 2**10)
    monkeypatch.setattr(table_parts, "_CELLS", 2**10)


def frame_of(n: int = N) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(n, 4)), columns=list("abcd"))
    frame["label"] = (rng.random(n) < 0.1).astype(int)
    return frame


def write(path: Path, frame: pd.DataFrame, suffix: str) -> Path:
    file = path / f"t.{suffix}"
    if suffix == "parquet":
        frame.to_parquet(file, index=False, row_group_size=1000)
    else:
        frame.to_csv(file, index=False)
    return file


def both(path: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> tuple[Any, Any]:
    """What is read in parts, and at once."""
    large = Table(str(path), **options)
    samples = large.load("train")
    monkeypatch.setattr(table_parts, "LARGE", 2**40)
    small = Table(str(path), **options)
    assert isinstance(large._parts["train"], LargePart)
    assert isinstance(small._parts["train"], FramePart)
    assert large.input_spec() == small.input_spec()
    return samples, small.load("train")


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "parquet"])
def test_it_is_the_same_table_in_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    frame = frame_of().assign(e=1.0, id=[f"n{i}" for i in range(N)])
    file = write(tmp_path, frame, suffix)
    options = {"label_column": "label", "name_column": "id", "drop_columns": ["b"], "constant_features": "drop"}
    large, small = both(file, monkeypatch, **options)
    assert large.x.dtype == torch.float32
    assert torch.equal(large.x, small.x.float())
    np.testing.assert_array_equal(large.y, small.y)
    assert large.names == small.names


def test_numbers_of_rows_are_made_when_they_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large, small = both(write(tmp_path, frame_of(), "csv"), monkeypatch, label_column="label")
    assert isinstance(large.names, RowNumbers)
    assert tuple(large.names) == tuple(large.names[:]) == small.names
    assert (large.names[7], large.names[-1], len(large.names)) == ("7", "2999", N)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_features_far_from_zero_stay_float64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    frame = frame_of()
    frame["a"] += 1.7e9
    large, small = both(write(tmp_path, frame, suffix), monkeypatch, label_column="label")
    assert large.x.dtype == torch.float64
    assert torch.equal(large.x, small.x)


def test_what_grows_slowly_is_far_from_zero_in_no_part_but_in_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = frame_of().assign(time=np.linspace(0, 0.1, N) ** 2)
    large, _ = both(write(tmp_path, frame, "csv"), monkeypatch, label_column="label")
    assert large.x.dtype == torch.float32


def test_whole_numbers_may_be_the_same_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What float32 holds as it is may be constant in a part."""
    frame = frame_of().assign(day=np.arange(N) // 500 + 20_000)
    large, _ = both(write(tmp_path, frame, "csv"), monkeypatch, label_column="label")
    assert large.x.dtype == torch.float32


def test_a_fit_is_the_same_to_the_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = frame_of()
    frame.loc[::50, "a"] = np.nan
    file, scores = write(tmp_path, frame, "csv"), []
    for large in (2**10, 2**40):
        monkeypatch.setattr(table_parts, "LARGE", large)
        data = ad.TableData(str(file), label_column="label", missing="indicator")
        detector = ad.DeepSVDD(pretraining=ad.AutoencoderPretraining(epochs=1))
        scores.append(ad.fit(detector, data, 2, progress=False).scores["score"].to_numpy())
    np.testing.assert_array_equal(scores[0], scores[1])


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("c", "x", "column 'c' is not numeric, it holds 'x' in row 2500"),
        ("c", "", r"column 'c' has no value \(or NaN\) in row 2500"),
        ("c", "1e39", "too large for float32, in row 2500"),
        ("c", str(2**60 + 1), "has the whole number 1152921504606846977 in row 2500"),
        ("c", "1,2", "row 2500 has 6 fields, the header has 5"),
    ],
)
def test_rows_are_counted_through_all_parts(tmp_path: Path, column: str, value: str, words: str) -> None:
    frame = frame_of().astype(object)
    if value == str(2**60 + 1):
        frame[column] = np.arange(N).astype(object)
    frame.loc[2500, column] = value
    file = tmp_path / "t.csv"
    file.write_text(frame.to_csv(index=False).replace('"', ""))
    with pytest.raises(SourceError, match=words):
        Table(str(file), label_column="label").load("train")


def test_categories_take_the_whole_frame(tmp_path: Path) -> None:
    file = write(tmp_path, frame_of().assign(kind=np.tile(["x", "y"], N // 2)), "csv")
    part = Table(str(file), label_column="label", categorical="one_hot")
    assert part.load("train") is not None
    assert isinstance(part._parts["train"], FramePart)


def test_a_table_without_rows_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_parts, "LARGE", -1)
    (tmp_path / "t.csv").write_text("a,b\n")
    with pytest.raises(SourceError, match="has no rows"):
        read_part(tmp_path / "t.csv", [], [], AUTO)
