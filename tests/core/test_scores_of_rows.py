"""Windows over rows, and scores of rows from those of windows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from adlightning.core.contracts import InputSpec
from adlightning.core.windows import WindowSpec, rows_of_windows, scores_of_rows, window_starts


def test_the_last_window_ends_with_the_rows() -> None:
    assert window_starts(10, 4, 3).tolist() == [0, 3, 6]
    assert window_starts(11, 4, 3).tolist() == [0, 3, 6, 7]
    assert window_starts(4, 4, 9).tolist() == [0]
    assert window_starts(3, 4, 1).tolist() == []


def test_scores_of_rows_by_hand() -> None:
    starts = np.array([0, 2, 7])
    scores = np.array([1.0, 3.0, 10.0])
    mean, rows = scores_of_rows(scores, starts, 3, "mean")
    assert rows.tolist() == [0, 1, 2, 3, 4, 7, 8, 9]
    assert mean.tolist() == [1, 1, 2, 3, 3, 10, 10, 10]
    assert scores_of_rows(scores, starts, 3, "max")[0].tolist() == [1, 1, 3, 3, 3, 10, 10, 10]


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 60), length=st.integers(1, 20), stride=st.integers(1, 25), seed=st.integers(0, 100))
def test_a_row_depends_on_its_windows_alone(n: int, length: int, stride: int, seed: int) -> None:
    starts = window_starts(n, length, stride)
    assert (starts >= 0).all()
    assert (starts + length <= n).all()
    scores = np.random.default_rng(seed).normal(size=len(starts))
    held, rows = scores_of_rows(scores, starts, length, "mean")
    assert rows.tolist() == rows_of_windows(starts, length).tolist()
    if n >= length and stride <= length:
        assert rows.tolist() == list(range(n))
    for row, score in zip(rows.tolist(), held.tolist(), strict=True):
        of_row = scores[(starts <= row) & (row < starts + length)]
        assert score == pytest.approx(of_row.mean())
    if len(starts):  # one absurd score moves its own rows alone
        absurd = scores.copy()
        absurd[0] = 3.4e38
        moved, _ = scores_of_rows(absurd, starts, length, "mean")
        assert (moved[rows >= starts[0] + length] == held[rows >= starts[0] + length]).all()


def test_a_checkpoint_keeps_how_rows_become_windows() -> None:
    windows = WindowSpec(8, 2, "max", "time", "machine")
    spec = InputSpec("series", (8, 2), features=("a", "b"), windows=windows)
    assert InputSpec.from_dict(spec.as_dict()) == spec


@pytest.mark.parametrize(
    "wrong",
    [
        {"length": 0},
        {"length": 9},
        {"stride": 1.5},
        {"row_score": "median of windows"},
        {"time_column": 3},
        {"extra": 1},
    ],
)
def test_a_hostile_checkpoint_is_refused(wrong: dict[str, Any]) -> None:
    spec = InputSpec("series", (8, 2), windows=WindowSpec(8, 2)).as_dict()
    with pytest.raises(ValueError, match=r"window"):
        InputSpec.from_dict({**spec, "windows": {**spec["windows"], **wrong}})
    with pytest.raises(ValueError, match=r"window"):
        InputSpec.from_dict({**spec, "windows": [1]})
