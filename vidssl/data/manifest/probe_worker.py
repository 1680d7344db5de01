"""A process that probes videos, so that a decoder that crashes or hangs takes nobody along.

Run as ``python -m vidssl.data.manifest.probe_worker BACKEND`` by `vidssl.data.manifest.probe`. It writes one line when
ready, then for each JSON string (a path) on its input one JSON value on its output: the fields of `VideoInfo`, the reason
why there are none as a string, or ``{"error": …}`` where the file is not to blame.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import astuple
from pathlib import Path

from vidssl.data.decode.open import open_video
from vidssl.data.decode.reader import DecodeError, VideoInfo
from vidssl.data.decode.trouble import patiently
from vidssl.errors import VidsslError


def main() -> None:
    """Answer until the input ends."""
    # Decoders may print: answers go to a copy of standard output, anything else to standard error.
    with os.fdopen(os.dup(1), "w", encoding="ascii") as answers:
        os.dup2(2, 1)
        answers.write("ready\n")
        answers.flush()
        for line in sys.stdin:
            answers.write(json.dumps(_probe(Path(json.loads(line)), sys.argv[1])) + "\n")
            answers.flush()


def _probe(path: Path, backend: str) -> tuple[float, ...] | str | dict[str, str]:
    try:
        return astuple(patiently(lambda: _open(path, backend), path))
    except DecodeError as error:
        return error.reason
    except VidsslError as error:
        return {"error": str(error)}


def _open(path: Path, backend: str) -> VideoInfo:
    """Decode the first frame with each decoder that would be used: the timeline has done so with PyAV."""
    with open_video(path, backend) as video:
        video.frames([0])
        return video.info


if __name__ == "__main__":
    main()
