"""Two splits joined by class name."""

from __future__ import annotations

import shutil

import pytest
import torch

import vidssl
from vidssl.errors import VidsslError
from vidssl.evaluation.setup import EvalOptions, load_subject
from vidssl.evaluation.splits import read_splits
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
    assert splits.test_labels.tolist() == [0] * 3 + [1] * 3 + [-1] * 3
    assert [title for title, _, _ in splits.features()] == ["trained", "motion energy"]
    scores = splits.scores({"constant": torch.tensor([[0.0, 1.0]]).expand(9, 2)})
    assert list(scores) == ["constant", "majority class", "chance"]
    assert scores["constant"]["correct"] == 3
    assert scores["chance"]["top1"] == 0.5


def test_unreadable_training_videos_are_left_out_and_unreadable_test_videos_kept(subject, sprites, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(sprites / "val", broken)
    sorted((broken / "growing").iterdir())[0].write_bytes(b"no video")
    splits = read_splits(subject, broken, broken)
    assert len(splits.readable_labels) == 8 and len(splits.test_labels) == 9
    for _, train, test in splits.features():
        assert len(train) == 8 and len(test) == 9
        assert test[0].abs().max() == 0
    assert len(splits.record["train"]["failed"]) == 1


def test_splits_without_a_common_class_are_an_error(subject, sprites, tmp_path):
    for split, name in (("train", "growing"), ("val", "moving_left")):
        shutil.copytree(sprites / "val" / name, tmp_path / split / name)
    with pytest.raises(VidsslError, match=r"none of its classes \(moving_left\) occur in"):
        read_splits(subject, tmp_path / "train", tmp_path / "val")
