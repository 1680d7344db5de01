"""Members of uncompressed tar files, found without unpacking: by an index of each file, made once from its headers.

With it a member is opened like a file: at its place, wherever that is, so that sets in shards obey the same order as sets of
files. The index of a tar file is kept in the user's cache folder and made anew when the tar file has changed.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import IO, Any

from vidssl.data.decode.address import split_archive, url_of
from vidssl.data.decode.reader import one_line
from vidssl.data.decode.trouble import MachineTroubleError
from vidssl.data.hub import row_bytes, split_row
from vidssl.errors import VidsslError
from vidssl.files import write_text

NOTE = 1 << 16  # bytes; members up to this size that are no videos, such as labels, are kept in the index
BLOCK = 512  # bytes, of which headers and padding are made; one of zeros ends an archive
FETCHED = 1 << 26  # bytes; a member of another machine of at most this size is fetched by one request


@dataclass(frozen=True)
class TarIndex:
    """Where the members of a tar file lie.

    Attributes:
        members: name -> (offset, size) in bytes, in the order of the file; of several of one name the last.
        notes: name -> text of the small members that are named like labels.
        cut: the archive ends in the middle of a member, which is not among them.
        changed: when it was, whatever its file system calls that.
    """

    members: dict[str, tuple[int, int]]
    notes: dict[str, str]
    cut: bool
    changed: str


Stamp = tuple[int, str]  # bytes, and when it was changed


def tar_index(archive: Path) -> TarIndex:
    """The index of a tar file, from this process's memory, the user's cache, or one pass over its headers.

    Raises:
        VidsslError: there is no such file, or it is no uncompressed tar file.
    """
    return _index(archive, _stamp(archive) if url_of(archive) is None else _remote_stamp(archive))


@lru_cache(maxsize=4096)
def _index(archive: Path, stamp: Stamp) -> TarIndex:
    cached = _cache_file(archive)
    with suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(cached.read_text(encoding="utf-8"))
        if tuple(known["stamp"]) == stamp:
            members = {name: (int(start), int(size)) for name, (start, size) in known["members"].items()}
            return TarIndex(members, dict(known["notes"]), bool(known["cut"]), stamp[1])
    index = _scan(archive, stamp)
    with suppress(VidsslError):  # a cache folder that cannot be written costs only time
        record = {"archive": str(archive), "stamp": stamp, **vars(index)}
        write_text(cached, json.dumps(record))
    return index


def open_member(path: Path) -> Any:
    """The member of a tar file, or the row of a saved data set, that a path leads to, to be read and sought like a file; None
    for any other path.

    Raises:
        VidsslError: there is no such tar file.
        OSError: it has no such member, or cannot be read.
    """
    if (row := split_row(path)) is not None:
        return row_bytes(*row)
    found = split_archive(path)
    if found is None:
        return None
    archive, name = found
    place = tar_index(archive).members.get(name)
    if place is None:
        raise FileNotFoundError(f"{archive} has no member {name!r}")
    start, size = place
    if (url := url_of(archive)) is None:
        return Slice(archive.open("rb", buffering=0), start, size, str(path))
    with _reaching(url) as (system, inside):
        if size <= FETCHED:
            whole = io.BytesIO(system.cat_file(inside, start, start + size))
            whole.name = str(path)
            return whole
        return Slice(system.open(inside, "rb"), start, size, str(path))


class Slice(io.RawIOBase):
    """A part of an open file as a file, which closes it; `name` is for messages."""

    def __init__(self, file: Any, start: int, size: int, name: str) -> None:
        self._file, self._start, self._size, self._at, self.name = file, start, size, 0, name

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"{self.name}: sought to before its start")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")[: max(0, self._size - self._at)]
        self._file.seek(self._start + self._at)
        count = int(self._file.readinto(view) or 0) if view else 0
        self._at += count
        return count

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def _scan(archive: Path, stamp: Stamp) -> TarIndex:
    size, changed = stamp
    members: dict[str, tuple[int, int]] = {}
    notes: dict[str, str] = {}
    with _opened(archive) as file:
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                for entry in _entries(tar):
                    if entry.offset_data + entry.size > size:
                        break
                    if not entry.isreg() or entry.issparse():
                        continue
                    name = _inside(entry.name)
                    members[name] = entry.offset_data, entry.size
                    if name.endswith((".cls", ".json", ".txt")) and entry.size <= NOTE:
                        file.seek(entry.offset_data)
                        notes[name] = file.read(entry.size).decode("utf-8", "replace")
                file.seek(min(tar.offset, size))
                cut = tar.offset > size or file.read(BLOCK) not in (b"", bytes(BLOCK))
        except tarfile.TarError as error:
            what = "it is compressed; write it without" if _is_compressed(file) else str(error)
            raise VidsslError(f"{archive}: is no tar file in which members can be found ({what})") from None
    return TarIndex(members, notes, cut, changed)


def _entries(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The entries up to the end of the archive, or to the first that is damaged."""
    with suppress(tarfile.TarError):
        while (entry := tar.next()) is not None:
            yield entry


def _inside(name: str) -> str:
    """A member's name as one of a path below the tar file."""
    return "/".join(part for part in PurePosixPath(name).parts if part not in ("/", ".", ".."))


def _is_compressed(file: IO[bytes]) -> bool:
    file.seek(0)
    return file.read(6).startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"))


@contextmanager
def _reaching(url: str) -> Iterator[tuple[Any, str]]:
    """The file system that a URL names, and the path on it; what goes wrong there is no video's fault."""
    import fsspec

    try:
        system, inside = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise VidsslError(f"{url}: cannot be opened ({error})") from error
    try:
        yield system, inside
    except FileNotFoundError:
        raise VidsslError(f"{url}: no such file") from None
    except Exception as error:
        raise MachineTroubleError(
            f"{url}: could not be read ({one_line(error)}); is its store well?"
        ) from error


@contextmanager
def _opened(archive: Path) -> Iterator[Any]:
    if (url := url_of(archive)) is None:
        with archive.open("rb") as file:
            yield file
    else:
        with _reaching(url) as (system, inside), system.open(inside, "rb") as file:
            yield file


def _stamp(archive: Path) -> Stamp:
    """Size and time of change of a tar file.

    Raises:
        VidsslError: there is none.
    """
    try:
        status = archive.stat()
    except OSError as error:
        raise VidsslError(f"{archive}: cannot be read ({error.strerror})") from error
    return status.st_size, str(status.st_mtime_ns)


@lru_cache(maxsize=4096)
def _remote_stamp(archive: Path) -> Stamp:
    """The same of one on another machine, asked once in a process."""
    with _reaching(url_of(archive) or "") as (system, inside):
        facts = system.info(inside)
    changed = next(
        (str(facts[key]) for key in ("ETag", "etag", "mtime", "LastModified", "created") if facts.get(key)),
        "",
    )
    return int(facts["size"]), changed


def _cache_file(archive: Path) -> Path:
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("vidssl")) / "shards" / f"{sha256(os.fsencode(archive)).hexdigest()[:24]}.json"
