"""Files of ODDS and ADBench by path: .mat of MATLAB 5 to 7.3 and .npz, with X and y."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch
from hdf5_writer import USER_BLOCK, Layout, written

import adlightning as ad
from adlightning.data.sources import AnomalyFile, SourceError
from adlightning.data.sources.hdf5_file import Hdf5
from adlightning.data.sources.mat_file import read_matrices

RNG = np.random.default_rng(0)
X = RNG.normal(size=(23, 7))
Y = (np.arange(23) % 5 == 0).astype(np.float64)[:, None]


def write(path: Path, kind: str, **arrays: Any) -> Path:
    arrays = {"X": X, "y": Y} | arrays
    file = path / f"t{'.npz' if kind == 'npz' else '.mat'}"
    if kind == "npz":
        np.savez_compressed(file, **arrays)
    elif kind == "mat":
        scipy.io.savemat(file, arrays, do_compression=True)
    else:
        file.write_bytes(written(arrays))
    return file


@pytest.mark.parametrize("kind", ["npz", "mat", "v7.3"])
def test_every_format_is_the_same_table(tmp_path: Path, kind: str) -> None:
    source = AnomalyFile(str(write(tmp_path, kind)))
    samples = source.load("train")
    assert samples is not None
    assert isinstance(samples.x, torch.Tensor)
    np.testing.assert_array_equal(samples.x, X)
    assert samples.y.tolist() == Y.ravel().tolist()
    assert (source.input_spec().shape, source.load("test"), samples.names[-1]) == ((7,), None, "22")


@pytest.mark.parametrize("layout", ["compact", "contiguous", "chunked"])
@pytest.mark.parametrize("dtype", ["<f8", ">f8", "<f4", "<i2", "<u1", ">i4"])
@pytest.mark.parametrize("shuffle", [False, True])
def test_matrices_of_version_7_3(tmp_path: Path, layout: Layout, dtype: str, shuffle: bool) -> None:
    values = (100 * RNG.random((23, 7))).astype(dtype)
    (tmp_path / "t.mat").write_bytes(written({"b": values[:2], "X": values, "ä": values[:, :1]}, layout, shuffle))
    found = read_matrices(tmp_path / "t.mat", ["X", "ä", "none"])
    assert found.keys() == {"X", "ä"}
    np.testing.assert_array_equal(found["X"], values)
    np.testing.assert_array_equal(found["ä"], values[:, :1])
    assert found["X"].dtype.isnative


def test_a_file_that_matlab_wrote() -> None:
    file = Path(scipy.io.__file__).parent / "matlab/tests/data/testhdf5_7.4_GLNX86.mat"
    if not file.is_file():
        pytest.skip("this scipy comes without the data of its tests")
    np.testing.assert_allclose(
        read_matrices(file, ["testdouble"])["testdouble"], [np.arange(0, 2.1 * np.pi, np.pi / 4)], atol=1e-15
    )


def test_a_detector_is_trained_on_one(tmp_path: Path) -> None:
    data = ad.AnomalyLabelled(
        ad.AnomalyFile(str(write(tmp_path, "npz"))), labelled_anomaly_ratio=0.0, validation_fraction=0.2
    )
    run = ad.fit(ad.NearestNeighbor(), data, 1, progress=False)
    assert set(run.metrics) >= {"auroc"}


def test_missing_values_where_they_are_said(tmp_path: Path) -> None:
    x = X.copy()
    x[3, 2] = np.nan
    file = write(tmp_path, "npz", X=x)
    with pytest.raises(SourceError, match="X holds nan at row 3, column 2"):
        AnomalyFile(str(file)).load("train")
    assert AnomalyFile(str(file), missing="median").load("train") is not None


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"y": Y + 1}, r"y must hold 0 \(normal\) and 1 \(anomaly\) only, got 2.0"),
        ({"X": X[:5]}, r"X must be \(N, D\) and y \(N,\), got \(5, 7\) and \(23,\)"),
        ({"X": X[:, 0]}, r"got \((1, )?23,?\) and"),
        ({"X": X + 1j}, "X must be"),
    ],
)
@pytest.mark.parametrize("kind", ["npz", "mat"])
def test_other_contents_are_refused(tmp_path: Path, kind: str, arrays: dict[str, Any], words: str) -> None:
    with pytest.raises(SourceError, match=words):
        AnomalyFile(str(write(tmp_path, kind, **arrays))).load("train")


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"path must end in \.mat or \.npz, got t\.csv: TableData reads CSV"):
        AnomalyFile("t.csv")
    with pytest.raises(SourceError, match="there is no file"):
        AnomalyFile(str(tmp_path / "none.npz")).load("train")
    np.savez(tmp_path / "pickled.npz", X=np.array([{}], dtype=object), y=Y)
    with pytest.raises(SourceError, match="X cannot be read"):
        AnomalyFile(str(tmp_path / "pickled.npz")).load("train")
    np.savez(tmp_path / "others.npz", data=X, y=Y)
    with pytest.raises(SourceError, match=r"has no X; it must hold X .* and y .*; it holds data, y"):
        AnomalyFile(str(tmp_path / "others.npz")).load("train")


# ---- what a file of version 7.3 claims ----------------------------------------------------------------------------


def test_claims_are_checked_before_memory_is_taken() -> None:
    data = written({"X": X}, "chunked")
    with pytest.raises(ValueError, match=r"X claims to have .* MiB, at most"):
        Hdf5(data, 1000).matrix("X")
    shape = data.find(np.array(X.T.shape, dtype="<u8").tobytes())
    for wrong in ((2**40, 2**40), (2**62, 1), (2**32, 7)):
        changed = data[:shape] + np.array(wrong, dtype="<u8").tobytes() + data[shape + 16 :]
        with pytest.raises(ValueError, match="X claims"):
            Hdf5(changed, 2**30).matrix("X")
    tree = data.rfind(b"TREE\0")
    circle = data[: tree + 5] + b"\1" + data[tree + 6 :]
    itself = (tree - USER_BLOCK).to_bytes(8, "little")
    circle = circle[: tree + 32] + itself + circle[tree + 40 :]
    with pytest.raises(ValueError, match="a tree is damaged"):
        Hdf5(circle, 2**30)


@pytest.mark.parametrize("layout", ["compact", "contiguous", "chunked"])
def test_every_byte_may_be_wrong(tmp_path: Path, layout: Layout) -> None:
    """It is read, or refused by a ValueError that says something; whole numbers become 0, or as large as can be."""
    data = written({"X": X[:4, :4], "y": Y[:4]}, layout)
    for at in range(USER_BLOCK, len(data), 11):
        for put in (b"\0" * 8, b"\xff" * 8, bytes([data[at] ^ 1])):
            (tmp_path / "t.mat").write_bytes((data[:at] + put + data[at + len(put) :])[: len(data)])
            try:
                read_matrices(tmp_path / "t.mat", ["X", "y"])
            except SourceError as error:
                assert "no readable .mat file" in str(error)  # noqa: PT017
    for end in range(0, len(data), 37):
        (tmp_path / "t.mat").write_bytes(data[:end])
        with pytest.raises(SourceError, match=r"no readable \.mat file"):
            read_matrices(tmp_path / "t.mat", ["X", "y"])
