"""Hostile .npz and .mat files."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import scipy.sparse
import torch
from hostile_cases import as_zip, damaged, drawn, works_or_is_refused, zeros_in_zip
from hypothesis import given, strategies as st
from refusals import Touch

from adlightning.core.contracts import InputSpec
from adlightning.data.own_samples import read_samples
from adlightning.data.sources import Npz, Odds, SourceError
from adlightning.data.sources.base import Part
from adlightning.data.sources.mat_file import MOST, read_matrices
from adlightning.files import unpacking

IMAGES = np.arange(6 * 4 * 5, dtype=np.uint8).reshape(6, 4, 5)
LABELS = np.arange(6) % 2
SPECS = [InputSpec("image", (1, 4, 5)), InputSpec("table", (3,)), InputSpec("series", (4, 3))]
KEYS = ["train_images", "train_labels", "test_images", "test_labels", "train_features", "classes", "../x", "a\nb"]


def npz(compressed: bool = False, **arrays: Any) -> bytes:
    target = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(target, **arrays)
    return target.getvalue()


def npy(header: str, body: bytes = bytes(120)) -> bytes:
    """An array whose header says whatever it likes."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode("latin-1") + body


def load_part(path: Path, part: Part) -> None:
    Npz(str(path)).load(part)


def read_everything(path: Path) -> None:
    """Both ways in which an .npz is read, each of them to its end."""
    for part in ("train", "test"):
        works_or_is_refused(partial(load_part, path, part))
    for spec in SPECS:
        works_or_is_refused(partial(read_samples, path, spec))
        works_or_is_refused(partial(read_samples, path, spec, "train_images"))


FILES = [
    npz(train_images=IMAGES, train_labels=LABELS, test_images=IMAGES, test_labels=LABELS),
    npz(True, train_features=np.ones((6, 3)), train_labels=np.array(list("abcabc")), classes=np.array(["x", "y"])),
    npz(test_images=IMAGES[..., None], test_labels=LABELS[:, None], classes=np.array(["x", "y"])),
]


@drawn(40)
@given(content=damaged(FILES))
def test_damaged_npz(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    read_everything(tmp_path / "a.npz")


@st.composite
def any_array(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    shape = tuple(draw(st.lists(st.sampled_from([0, 1, 3, 6]), max_size=4)))
    kinds = ["u1", "i8", "f8", "f2", "g", "c16", "?", "U3", "S3", "M8[s]", "V4", ">f8", "u8"]
    dtype = np.dtype(draw(st.sampled_from(kinds)))
    byte = draw(st.sampled_from([b"\x00", b"\xff", b"\x01", b"\x7f"]))
    return np.frombuffer(byte * (int(np.prod(shape)) * dtype.itemsize), dtype).reshape(shape)


@drawn(60)
@given(arrays=st.dictionaries(st.sampled_from(KEYS), any_array(), max_size=4), fine=st.booleans())
def test_arrays_of_any_type_and_shape(tmp_path: Path, arrays: dict[str, Any], fine: bool) -> None:
    rest = {"train_images": IMAGES, "test_images": IMAGES, "test_labels": LABELS} if fine else {}
    (tmp_path / "a.npz").write_bytes(npz(**{**rest, **arrays}))
    read_everything(tmp_path / "a.npz")


@pytest.mark.parametrize(
    "said",
    [
        "{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000,)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999999999999,)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (-6, -4, 5)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (0, 99999999999)}",
        "{'descr': '<U1000000000', 'fortran_order': False, 'shape': (6,)}",
        "{'descr': '|O', 'fortran_order': False, 'shape': (6,)}",
        "{'descr': '|V0', 'fortran_order': False, 'shape': (6,)}",
        "{'descr': '<U0', 'fortran_order': False, 'shape': (268435456,)}",
        "{'descr': '|S0', 'fortran_order': False, 'shape': (4294967296,)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (1099511627776, 0)}",
        "{'descr': '|u1', 'fortran_order': True, 'shape': (0, 1099511627776, 5)}",
        "{'descr': [('a', '|V0')], 'fortran_order': False, 'shape': (268435456,)}",
        "{'descr': [('a', '<f8'), ('b', '<f8')], 'fortran_order': False, 'shape': (7,)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (4294967296, 4294967296, 0)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (True, 120)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (119,)}",
        "__import__('os').abort()",
        "(" * 9000,
    ],
)
def test_headers_that_claim_anything(tmp_path: Path, said: str) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(as_zip([("train_images.npy", npy(said)), ("train_labels.npy", npy(said))]))
    with pytest.raises(SourceError, match=r"a\.npz"):
        Npz(str(path)).load("train")
    with pytest.raises(ValueError, match=r"a\.npz"):
        read_samples(path, SPECS[0], "train_images")
    (tmp_path / "a.npy").write_bytes(npy(said))
    with pytest.raises(ValueError, match=r"a\.npy"):
        read_samples(tmp_path / "a.npy", SPECS[0])


def test_names_that_take_few_bytes_each_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name takes more memory than its one character; so does that of a sample of one byte."""
    monkeypatch.setattr(unpacking, "FLOOR", 2**22)
    names, few = np.full(2**17, "x"), {"train_images": IMAGES, "train_labels": LABELS}
    for arrays in ({**few, "classes": names}, {"train_features": np.zeros((2**18, 1), np.uint8)}):
        (tmp_path / "a.npz").write_bytes(npz(True, **{"train_labels": LABELS, **arrays}))
        with pytest.raises(SourceError, match=r"a\.npz unpacks to more than 4 MiB"):
            Npz(str(tmp_path / "a.npz")).load("train")


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("as_ordered", [np.ascontiguousarray, np.asfortranarray])
def test_every_version_of_the_format_is_read(tmp_path: Path, version: tuple[int, int], as_ordered: Any) -> None:
    array = as_ordered(np.arange(12.0).reshape(4, 3))
    with (tmp_path / "a.npy").open("wb") as file:
        np.lib.format.write_array(file, array, version)
    x = read_samples(tmp_path / "a.npy", SPECS[1]).x
    np.testing.assert_array_equal(torch.as_tensor(x).numpy(), array.astype(np.float32))


@pytest.mark.parametrize("wrapped", ["array", "member", "file"])
def test_pickles_are_never_run(tmp_path: Path, wrapped: str) -> None:
    path, hostile = tmp_path / "a.npz", Touch(tmp_path / "was_run")
    content = {
        "array": npz(train_images=np.array([hostile], dtype=object), train_labels=LABELS),
        "member": as_zip([("train_images.npy", pickle.dumps(hostile)), ("train_labels", pickle.dumps(hostile))]),
        "file": pickle.dumps(hostile),
    }
    path.write_bytes(content[wrapped])
    read_everything(path)
    assert not (tmp_path / "was_run").exists()


def test_a_member_that_is_no_array_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(as_zip([("../../evil.npy", b"text")]))
    with pytest.raises(ValueError, match=r"a\.npz"):
        read_samples(tmp_path / "a.npz", SPECS[0])
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_what_unpacks_to_too_much_is_refused_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "FLOOR", 2**20)
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({3 * 2**20},)}}"
    path = tmp_path / "bomb.npz"
    path.write_bytes(zeros_in_zip("train_images.npy", npy(header, b""), 3))
    for read in (lambda: Npz(str(path)).load("train"), lambda: read_samples(path, SPECS[0])):
        assert "bomb.npz unpacks to more than 1 MiB" in (works_or_is_refused(read) or "")


def test_a_size_that_is_a_lie_is_no_way_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "FLOOR", 2**20)
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({3 * 2**20},)}}"
    content = zeros_in_zip("train_images.npy", npy(header, b""), 3)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        true = archive.infolist()[0].file_size
    lie = content.replace(struct.pack("<Q", true), struct.pack("<Q", 1000)).replace(
        struct.pack("<I", true), struct.pack("<I", 1000)
    )
    assert lie != content
    (tmp_path / "a.npz").write_bytes(lie)
    with pytest.raises(SourceError, match=r"a\.npz"):
        Npz(str(tmp_path / "a.npz")).load("train")


# ---- .mat -----------------------------------------------------------------------------------------------------------

X, Y = np.random.default_rng(0).normal(size=(6, 3)), np.array([[0, 0, 0, 0, 1, 1]]).T
NESTED = np.empty((1, 2), dtype=object)
NESTED[:] = [[X, {"b": "text"}]]


def mat(x: Any, y: Any = Y, **options: Any) -> bytes:
    target = io.BytesIO()
    scipy.io.savemat(target, {"X": x, "y": y}, **options)  # type: ignore[arg-type]  # a file object will do
    return target.getvalue()


MATS = [
    mat(X, do_compression=True),
    mat(X),
    *(mat(x) for x in (NESTED, scipy.sparse.csc_matrix(X), X + 1j, {"field": X}, "text")),
    mat(X, format="4"),
]


def elements_changed(content: bytes, change: Any) -> bytes:
    """A .mat file whose compressed elements are unpacked, changed and packed again."""
    target, position = bytearray(content[:128]), 128
    while position + 8 <= len(content):
        kind, size = struct.unpack_from("<II", content, position)
        body = content[position + 8 : position + 8 + size]
        if kind == 15:
            body = zlib.compress(change(zlib.decompress(body)))
        target += struct.pack("<II", kind, len(body)) + body
        position += 8 + size
    return bytes(target)


@drawn(150)
@given(data=st.data())
def test_damaged_mat(tmp_path: Path, data: st.DataObject) -> None:
    def change(raw: bytes) -> bytes:
        return data.draw(damaged([raw])) if raw else raw

    content = elements_changed(MATS[0], change) if data.draw(st.booleans()) else data.draw(damaged(MATS))
    (tmp_path / "a.mat").write_bytes(content)
    works_or_is_refused(lambda: read_matrices(tmp_path / "a.mat", ["X", "y"]))


@pytest.mark.parametrize("dtype", ["f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"])
@pytest.mark.parametrize("compressed", [True, False])
def test_numbers_are_read_as_scipy_reads_them(tmp_path: Path, dtype: str, compressed: bool) -> None:
    arrays = {"other": NESTED, "X": (10 * X).astype(dtype), "y": Y.astype("?"), "z": "text"}
    scipy.io.savemat(tmp_path / "a.mat", arrays, do_compression=compressed)
    own, theirs = read_matrices(tmp_path / "a.mat", ["X", "y", "absent"]), scipy.io.loadmat(tmp_path / "a.mat")
    assert list(own) == ["X", "y"]
    for name, array in own.items():
        np.testing.assert_array_equal(array, theirs[name])


@pytest.mark.parametrize("content", MATS[2:])
def test_what_is_no_matrix_of_numbers_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "thyroid.mat").write_bytes(content)
    with pytest.raises(SourceError, match=r"thyroid\.mat"):
        Odds("thyroid", root=str(tmp_path)).load("train")


def element(kind: int, body: bytes) -> bytes:
    return struct.pack("<II", kind, len(body)) + body + bytes(-len(body) % 8)


def cells_in_cells(depth: int) -> bytes:
    """A variable X of cells in cells, each of which takes scipy's reader deeper into the stack."""

    def head(name: bytes, kind: int) -> bytes:
        return element(6, struct.pack("<II", kind, 0)) + element(5, struct.pack("<ii", 1, 1)) + element(1, name)

    innermost, cell = element(14, head(b"", 6) + element(9, bytes(8))), head(b"", 1)
    sizes = [len(innermost) + level * (8 + len(cell)) + len(cell) for level in reversed(range(depth))]
    cells = b"".join(struct.pack("<II", 14, size) + cell for size in sizes)
    return MATS[1][:128] + element(14, head(b"X", 1) + cells + innermost)


def test_cells_in_cells_do_not_end_the_interpreter(tmp_path: Path) -> None:
    (tmp_path / "a.mat").write_bytes(cells_in_cells(100_000))
    with pytest.raises(SourceError, match="X must be a matrix of real numbers"):
        read_matrices(tmp_path / "a.mat", ["X", "y"])


def test_a_type_that_there_is_not_does_not_end_the_interpreter(tmp_path: Path) -> None:
    """Scipy's reader ends it on this one: the values' type lies beyond its table."""
    content = elements_changed(MATS[0], lambda raw: raw.replace(struct.pack("<I", 9), struct.pack("<I", 200)))
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(SourceError, match=r"no readable \.mat file"):
        read_matrices(tmp_path / "a.mat", ["X", "y"])


def test_a_mat_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    packer = zlib.compressobj(1)
    body = b"".join([*(packer.compress(bytes(2**20)) for _ in range(MOST // 2**20 + 1)), packer.flush()])
    (tmp_path / "a.mat").write_bytes(MATS[0][:128] + struct.pack("<II", 15, len(body)) + body)
    with pytest.raises(SourceError, match="unpacks to more than 64 MiB"):
        read_matrices(tmp_path / "a.mat", ["X", "y"])
