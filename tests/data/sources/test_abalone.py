from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from real_data import real_data
from torch import Tensor

from adlightning.data.sources import Abalone, SourceError

RINGS = {3: 15, 21: 14, 8: 568, 9: 689, 10: 634, 11: 2257}  # 11 stands for all others


def write(root: Path, rings: dict[int, int] = RINGS, first: str = "") -> None:
    """Rows of the given rings, in this order, after the row `first`, which takes the place of one with 11 rings."""
    kinds = [count for count, n in rings.items() for _ in range(n - (count == 11 and bool(first)))]
    rows = [f"{'MFI'[i % 3]},0.{i:04d},0.5,0.1,1.5,1,0.25,2,{count}" for i, count in enumerate(kinds)]
    (root / "abalone.data").write_text("\n".join(([first] if first else []) + rows) + "\n")


def test_classes_and_sexes_are_those_of_the_paper(tmp_path: Path) -> None:
    write(tmp_path, first="I,0.1,0.2,0.3,0.4,0.5,0.6,0.7,12")
    source = Abalone(str(tmp_path))
    samples = source.load("train")
    assert samples is not None
    assert isinstance(samples.x, Tensor)
    assert np.bincount(samples.y).tolist() == [1891, 29]
    assert samples.y.tolist() == [1] * 29 + [0] * 1891
    assert samples.names[:2] == ("1", "2")  # rows of the file, of which the first is left out
    assert samples.x.shape == (1920, 8)
    assert samples.x[:4, 0].tolist() == [0, 1, 2, 0]
    np.testing.assert_allclose(samples.x[1].numpy(), [1, 0.0001, 0.5, 0.1, 1.5, 1, 0.25, 2], rtol=1e-6)
    assert source.load("test") is None
    spec = source.input_spec()
    assert (spec.kind, spec.shape, spec.features[0], spec.features[-1]) == ("table", (8,), "sex", "shell_weight")


def test_the_real_set_is_that_of_the_paper() -> None:
    samples = Abalone(str(real_data("abalone"))).load("train")
    assert samples is not None
    assert np.bincount(samples.y).tolist() == [1891, 29]


def test_a_missing_file_is_said_with_its_origin(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"there is no .*abalone\.data; get .* UCI Machine Learning Repository"):
        Abalone(str(tmp_path)).load("train")


def test_other_counts_are_refused(tmp_path: Path) -> None:
    write(tmp_path, {**RINGS, 21: 13, 11: 2258})
    with pytest.raises(SourceError, match=r"expected 4177 rows, 1891 .* and 29 with 3 or 21, got 4177 rows.* and 28 "):
        Abalone(str(tmp_path)).load("train")
    write(tmp_path, {**RINGS, 11: 2256})
    with pytest.raises(SourceError, match="got 4176 rows"):
        Abalone(str(tmp_path)).load("train")


@pytest.mark.parametrize(
    ("first", "message"),
    [
        ("X,0.1,0.2,0.3,0.4,0.5,0.6,0.7,12", "first column must be M, F or I, got 'X' in row 0"),
        ("M,wide,0.2,0.3,0.4,0.5,0.6,0.7,12", "column 'length' is not numeric, it holds 'wide' in row 0"),
        ("M,,0.2,0.3,0.4,0.5,0.6,0.7,12", "column 'length' has no value .* in row 0"),
        ("M,0.1,0.2,0.3", "cannot be read as comma-separated values"),
    ],
)
def test_damaged_rows_are_named(tmp_path: Path, first: str, message: str) -> None:
    write(tmp_path, first=first)
    with pytest.raises(SourceError, match=message):
        Abalone(str(tmp_path)).load("train")


def test_another_number_of_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "abalone.data").write_text("M,1,2\nF,3,4\n")
    with pytest.raises(SourceError, match=r"must have 9 columns, .* got 3"):
        Abalone(str(tmp_path)).load("train")
