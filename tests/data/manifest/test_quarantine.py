from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

from vidssl.data.manifest.quarantine import FailedVideo, write_quarantine


def test_quarantine_lines(tmp_path: Path) -> None:
    file = tmp_path / "run" / "quarantine.csv"
    bad = [FailedVideo(0, 'a, "b".mp4', "moov atom\nnot found"), FailedVideo(1, "ü\udcff.mp4", "x,y", "jump")]
    write_quarantine(file, bad[:1])
    write_quarantine(file, bad[1:])
    write_quarantine(file, [])
    with file.open(encoding="utf-8", errors="surrogateescape", newline="") as lines:
        assert list(csv.reader(lines)) == [['a, "b".mp4', "moov atom not found"], ["ü\udcff.mp4", "x,y"]]


def test_quarantine_lines_of_many_processes_stay_whole(tmp_path: Path) -> None:
    file = tmp_path / "quarantine.csv"
    code = (
        "import sys; from vidssl.data.manifest.quarantine import FailedVideo, write_quarantine\n"
        "for i in range(200): write_quarantine(sys.argv[1], [FailedVideo(i, f'{sys.argv[2]}-{i}.mp4', 'x' * 300)])"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(file), str(n)]) for n in range(4)]
    assert [writer.wait() for writer in writers] == [0] * 4
    with file.open(newline="") as lines:
        rows = [tuple(row) for row in csv.reader(lines)]
    assert sorted(rows) == sorted((f"{n}-{i}.mp4", "x" * 300) for n in range(4) for i in range(200))
