"""What a path may lead to besides a file: into a tar file, to another machine, or to a folder of frames with their rate.

shards/train-000003.tar/0042.mp4      a member of a tar file, as if that were a folder
/s3:/bucket/train-000003.tar/0042.mp4 the same in a store that fsspec opens; written s3://bucket/… by users
jester/148092#fps=12                  a folder of frames, 12 of them a second
"""

from __future__ import annotations

import re
from pathlib import Path

from vidssl.errors import VidsslError

ARCHIVE = ".tar"
_URL = re.compile(r"/([a-z][a-z0-9+.-]+):/+(.*)", re.DOTALL)
_WRITTEN_URL = re.compile(r"([a-z][a-z0-9+.-]+):/+(.*)", re.DOTALL)
_RATE = re.compile(r"(.*)#fps=([^/#]+)", re.DOTALL)


def local_form(source: str | Path) -> Path:
    """The absolute path that stands for what a user names; ``s3://bucket/x`` becomes ``/s3:/bucket/x``."""
    if (match := _WRITTEN_URL.fullmatch(str(source))) is not None:
        return Path(f"/{match[1]}:/{match[2]}")
    return Path(source).expanduser().absolute()


def url_of(path: Path) -> str | None:
    """``s3://bucket/x`` for what `local_form` made of it, None for a path on this machine."""
    match = _URL.fullmatch(str(path))
    return None if match is None else f"{match[1]}://{match[2]}"


def split_archive(path: Path) -> tuple[Path, str] | None:
    """The tar file that a path leads into, and the name of the member; None where it leads into none.

    A folder whose name ends in .tar is a folder.
    """
    parts = path.parts
    for number, part in enumerate(parts[:-1], 1):
        if part.endswith(ARCHIVE):
            archive = Path(*parts[:number])
            if url_of(archive) is not None or not archive.is_dir():
                return archive, "/".join(parts[number:])
    return None


def split_rate(path: str | Path) -> tuple[Path, float | None]:
    """A folder of frames and its frames a second, None where no rate is stated.

    Raises:
        VidsslError: the rate is not a positive number.
    """
    match = _RATE.fullmatch(str(path))
    if match is None or Path(path).exists():
        return Path(path), None
    try:
        rate = float(match[2])
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise VidsslError(f"{path}: {match[2]!r} is not a number of frames a second; such as #fps=12")
    return Path(match[1]), rate


def with_rate(path: str, rate: float) -> str:
    """How a folder of frames at a rate is written."""
    return f"{path}#fps={rate!r}".removesuffix(".0")
