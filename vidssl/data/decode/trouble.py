"""Trouble of the machine (no descriptors, no memory, a file system that does not answer), which says nothing of a file.

A broken video is replaced; trouble of the machine never is: it is waited out for a few seconds, then it is an error.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from vidssl.errors import VidsslError

T = TypeVar("T")

WAITS = (0.5, 1.0, 2.0, 4.0)  # seconds before each further try

# Never caused by what is in a file.
_CERTAIN = (
    errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.ECONNRESET,
    errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH,
)  # fmt: skip
_IN_WORDS = {
    os.strerror(code) for code in _CERTAIN
}  # decord and torchcodec have no codes, only FFmpeg's words
# FFmpeg says these of one damaged file in a hundred as well: a read past the end, a table of absurd length.
_DOUBTFUL = (errno.EIO, errno.ENOMEM)
_SPARE = 256 * 2**20  # bytes; who cannot have these is out of memory


class MachineTroubleError(VidsslError):
    """The machine could not do its part; nothing is known of the video."""


def machine_trouble(error: BaseException, path: Path) -> MachineTroubleError | None:
    """What `error`, raised over the file at `path`, says of the machine; None when the file is to blame.

    An I/O error is the machine's when the plain bytes cannot be read either, a lack of memory a decoder complains of when
    there is none. Python's and torch's own lack of memory is always the machine's.
    """
    if isinstance(error, MachineTroubleError):
        return error
    for cause in _chain(error):
        if _is_certain(cause) or (_is_doubtful(cause) and not _is_well(path)):
            said = getattr(cause, "strerror", None) or str(cause) or "out of memory"
            name = str(path).encode(errors="backslashreplace").decode()
            return MachineTroubleError(
                f"{name}: could not be read ({said.splitlines()[0]}); the video is not to blame{_advice(cause)}"
            )
    return None


def patiently(read: Callable[[], T], path: Path) -> T:
    """`read()` of the file at `path`, tried again after each of `WAITS` while the machine is in trouble.

    An error that may have been a hiccup, over by the time it was looked into, gets a second try as well.

    Raises:
        MachineTroubleError: when it lasts.
    """
    waits, doubted = iter(WAITS), False
    while True:
        try:
            return read()
        except Exception as error:
            if (trouble := machine_trouble(error, path)) is not None:
                wait = next(waits, None)
                if wait is None:
                    raise trouble from error
                time.sleep(wait)
            elif doubted or not any(map(_is_doubtful, _chain(error))):
                raise
            else:
                doubted = True


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__


def _is_certain(error: BaseException) -> bool:
    said = str(error)
    return (
        getattr(error, "errno", None) in _CERTAIN
        or type(error) is MemoryError
        or type(error).__name__ == "_ArrayMemoryError"  # numpy's
        or "DefaultCPUAllocator" in said  # torch's
        or any(words in said for words in _IN_WORDS)
    )


def _is_doubtful(error: BaseException) -> bool:
    said = str(error)
    return getattr(error, "errno", None) in _DOUBTFUL or any(os.strerror(code) in said for code in _DOUBTFUL)


def _is_well(path: Path) -> bool:
    """Whether the bytes of the file can be read, and memory can be had."""
    try:
        bytearray(_SPARE)
        with path.open("rb", buffering=0) as file:
            while file.read(2**20):
                pass
    except MemoryError:
        return False
    except OSError as error:
        return error.errno not in (*_CERTAIN, *_DOUBTFUL)
    return True


def _advice(error: BaseException) -> str:
    if getattr(error, "errno", None) in (errno.EMFILE, errno.ENFILE) or "open files" in str(error):
        return ": allow more open files (ulimit -n) or use fewer workers"
    if isinstance(error, MemoryError) or "memory" in str(error):
        return ": use fewer workers, shorter windows or smaller frames"
    return ": is its disk or network file system well?"
