"""Lists and folders that are not as they seem, through the commands: read right, or said in print and in results."""

from __future__ import annotations

import json
import shutil

import av
import numpy as np
import pytest

from tests.command_line import FAST, one_line


@pytest.fixture
def ucf(sprites, tmp_path):
    """Two classes laid out like UCF101 and its official lists: numbers from 1 for training, no labels for the test."""
    root = tmp_path / "ucf"
    names = {"MovingLeft": "moving_left", "MovingRight": "moving_right"}
    lists = {"trainlist01.txt": [], "testlist01.txt": []}
    for number, (folder, source) in enumerate(names.items(), 1):
        for file, split in (("trainlist01.txt", "train"), ("testlist01.txt", "val")):
            (root / folder).mkdir(parents=True, exist_ok=True)
            for video in sorted((sprites / split / source).iterdir())[:3]:
                shutil.copy(video, root / folder / f"{split}_{video.name}")
                label = f" {number}" if split == "train" else ""
                lists[file].append(f"{folder}/{split}_{video.name}{label}\n")
    for file, lines in lists.items():
        (root / file).write_text("".join(lines))
    (root / "classInd.txt").write_text("1 MovingLeft\n2 MovingRight\n")
    return root


def test_training_skips_missing_videos_and_names_them(vidssl, recipe, ucf, tmp_path):
    listed = ucf / "trainlist01.txt"
    listed.write_text(listed.read_text() + "MovingLeft/gone.mp4 1\n")
    arguments = ("pretrain", recipe, f"data.train={listed}", "train.batch_size=4", "train.steps=1")
    assert "1 of 7 listed videos do not exist" in one_line(*vidssl(*arguments))
    assert not (tmp_path / "run").exists()
    code, out, _ = vidssl(*arguments, "data.missing=skip")
    assert code == 0 and "listed but missing, left out: 1 (MovingLeft/gone.mp4)" in out
    assert "MovingLeft/gone.mp4" in (tmp_path / "run" / "quarantine.csv").read_text()


CODECS = {
    "wmv": "wmv2",
    "flv": "flv1",
    "3gp": "mpeg4",
    "gif": "gif",
    "mpg": "mpeg2video",
    "ts": "mpeg2video",
    "m4v": "mpeg4",
}


def test_other_containers_are_read_and_other_files_named(vidssl, tmp_path):
    data = tmp_path / "data"
    (data / "old").mkdir(parents=True)
    (data / "pictures").mkdir()
    for ending, codec in CODECS.items():
        with av.open(str(data / "old" / f"a.{ending}"), "w") as container:
            stream = container.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = 96, 64, "rgb8" if ending == "gif" else "yuv420p"
            for number in range(10):
                picture = np.full((64, 96, 3), 20 * number, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
            container.mux(stream.encode())
    for name in ("1.jpg", "2.jpg"):
        (data / "pictures" / name).touch()
    remarks = [
        "left out, not named like videos: 2 files, 2 x .jpg (pictures/1.jpg, pictures/2.jpg)",
        "folders without a video, which give no class: 1 (pictures)",
    ]
    code, out, _ = vidssl("data", "index", data)
    assert code == 0 and f"{len(CODECS)} videos, 1 class " in out and all(remark in out for remark in remarks)
    file = tmp_path / "check.json"
    code, out, _ = vidssl("data", "check", data, "--output", file)
    assert (
        code == 0
        and f"{len(CODECS)} readable, 0 unreadable" in out
        and all(remark in out for remark in remarks)
    )
    assert json.loads(file.read_text())["remarks"] == remarks


def test_evaluations_count_missing_videos_and_take_classes_from_folders(vidssl, checkpoint, ucf, tmp_path):
    train, test = ucf / "trainlist01.txt", ucf / "testlist01.txt"
    test.write_text(test.read_text() + "MovingLeft/gone.mp4\n")
    file = tmp_path / "r.json"
    arguments = ("knn", checkpoint, train, test, *FAST, "--output", file, "--k", 1)
    assert "1 of 7 listed videos do not exist" in one_line(*vidssl(*arguments))
    totals = {}
    for missing in ("skip", "count"):
        code, out, _ = vidssl(*arguments, "--missing", missing)
        assert code == 0 and "the list has no labels; classes are the 2 folders of its paths" in out
        assert "listed but missing" in out and "MovingLeft/gone.mp4" in out
        result = json.loads(file.read_text())
        assert result["val"]["missing"] == ["MovingLeft/gone.mp4"]
        score = result["scores"]["trained, k = 1"]
        totals[missing] = (score["total"], score["failed"])
    assert totals == {"skip": (6, 0), "count": (7, 1)}
    code, out, _ = vidssl("zero-shot", checkpoint, test, *FAST, "--output", file, "--missing", "count")
    assert code == 0 and json.loads(file.read_text())["scores"]["trained"]["failed"] == 1


def test_ucf101s_official_lists(vidssl, checkpoint, ucf, tmp_path):
    file = tmp_path / "r.json"
    train, test = ucf / "trainlist01.txt", ucf / "testlist01.txt"
    code, out, _ = vidssl("knn", checkpoint, train, test, *FAST, "--k", 1, "--output", file)
    assert code == 0 and "the list has no labels; classes are the 2 folders of its paths" in out
    result = json.loads(file.read_text())
    assert result["classes"]["names"] == ["MovingLeft", "MovingRight"]
    assert result["scores"]["trained, k = 1"]["total"] == 6 and result["classes"]["unknown"] == {}
    assert vidssl("zero-shot", checkpoint, test, *FAST, "--output", file)[0] == 0
    result = json.loads(file.read_text())
    assert result["classes"]["source"].endswith("classInd.txt")
    assert result["data"]["remarks"] == ["the list has no labels; classes are the 2 folders of its paths"]
    (ucf / "classes.csv").write_text("id,name\n0,MovingLeft\n1,MovingRight\n2,Other\n")
    message = one_line(*vidssl("data", "index", train))
    assert "line 1: label 1, which is 'MovingRight', of a video in the folder 'MovingLeft'" in message


def test_numbers_are_no_names(vidssl, checkpoint, ucf, tmp_path):
    (ucf / "classInd.txt").unlink()
    train, file = ucf / "trainlist01.txt", tmp_path / "r.json"
    assert "bare numbers (1, 2) name no class" in one_line(*vidssl("zero-shot", checkpoint, train, *FAST))
    code, out, _ = vidssl("knn", checkpoint, train, train, *FAST, "--k", 1, "--output", file)
    assert (
        code == 0
        and "classes are bare numbers: that they mean the same in both splits is taken on trust" in out
    )


def test_listed_videos_that_are_missing(vidssl, checkpoint, ucf, tmp_path):
    test, file = ucf / "testlist01.txt", tmp_path / "r.json"
    lines = test.read_text().splitlines()
    (ucf / lines[0]).unlink()
    zero_shot = ("zero-shot", checkpoint, test, *FAST, "--output", file)
    assert "1 of 6 listed videos do not exist" in one_line(*vidssl(*zero_shot))
    totals = {}
    for how, fate in (("skip", "left out"), ("count", "counted as failed")):
        code, out, _ = vidssl(*zero_shot, "--missing", how)
        assert code == 0 and f"listed but missing, {fate}: 1 ({lines[0]})" in out
        result = json.loads(file.read_text())
        assert result["data"]["missing"] == [lines[0]]
        totals[how] = [result["scores"]["trained"][key] for key in ("total", "failed")]
    assert totals == {"skip": [5, 0], "count": [6, 1]}
    assert f"counted as wrong: {ucf / lines[0]}: no such file" in out.replace("\n", "")
    for command in (
        ("knn", checkpoint, ucf / "trainlist01.txt", test, *FAST, "--k", 1),
        ("linear-probe", checkpoint, ucf / "trainlist01.txt", test, *FAST),
        ("extract", checkpoint, test, tmp_path / "f.safetensors", *FAST),
        ("data", "index", test),
        ("data", "check", test),
    ):
        assert "--missing skip leaves them out" in one_line(*vidssl(*command))
        code, out, _ = vidssl(*command, "--missing", "skip")
        assert code == 0 and f"left out: 1 ({lines[0]})" in out


def test_a_class_without_its_videos_may_be_counted(vidssl, checkpoint, ucf, tmp_path):
    """Of two classes one is gone: left out it is named, counted it is wrong."""
    test, file = ucf / "testlist01.txt", tmp_path / "r.json"
    for video in (ucf / "MovingLeft").glob("val_*"):
        video.unlink()
    test.write_text("".join(f"{line} {line.split('/')[0]}\n" for line in test.read_text().splitlines()))
    zero_shot = ("zero-shot", checkpoint, test, *FAST, "--output", file)
    code, out, _ = vidssl(*zero_shot, "--missing", "skip")
    assert code == 0 and "classes all of whose videos are missing: 1 (MovingLeft)" in out
    assert vidssl(*zero_shot, "--missing", "count")[0] == 0
    score = json.loads(file.read_text())["scores"]["trained"]
    assert (score["total"], score["failed"]) == (6, 3)
