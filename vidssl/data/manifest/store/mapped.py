"""Tables mapped into memory: a process that is handed one maps the file itself, so that its rows are never copied."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidssl.data.manifest.content import file_stamp
from vidssl.data.manifest.store.checksums import read_sealed
from vidssl.errors import VidsslError

if TYPE_CHECKING:
    import pyarrow as pa

Stamp = tuple[int, int]


class Mapped:
    """A table, and the file that it is mapped from, if all of it is; without one it is pickled whole."""

    def __init__(self, table: pa.Table, file: Path | None = None) -> None:
        self.table, self.file = table, file
        self.stamp = None if file is None else file_stamp(file)

    @classmethod
    def of(cls, file: Path) -> Mapped:
        """The table of an Arrow file; errors are those of `read_table`."""
        return cls(read_table(file), file.absolute())

    def __reduce__(self) -> tuple[Callable[..., Mapped], tuple[Any, ...]]:
        return (Mapped, (self.table,)) if self.file is None else (map_again, (self.file, self.stamp))


def map_again(file: Path, stamp: Stamp | None) -> Mapped:
    """What another process had mapped.

    Raises:
        VidsslError: the file is not here, or not the same.
    """
    if stamp is None or file_stamp(file) != stamp:
        raise VidsslError(
            f"{file}: is not the same file as where it was opened first; every process needs it"
        )
    return Mapped(read_table(file, believed=True), file)


def read_table(file: Path, believed: bool = False) -> pa.Table:
    """The rows of a finished Arrow file, mapped into memory, or of a stream as far as it was written.

    Args:
        believed: its checksums were right before, in another process.

    Raises:
        OSError, ValueError, pyarrow.ArrowInvalid: it is neither, or damaged.
    """
    import pyarrow as pa

    source = pa.memory_map(str(file))
    if source.read(6) == b"ARROW1":
        reader = pa.ipc.open_file(source)
        return reader.read_all() if believed else read_sealed(reader)
    source.seek(0)
    reader, batches = pa.ipc.open_stream(source), []
    with suppress(StopIteration, pa.ArrowInvalid, OSError):  # its writer was killed over the last one
        while True:
            batches.append(reader.read_next_batch())
            batches[-1].validate(full=True)
    return pa.Table.from_batches(batches, reader.schema)
