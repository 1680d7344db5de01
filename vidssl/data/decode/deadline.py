"""A time limit for decoding one video."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from torch.utils.data import get_worker_info

from vidssl.data.decode.reader import DecodeError


class _Expired(BaseException):
    """Not an Exception, so that no decoder's fall-back takes it for a broken file and starts over without a limit."""


@contextmanager
def decode_deadline(seconds: float | None, path: Path) -> Iterator[None]:
    """Raise DecodeError inside the block when it takes longer than `seconds`; None sets no limit.

    Covered: everything a DataLoader worker does between two Python instructions, which includes a slow disk, a
    decoder loop in Python and a slow sequence of calls into a decoder. Not covered: a single native call that never
    returns (the alarm is delivered when it does; `build_loader(timeout=...)` then ends the run with a message instead
    of hanging), Windows, and loading in the training process itself (`num_workers=0`), whose signals are not ours.
    """
    in_worker = get_worker_info() is not None and threading.current_thread() is threading.main_thread()
    if seconds is None or not in_worker or not hasattr(signal, "setitimer"):
        yield
        return

    def expire(signum: int, frame: FrameType | None) -> None:
        raise _Expired

    previous = signal.signal(signal.SIGALRM, expire)
    # Repeated, because an exception raised inside a callback or a finaliser is swallowed.
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    except _Expired:
        raise DecodeError(path, "auto", f"took longer than the deadline of {seconds:g} s") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
