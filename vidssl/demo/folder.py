"""The demo's folder: an earlier demo there is replaced once a new one is complete, and nothing else ever is."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import typer

from vidssl.errors import VidsslError
from vidssl.files import writing

MARKER, RESULT = "made-by-vidssl-demo", "result.json"


@contextmanager
def claimed(folder: Path, parts: Sequence[str]) -> Iterator[None]:
    """A block that fills an empty folder; a complete earlier demo there comes back if it fails.

    Args:
        folder: made if absent.
        parts: names of what a demo leaves in it, `RESULT` the last to be written among them.

    Raises:
        VidsslError: when `folder` holds something that is not a demo.
    """
    if folder.exists() and not folder.is_dir():
        raise VidsslError(f"{folder}: is a file; a folder is needed")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARKER).is_file():
        raise VidsslError(f"{folder}: is not empty and no earlier demo; choose another with --output")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARKER).touch()
        earlier, gone = folder / ".earlier", folder / ".gone"
        _move(parts, earlier, folder)  # of one that was killed
        _remove(earlier)
        if (folder / RESULT).is_file():
            _move(parts, folder, earlier)
        else:
            for part in parts:
                _remove(folder / part)
    try:
        yield
    except BaseException:
        if earlier.is_dir():
            _move(parts, earlier, folder)
            _remove(earlier)
            typer.echo(f"{folder}: nothing is left of this demo, the earlier one is back")
        raise
    _remove(gone)
    if earlier.is_dir():
        earlier.rename(gone)  # at once, so that no half of it ever comes back
    _remove(gone)


def _move(parts: Sequence[str], source: Path, target: Path) -> None:
    """What `source` holds of a demo, in place of what `target` does; nothing if there is no such folder."""
    if not source.is_dir():
        return
    target.mkdir(exist_ok=True)
    for part in parts:
        if (source / part).exists():
            _remove(target / part)
            (source / part).rename(target / part)


def _remove(part: Path) -> None:
    part.unlink() if part.is_file() else shutil.rmtree(part, ignore_errors=True)
