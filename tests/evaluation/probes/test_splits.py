"""Two splits joined by class name."""

from __future__ import annotations

import shutil

import av
import pytest
import torch

import vidssl
from vidssl.data.encode import write_video
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.errors import VidsslError
from vidssl.evaluation.notes import _both_splits
from vidssl.evaluation.probes.splits import read_splits
from vidssl.evaluation.setup import EvalOptions, load_subject
from vidssl.models.export import save_encoder


@pytest.fixture(scope="module")
def subject(tiny_clip, tmp_path_factory):
    folder = tmp_path_factory.mktemp("subject") / "encoder"
    save_encoder(vidssl.create_model(f"local-dir:{tiny_clip}", load_text=False), folder)
    return load_subject(folder, EvalOptions(clips=1, frames=4, seconds=1.0, size=32, workers=0, device="cpu"))


def test_a_class_without_training_videos_is_always_wrong(subject, sprites, tmp_path):
    known = tmp_path / "train"
    for name in ("moving_left", "growing"):
        shutil.copytree(sprites / "val" / name, known / name)
    splits = read_splits(subject, known, sprites / "val")
    assert splits.names == ("growing", "moving_left")
    assert splits.train_labels.tolist() == [0] * 3 + [1] * 3
    assert splits.test_labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert splits.record["classes"]["unknown"] == {"moving_right": 3}
    frozen = list(splits.frozen())
    assert [x.title for x in frozen] == ["trained", "motion energy"]
    scores = splits.scored({"constant": (frozen[0], torch.tensor([[0.0, 1.0]]).expand(9, 2))})["scores"]
    assert list(scores) == ["constant", "majority class", "chance"]
    assert scores["constant"]["correct"] == 3
    assert scores["constant"]["mean_class"] == pytest.approx(1 / 3)
    assert scores["chance"]["top1"] == pytest.approx(1 / 3)  # half of the six videos that can be right
    assert [pair["val"] for pair in splits.record["in_both_splits"]] == [
        path for path in VideoIndex.read(sprites / "val").paths if "moving_right" not in path
    ]


def test_unreadable_training_videos_are_left_out_and_unreadable_test_videos_kept(subject, sprites, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(sprites / "val", broken)
    sorted((broken / "growing").iterdir())[0].write_bytes(b"no video")
    splits = read_splits(subject, broken, broken)
    for frozen in splits.frozen():
        assert len(frozen.train) == 8 == len(frozen.labels) and len(frozen.test) == 9
        assert frozen.test[0].abs().max() == 0 and frozen.ok.tolist() == [False] + [True] * 8
    assert len(splits.record["train"]["failed"]) == 1


def test_a_test_video_that_is_a_training_video_encoded_again_is_named(subject, sprites, tmp_path):
    data = tmp_path / "val"
    shutil.copytree(sprites / "val", data)
    original = sorted((sprites / "train" / "moving_left").iterdir())[0]
    with av.open(str(original)) as container:  # the frames are those of the file, not a byte is
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        rate = float(container.streams.video[0].average_rate)
    write_video(data / "moving_left" / "copy.mp4", frames, rate)
    record = read_splits(subject, sprites / "train", data).record
    assert record["in_both_splits"] == []
    alike = {pair["val"]: pair["train"] for pair in record["look_alikes"]}
    assert alike["moving_left/copy.mp4"] == f"moving_left/{original.name}"
    lines = list(_both_splits(record))
    assert "1 of 10 test videos looks like one of the training split" in lines[0]
    assert f"  moving_left/copy.mp4 ~ moving_left/{original.name}" in lines


def test_videos_without_a_label_are_left_out_and_named(subject, sprites, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(sprites / "val", data)
    shutil.copy(next((data / "growing").iterdir()), data / "stray.mp4")
    splits = read_splits(subject, data, sprites / "val")
    assert splits.record["train"]["unlabelled"] == ["stray.mp4"]
    assert splits.record["train"]["videos"] == 9 == len(splits.train_labels)


def test_splits_without_a_common_class_are_an_error(subject, sprites, tmp_path):
    for split, name in (("train", "growing"), ("val", "moving_left")):
        shutil.copytree(sprites / "val" / name, tmp_path / split / name)
    with pytest.raises(VidsslError, match=r"none of its classes \(moving_left\) are in"):
        read_splits(subject, tmp_path / "train", tmp_path / "val")


def test_recorded_groups_are_numbered_and_those_in_both_splits_named(subject, sprites, tmp_path):
    videos = [sprites / "val" / path for path in VideoIndex.read(sprites / "val").paths]
    for name, groups in (("train", "aab-bccca"), ("val", "xaxxxxcxx")):
        rows = [
            f"{video},{video.parent.name},{group.strip('-')}"
            for video, group in zip(videos, groups, strict=True)
        ]
        (tmp_path / f"{name}.csv").write_text("\n".join(["path,label,group", *rows]))
    splits = read_splits(subject, tmp_path / "train.csv", tmp_path / "val.csv")
    assert splits.train_groups.tolist() == [
        0,
        0,
        1,
        2,
        1,
        3,
        3,
        3,
        0,
    ]  # one without a group is one of its own
    assert next(splits.frozen()).groups.tolist() == splits.train_groups.tolist()
    assert splits.record["train"]["groups"] == 3
    assert splits.record["groups_in_both_splits"] == ["a", "c"]
    without = read_splits(subject, sprites / "val", tmp_path / "val.csv")
    assert without.train_groups is None
    assert "groups" not in without.record["train"] and "groups_in_both_splits" not in without.record
