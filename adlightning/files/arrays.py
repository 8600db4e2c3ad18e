"""Arrays in numpy's own format from anyone, whose headers are checked before anything is made of them."""

from __future__ import annotations

import io
import math
import struct
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

_LONGEST_HEADER = 10_000  # numpy's own limit
_MOST_DIMENSIONS = 8
_KINDS = "?biufcUSmM"
_BEFORE_LENGTH = 8  # bytes: the format's sign and version
_LENGTHS = {(1, 0): struct.Struct("<H"), (2, 0): struct.Struct("<I"), (3, 0): struct.Struct("<I")}


def read_array(file: IO[bytes], n_bytes: int, records: np.dtype[Any] | None = None) -> NDArray[Any]:
    """The array of plain values that an .npy of so many bytes holds; nothing is unpickled.

    Args:
        file: at its start, and able to go back there.
        n_bytes: its size.
        records: a type of records that may stand in the place of plain values.

    Raises:
        ValueError: no array, one of objects, or a header that claims more or less than there is: bytes, or of values
            without width and of arrays without values, elements along an axis.
        Exception: what the file raises where it is damaged.
    """
    shape, dtype, used = _header(file)
    described = f"{dtype} of shape {shape}"
    if dtype.kind not in _KINDS and (records is None or dtype != records):
        raise ValueError(f"it holds {described}: objects or records, and no plain values")
    sizes = all(type(size) is int and 0 <= size <= n_bytes for size in shape) and len(shape) <= _MOST_DIMENSIONS
    if not sizes or not dtype.itemsize or math.prod(shape) * dtype.itemsize != n_bytes - used:
        raise ValueError(f"it claims to be {described}, and has {n_bytes - used} bytes of values")
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape, type of the values, and length of the header."""
    start = file.read(_BEFORE_LENGTH)
    try:
        length = _LENGTHS[np.lib.format.read_magic(io.BytesIO(start))]
    except (ValueError, KeyError) as error:
        raise ValueError(f"it is no array: {error}") from error
    encoded = file.read(length.size)
    (size,) = length.unpack(encoded) if len(encoded) == length.size else (0,)
    if not 0 < size <= _LONGEST_HEADER:
        raise ValueError(f"it is no array: its header takes {size} bytes")
    text = encoded + file.read(size)
    read = np.lib.format.read_array_header_1_0 if length.size == 2 else np.lib.format.read_array_header_2_0
    try:
        shape, _, dtype = read(io.BytesIO(text))
    except Exception as error:  # numpy lets through whatever its parsers raise
        raise ValueError(f"it is no array: {error}") from error
    return shape, dtype, _BEFORE_LENGTH + len(text)
