"""The text of a table that grows."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pandas as pd

from adlightning.callbacks.rows import GrowingFile, GrowingTable

ROWS: list[dict[str, float]] = [
    {"step": 0, "loss": 0.1 + 0.2},
    {"step": 1, "loss": float("nan")},
    {"step": 2, "loss": 1e-7, "critic": np.float64(1234567.0)},
    {"step": 3, "critic": float("inf")},
]


def test_all_at_once_and_row_by_row_are_the_same() -> None:
    whole = GrowingTable().text(ROWS)
    assert whole == "step,loss,critic\n0,0.3,\n1,,\n2,1e-07,1.23457e+06\n3,,inf\n"
    table = GrowingTable()
    texts = [table.text(ROWS[:n]) for n in (1, 2, 3, 3, 4)]
    assert texts[0] == "step,loss\n0,0.3\n"  # a column comes with the first row that has it
    assert texts[2] == texts[3]
    assert texts[-1] == whole


def test_pandas_reads_the_rows() -> None:
    frame = pd.read_csv(io.StringIO(GrowingTable().text(ROWS)))
    assert list(frame["step"]) == [0, 1, 2, 3]
    assert frame["loss"].isna().tolist() == [False, True, False, True]
    np.testing.assert_allclose(frame["critic"].to_numpy()[2:], [1234567.0, np.inf], rtol=1e-5)


def test_a_list_with_fewer_rows_begins_anew() -> None:
    table = GrowingTable()
    table.text(ROWS)
    assert table.text(ROWS[:1]) == "step,loss\n0,0.3\n"


def test_numbers_of_numpy_have_six_digits_too() -> None:
    assert GrowingTable().text([{"a": np.float32(1 / 3), "b": np.float64(2 / 3)}]) == "a,b\n0.333333,0.666667\n"  # type: ignore[dict-item]


def test_names_with_commas_are_quoted() -> None:
    assert GrowingTable().text([{"loss, weighted": 1.0}]) == '"loss, weighted"\n1\n'


def test_a_file_is_written_once_in_a_while(tmp_path: Path) -> None:
    file = GrowingFile(tmp_path / "run" / "rows.csv")

    def rows_after(n: int, wait: float) -> int:
        file.write(ROWS[:n], wait)
        return len(file.path.read_text().splitlines()) - 1

    file.write(ROWS[:1], math.inf)
    assert not file.path.exists()
    assert rows_after(1, wait=0) == 1
    assert rows_after(2, wait=3600) == 1
    assert rows_after(3, wait=0) == 3


def test_a_file_without_new_rows_is_left_alone(tmp_path: Path) -> None:
    file = GrowingFile(tmp_path / "rows.csv")
    file.write([])
    assert not file.path.exists()
    file.write(ROWS)
    before = file.path.stat()
    file.write(ROWS)
    assert file.path.stat().st_ino == before.st_ino  # a new one takes the old one's place
