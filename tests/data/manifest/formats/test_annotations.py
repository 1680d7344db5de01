"""Annotation files of the public sets, at the size of a few videos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.decode.test_frames import write_frames
from vidssl.data.decode.part import Part
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.errors import VidsslError

A, B = "a_-bcdefghi", "0123_56789-"


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def rows(source: str | Path, missing: Any = "error") -> list[tuple[str, str | None]]:
    index = VideoIndex.read(source, missing)
    return list(zip(index.paths, index.labels, strict=True))


KINETICS_CSV = (
    "label,youtube_id,time_start,time_end,split,is_cc\n"
    f'"baking, cookies",{A},3,13,train,0\nabseiling,{B},12.0,22.0,train,0\n'
)


def test_kinetics_csv(tmp_path: Path) -> None:
    touch(tmp_path, f"train/{A}_000003_000013.mp4", f"train/x/{B}.mkv")
    (tmp_path / "train.csv").write_text(KINETICS_CSV)
    assert rows(tmp_path / "train.csv") == [
        (f"train/{A}_000003_000013.mp4", "baking, cookies"),
        (f"train/x/{B}.mkv", "abseiling"),
    ]
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/test.csv").write_text(f"youtube_id,time_start,time_end,split\n{A},3,13,test\n")
    assert rows(tmp_path / "lists/test.csv") == [(f"{tmp_path}/train/{A}_000003_000013.mp4", None)]
    (tmp_path / "train.csv").write_text(KINETICS_CSV + "abseiling,abcdefghijk,1,11,train,0\n")
    with pytest.raises(
        VidsslError,
        match=r"1 of 3 listed videos do not exist, the first is 'abcdefghijk_000001_000011\.mp4' \(line 4\)",
    ):
        rows(tmp_path / "train.csv")
    assert len(rows(tmp_path / "train.csv", "skip")) == 2


def test_kinetics_json(tmp_path: Path) -> None:
    touch(tmp_path, f"{A}_000003_000013.mp4", f"{B}_000012_000022.webm")
    entry = {"duration": 10.0, "url": "https://x"}
    record = {
        A: {"annotations": {"label": "baking", "segment": [3.0, 13.0]}, "subset": "train", **entry},
        B: {"annotations": {"label": "abseiling", "segment": [12.0, 22.0]}, "subset": "validate", **entry},
    }
    file = tmp_path / "k.json"
    file.write_text(json.dumps(record))
    with pytest.raises(
        VidsslError, match=r"holds several splits \(train 1, val 1\); name one, such as k\.json#split=train"
    ):
        rows(file)
    assert (
        rows(f"{file}#split=val")
        == rows(f"{file}#split=validation")
        == [(f"{B}_000012_000022.webm", "abseiling")]
    )
    with pytest.raises(VidsslError, match=r"split 'tset': not in it.*\(train, val\)"):
        rows(f"{file}#split=tset")


def test_something_something(tmp_path: Path) -> None:
    touch(tmp_path, "videos/1.webm", "videos/2.webm", "videos/3.webm")
    (tmp_path / "labels").mkdir()
    entries = [
        {"id": "2", "label": "putting a cup", "template": "Putting [something] on [something]", "placeholders": ["a cup"]},
        {"id": "1", "label": "x", "template": "Pushing [something] from left to right", "placeholders": []},
    ]  # fmt: skip
    (tmp_path / "labels/train.json").write_text(json.dumps(entries))
    assert rows(tmp_path / "labels/train.json") == [
        (f"{tmp_path}/videos/2.webm", "Putting something on something"),
        (f"{tmp_path}/videos/1.webm", "Pushing something from left to right"),
    ]
    (tmp_path / "labels/test.json").write_text('[{"id": "3"}]')
    assert rows(tmp_path / "labels/test.json")[0][1] is None
    (tmp_path / "labels/test-answers.csv").write_text("3;Closing something\n")
    assert rows(tmp_path / "labels/test.json")[0][1] == "Closing something"


def test_folders_of_frames_by_their_ids(tmp_path: Path) -> None:
    write_frames(tmp_path / "20bn-jester-v1/34870", range(1, 4), "{:05}.jpg")
    write_frames(tmp_path / "20bn-jester-v1/56557", range(1, 4), "{:05}.jpg")
    (tmp_path / "jester-v1-train.csv").write_text("34870;Drumming Fingers\n56557;Sliding Two Fingers Right\n")
    assert rows(f"{tmp_path}/jester-v1-train.csv#fps=12") == [
        ("20bn-jester-v1/34870#fps=12", "Drumming Fingers"),
        ("20bn-jester-v1/56557#fps=12", "Sliding Two Fingers Right"),
    ]


def test_activitynet(tmp_path: Path) -> None:
    touch(tmp_path, "videos/v_aa.mp4", "videos/bb.mkv")
    database = {
        "aa": {"duration": 20.0, "subset": "training", "annotations": [
            {"segment": [1.5, 4], "label": "Javelin throw"}, {"segment": [6, 20.3], "label": "Running"}]},
        "bb": {"duration": 9.0, "subset": "training", "annotations": [{"segment": [0, 9], "label": "Running"}]},
        "cc": {"duration": 9.0, "subset": "testing", "annotations": []},
    }  # fmt: skip
    file = tmp_path / "activity_net.v1-3.min.json"
    file.write_text(json.dumps({"version": "1.3", "taxonomy": [], "database": database}))
    index = VideoIndex.read(f"{file}#split=train")
    assert index.paths == ("videos/v_aa.mp4#t=1.5,4", "videos/v_aa.mp4#t=6,20.3", "videos/bb.mkv#t=0,9")
    assert index.labels == ("Javelin throw", "Running", "Running")
    assert index.parts[1] == Part(6, 20.3)
    database["bb"]["annotations"][0]["segment"] = [9, 2]  # type: ignore[index]
    file.write_text(json.dumps({"database": database}))
    with pytest.raises(VidsslError, match="entry 2: the segment from 9 to 2 s ends before it starts"):
        VideoIndex.read(f"{file}#split=train")


def test_charades(tmp_path: Path) -> None:
    touch(tmp_path, "Charades_v1_480/46GP8.mp4", "Charades_v1_480/N11GT.mp4")
    file = tmp_path / "Charades_v1_train.csv"
    header = "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length\n"
    file.write_text(
        header
        + '46GP8,HR43,Kitchen,6,7,Yes,"A person, cooking",food,x,c092 11.90 21.20;c147 0.00 12.60,24.83\nN11GT,0KZ7,S,5,7,Yes,y,z,w,,18.33\n'
    )
    assert rows(file) == [
        ("Charades_v1_480/46GP8.mp4#t=11.9,21.2", "c092"),
        ("Charades_v1_480/46GP8.mp4#t=0,12.6", "c147"),
    ]
    (tmp_path / "Charades_v1_classes.txt").write_text("c092 Working at a table\nc147 Sitting down\n")
    assert [label for _, label in rows(file)] == ["Working at a table", "Sitting down"]
    file.write_text(header + "46GP8,a,b,c,d,e,f,g,h,c092 from 1 to 2,3\n")
    with pytest.raises(VidsslError, match="line 2: 'c092 from 1 to 2' is not an action such as"):
        rows(file)


def test_hugging_face_video_folder(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "sub/b.mp4", "c.mp4")
    (tmp_path / "metadata.csv").write_text("file_name,label\na.mp4,run\nsub/b.mp4,jump\n")
    assert rows(tmp_path) == [("a.mp4", "run"), ("sub/b.mp4", "jump")]
    (tmp_path / "metadata.csv").unlink()
    (tmp_path / "metadata.jsonl").write_text(
        '{"file_name": "sub/b.mp4", "label": 1}\n{"file_name": "a.mp4", "label": null, "start": 2}\n'
    )
    assert rows(tmp_path) == [("sub/b.mp4", "1"), ("a.mp4#t=2", None)]
    (tmp_path / "metadata.jsonl").write_text('{"camera": "left"}\n')
    assert rows(tmp_path) == [("a.mp4", None), ("c.mp4", None), ("sub/b.mp4", "sub")]


def test_the_lists_of_v_jepa(tmp_path: Path) -> None:
    touch(tmp_path, "a b.mp4", "c.mp4")
    (tmp_path / "list.csv").write_text("a b.mp4::1\nc.mp4::0\n")
    assert rows(tmp_path / "list.csv") == [("a b.mp4", "1"), ("c.mp4", "0")]
    np.save(tmp_path / "list.npy", np.array(["a b.mp4", "c.mp4"]))
    assert rows(tmp_path / "list.npy") == [("a b.mp4", None), ("c.mp4", None)]
    np.save(tmp_path / "list.npy", np.array([{}, 3], dtype=object))
    with pytest.raises(VidsslError, match=r"list\.npy: is no array of paths"):
        rows(tmp_path / "list.npy")


def test_official_splits_of_folders(tmp_path: Path) -> None:
    names = [f"HandstandPushups/v_HandStandPushups_g{group:02}_c01.avi" for group in (1, 8, 15, 25)]
    touch(tmp_path, *names, "other/x.avi")
    assert [path for path, _ in rows(f"{tmp_path}#split=test1")] == names[:1]
    assert [path for path, _ in rows(f"{tmp_path}#split=train1")] == names[1:]
    assert [path for path, _ in rows(f"{tmp_path}#split=test2")] == names[1:2]
    with pytest.raises(
        VidsslError, match=r"official split 'test4': not known.*train1, train2, train3, test1"
    ):
        rows(f"{tmp_path}#split=test4")
    touch(tmp_path / "mine", "run/a.mp4")
    with pytest.raises(
        VidsslError, match=r"no videos of test1 of UCF101 or HMDB51, such as 'run/a\.mp4' should be"
    ):
        rows(f"{tmp_path}/mine#split=test1")
    (tmp_path / "clap_test_split1.txt").write_text("a.avi 1 \nb.avi 2 \n")
    with pytest.raises(
        VidsslError,
        match="flags in place of labels; name the folder of the videos and the split instead, such as videos#split=train1",
    ):
        rows(tmp_path / "clap_test_split1.txt")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.json", "{", "is not JSON"),
        (
            "a.json",
            '{"x": 1, "y": 2}',
            "JSON of an unknown form (an object with x, y); expected rows with a path",
        ),
        ("a.json", "[1, 2]", "JSON of an unknown form (list)"),
        ("a.jsonl", '{"a": 1}\n', "JSON of an unknown form (list)"),
        ("a.csv#split=val", "a.mp4,1\n", "only annotation files and UCF101 and HMDB51 have splits"),
    ],
)
def test_what_is_not_recognised_is_said_in_one_line(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name.partition("#")[0]).write_text(text)
    with pytest.raises(VidsslError) as error:
        rows(f"{tmp_path}/{name}")
    assert said in str(error.value)
    assert "\n" not in str(error.value)
