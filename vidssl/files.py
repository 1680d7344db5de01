"""Files that are there whole or not at all, JSON records, and the pointer to a run's newest checkpoint.

The one place that renames a temporary file: it is written beside the final one, flushed, renamed, and the rename flushed.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidssl.errors import VidsslError

if TYPE_CHECKING:
    from torch import Tensor

LATEST = "latest.json"  # in a run folder


@contextmanager
def whole_file(file: str | Path) -> Iterator[Path]:
    """A path to write to: it becomes `file` when the block ends well, and is removed otherwise. Parents are created.

    >>> with whole_file("list.csv") as partial:
    ...     partial.write_text("a.mp4,running")
    """
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        yield partial
        _flush(partial)
        partial.replace(file)
        _flush(file.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: str | Path) -> Iterator[Path]:
    """An empty folder to fill: it becomes `folder` when the block ends well, in place of one already there."""
    folder = Path(folder)
    partial, old = (folder.with_name(f".{folder.name}.{suffix}") for suffix in ("partial", "old"))
    for left_over in (partial, old):
        shutil.rmtree(left_over, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        for path in (*sorted(partial.rglob("*"), reverse=True), partial):
            _flush(path)
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
        _flush(folder.parent)
    finally:
        for left_over in (partial, old):
            shutil.rmtree(left_over, ignore_errors=True)


def write_text(file: str | Path, text: str) -> Path:
    """UTF-8 with plain line ends, whole or not at all; parents are created."""
    file = Path(file)
    with whole_file(file) as partial, partial.open("w", encoding="utf-8", newline="\n") as stream:
        stream.write(text)
    return file


def write_json(file: str | Path, data: Mapping[str, Any]) -> Path:
    """A JSON object, whole or not at all; parents are created."""
    return write_text(file, json.dumps(data, indent=2) + "\n")


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        VidsslError: when the file is missing, no JSON, or holds something else than an object.
    """
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise VidsslError(f"{file}: no such file") from None
    except (OSError, ValueError) as error:
        raise VidsslError(f"{file}: cannot be read as JSON: {error}") from error
    if not isinstance(data, dict):
        raise VidsslError(f"{file}: expected a JSON object, found {type(data).__name__}")
    return data


def write_tensors(
    file: str | Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> Path:
    """A safetensors file, whole or not at all; tensors that share storage are written out separately."""
    from safetensors.torch import save_file

    copies = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    with whole_file(file) as partial:
        save_file(copies, partial, metadata)
    return Path(file)


def point_at_checkpoint(run: Path, checkpoint: Path) -> None:
    """Make `checkpoint`, a folder somewhere below `run`, the newest one."""
    write_json(run / LATEST, {"checkpoint": checkpoint.relative_to(run).as_posix()})


def newest_checkpoint(run: Path) -> Path | None:
    """The checkpoint folder that `run` points at, None for a run that was stopped before its first.

    Raises:
        VidsslError: when the pointer is damaged, or what it names is not there.
    """
    pointer = run / LATEST
    if not pointer.is_file():
        return None
    name = read_json(pointer).get("checkpoint")
    if not isinstance(name, str):
        raise VidsslError(f"{pointer}: names no checkpoint")
    if not (run / name).is_dir():
        raise VidsslError(f"{pointer}: names {name!r}, which is not there")
    return run / name


def _flush(path: Path) -> None:
    """The content of a file, or the renames in a folder, onto the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
