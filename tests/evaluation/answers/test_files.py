"""The tables and the picture beside a result."""

from __future__ import annotations

import csv

from PIL import Image

from vidssl.evaluation.answers import files
from vidssl.evaluation.answers.files import write_answers

RESULT = {
    "checkpoint": "run",
    "classes": {"names": ["run", 'say "go", loudly'], "unknown": {"fly": 1}},
    "answers": {
        "videos": ["a.mp4", "b.mp4", "c.mp4", "d.mp4"],
        "truth": [0, 1, 1, 2],
        "answered": {"trained": [0, 0, -1, 1], "untrained": [1, 1, 1, 1]},
    },
}


def table(file):
    with file.open(newline="") as stream:
        return list(csv.reader(stream))


def test_tables_and_picture_say_what_was_answered(tmp_path):
    made = write_answers(tmp_path / "r.json", RESULT)
    assert [file.name for file in made] == [
        "r.classes.csv",
        "r.confusion.csv",
        "r.videos.csv",
        "r.confusion.png",
    ]
    names = RESULT["classes"]["names"]
    assert table(made[1]) == [
        ["class", *names, "(no answer)"],
        ["run", "1", "0", "0"],
        [names[1], "1", "0", "1"],
        ["fly", "0", "1", "0"],
    ]
    header, first, second, third = table(made[0])
    row = dict(zip(header, second, strict=True))
    assert (row["name"], row["videos"], row["right"], row["taken_for"]) == (names[1], "2", "0", "run")
    assert (first[0], third[0]) == ("run", "fly")
    assert table(made[2])[3] == ["c.mp4", names[1], "(no answer)", names[1]]
    with Image.open(made[3]) as picture:
        assert picture.size[0] > 300


def test_every_split_has_its_own_and_other_results_have_none(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "find_spec", lambda _: None)  # without matplotlib there is no picture
    made = write_answers(tmp_path / "r.json", {"splits": [RESULT, RESULT]})
    assert [file.name for file in made] == [
        f"r.split{number}.{kind}.csv" for number in (1, 2) for kind in ("classes", "confusion", "videos")
    ]
    assert write_answers(tmp_path / "x.json", {"scores": {}}) == []
