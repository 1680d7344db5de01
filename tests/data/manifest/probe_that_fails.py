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
        file = Path(json.loads(line)[0])
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
            print(json.dumps({"trouble": f"{path}: could not be read (Stale file handle)"}), flush=True)
        elif "hang" in path:
            time.sleep(600)
        status = file.stat()
        row = {
            "bytes": status.st_size,
            "changed": status.st_mtime_ns,
            "pyav": "",
            "num_frames": 8,
            "fps": 4.0,
        }
        row |= {"duration": 2.0, "height": 6, "width": 5, "error": "broken" if "broken" in path else None}
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
