"""Features on a disk, for any number of processes and runs: what is there is whole, and what is damaged is thrown away.

A folder has a shelf, again a folder, for each way of computing a kind of features: ``manifest.json`` says which, and every
``*.safetensors`` beside it holds ``rows`` (n, V, …), ``new`` (n, C) and, in its header, the names of its n videos and CRC-32s.
Files are only ever added and removed. A writer that is killed loses what it had not written, at most `ROWS` videos.
"""

from __future__ import annotations

import hashlib
import json
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vidssl.errors import VidsslError, counted
from vidssl.evaluation.features.room import Room
from vidssl.files import whole_file, write_json

VERSION = 2  # of what is kept, and of how it is computed where that moves its last bits
ROWS, BYTES, SECONDS = 256, 64 * 2**20, 60.0  # with any of these a file is written


class Found(NamedTuple):
    """Features that are kept of some of the videos asked for.

    places: (n,) int64, which of them; rows: (n, V, …) float32, a clip's crops next to each other; new: (n, C) bool, False for
    a clip of the same frames as an earlier one of the video.
    """

    places: Tensor
    rows: Tensor
    new: Tensor


class Shelf:
    """Kept features of one kind.

    Args:
        room: where they are kept.
        about: JSON-able, says all that decides them but the videos; other features are on another shelf.
    """

    def __init__(self, room: Room, about: Mapping[str, Any]) -> None:
        self._room, self._about = room, {"version": VERSION, **about}
        said = json.dumps(self._about, sort_keys=True)
        self.folder = room.folder / hashlib.sha256(said.encode()).hexdigest()[:32]
        self._files: dict[Path, list[str]] = {}
        self._where: dict[str, tuple[Path, int]] = {}
        self._waiting: dict[str, tuple[Tensor, Tensor]] = {}
        self._bytes, self._started, self._full = 0, time.monotonic(), False

    def has(self, names: Sequence[str | None]) -> list[bool]:
        """Of which videos there are features, their files read and whole; None is the name of none."""
        self._look()
        for file in {self._where[name][0] for name in names if name is not None and name in self._where}:
            self._load(file)
        return [name in self._where for name in names]

    def find(self, names: Sequence[str | None]) -> Iterator[Found]:
        """What is kept of these videos, a file at a time; each at most once, and what is damaged never."""
        self._look()
        wanted: dict[Path, list[tuple[int, int]]] = {}
        for place, name in enumerate(names):
            if name is not None and name in self._where:
                file, row = self._where[name]
                wanted.setdefault(file, []).append((place, row))
        for file, pairs in wanted.items():
            if (tensors := self._load(file)) is not None:
                places, rows = torch.tensor(pairs).T
                yield Found(places, tensors["rows"][rows], tensors["new"][rows])

    def open(self, names: Sequence[str]) -> KeptRows:
        """Rows of these videos, to be read a few at a time.

        Raises:
            VidsslError: there is none of one of them.
        """
        self._look()
        lost = [name for name in names if name not in self._where]
        if lost:
            raise VidsslError(
                f"{self.folder}: lacks the features of {len(lost)} of {counted(len(names), 'video')}; is there room for them (limit "
                f"{self._room.limit / 1e9:g} GB), and do all processes see this folder?"
            )
        return KeptRows([self._where[name] for name in names])

    def keep(self, names: Sequence[str], rows: Tensor, new: Tensor) -> None:
        """Keep rows (n, V, …) and `new` (n, C) of n videos; they are written when there are enough of them."""
        for name, row, clips in zip(names, rows, new, strict=True):
            if name not in self._where and name not in self._waiting and not self._full:
                self._waiting[name] = (row.clone(), clips.clone())
                self._bytes += row.nbytes
        waited = time.monotonic() - self._started
        if len(self._waiting) >= ROWS or self._bytes >= BYTES or waited >= SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what waits, if there is room."""
        names = sorted(self._waiting)
        if names:
            rows, new = (torch.stack([self._waiting[name][part] for name in names]) for part in (0, 1))
            self._full = not self._write(names, {"rows": rows, "new": new})
        self._waiting, self._bytes, self._started = {}, 0, time.monotonic()

    def _write(self, names: list[str], tensors: dict[str, Tensor]) -> bool:
        crc = {name: _crc(tensor) for name, tensor in tensors.items()}
        name = hashlib.sha256("\n".join(names).encode()).hexdigest()[:32]
        size = sum(tensor.nbytes for tensor in tensors.values()) + 80 * len(names)
        file = self.folder / f"{name}.safetensors"
        try:
            with self._room.space(size) as fits:
                if not fits:
                    return False
                manifest = self.folder / "manifest.json"
                if not manifest.is_file():
                    write_json(manifest, self._about)
                with whole_file(file, durable=False) as partial:
                    save_file(tensors, partial, {"videos": json.dumps(names), "crc": json.dumps(crc)})
        except SafetensorError:
            return False
        except VidsslError as error:  # a disk that takes no more is one without room
            if isinstance(error.__cause__, OSError):
                return False
            raise
        return True

    def _look(self) -> None:
        """Find out which files there are now."""
        there = {file for file in self.folder.glob("*.safetensors") if not file.name.startswith(".")}
        if there == self._files.keys():
            return
        self._files = {file: self._files.get(file) or self._names(file) for file in there}
        self._where = {
            name: (file, row) for file in sorted(there) for row, name in enumerate(self._files[file])
        }

    def _names(self, file: Path) -> list[str]:
        try:
            with safe_open(file, "pt") as opened:
                return list(json.loads(opened.metadata()["videos"]))
        except FileNotFoundError:
            return []
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):
            self._throw_away(file)
            return []

    def _load(self, file: Path) -> dict[str, Tensor] | None:
        """A file's tensors, None where they are not as they were written."""
        try:
            with safe_open(file, "pt") as opened:
                crc = json.loads(opened.metadata()["crc"])
                tensors = {name: opened.get_tensor(name) for name in ("rows", "new")}
            if all(_crc(tensor) == crc[name] for name, tensor in tensors.items()):
                file.touch()
                return tensors
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):
            pass
        self._throw_away(file)
        return None

    def _throw_away(self, file: Path) -> None:
        with suppress(OSError):
            file.unlink()
        for name in self._files.pop(file, []):
            self._where.pop(name, None)


class KeptRows:
    """Rows of N videos in files that are mapped into memory, not read; `where`: of each, its file and row there."""

    def __init__(self, where: Sequence[tuple[Path, int]]) -> None:
        self._where = list(where)
        self._open: dict[Path, Any] = {}

    def __len__(self) -> int:
        return len(self._where)

    def __getitem__(self, places: Sequence[int]) -> tuple[Tensor, Tensor]:
        """(n, V, …) float32 and (n, C) bool, as in `Found`, of the videos at n places."""
        rows, new = [], []
        for place in places:
            file, row = self._where[place]
            if file not in self._open:
                file.touch()
                opened: Any = safe_open(file, "pt")
                self._open[file] = (opened.get_slice("rows"), opened.get_tensor("new"), opened)
            slices, clips, _ = self._open[file]
            rows.append(slices[row : row + 1])
            new.append(clips[row])
        return torch.cat(rows), torch.stack(new)


def _crc(tensor: Tensor) -> int:
    return zlib.crc32(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
