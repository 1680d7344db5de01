"""Examining many files, in parallel, each once: what is known of unchanged ones stays, and a killed job goes on.

Every answer is written to a journal beside the final file as soon as there are some. Whoever is killed leaves it there, and
the next one reads it first.
"""

from __future__ import annotations

import glob
import os
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vidssl.data.decode.choice import decoder_versions
from vidssl.data.ends import CRASHED, SLOW
from vidssl.data.manifest.content import content_hash, file_stamp
from vidssl.data.manifest.probe import probe_all
from vidssl.data.manifest.store.columns import Rows
from vidssl.data.manifest.store.facts import Row, fact_schema
from vidssl.data.manifest.store.mapped import Mapped, read_table
from vidssl.data.manifest.store.table import THREADS, head_of, with_head, write_table
from vidssl.files import writing
from vidssl.progress import Progress

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 2  # of the columns
FLUSH = 2.0  # seconds after which answers are written down at the latest
FLUSH_ROWS = 256


class Examined(NamedTuple):
    """What is known of the files of some videos: `rows` of a table, one a video.

    Attributes:
        known: files of which all was known. renewed: whose time of change alone was new. opened: the others.
    """

    mapped: Mapped
    rows: Rows
    known: int
    renewed: int
    opened: int


class Examination(NamedTuple):
    """How files are examined.

    Attributes:
        root: of relative names. decoders: that are asked, PyAV among them. workers: processes. timeout: seconds for a file.
        progress: show how far it is on standard error, from the second second on.
    """

    root: Path
    decoders: tuple[str, ...]
    workers: int
    timeout: float = 60.0
    progress: bool = True

    def of(self, names: Sequence[str], out: Path) -> Examined:
        """What is known of the files with these names, from `out` and the journals beside it, or by opening them.

        A file that is named several times is opened once. The journals are to be removed with `clear_journals` once the answers
        are in `out`.

        Raises:
            VidsslError: see `probe_all`; also when the journal cannot be written.
        """
        import pyarrow as pa

        files = list(dict.fromkeys(names))
        earlier = _earlier(out)
        known = _Known(pa.concat_tables([fact_schema().empty_table(), *earlier.values()]), self.decoders)
        with ThreadPool(THREADS) as pool:
            stamps = pool.map(file_stamp, [self.root / file for file in files], chunksize=256)
        rows = [known.find(file, stamp, self.root) for file, stamp in zip(files, stamps, strict=True)]
        asked = [i for i, row in enumerate(rows) if row is None]
        renewed = sum(isinstance(row, dict) for row in rows)
        with _Journal(out, known) as journal:
            for i, row in enumerate(rows):
                rows[i] = journal.add(files[i], row) if isinstance(row, dict) else row
            answers = probe_all(
                [self.root / files[i] for i in asked], self.workers, self.timeout, self.decoders
            )
            with Progress("opening videos", len(asked), "file", delay=2, show=self.progress) as bar:
                for place, row in answers:
                    rows[asked[place]] = journal.add(files[asked[place]], row)
                    bar.update()
        places, is_new = dict(zip(files, rows, strict=True)), bool(renewed or asked)
        return Examined(
            Mapped(journal.table(), out if [*earlier] == [out] and not is_new else None),
            np.array([places[name] for name in names], np.int64),
            known=len(files) - renewed - len(asked),
            renewed=renewed,
            opened=len(asked),
        )


def table_head() -> dict[str, Any]:
    """What a table of facts says of itself; a table with another head is worthless."""
    return {"format": FORMAT, "versions": decoder_versions()}


def keep(examined: Examined, out: Path) -> Examined:
    """Write all that is known of files, also of those that were not asked for now; the same, from the new file.

    Raises:
        VidsslError: the file cannot be written.
    """
    latest = {name: row for row, name in enumerate(examined.mapped.table.column("path").to_pylist())}
    rows = np.sort([*latest.values()])
    write_table(out, examined.mapped.table, rows, {}, table_head())
    clear_journals(out)
    return examined._replace(mapped=Mapped.of(out), rows=np.searchsorted(rows, examined.rows))


def clear_journals(out: Path) -> None:
    """Remove the journals beside a file that holds what is in them."""
    for journal in _journals(out):
        with suppress(OSError):
            journal.unlink()


class _Known:
    """Rows that were found earlier, by the name of their file; later ones count."""

    def __init__(self, table: pa.Table, decoders: Iterable[str]) -> None:
        self.table, self.decoders = table, tuple(decoders)
        self.rows = {name: row for row, name in enumerate(table.column("path").to_pylist())}

    def find(self, file: str, stamp: tuple[int, int] | None, root: Path) -> int | Row | None:
        """Where the file's row is, or the row itself where only the time of change is to be renewed; None: open it."""
        row = self.rows.get(os.fsencode(file))
        if row is None or stamp is None:
            return None
        known = {
            name: self.table.column(name)[row]
            for name in ("bytes", "changed", "content", "error", *self.decoders)
        }
        size, changed, content, error, *asked = (value.as_py() for value in known.values())
        by_chance = any((text or "").startswith((CRASHED, SLOW)) for text in (error, *asked))
        if size != stamp[0] or by_chance or (error is None and None in asked):
            return None
        if changed == stamp[1]:
            return row
        with suppress(OSError):
            if content_hash(root / file) == content:
                found: Row = self.table.slice(row, 1).to_pylist()[0]
                return {**found, "changed": stamp[1]}
        return None


class _Journal:
    """New rows, in a stream beside the final file; nothing is made where there are none."""

    def __init__(self, out: Path, known: _Known) -> None:
        self._file, self._known = out.with_name(f".{out.name}.{os.getpid()}.journal"), known
        self._rows: list[Row] = []
        self._count: int = known.table.num_rows
        self._written = time.monotonic()
        self._sink: Any = None
        self._writer: Any = None

    def __enter__(self) -> _Journal:
        return self

    def __exit__(self, *exc: object) -> None:
        self._flush()
        if self._writer is not None:
            self._writer.close()
            self._sink.close()

    def add(self, file: str, row: Row) -> int:
        """Keep a row; where it will be in `table`."""
        self._rows.append({**row, "path": os.fsencode(file)})
        self._count += 1
        if len(self._rows) >= FLUSH_ROWS or time.monotonic() - self._written > FLUSH:
            self._flush()
        return self._count - 1

    def table(self) -> pa.Table:
        """The rows of earlier, then the new ones."""
        import pyarrow as pa

        if self._writer is None:
            return self._known.table
        return pa.concat_tables([self._known.table, read_table(self._file)])

    def _flush(self) -> None:
        import pyarrow as pa

        if not self._rows:
            return
        with writing(self._file):
            if self._writer is None:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                self._sink = self._file.open("wb")
                self._writer = pa.ipc.new_stream(self._sink, with_head(fact_schema(), table_head()))
            self._writer.write_batch(pa.RecordBatch.from_pylist(self._rows, schema=fact_schema()))
            self._sink.flush()
        self._rows, self._written = [], time.monotonic()


def _journals(out: Path) -> list[Path]:
    return sorted(out.parent.glob(f".{glob.escape(out.name)}.*.journal"))


def _earlier(out: Path) -> dict[Path, pa.Table]:
    """The tables of `out` and of the journals beside it, as far as they are sound and of the same decoders."""
    import pyarrow as pa

    found = {}
    for file in (out, *_journals(out)):
        with suppress(OSError, ValueError, KeyError, TypeError, pa.ArrowException):
            table = read_table(file)
            if table_head().items() <= head_of(table).items():
                found[file] = table.select(fact_schema().names).cast(fact_schema())
    return found
