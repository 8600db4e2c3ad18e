"""A table read once, batch by batch, for what its columns hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from adlightning.data.look.columns import Column
from adlightning.files.dialects import Dialect

_BLOCK = 2**22  # bytes of text at a time
_BATCH = 2**16  # rows of Parquet at a time
_SHOWN = 3


@dataclass
class Content:
    """What a table holds.

    Args:
        columns: in the file's order.
        rows: number of them, without a header.
        ragged: number of rows of another length than the first.
        examples: the first of these, `row 17 has 5 fields`.
    """

    columns: list[Column]
    rows: int = 0
    ragged: int = 0
    examples: list[str] = field(default_factory=list)


def read_text(path: Path, dialect: Dialect) -> Content:
    """A file of text, also a compressed one, in one pass.

    Raises:
        ValueError: it has no columns, or cannot be parsed.
    """
    names = dialect.names(path)
    if not names:
        raise ValueError(f"{path} is empty: a first row with the names of the columns and rows of numbers are needed")
    content = Content([Column(name) for name in names])

    def note(row: pa_csv.InvalidRow) -> str:
        content.ragged += 1
        if len(content.examples) < _SHOWN:
            where = row.number - 1 - dialect.header
            content.examples.append(f"row {where} has {row.actual_columns} fields")
        return "skip"

    keys = [str(i) for i in range(len(names))]
    try:
        with pa_csv.open_csv(
            str(path),
            read_options=pa_csv.ReadOptions(
                use_threads=False,
                block_size=_BLOCK,
                column_names=keys,
                skip_rows=dialect.skip,
                encoding="utf8" if dialect.encoding.startswith("utf-8") else dialect.encoding,
            ),
            parse_options=pa_csv.ParseOptions(
                delimiter=dialect.separator, newlines_in_values=True, invalid_row_handler=note
            ),
            convert_options=pa_csv.ConvertOptions(
                column_types=dict.fromkeys(keys, pa.string()), strings_can_be_null=False
            ),
        ) as reader:
            head = int(dialect.header)
            for batch in reader:
                rows = batch.slice(head)
                head = max(0, head - len(batch))
                for column, cells in zip(content.columns, rows.columns, strict=True):
                    column.take(cells, dialect.decimal)
                content.rows += len(rows)
    except (pa.ArrowInvalid, UnicodeError) as error:
        raise ValueError(f"{path} cannot be read as a table: {str(error).splitlines()[0]}") from error
    return content


def read_parquet(path: Path) -> Content:
    """A Parquet file in one pass. Raises ValueError for one that is none."""
    try:
        with pq.ParquetFile(path) as file:
            content = Content([Column(name) for name in file.schema_arrow.names])
            for batch in _batches(file):
                for column, cells in zip(content.columns, batch.columns, strict=True):
                    column.take(cells, ".")
                content.rows += len(batch)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} cannot be read as a table: {str(error).splitlines()[0]}") from error
    return content


def _batches(file: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
    yield from file.iter_batches(batch_size=_BATCH, use_threads=False)
