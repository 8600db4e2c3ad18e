"""How much a compressed or nested file may unpack to, so that a small hostile one does not fill the memory."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

FLOOR = 2**30
"""Bytes to which any file may unpack."""

RATIO = 100
"""How many times its own size a larger file may unpack to; tables and images that are data stay well below."""

_CHUNK = 2**20


def allowed_bytes(path: Path) -> int:
    """Bytes to which a file of this size may unpack."""
    return max(FLOOR, RATIO * path.stat().st_size)


def require_unpacked_size(path: Path, n_bytes: int) -> None:
    """Refuse what a file says that it unpacks to, before any of it is unpacked. Raises ValueError."""
    if n_bytes > allowed_bytes(path):
        raise ValueError(
            f"{path} unpacks to more than {allowed_bytes(path) >> 20} MiB, the most for a file of its size: refused; "
            "if you trust it, store it uncompressed"
        )


def require_unpacked_gzip(path: Path) -> None:
    """Refuse a .gz that unpacks to more than it may; counted without keeping it, since the format does not say it.

    Raises:
        ValueError: it unpacks to more.
        OSError, EOFError, zlib.error: it is damaged.
    """
    total, most = 0, allowed_bytes(path)
    with gzip.open(path) as file:
        while total <= most and (chunk := file.read(_CHUNK)):
            total += len(chunk)
    require_unpacked_size(path, total)


def each_value(content: Any, most: int, deepest: int) -> Iterator[Any]:
    """Everything in nested mappings and sequences, what is there several times as often; ValueError beyond the bounds.

    Args:
        content: whatever was read.
        most: number of values.
        deepest: number of levels.
    """
    count, stack = 0, [(content, 1)]
    while stack:
        value, depth = stack.pop()
        count += 1
        if count > most or depth > deepest:
            raise ValueError(f"it must hold at most {most} values in {deepest} levels")
        yield value
        if isinstance(value, Mapping):
            stack += [(inner, depth + 1) for pair in value.items() for inner in pair]
        elif isinstance(value, (list, tuple, set)):
            stack += [(inner, depth + 1) for inner in value]
