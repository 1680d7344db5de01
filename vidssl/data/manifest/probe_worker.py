"""A process that probes videos, so that a decoder that crashes or hangs takes nobody along.

Run as ``python -m vidssl.data.manifest.probe_worker`` by `vidssl.data.manifest.probe`. It writes one line when ready, then for each JSON
string (a path) on its input one JSON value on its output: the fields of `VideoInfo`, or the reason as a string.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import astuple

from vidssl.data.decode.open import probe_video
from vidssl.data.decode.reader import DecodeError


def main() -> None:
    """Answer until the input ends."""
    # Decoders may print: answers go to a copy of standard output, anything else to standard error.
    with os.fdopen(os.dup(1), "w", encoding="ascii") as answers:
        os.dup2(2, 1)
        answers.write("ready\n")
        answers.flush()
        for line in sys.stdin:
            answers.write(json.dumps(_probe(json.loads(line))) + "\n")
            answers.flush()


def _probe(path: str) -> tuple[float, ...] | str:
    try:
        return astuple(probe_video(path))
    except DecodeError as error:
        return error.reason


if __name__ == "__main__":
    main()
