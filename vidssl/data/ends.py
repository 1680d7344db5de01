"""How a decoding process ended, and whether that speaks against the video it had open."""

from __future__ import annotations

import signal

CRASHED, SLOW = "the decoder crashed", "took longer than"  # how the reasons begin that cost a process

# Signals that a process draws upon itself; all others come from outside, SIGKILL for instance when memory runs out.
_OWN = frozenset({"SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGTRAP", "SIGSYS"})


def name_of_end(code: int) -> str:
    """``SIGSEGV`` or ``exit code 3``, of a process's exit code (negative: the number of a signal)."""
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def ended_itself(code: int) -> bool:
    """Whether a process with this exit code crashed or left, and was not killed from outside."""
    return code >= 0 or name_of_end(code) in _OWN


def crashed(code: int) -> str:
    """Why a video failed whose decoder ended its process with this exit code."""
    return f"{CRASHED} ({name_of_end(code)})"


def lost(tries: int, where: str, code: int | None) -> str:
    """What is said of processes that were lost so often for no fault of a video."""
    how = "it gave no answer" if code is None else name_of_end(code)
    return (
        f"a decoding process was lost {tries} times in a row, the last time {where} ({how}): if memory ran out, use "
        "fewer workers, shorter windows or smaller frames"
    )
