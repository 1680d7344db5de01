"""Stands in for `vidssl.data.manifest.probe_worker`: what a decoder can do to its process, told by the file's name."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path


def main() -> None:
    print("ready", flush=True)
    for line in sys.stdin:
        path = Path(json.loads(line)).name
        if "segfault" in path:
            os.kill(os.getpid(), signal.SIGSEGV)
        elif "exit" in path:
            os._exit(3)
        elif "hang" in path:
            time.sleep(600)
        print(json.dumps("broken" if "broken" in path else [8, 4.0, 2.0, 6, 5]), flush=True)


if __name__ == "__main__":
    main()
