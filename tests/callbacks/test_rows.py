"""The text of a table that grows."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd

from adlightning.callbacks.rows import GrowingTable

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
