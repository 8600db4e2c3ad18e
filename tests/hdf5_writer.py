"""A .mat of version 7.3 as bytes, written from the HDF5 specification: what tests read needs no library in C."""

from __future__ import annotations

import struct
import zlib
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Layout = Literal["compact", "contiguous", "chunked"]
USER_BLOCK = 512
NOWHERE = 2**64 - 1


def message(kind: int, content: bytes) -> bytes:
    content += bytes(-len(content) % 8)
    return struct.pack("<HHB3x", kind, len(content), 0) + content


def written(variables: dict[str, NDArray[Any]], layout: Layout = "chunked", shuffle: bool = False) -> bytes:
    """Matrices as MATLAB writes them: axes reversed, names in a heap, one leaf of a tree; chunks of 3 x 5 values."""
    body = bytearray(96)  # the superblock, filled in at the end

    def put(content: bytes) -> int:
        at = len(body)
        body.extend(content + bytes(-len(content) % 8))
        return at

    names, places = bytearray(8), {}
    for name in variables:
        places[name] = len(names)
        names += name.encode() + b"\0"
        names += bytes(-len(names) % 8)
    headers = {name: put(_header(np.asarray(value).T, layout, shuffle, put)) for name, value in variables.items()}
    heap = put(struct.pack("<4sB3xQQQ", b"HEAP", 0, len(names), NOWHERE, put(bytes(names))))
    entries = b"".join(struct.pack("<QQII16x", places[name], headers[name], 0, 0) for name in sorted(variables))
    leaf = put(struct.pack("<4sBBH", b"SNOD", 1, 0, len(variables)) + entries)
    tree = put(struct.pack("<4sBBHQQ", b"TREE", 0, 0, 1, NOWHERE, NOWHERE) + struct.pack("<QQQ", 0, leaf, 0))
    root = put(_object([message(0x0011, struct.pack("<QQ", tree, heap))]))
    block = struct.pack("<8s4BB3BHHI", b"\x89HDF\r\n\x1a\n", 0, 0, 0, 0, 0, 8, 8, 0, 4, 16, 0)
    block += struct.pack("<QQQQ", USER_BLOCK, NOWHERE, USER_BLOCK + len(body), NOWHERE)
    body[:96] = block + struct.pack("<QQIIQQ", 0, root, 1, 0, tree, heap)
    start = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, HDF5 schema 1.00 ."
    return start.ljust(124) + b"\0\2IM" + bytes(USER_BLOCK - 128) + bytes(body)


def _object(messages: list[bytes]) -> bytes:
    content = b"".join(messages)
    return struct.pack("<BBHII4x", 1, 0, len(messages), 1, len(content)) + content


def _header(value: NDArray[Any], layout: Layout, shuffle: bool, put: Any) -> bytes:
    value = np.ascontiguousarray(value)
    shape = message(1, struct.pack(f"<BBB5x{value.ndim}Q", 1, value.ndim, 0, *value.shape))
    order = int(value.dtype.byteorder == ">")
    signed = 8 * (value.dtype.kind == "i")
    number = 1 if value.dtype.kind == "f" else 0
    kind = message(3, struct.pack("<B3BI12x", 0x10 | number, order | signed, 0, 0, value.dtype.itemsize))
    if layout == "compact":
        content = value.tobytes()
        return _object([shape, kind, message(8, struct.pack("<BBH", 3, 0, len(content)) + content)])
    if layout == "contiguous":
        return _object([shape, kind, message(8, struct.pack("<BBQQ", 3, 1, put(value.tobytes()), value.nbytes))])
    sides = tuple(min(side, most) for side, most in zip(value.shape, (3, 5), strict=True))
    keys = b""
    chunks = [(r, c) for r in range(0, value.shape[0], sides[0]) for c in range(0, value.shape[1], sides[1])]
    for row, column in chunks:
        whole = np.zeros(sides, dtype=value.dtype)
        part = value[row : row + sides[0], column : column + sides[1]]
        whole[: part.shape[0], : part.shape[1]] = part
        content = whole.tobytes()
        if shuffle:
            content = np.frombuffer(content, np.uint8).reshape(-1, value.dtype.itemsize).T.tobytes()
        content = zlib.compress(content)
        keys += struct.pack("<IIQQQ", len(content), 0, row, column, 0) + struct.pack("<Q", put(content))
    tree = put(struct.pack("<4sBBHQQ", b"TREE", 1, 0, len(chunks), NOWHERE, NOWHERE) + keys + bytes(32))
    filters = [struct.pack("<HHHHI4x", 1, 0, 0, 1, 3)]
    if shuffle:
        filters = [struct.pack("<HHHHI4x", 2, 0, 0, 1, value.dtype.itemsize), *filters]
    pipeline = struct.pack("<BB6x", 1, len(filters)) + b"".join(filters)
    laid_out = struct.pack("<BBBQ3I", 3, 2, 3, tree, *sides, value.dtype.itemsize)
    return _object([shape, kind, message(8, laid_out), message(11, pipeline)])
