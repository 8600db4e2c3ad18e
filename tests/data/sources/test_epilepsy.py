from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from real_data import real_data
from torch import Tensor

from adlightning.data.sources import Epilepsy, SourceError

HEADER = ",".join(["", *(f"X{i}" for i in range(1, 179)), "y"])


def write(root: Path, labels: list[int | str], header: str = HEADER) -> None:
    """Series of zeros whose first step is the row's number and whose last step is its negative."""
    zeros = ",0" * 176
    rows = [f"X{i}.V1,{i}{zeros},{-i},{label}" for i, label in enumerate(labels)]
    (root / "data.csv").write_text("\n".join([header, *rows]) + "\n")


def test_series_with_a_seizure_are_anomalies(tmp_path: Path) -> None:
    write(tmp_path, [1, 2, 3, 4, 5] * 2300)
    source = Epilepsy(str(tmp_path))
    samples = source.load("train")
    assert samples is not None
    assert isinstance(samples.x, Tensor)
    assert samples.x.shape == (11500, 178, 1)
    assert samples.y.reshape(-1, 5).sum(axis=0).tolist() == [2300, 0, 0, 0, 0]
    assert samples.x[7, [0, 1, 177], 0].tolist() == [7, 0, -7]
    assert samples.names[7] == "X7.V1"
    assert source.load("test") is None
    assert (source.input_spec().kind, source.input_spec().shape) == ("series", (178, 1))


def test_the_real_set_is_that_of_the_paper() -> None:
    samples = Epilepsy(str(real_data("epilepsy"))).load("train")
    assert samples is not None
    assert np.bincount(samples.y).tolist() == [9200, 2300]


def test_a_missing_file_is_said_with_its_origin(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"there is no .*data\.csv; get .*Seizure.* UCI Machine Learning Repository"):
        Epilepsy(str(tmp_path)).load("train")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1, 2, 3], "expected 9200 normal series and 2300 seizures, got 2 normal series and 1 seizures"),
        ([1, 6], r"y must lie in 1\.\.5, got 6"),
        ([1, "x"], "column 'y' is not numeric"),
    ],
)
def test_other_labels_are_refused(tmp_path: Path, labels: list[int | str], message: str) -> None:
    write(tmp_path, labels)
    with pytest.raises(SourceError, match=message):
        Epilepsy(str(tmp_path)).load("train")


def test_other_columns_are_refused(tmp_path: Path) -> None:
    write(tmp_path, [1, 2], header=HEADER.replace("X178", "X179"))
    with pytest.raises(SourceError, match=r"must have the columns of the UCI repository, .* got 180: "):
        Epilepsy(str(tmp_path)).load("train")


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path, [1, 2])
    (tmp_path / "data.csv").write_text((tmp_path / "data.csv").read_text()[:-40])
    with pytest.raises(SourceError, match="row 1 has"):
        Epilepsy(str(tmp_path)).load("train")
