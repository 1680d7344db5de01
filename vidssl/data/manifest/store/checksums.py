"""Checksums in Arrow files, which have none of their own: a damaged file is told before anything is believed of it.

A batch carries the CRC-32 of its values, the schema that of what the table says of itself. The values are checked for sense as well,
because a wrong length would have Arrow read beyond its memory.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

KEY = b"crc32"


def checksum(batch: pa.RecordBatch) -> bytes:
    """Of a batch as it lies in a file: in memory it may be a view of more."""
    crc = zlib.crc32(str(batch.num_rows).encode())
    for column in batch.columns:
        for values in column.buffers():
            crc = crc if values is None else zlib.crc32(values, crc)
    return b"%08x" % crc


def write_sealed(writer: Any, table: pa.Table) -> None:
    """Write a table as one batch with its checksum to a writer of an Arrow file."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table.combine_chunks())
    for batch in pa.ipc.open_stream(sink.getvalue()):  # laid out as it will be read
        writer.write_batch(batch, custom_metadata={KEY: checksum(batch)})


def read_sealed(reader: Any) -> pa.Table:
    """The table of an Arrow file; where its schema has a checksum, every batch of it must have the right one.

    Raises:
        ValueError: a checksum is wrong, or a value impossible.
    """
    import pyarrow as pa

    batches = []
    for number in range(reader.num_record_batches):
        batch, notes = reader.get_batch_with_custom_metadata(number)
        batch.validate(full=True)
        if KEY in (reader.schema.metadata or {}) and (notes or {}).get(KEY) != checksum(batch):
            raise ValueError("it is damaged: a checksum is wrong")
        batches.append(batch)
    return pa.Table.from_batches(batches, reader.schema)


def head_checksum(text: bytes, names: Sequence[str]) -> bytes:
    """Of what a table says of itself, and the names of its columns."""
    return b"%08x" % zlib.crc32("\n".join(names).encode(), zlib.crc32(text))
