"""Files that are there whole or not at all, JSON records, checksums, and the checkpoint folders of a run.

The one place that renames a temporary file: it is written beside the final one, flushed, renamed, and the rename flushed.
What the operating system refuses (a full disk, a folder that is gone or may not be written to) is an error of one line.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidssl.errors import VidsslError

if TYPE_CHECKING:
    from torch import Tensor

LATEST, CHECKPOINTS = "latest.json", "checkpoints"  # in a run folder
CHECKSUMS = "checksums.json"  # in a checkpoint, written last
_PARTIAL = re.compile(r"\.([^/]+)\.\d+\.partial$")


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """A block that writes `path`.

    Raises:
        VidsslError: when the operating system refuses, naming path and reason.
    """
    try:
        yield
    except OSError as error:
        final = _PARTIAL.sub(r"\1", str(path))
        raise VidsslError(f"{final}: cannot be written: {error.strerror or error}") from error


@contextmanager
def whole_file(file: str | Path, durable: bool = True) -> Iterator[Path]:
    """A path to write to: it becomes `file` when the block ends well, and is removed otherwise. Parents are created.

    The file gets the mode that the umask gives, whatever writes it (safetensors keeps others from reading). Without
    `durable` it may lack parts after a power failure: for what can be made again, and knows whether it is whole.

    >>> with whole_file("list.csv") as partial:
    ...     partial.write_text("a.mp4,running")
    """
    file = Path(file)
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.touch()
            mode = stat.S_IMODE(partial.stat().st_mode)
            yield partial
            partial.chmod(mode)
            if durable:
                _flush(partial)
            partial.replace(file)
            if durable:
                _flush(file.parent)
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: str | Path) -> Iterator[Path]:
    """An empty folder to fill: it becomes `folder` when the block ends well, in place of one already there."""
    folder = Path(folder)
    partial, old = (folder.with_name(f".{folder.name}.{suffix}") for suffix in ("partial", "old"))
    with writing(folder):
        _bring_back(old, folder)  # of a writer that was killed between the two renames
        _remove(partial, old)
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
            _bring_back(old, folder)
            _remove(partial, old)


def require_new_folder(folder: Path) -> None:
    """Insist that nothing stands where a folder is to be written.

    Raises:
        VidsslError: when `folder` is a file, or a folder that is not empty.
    """
    if folder.exists() and not folder.is_dir():
        raise VidsslError(f"{folder}: is a file; a folder is needed")
    if folder.is_dir() and any(folder.iterdir()):
        raise VidsslError(f"{folder}: is not empty; choose another folder")


def clear_left_overs(folder: Path) -> None:
    """Remove what writers that were killed left right in `folder` under temporary names; nobody may be writing there.

    A folder that was to be replaced, and whose replacement never came, gets its name back.
    """
    with writing(folder):
        for path in [*folder.glob(".*.partial"), *folder.glob(".*.old")]:
            final = folder / path.name.removeprefix(".").removesuffix(".old")
            if path.suffix == ".old":
                _bring_back(path, final)
            if path.is_dir():
                _remove(path)
            else:
                path.unlink(missing_ok=True)


def require_other_file(file: Path, source: str | Path) -> None:
    """Insist that a file to write is not the one that its content comes from, all of which it may not hold.

    Raises:
        VidsslError: when it is.
    """
    with suppress(OSError):  # one of them is not there
        if file.samefile(source):
            raise VidsslError(f"{file}: is what is read; write to another place")


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
    """A safetensors file, whole or not at all; tensors that share storage are written out separately, and no others copied."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    written: dict[str, Tensor] = {}
    held: set[int] = set()
    for name, tensor in tensors.items():
        x = tensor.detach().to("cpu").contiguous()
        storage = x.untyped_storage().data_ptr()
        written[name] = x.clone() if storage in held else x
        held.add(storage)
    with whole_file(file) as partial:
        try:
            save_file(written, partial, metadata)
        except SafetensorError as error:  # what became of the operating system's
            raise OSError(str(error)) from error
    return Path(file)


def point_at_checkpoint(run: Path, checkpoint: Path, stopped: bool = False) -> None:
    """Record `checkpoint`, a folder somewhere below `run`, as the newest, and whether the run was then told to stop."""
    record = {"checkpoint": checkpoint.relative_to(run).as_posix(), "stopped": stopped}
    write_json(run / LATEST, record)


def checkpoints_of(run: Path) -> list[Path]:
    """The checkpoint folders of a run, the newest first. Each is complete, unless it was damaged since."""
    return sorted((run / CHECKPOINTS).glob("step_*"), reverse=True)


def seal(folder: Path) -> None:
    """Write size and SHA-256 of every file in a folder beside them, by which `damage` recognises what changed since."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    record = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in files
    }
    write_json(folder / CHECKSUMS, record)


def damage(folder: Path, below: str = "") -> str | None:
    """What differs in a folder from what was sealed; None where it is whole.

    Args:
        folder: the sealed folder.
        below: look only at files whose path within it begins so.
    """
    try:
        for name, sealed in read_json(folder / CHECKSUMS).items():
            file = folder / name
            if not name.startswith(below):
                continue
            if not file.is_file():
                return f"{name} is missing"
            if (size := file.stat().st_size) != sealed["bytes"]:
                return f"{name} has {size} bytes instead of {sealed['bytes']}"
            if sha256(file) != sealed["sha256"]:
                return f"the content of {name} is not what was written"
    except (KeyError, TypeError):
        return f"{CHECKSUMS} is no list of checksums"
    except (OSError, VidsslError) as error:
        return str(error).removeprefix(f"{folder}/")
    return None


def require_whole(checkpoint: Path, below: str = "") -> None:
    """Insist that a checkpoint of a run is as it was written; `below` as in `damage`.

    Raises:
        VidsslError: naming the file that is not, and the newest checkpoint before this one that is whole.
    """
    if (found := damage(checkpoint, below)) is None:
        return
    older = (x for x in sorted(checkpoint.parent.glob("step_*"), reverse=True) if x.name < checkpoint.name)
    whole = next((x for x in older if damage(x, below) is None), None)
    hint = "" if whole is None else f"; the one before it is whole: {whole}"
    raise VidsslError(f"{checkpoint}: the checkpoint is damaged: {found}{hint}")


def newest_checkpoint(run: Path) -> Path | None:
    """The newest checkpoint folder of `run`, damaged or not; None for a run that was stopped before its first.

    Raises:
        VidsslError: when there is none, but was one.
    """
    found = checkpoints_of(run)
    if not found and (run / LATEST).is_file():
        raise VidsslError(f"{run}: {LATEST} names a checkpoint, but {CHECKPOINTS}/ holds none any more")
    return found[0] if found else None


def sha256(file: Path) -> str:
    """Of a file's content, in hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _bring_back(old: Path, folder: Path) -> None:
    """Give a folder its name back whose replacement never came."""
    if old.exists() and not folder.exists():
        old.rename(folder)


def _remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _flush(path: Path) -> None:
    """The content of a file, or the renames in a folder, onto the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
