"""Official splits as a user names them."""

from __future__ import annotations

import csv
import json
import shutil

import pytest

from tests.command_line import FAST


def test_three_official_splits_by_one_command(vidssl, checkpoint, sprites, tmp_path):
    videos = tmp_path / "videos"
    for name, motion in zip(("Archery", "YoYo"), sorted((sprites / "train").iterdir()), strict=False):
        for group, file in zip((1, 8, 15, 22, 23), sorted(motion.iterdir()), strict=False):
            (videos / name).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, videos / name / f"v_{name}_g{group:02}_c01.avi")
    (videos / "classes.csv").write_text("id,name,text\n0,Archery,an archer\n1,YoYo,a toy on a string\n")
    for command, parts in (("zero-shot", ["test"]), ("linear-probe", ["train", "test"])):
        file = tmp_path / f"{command}.json"
        data = [f"{videos}#split={part}" for part in parts]
        code, out, _ = vidssl(command, checkpoint, *data, *FAST, "--output", file)
        assert code == 0
        assert all(text in out for text in ("mean ± std", "split 3", "trained", " ± "))
        result = json.loads(file.read_text())
        assert f"{command}.split3.classes.csv, {command}.split3.confusion.csv" in out
        with (tmp_path / f"{command}.split1.confusion.csv").open(newline="") as stream:
            rows = [[int(count) for count in row[1:]] for row in list(csv.reader(stream))[1:]]
        score = result["splits"][0]["scores"]["trained"]
        assert sum(row[place] for place, row in enumerate(rows)) == score["correct"]
        assert sum(map(sum, rows)) == score["total"]
        assert ("calibration_error" in score) == (command == "zero-shot")
        top1 = [one["scores"]["trained"]["top1"] for one in result["splits"]]
        assert result["scores"]["trained"]["top1"] == pytest.approx(sum(top1) / 3)
    assert result["splits"][0]["train"]["videos"] == 8
    texts = json.loads((tmp_path / "zero-shot.json").read_text())["splits"][2]["classes"]["texts"]
    assert texts == ["an archer", "a toy on a string"]
