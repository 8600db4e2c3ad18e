"""Matrices of numbers from an HDF5 file as MATLAB writes it (version 7.3), and nothing else that such a file may hold.

By the HDF5 File Format Specification, version 3.0, of which MATLAB uses the oldest forms: superblock 0 or 1, groups as
trees of symbols, version 1 of object headers. Every address and size is checked before it is followed; a library in C
would believe the file.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIGNATURE = b"\x89HDF\r\n\x1a\n"
NOWHERE = 2**64 - 1

_MOST_OBJECTS = 100_000  # nodes, messages and chunks that are followed, so that no circle has no end
_DATASPACE, _DATATYPE, _LAYOUT, _FILTERS, _CONTINUATION = 0x0001, 0x0003, 0x0008, 0x000B, 0x0010
_DEFLATE, _SHUFFLE, _CHECKSUM = 1, 2, 3
_CHECKSUM_BYTES = 4
_FIXED, _FLOAT = 0, 1
_COMPACT, _CONTIGUOUS, _CHUNKED = 0, 1, 2


@dataclass
class _Data:
    """What the messages of an object say of its values."""

    shape: tuple[int, ...] | None = None
    dtype: np.dtype[Any] | None = None
    layout: bytes | None = None
    filters: list[tuple[int, list[int]]] = field(default_factory=list)


class Hdf5:
    """The numeric matrices at the root of a file.

    Args:
        data: the file.
        most: bytes to which one matrix may unpack.

    Raises:
        ValueError: no HDF5 file, of other forms, damaged, or one that goes round in circles.
    """

    def __init__(self, data: bytes, most: int) -> None:
        self._data, self._most, self._left = data, most, _MOST_OBJECTS
        starts = [0, *(512 << i for i in range(8))]
        start = next((at for at in starts if data[at : at + 8] == SIGNATURE), None)
        if start is None:
            raise ValueError("it is no HDF5 file")
        version, offsets, lengths = self._read("<8xB4xBB", start)
        if version not in (0, 1) or (offsets, lengths) != (8, 8):
            raise ValueError(f"its superblock is of version {version}, with {offsets} bytes an address: save it as v7")
        self._base = 0
        at = start + 24 + (4 if version == 1 else 0)
        base, _, end = self._read("<QQQ", at)
        if end > len(data):
            raise ValueError("it is truncated")
        _, _, cached, _, tree, heap = self._read("<QQIIQQ", at + 32)
        self._base = base
        if cached != 1:
            raise ValueError("its root is no group of the oldest form: save it as v7")
        names = self._heap(heap)
        self.objects: dict[str, int] = {}
        for name, address in self._symbols(tree):
            end = names.find(b"\0", name)
            if not 0 <= name < end:
                raise ValueError("a name lies nowhere")
            self.objects[names[name:end].decode("utf-8", "backslashreplace")] = address

    def matrix(self, name: str) -> NDArray[Any]:
        """A matrix by its name, as MATLAB has it. Raises ValueError for what is no matrix of numbers."""
        found = _Data()
        for kind, content in self._messages(self.objects[name]):
            if kind == _DATASPACE:
                found.shape = _shape(content)
            elif kind == _DATATYPE:
                found.dtype = _dtype(name, content)
            elif kind == _LAYOUT:
                found.layout = content
            elif kind == _FILTERS:
                found.filters = list(_filters(content))
        if found.shape is None or found.dtype is None or found.layout is None:
            raise ValueError(f"{name} must be a matrix of numbers")
        n_bytes = math.prod(found.shape) * found.dtype.itemsize
        if len(found.shape) != 2:
            raise ValueError(f"{name} must be a matrix of numbers, got {len(found.shape)} dimensions")
        if n_bytes > self._most:
            raise ValueError(f"{name} claims to have {n_bytes >> 20} MiB, at most {self._most >> 20} are read")
        return self._values(name, found.shape, found.dtype, found.layout, found.filters).T

    def _read(self, form: str, at: int) -> tuple[Any, ...]:
        if not 0 <= at <= len(self._data) - struct.calcsize(form):
            raise ValueError("it is truncated")
        return struct.unpack_from(form, self._data, at)

    def _bytes(self, address: int, size: int) -> bytes:
        """Bytes at an address, which counts from the base."""
        start = self._base + address
        if not 0 <= start <= start + size <= len(self._data):
            raise ValueError("it is truncated, or an address lies outside of it")
        return self._data[start : start + size]

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise ValueError("it holds too many objects, or goes round in a circle")

    def _heap(self, address: int) -> bytes:
        sign, _, size, _, segment = struct.unpack("<4s4sQQQ", self._bytes(address, 32))
        if sign != b"HEAP":
            raise ValueError("the names of its variables are missing")
        return self._bytes(segment, size)

    def _node(self, address: int, kind: int, key: int) -> tuple[int, bytes]:
        """Level of a node of a tree, and its keys and children."""
        self._count()
        sign, its_kind, level, n, _, _ = struct.unpack("<4sBBHQQ", self._bytes(address, 24))
        if sign != b"TREE" or its_kind != kind:
            raise ValueError("a tree is damaged")
        return level, self._bytes(address + 24, n * (key + 8))

    def _symbols(self, address: int, below: int = 256) -> Iterator[tuple[int, int]]:
        """Places of the names, and addresses, of the objects of a group."""
        level, entries = self._node(address, 0, 8)
        if level >= below:
            raise ValueError("a tree is damaged")
        for _, child in struct.iter_unpack("<QQ", entries):
            if level:
                yield from self._symbols(child, level)
                continue
            self._count()
            sign, _, _, n = struct.unpack("<4sBBH", self._bytes(child, 8))
            if sign != b"SNOD":
                raise ValueError("a group is damaged")
            for name, header, _, _, _ in struct.iter_unpack("<QQII16s", self._bytes(child + 8, 40 * n)):
                self._count()
                yield name, header

    def _messages(self, address: int) -> Iterator[tuple[int, bytes]]:
        """Kinds and contents of the messages of an object."""
        version, _, n, _, size = struct.unpack("<BBHII", self._bytes(address, 12))
        if version != 1:
            raise ValueError("an object has a header of a newer form: save it as v7")
        blocks = [(address + 16, size)]
        while blocks and n:
            self._count()
            start, length = blocks.pop(0)
            block, at = self._bytes(start, length), 0
            while at + 8 <= length and n:
                self._count()
                kind, content = struct.unpack_from("<HH", block, at)
                at, n = at + 8, n - 1
                message = block[at : at + content]
                if len(message) < content:
                    raise ValueError("a header is truncated")
                at += content
                if kind == _CONTINUATION:
                    blocks.append(struct.unpack_from("<QQ", message))
                else:
                    yield kind, message

    def _values(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        layout: bytes,
        filters: Sequence[tuple[int, list[int]]],
    ) -> NDArray[Any]:
        kind, address, sides, content = _laid_out(name, layout)
        n_bytes = math.prod(shape) * dtype.itemsize
        if kind == _CHUNKED:
            return self._chunks(name, shape, dtype, address, sides, filters)
        if kind == _CONTIGUOUS:
            content = self._bytes(address, n_bytes) if n_bytes else b""
        if len(content) != n_bytes:
            raise ValueError(f"{name} claims {n_bytes} bytes and has {len(content)}")
        return _native(np.frombuffer(content, dtype=dtype).reshape(shape))

    def _chunks(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        tree: int,
        sides: tuple[int, ...],
        filters: Sequence[tuple[int, list[int]]],
    ) -> NDArray[Any]:
        chunk = sides[:2]
        fits = len(sides) == 3 and all(0 < side <= whole for side, whole in zip(chunk, shape, strict=True))
        if not fits or sides[2] != dtype.itemsize:
            raise ValueError(f"{name} has chunks of shape {chunk}, which fit no matrix of {shape}")
        if wrong := [number for number, _ in filters if number not in (_DEFLATE, _SHUFFLE, _CHECKSUM)]:
            raise ValueError(f"{name} is packed by filter {wrong[0]}: deflate and shuffle can be read")
        values = np.zeros(shape, dtype=dtype)
        expected = set(product(*(range(0, side, step) for side, step in zip(shape, chunk, strict=True))))
        if len(expected) > _MOST_OBJECTS:
            raise ValueError(f"{name} has more than {_MOST_OBJECTS} chunks")
        for place, mask, packed in self._packed(tree) if tree != NOWHERE else ():
            if place not in expected:
                raise ValueError(f"{name} has a chunk twice, or outside of it")
            expected.discard(place)
            content = _unpacked(packed, mask, filters, math.prod(sides), dtype.itemsize)
            whole = np.frombuffer(content, dtype=dtype).reshape(chunk)
            rows, columns = (slice(at, at + step) for at, step in zip(place, chunk, strict=True))
            part = values[rows, columns]
            part[...] = whole[: part.shape[0], : part.shape[1]]
        if expected:
            raise ValueError(f"{name} lacks {len(expected)} of its chunks")
        return _native(values)

    def _packed(self, address: int, below: int = 256) -> Iterator[tuple[tuple[int, int], int, bytes]]:
        """Places of chunks, the filters that they lack, and their bytes."""
        level, entries = self._node(address, 1, 32)
        if level >= below:
            raise ValueError("a tree is damaged")
        for size, mask, row, column, _, child in struct.iter_unpack("<IIQQQQ", entries):
            self._count()
            if level:
                yield from self._packed(child, level)
            else:
                yield (row, column), mask, self._bytes(child, size)


def _shape(content: bytes) -> tuple[int, ...]:
    version, rank = struct.unpack_from("<BB", content)
    if version not in (1, 2):
        raise ValueError("a shape is of a newer form")
    return struct.unpack_from(f"<{rank}Q", content, 8 if version == 1 else 4)


def _laid_out(name: str, content: bytes) -> tuple[int, int, tuple[int, ...], bytes]:
    """How values lie: the kind, an address, the sides of a chunk with the size of a value, and values in the header."""
    version, first, second = struct.unpack_from("<BBB", content)
    kind = first if version == 3 else second
    if version not in (1, 2, 3) or kind not in (_COMPACT, _CONTIGUOUS, _CHUNKED):
        raise ValueError(f"{name} is laid out in a newer form: save it as v7")
    if kind == _COMPACT:
        form, at = ("<H", 2) if version == 3 else ("<I", 8 + 4 * first)
        (size,) = struct.unpack_from(form, content, at)
        at += struct.calcsize(form)
        return kind, NOWHERE, (), content[at : at + size]
    if kind == _CONTIGUOUS:
        return kind, struct.unpack_from("<Q", content, 2 if version == 3 else 8)[0], (), b""
    rank, at = (second, 3) if version == 3 else (first, 8)
    (address,) = struct.unpack_from("<Q", content, at)
    return kind, address, struct.unpack_from(f"<{rank}I", content, at + 8), b""


def _dtype(name: str, content: bytes) -> np.dtype[Any]:
    kind, bits, size = struct.unpack_from("<B3sI", content)
    order = ">" if bits[0] & 1 else "<"
    if kind & 0x0F == _FIXED and size in (1, 2, 4, 8):
        return np.dtype(f"{order}{'i' if bits[0] & 8 else 'u'}{size}")
    if kind & 0x0F == _FLOAT and size in (4, 8) and not bits[0] & 0x40:
        return np.dtype(f"{order}f{size}")
    raise ValueError(f"{name} must be a matrix of real numbers")


def _filters(content: bytes) -> Iterator[tuple[int, list[int]]]:
    """Numbers and arguments of the filters, in the order in which they were applied."""
    version, n = struct.unpack_from("<BB", content)
    at = 8 if version == 1 else 2
    for _ in range(n):
        (number,) = struct.unpack_from("<H", content, at)
        named = version == 1 or number >= 256
        length = struct.unpack_from("<H", content, at + 2)[0] if named else 0
        at += 4 if named else 2
        _, n_values = struct.unpack_from("<HH", content, at)
        at += 4 + (length + -length % 8 if version == 1 else length)
        yield number, list(struct.unpack_from(f"<{n_values}I", content, at))
        at += 4 * n_values + (4 * (n_values % 2) if version == 1 else 0)


def _unpacked(packed: bytes, mask: int, filters: Sequence[tuple[int, list[int]]], n_bytes: int, width: int) -> bytes:
    """A chunk without its filters, the last of which is undone first."""
    for i, (number, _) in reversed(list(enumerate(filters))):
        if mask >> i & 1:
            continue
        if number == _CHECKSUM:
            packed = packed[:-_CHECKSUM_BYTES]
        elif number == _DEFLATE:
            inflater = zlib.decompressobj()
            packed = inflater.decompress(packed, n_bytes + _CHECKSUM_BYTES + 1)
            if not inflater.eof:
                raise ValueError("a chunk is truncated, or unpacks to more than it may")
        else:
            packed = np.frombuffer(packed, np.uint8).reshape(width, -1).T.tobytes()
    if len(packed) != n_bytes:
        raise ValueError(f"a chunk claims {n_bytes} bytes and has {len(packed)}")
    return packed


def _native(values: NDArray[Any]) -> NDArray[Any]:
    return values.astype(values.dtype.newbyteorder("="))
