from __future__ import annotations

import csv
from pathlib import Path

from vidssl.data.manifest.quarantine import FailedVideo, Quarantine, Row

ODD = 'a, "b" ü\udcff.mp4'


def test_one_row_a_file_survives_on_disk(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "run" / "quarantine.csv")
    quarantine.leave_out([FailedVideo(0, ODD, "moov atom\nnot found", "jump", "decord")])
    torn, crash = FailedVideo(1, "x.mp4", "torn"), FailedVideo(2, "y.mp4", "the decoder crashed (SIGSEGV)")
    quarantine.count(3, [torn, crash, torn])
    quarantine.count(9, [torn])
    quarantine.save()
    again = Quarantine(quarantine.file)
    assert list(again.rows.values()) == [
        Row(ODD, "decord", "moov atom not found", 0, 0, 0),
        Row("x.mp4", "auto", "torn", 3, 3, 9),
        Row("y.mp4", "auto", "the decoder crashed (SIGSEGV)", 1, 3, 3),
    ]
    assert [again.is_left_out(path) for path in (ODD, "x.mp4", "z.mp4")] == [True, False, False]
    assert [again.costs_a_process(path) for path in (ODD, "x.mp4", "y.mp4", "z.mp4")] == [
        False,
        False,
        True,
        False,
    ]
    with quarantine.file.open(encoding="utf-8", errors="surrogateescape", newline="") as lines:
        assert next(csv.reader(lines)) == ["path", "decoder", "cause", "times", "first_step", "last_step"]


def test_steps_that_are_repeated_are_not_counted_again(tmp_path: Path) -> None:
    torn = FailedVideo(1, "x.mp4", "torn")
    steps = {2: [torn], 5: [torn, torn], 8: [torn]}
    straight = Quarantine(tmp_path / "straight.csv")
    for step, failures in steps.items():
        straight.count(step, failures)
    quarantine = Quarantine(tmp_path / "quarantine.csv")
    for step in (2, 5):
        quarantine.count(step, steps[step])
    quarantine.save()
    resumed = Quarantine(quarantine.file)  # from a checkpoint of step 4
    for step in (5, 8):
        resumed.count(step, steps[step])
    assert resumed.rows == straight.rows
