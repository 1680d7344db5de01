"""A process that examines videos, so that a decoder that crashes or hangs takes nobody along.

Run as ``python -m vidssl.data.manifest.probe_worker`` by `vidssl.data.manifest.probe`. It writes one line when ready, then for
each JSON list [path, decoders] on its input one JSON object on its output: the columns of `examine`, or ``{"trouble": …}`` where
the file is not to blame.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from vidssl.data.decode.trouble import patiently
from vidssl.data.manifest.store.facts import examine
from vidssl.errors import VidsslError


def main() -> None:
    """Answer until the input ends."""
    # Decoders may print: answers go to a copy of standard output, anything else to standard error.
    with os.fdopen(os.dup(1), "w", encoding="ascii") as answers:
        os.dup2(2, 1)
        answers.write("ready\n")
        answers.flush()
        for line in sys.stdin:
            answers.write(json.dumps(_examine(*json.loads(line))) + "\n")
            answers.flush()


def _examine(name: str, decoders: list[str]) -> dict[str, Any]:
    path = Path(name)
    try:
        return patiently(lambda: examine(path, decoders), path)
    except VidsslError as error:
        return {"trouble": str(error)}


if __name__ == "__main__":
    main()
