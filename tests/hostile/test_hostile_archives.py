"""Zip archives that show one reader another file than the next: what is checked is what is read."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hostile_cases import as_zip, damaged, drawn
from hypothesis import given

from adlightning.checkpoints.loading import read_checkpoint
from adlightning.data.sources import Npz, SourceError
from adlightning.files.archives import plain_members, require_stored
from adlightning.networks.pretrained import read_weights


def saved(compressed: bool = False) -> bytes:
    """An .npz."""
    target = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(target, a=np.arange(5), é=np.zeros((2, 3)))
    return target.getvalue()


def of_torch() -> bytes:
    target = io.BytesIO()
    torch.save({"a": torch.arange(100), "b": torch.zeros(0)}, target)
    return target.getvalue()


class OneWay(io.BytesIO):
    """What can only be written on: sizes stand behind the members."""

    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        raise io.UnsupportedOperation


def streamed() -> bytes:
    target = OneWay()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", bytes(1000))
        archive.writestr("b.npy", b"")
    return target.getvalue()


WHOLE = {"npz": saved(), "compressed": saved(True), "torch": of_torch(), "streamed": streamed()}


@pytest.mark.parametrize("name", WHOLE)
def test_what_is_written_is_read(name: str) -> None:
    with zipfile.ZipFile(io.BytesIO(WHOLE[name])) as archive:
        expected = [(m.filename, m.compress_type != 0, m.file_size, m.compress_size) for m in archive.infolist()]
    assert [(m.name, m.compressed, m.size, m.packed) for m in plain_members(io.BytesIO(WHOLE[name]))] == expected


@pytest.mark.parametrize(("name", "packed"), [("npz", False), ("compressed", True), ("torch", False)])
def test_what_is_never_compressed(name: str, packed: bool) -> None:
    if packed:
        with pytest.raises(ValueError, match="compressed parts"):
            require_stored(io.BytesIO(WHOLE[name]))
    else:
        require_stored(io.BytesIO(WHOLE[name]))


# ---- two files in one ------------------------------------------------------------------------------------------------


def end_of(content: bytes) -> tuple[int, int, int]:
    """Where the end record is, and size and start of the directory."""
    at = content.rindex(b"PK\5\6")
    size, start = struct.unpack_from("<2L", content, at + 12)
    return at, size, start


def two_directories(content: bytes) -> bytes:
    """Python takes the one just before the end record, torch the one where the record says."""
    at, size, start = end_of(content)
    end64 = content.rindex(b"PK\6\6") if b"PK\6\6" in content else at
    return content[:end64] + content[start : start + size] + content[at:]


def replaced(offset: int, new: bytes, sign: bytes) -> Callable[[bytes], bytes]:
    """A change of the last record that has this sign."""

    def change(content: bytes) -> bytes:
        at = content.rindex(sign) + offset
        return content[:at] + new + content[at + len(new) :]

    return change


def doubled(content: bytes) -> bytes:
    """The first member's name for the second too, in both places."""
    del content
    with pytest.warns(UserWarning, match="Duplicate"):
        return as_zip([("a.npy", b"1"), ("a.npy", b"2")])


def in_between(content: bytes) -> bytes:
    """Something between the members and the directory, which still is where the end record says."""
    at, _, start = end_of(content)
    moved = content[:start] + b"PK\3\4" + content[start:]
    return moved[: at + 4 + 16] + struct.pack("<L", start + 4) + moved[at + 4 + 20 :]


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "two directories": two_directories,
    "something before": lambda content: b"x" * 10 + content,
    "an archive before": lambda content: content + content,
    "something behind": lambda content: content + b"\0",
    "a comment": lambda content: content[:-2] + b"\5\0" + b"PK\5\6\0",
    "another count": replaced(10, b"\1\0", b"PK\5\6"),
    "another start": replaced(16, b"\1\0\0\0", b"PK\5\6"),
    "another disk": replaced(4, b"\1\0", b"PK\5\6"),
    "another name": replaced(46, b"b", b"PK\1\2"),
    "another size": replaced(24, b"\1\0\0\0", b"PK\1\2"),
    "another packed size": replaced(20, b"\1\0\0\0", b"PK\1\2"),
    "another place": replaced(42, b"\0\0\0\0", b"PK\1\2"),
    "another method": replaced(10, b"\x0c\0", b"PK\1\2"),
    "encrypted": replaced(8, b"\1\0", b"PK\1\2"),
    "own name": replaced(30, b"b", b"PK\3\4"),
    "own flags": replaced(6, b"\1\0", b"PK\3\4"),
    "own checksum": replaced(14, b"\1\1\1\1", b"PK\3\4"),
    "longer name": replaced(26, b"\x09\0", b"PK\3\4"),
    "one name twice": doubled,
    "in between": in_between,
    "nothing": lambda content: b"",
    "an end alone": lambda content: content[-22:],
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["npz", "compressed"])
def test_two_files_in_one_are_refused(name: str, change: str) -> None:
    with pytest.raises(ValueError, match=r"it|its|member"):
        plain_members(io.BytesIO(CHANGES[change](WHOLE[name])))


@pytest.mark.parametrize(
    "change",
    [
        two_directories,
        CHANGES["something before"],
        replaced(32, struct.pack("<Q", 1), b"PK\6\6"),
        replaced(40, struct.pack("<Q", 1), b"PK\6\6"),
        replaced(48, struct.pack("<Q", 1), b"PK\6\6"),
        replaced(8, struct.pack("<Q", 1), b"PK\6\7"),
        replaced(4, struct.pack("<L", 1), b"PK\7\10"),
        replaced(8, struct.pack("<L", 1), b"PK\7\10"),
    ],
)
def test_torchs_longer_records_agree(change: Callable[[bytes], bytes]) -> None:
    with pytest.raises(ValueError, match=r"it|its|member"):
        plain_members(io.BytesIO(change(WHOLE["torch"])))


@pytest.mark.parametrize("change", ["two directories", "something before", "one name twice"])
def test_every_reader_refuses(tmp_path: Path, change: str) -> None:
    """The three places where an archive from anyone is opened; estimators are in test_hostile_estimators.py."""
    for name in ("torch", "npz"):
        (tmp_path / name).write_bytes(CHANGES[change](WHOLE[name]))
    with pytest.raises(ValueError, match=r"ckpt_path: .*torch is truncated, corrupt"):
        read_checkpoint(tmp_path / "torch")
    with pytest.raises(ValueError, match=r"weights: .*torch is truncated, corrupt"):
        read_weights("weights", "squeezenet1_1", str(tmp_path / "torch"))
    with pytest.raises(SourceError, match=r"npz is no readable \.npz"):
        Npz(str(tmp_path / "npz")).load("train")


@drawn(300)
@given(content=damaged([WHOLE["torch"]]))
def test_torch_and_python_see_one_file(content: bytes) -> None:
    """Of damaged archives that are not refused, both readers give the same members and bytes, or an error."""
    try:
        members = require_stored(io.BytesIO(content))
    except ValueError:
        return
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert [(m.filename, m.file_size) for m in archive.infolist()] == [(m.name, m.size) for m in members]
        try:
            reader = torch._C.PyTorchFileReader(io.BytesIO(content))
            theirs = {f"archive/{name}": reader.get_record(name) for name in reader.get_all_records()}
            own = {name: archive.read(name) for name in archive.namelist()}
        except (RuntimeError, zipfile.BadZipFile):  # a wrong checksum, or without the records that torch wants
            return
    assert {name: own[name] for name in theirs} == theirs


@pytest.mark.parametrize("name", WHOLE)
def test_a_member_that_is_an_archive_is_no_member_more(name: str) -> None:
    """What looks like records inside of a member is taken for none by either."""
    outer = as_zip([("a.npy", WHOLE[name])])
    assert [member.name for member in plain_members(io.BytesIO(outer))] == ["a.npy"]
