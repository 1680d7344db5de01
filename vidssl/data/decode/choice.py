"""Which decoders `auto` tries, in which order: as measured on this machine, or PyAV alone where nothing was measured.

PyAV is always the last. It tells a damaged frame where the others show whatever they could make of it, so that nothing is
to be had of a file that it cannot decode.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from vidssl.files import write_text

DECODERS = ("pyav", "torchcodec", "decord")
MARGIN = 0.95  # of PyAV's time that another decoder may take at most to go before it


@cache
def decoder_order() -> tuple[str, ...]:
    """The decoders that `auto` tries, first to last, always PyAV last; the same for all of a process's life."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):  # not measured, or damaged
        record = json.loads(_file().read_text(encoding="utf-8"))
        if record["versions"] == decoder_versions():
            return order_of({name: float(record["milliseconds"][name]) for name in record["milliseconds"]})
    return ("pyav",)


def order_of(milliseconds: Mapping[str, float]) -> tuple[str, ...]:
    """The order that follows from the time each decoder takes: those that are clearly faster than PyAV, then PyAV."""
    limit = MARGIN * milliseconds["pyav"]
    faster = [name for name in DECODERS if name != "pyav" and milliseconds.get(name, limit) < limit]
    return (*sorted(faster, key=milliseconds.__getitem__), "pyav")


def remember(milliseconds: Mapping[str, float]) -> Path:
    """Keep what was measured in the user's cache folder, for as long as the decoders' versions stay; the file.

    Raises:
        VidsslError: it cannot be written.
    """
    record = {"versions": decoder_versions(), "milliseconds": dict(milliseconds)}
    write_text(_file(), json.dumps(record, indent=2) + "\n")
    decoder_order.cache_clear()
    return _file()


def decoder_versions() -> dict[str, str]:
    """Of the decoders' packages, empty where one is not installed."""
    versions = {}
    for name in ("av", "decord", "torchcodec"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = ""
    return versions


def _file() -> Path:
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("vidssl")) / "decoders.json"
