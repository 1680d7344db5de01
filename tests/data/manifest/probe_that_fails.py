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
        file = Path(json.loads(line))
        path, tried = file.name, file.with_suffix(".tried")
        if "segfault" in path:
            os.kill(os.getpid(), signal.SIGSEGV)
        elif "exit" in path:
            os._exit(3)
        elif "killed" in path:
            os.kill(os.getpid(), signal.SIGKILL)
        elif "once" in path and not tried.exists():
            tried.touch()
            os.kill(os.getpid(), signal.SIGSEGV)
        elif "trouble" in path:
            print(json.dumps({"error": f"{path}: could not be read (Stale file handle)"}), flush=True)
        elif "hang" in path:
            time.sleep(600)
        print(json.dumps("broken" if "broken" in path else [8, 4.0, 2.0, 6, 5]), flush=True)


if __name__ == "__main__":
    main()
