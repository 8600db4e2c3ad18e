from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import scipy.io
import torch
from real_data import real_data

from adlightning.data.sources import Odds, SourceError
from adlightning.data.sources.odds import ODDS_SIZES, OddsName


def thyroid(n: int = 3772, d: int = 6, anomalies: int = 93) -> dict[str, Any]:
    x = np.random.default_rng(0).normal(size=(n, d))
    return {"X": x, "y": (np.arange(n) < anomalies).astype(np.float64)[:, None]}


@pytest.mark.parametrize("suffix", [".mat", ".npz"])
def test_either_format_is_read(tmp_path: Path, suffix: str) -> None:
    arrays = thyroid()
    file = tmp_path / f"thyroid{suffix}"
    scipy.io.savemat(file, arrays) if suffix == ".mat" else np.savez(file, **arrays)
    source = Odds("thyroid", root=str(tmp_path))
    samples = source.load("train")
    assert samples is not None
    assert isinstance(samples.x, torch.Tensor)
    assert samples.x.dtype == torch.float64
    np.testing.assert_allclose(samples.x.numpy(), arrays["X"], rtol=1e-6)
    assert samples.y.dtype == np.int64
    assert samples.y[[0, 92, 93, 3771]].tolist() == [1, 1, 0, 0]
    assert samples.names[-1] == "3771"
    assert source.input_spec().shape == (6,)
    assert source.load("test") is None


@pytest.mark.parametrize("name", get_args(OddsName))
def test_the_real_sets_are_those_of_the_paper(name: OddsName) -> None:
    samples = Odds(name, root=str(real_data("odds"))).load("train")
    assert samples is not None
    assert (len(samples.x), len(samples.x[0]), samples.y.sum()) == ODDS_SIZES[name]


def test_another_set_of_the_same_name_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "thyroid.npz", **thyroid(7200, 6, 534))
    with pytest.raises(SourceError, match=r"3772 samples, 6 features and 93 anomalies, got .* annthyroid"):
        Odds("thyroid", root=str(tmp_path)).load("train")


def test_another_number_of_anomalies_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "thyroid.npz", **thyroid(anomalies=92))
    with pytest.raises(SourceError, match=r"got .* with 92 anomalies"):
        Odds("thyroid", root=str(tmp_path)).load("train")


def test_a_missing_file_is_said_with_both_paths_and_the_origin(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"cardio\.mat or .*cardio\.npz.*http://odds\.cs\.stonybrook\.edu"):
        Odds("cardio", root=str(tmp_path)).load("train")


@pytest.mark.parametrize(("suffix", "message"), [(".mat", r"no readable \.mat"), (".npz", r"no readable \.npz")])
def test_a_damaged_file_is_refused(tmp_path: Path, suffix: str, message: str) -> None:
    (tmp_path / f"cardio{suffix}").write_bytes(b"not what it says" * 20)
    with pytest.raises(SourceError, match=message):
        Odds("cardio", root=str(tmp_path)).load("train")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": np.full(3772, 2.0)}, "y must hold 0 .* and 1 .* only, got 2.0"),
        ({"X": np.full((3772, 6), "a")}, "X must be numbers"),
        ({"X": np.full((3772, 6), np.nan)}, "X holds nan at row 0, column 0"),
    ],
)
def test_wrong_values_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "thyroid.npz", **{**thyroid(), **change})
    with pytest.raises(SourceError, match=message):
        Odds("thyroid", root=str(tmp_path)).load("train")


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "thyroid.mat", {"X": thyroid()["X"]})
    with pytest.raises(SourceError, match="has no y"):
        Odds("thyroid", root=str(tmp_path)).load("train")


def test_an_unknown_name_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match=r"dataset must be one of arrhythmia, .*, got 'annthyroid'"):
        Odds("annthyroid")  # type: ignore[arg-type]
