"""What a manifest of many rows costs: opening it, each decoding process's private memory, one row.

    python benchmarks/manifest.py [--rows 1000000] [--frames 300]

The rows are made up; of files there are none. Memory is the private dirty part of forked processes (/proc/PID/smaps_rollup), read
after each has asked for the names and time lines of 2,000 rows at random places.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.manifest.store import table
from vidssl.data.manifest.store.build import table_head
from vidssl.data.manifest.store.facts import fact_schema
from vidssl.data.manifest.store.table import write_table

CLASSES = 400


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--frames", type=int, default=300, help="of every video; a key frame after each 50")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "many.arrow"
        write_made_up(file, arguments.rows, arguments.frames)
        print(f"{arguments.rows} rows, {file.stat().st_size / 1e6:.0f} MB")
        started, cpu = time.perf_counter(), time.process_time()
        index = VideoIndex.read(file)
        print(f"opened in {time.perf_counter() - started:.3f} s ({time.process_time() - cpu:.3f} s CPU)")
        context = multiprocessing.get_context("fork")
        for _ in range(2):
            ours, theirs = context.Pipe()
            process = context.Process(target=work, args=(index, theirs))
            process.start()
            before, after, microseconds = ours.recv()
            process.join()
            print(
                f"a worker: {before:.1f} MB of its own, {after:.1f} MB after 2,000 rows of {microseconds:.0f} µs"
            )


def write_made_up(file: Path, rows: int, frames: int) -> None:
    """A manifest whose videos all have one time line."""
    keys = list(range(0, 512 * frames, 512 * 50))
    row: dict[str, Any] = dict.fromkeys(fact_schema().names) | {
        "bytes": None, "changed": 0, "content": "0" * 64, "num_frames": frames, "fps": 30.0, "duration": frames / 30,
        "height": 256, "width": 340, "rotation": 0, "mirrored": False, "container": "mov,mp4,m4a,3gp,3g2,mj2",
        "codec": "h264", "bits": 8, "subsampled": True, "edited": False, "open_gop": False, "tick": 1 / 15360,
        "first_stamp": 0, "stamps": [frames - 1, 512], "key_pts": keys, "key_dts": keys, "pyav": "",
    }  # fmt: skip
    block = pa.Table.from_pylist([row] * 1000, fact_schema())
    names = [f"class {i % CLASSES:03}/video {i:07}_000012_000022.mp4" for i in range(rows)]
    whole = pa.concat_tables([block] * (rows // 1000))
    paths = pa.array([os.fsencode(name) for name in names[: whole.num_rows]], pa.binary())
    whole = whole.set_column(0, "path", paths)
    count = whole.num_rows
    extra = {
        "label": pa.array([name[:9] for name in names[:count]], pa.string()),
        "group": pa.nulls(count, pa.string()),
        "start": pa.nulls(count, pa.float64()),
        "stop": pa.nulls(count, pa.float64()),
    }
    head = table_head() | {
        "root": "/", "classes": [f"class {i:03}" for i in range(CLASSES)], "groups": False, "parts": False,
        "missing": [], "remarks": [],
    }  # fmt: skip
    write_table(file, whole, np.arange(count), extra, head)


def work(index: VideoIndex, connection: Any) -> None:
    """Tell the private memory before and after some rows were asked for, and the time that each took."""
    table.file_stamp = lambda path: None  # type: ignore[assignment]
    before, started = private_megabytes(), time.process_time()
    for row in np.random.default_rng(os.getpid()).integers(len(index), size=2000).tolist():
        timeline = index.timeline(row)
        assert index.paths[row]
        assert timeline is not None
    spent = (time.process_time() - started) / 2000
    connection.send((before, private_megabytes(), spent * 1e6))


def private_megabytes() -> float:
    text = Path("/proc/self/smaps_rollup").read_text()
    return sum(int(size) for size in re.findall(r"Private_Dirty: *(\d+)", text)) / 1024


if __name__ == "__main__":
    main()
