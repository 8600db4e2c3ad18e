"""Matrices of numbers from a .mat file of MATLAB 5 to 7.3, and nothing else that such a file may hold.

Not scipy's reader: written for files of one's own, it crashes the interpreter on some that are damaged, and unpacks
whatever size a file claims.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from adlightning.core.contracts import SourceError
from adlightning.data.sources.hdf5_file import SIGNATURE, Hdf5

MOST = 2**26
"""Bytes that a file may have, and to which it may unpack, unless told otherwise; our own sets have 4 MiB at most."""

_HEADER = 128
_MATRIX, _COMPRESSED, _INT8, _INT32, _UINT32 = 14, 15, 1, 5, 6
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_FIRST_NUMERIC, _LAST_NUMERIC = 6, 15  # array classes: double to uint64; below are cells, structs, text, sparse
_COMPLEX = 0x0800

Element: TypeAlias = tuple[int, bytes]
Order: TypeAlias = Literal["<", ">"]


def read_matrices(path: Path, names: Sequence[str], most: int = MOST) -> dict[str, NDArray[Any]]:
    """Those of the named variables that a file holds, (N, D).

    Args:
        path: the file.
        names: of the variables.
        most: bytes that it may have, and to which it may unpack.

    Raises:
        SourceError: no such file of MATLAB 5 to 7.3, a damaged one, one that has or unpacks to more than it may, or a
            named variable that is no matrix of real numbers.
    """
    if (size := path.stat().st_size) > most:
        raise SourceError(f"{path} has {size >> 20} MiB, a .mat file must have at most {most >> 20}: refused")
    data = path.read_bytes()
    if SIGNATURE in (data[:8], data[512:520]):
        try:
            file = Hdf5(data, most)
            return {name: file.matrix(name) for name in names if name in file.objects}
        except (struct.error, zlib.error, ValueError) as error:
            raise SourceError(f"{path} is no readable .mat file: {error}") from error
    orders: dict[bytes, Order] = {b"IM": "<", b"MI": ">"}
    order = orders.get(data[126:_HEADER])
    if not data.startswith(b"MATLAB 5.0") or order is None:
        raise SourceError(f"{path} is no readable .mat file: it is not of MATLAB's version 5 to 7.3")
    found: dict[str, NDArray[Any]] = {}
    try:
        left = most
        for kind, content in _elements(data[_HEADER:], order):
            if kind == _COMPRESSED:
                content = _inflated(content, left)
                left -= len(content)
                kind, content = next(_elements(content, order))
            if kind != _MATRIX:
                continue
            parts = _elements(content, order)
            flags, shape, name = _description(parts, order)
            if name in names:
                found[name] = _matrix(name, flags, shape, next(parts, None), order)
    except (struct.error, zlib.error, ValueError, StopIteration) as error:
        raise SourceError(f"{path} is no readable .mat file: {error or 'it is truncated'}") from error
    return found


def _elements(data: bytes, order: Order) -> Iterator[Element]:
    """Types and contents of what lies one after the other; ValueError where one reaches beyond the end."""
    position = 0
    while position + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, position)
        start, end = position + 8, position + 8 + size
        if kind >> 16:  # up to 4 bytes lie in the tag itself
            kind, size = kind & 0xFFFF, kind >> 16
            start, end = position + 4, position + 4 + size
            if size > 4:
                raise ValueError("a small element claims to have more than 4 bytes")
        if end > len(data):
            raise ValueError("it is truncated")
        yield kind, data[start:end]
        # MATLAB pads to 8 bytes, but for compressed elements
        position = position + 8 if end <= position + 8 else end if kind == _COMPRESSED else end + -end % 8


def _inflated(content: bytes, most: int) -> bytes:
    inflater = zlib.decompressobj()
    whole = inflater.decompress(content, max(most, 1))  # 0 would be no limit
    if inflater.unconsumed_tail:
        raise ValueError(f"it unpacks to more than {most >> 20} MiB: refused")
    if not inflater.eof:
        raise ValueError("it is truncated")
    return whole


def _description(parts: Iterator[Element], order: Order) -> tuple[int, tuple[int, ...], str]:
    """Flags, dimensions and name of a matrix."""
    (flags_kind, flags), (shape_kind, shape), (name_kind, name) = next(parts), next(parts), next(parts)
    if (flags_kind, shape_kind, name_kind) != (_UINT32, _INT32, _INT8) or len(shape) % 4 or not shape:
        raise ValueError("a matrix has no description")
    sizes = struct.unpack(f"{order}{len(shape) // 4}i", shape)
    return struct.unpack_from(f"{order}I", flags)[0], sizes, name.decode("latin-1")


def _matrix(name: str, flags: int, shape: tuple[int, ...], values: Element | None, order: Order) -> NDArray[Any]:
    if not _FIRST_NUMERIC <= flags & 0xFF <= _LAST_NUMERIC or flags & _COMPLEX:
        raise ValueError(f"{name} must be a matrix of real numbers")
    if values is None or values[0] not in _NUMBERS or len(shape) != 2 or min(shape) < 0:
        raise ValueError(
            f"{name} must be a matrix of real numbers, got one of shape {shape} and type {values and values[0]}"
        )
    array = np.frombuffer(values[1], dtype=np.dtype(_NUMBERS[values[0]]).newbyteorder(order))
    if len(array) != shape[0] * shape[1]:
        raise ValueError(f"{name} claims to be {shape[0]} x {shape[1]} and has {len(array)} values")
    return array.reshape(shape, order="F").astype(array.dtype.newbyteorder("="))
