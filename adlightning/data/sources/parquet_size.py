"""What a Parquet file becomes in memory, told before it is read: one long text, repeated, takes few bytes on disk."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from adlightning.files.unpacking import allowed_bytes, require_unpacked_size

_NUMBER = 8  # bytes, in a column of a frame
_ROWS = 256  # at a time, of columns whose values have no fixed size


def require_unpacked_parquet(path: Path) -> None:
    """Refuse a Parquet file that unpacks to more than it may; columns without a fixed size are read for that, in parts.

    Raises:
        ValueError: it unpacks to more (see :mod:`adlightning.files.unpacking`).
        OSError, pyarrow.ArrowException: it is damaged.
    """
    with pq.ParquetFile(path) as file:
        schema, metadata = file.schema_arrow, file.metadata
        stored = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
        total = max(stored, metadata.num_rows * len(schema) * _NUMBER)
        require_unpacked_size(path, total)
        sized = [field.name for field in schema if not _has_fixed_size(field.type)]
        if not sized:
            return
        most = allowed_bytes(path)
        for batch in file.iter_batches(batch_size=_ROWS, columns=sized, use_threads=False):
            total += batch.nbytes
            if total > most:
                break
        require_unpacked_size(path, total)


def _has_fixed_size(kind: pa.DataType) -> bool:
    try:
        return int(kind.bit_width) <= 8 * _NUMBER
    except ValueError:  # text, bytes, lists
        return False
