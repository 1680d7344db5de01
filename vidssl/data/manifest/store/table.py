"""Arrow files of facts: opened without being read, asked row by row, and written in blocks.

A time line is handed out only while the file is what it was when it was examined.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vidssl.data.decode.reader import DecodeError, VideoInfo
from vidssl.data.decode.timeline import Timeline
from vidssl.data.manifest.content import file_stamp
from vidssl.data.manifest.store.checksums import KEY, head_checksum, write_sealed
from vidssl.data.manifest.store.columns import Column, Rows
from vidssl.data.manifest.store.facts import INFO, fact_schema, timeline_of
from vidssl.data.manifest.store.mapped import Mapped
from vidssl.errors import VidsslError
from vidssl.files import whole_file

if TYPE_CHECKING:
    import pyarrow as pa

HEAD = b"vidssl"  # key in the schema's metadata
BLOCK = 8192  # rows written at a time
THREADS = 16  # of which most wait for the disk


class Facts:
    """What is known of the files of some videos; row i is of video i.

    Args:
        mapped: a table with the columns of `fact_schema`.
        rows: of the table, for each video; None for all.
        source: since when they are known, for a person.
    """

    def __init__(self, mapped: Mapped, rows: Rows | None, source: str) -> None:
        self._mapped, self._rows, self.source = mapped, rows, source
        table = mapped.table
        self._columns = {name: table.column(name) for name in table.column_names if name != "path"}

    def __reduce__(self) -> tuple[Callable[..., Facts | None], tuple[Any, ...]]:
        return _facts_again, (self._mapped.__reduce__(), self._rows, self.source)

    def __len__(self) -> int:
        return self._mapped.table.num_rows if self._rows is None else len(self._rows)

    @property
    def changed(self) -> str:
        """What is said of a file that is no longer what it was."""
        return f"it has changed since {self.source}"

    def subset(self, places: Rows) -> Facts:
        """The facts of the videos at some places, in that order."""
        return Facts(self._mapped, places if self._rows is None else self._rows[places], self.source)

    def column(self, *names: str) -> Column[Any]:
        """The values of a column, or tuples of those of several."""
        return Column(self._mapped, names, _value if len(names) == 1 else _values, self._rows)

    def timeline(self, i: int, path: Path) -> Timeline:
        """The time line of the file of video i, which lies at `path`.

        Raises:
            DecodeError: the file was found unreadable, or is not of the size and time of change that it had.
        """
        row = i if self._rows is None else int(self._rows[i])
        known = {name: column[row] for name, column in self._columns.items()}
        stamp = known["bytes"].as_py(), known["changed"].as_py()
        if stamp[0] is not None and stamp != file_stamp(path):
            reason = self.changed if file_stamp(path) else "no such file"
            raise DecodeError(path, "auto", reason)
        if (error := known["error"].as_py()) is not None:
            raise DecodeError(path, "pyav", error)
        return timeline_of({name: _cell(value) for name, value in known.items()})

    def answers(self, backend: str, paths: Iterable[Path]) -> Iterator[VideoInfo | str]:
        """Of each video its facts, or why `backend` cannot decode its file, which lies at `paths`."""
        asked = [] if backend == "auto" else [backend]
        rows = self.column("bytes", "changed", "error", *asked, *INFO)
        with ThreadPool(THREADS) as pool:
            stamps = pool.imap(file_stamp, paths, 256)
            for (size, changed, *rest), stamp in zip(rows, stamps, strict=True):
                objections, values = rest[: 1 + len(asked)], rest[1 + len(asked) :]
                if size is not None and stamp != (size, changed):
                    yield self.changed if stamp else "no such file"
                else:
                    yield next(filter(None, objections), None) or VideoInfo(*values)


def joined_facts(of_sets: Sequence[Facts | None]) -> Facts | None:
    """What is known of the files of several sets, one after the other; None where nothing is known of those of one."""
    import pyarrow as pa

    known = [facts for facts in of_sets if facts is not None]
    if not known or len(known) < len(of_sets):
        return None
    names, rows, before = fact_schema().names, [], 0
    for facts in known:
        table = facts._mapped.table
        rows.append(before + (np.arange(len(facts)) if facts._rows is None else facts._rows))
        before += table.num_rows
    tables = [facts._mapped.table.select(names).replace_schema_metadata() for facts in known]
    source = " or ".join(dict.fromkeys(facts.source for facts in known))
    return Facts(Mapped(pa.concat_tables(tables)), np.concatenate(rows), source)


def write_table(
    file: Path, table: pa.Table, rows: Rows, extra: Mapping[str, pa.Array], head: Mapping[str, Any]
) -> None:
    """Write some rows of a table, in that order, replacing `file` at once; never more than a block of them is held.

    Args:
        extra: more columns, of as many rows.
        head: is kept as JSON in the schema.

    Raises:
        VidsslError: the file cannot be written.
    """
    import pyarrow as pa

    schema = pa.schema([*table.schema, *((name, values.type) for name, values in extra.items())])
    schema = with_head(schema, head)
    with (
        whole_file(file) as partial,
        pa.OSFile(str(partial), "wb") as sink,
        pa.ipc.new_file(sink, schema) as writer,
    ):
        for start in range(0, len(rows), BLOCK):
            block = table.take(rows[start : start + BLOCK])
            for name, values in extra.items():
                block = block.append_column(name, values.slice(start, BLOCK))
            write_sealed(writer, block.cast(schema) if block.schema != schema else block)


def with_head(schema: pa.Schema, head: Mapping[str, Any]) -> pa.Schema:
    """A schema that holds JSON data about the whole table."""
    text = json.dumps(dict(head)).encode()
    return schema.with_metadata({HEAD: text, KEY: head_checksum(text, schema.names)})


def head_of(table: pa.Table) -> dict[str, Any]:
    """What `write_table` was given as head; empty where it is none of its tables.

    Raises:
        ValueError: it is damaged.
    """
    said = table.schema.metadata or {}
    if (text := said.get(HEAD)) is None:
        return {}
    if said.get(KEY) != head_checksum(text, table.schema.names):
        raise ValueError("its checksum is missing or wrong: it is damaged, or of an older vidssl")
    return dict(json.loads(text))


def _facts_again(
    mapped: tuple[Callable[..., Mapped], tuple[Any, ...]], rows: Rows | None, source: str
) -> Facts | None:
    """None where the file is not to be had: on another machine than the one that examined the videos."""
    try:
        return Facts(mapped[0](*mapped[1]), rows, source)
    except VidsslError:
        return None


def _value(value: Any) -> Any:
    return value


def _values(*values: Any) -> Any:
    return values


def _cell(value: pa.Scalar) -> Any:
    """A value of Python; numbers of a list as an array."""
    import pyarrow as pa

    if isinstance(value, pa.LargeListScalar):
        return value.values.to_numpy() if value.is_valid else None
    return value.as_py()
