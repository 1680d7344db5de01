"""Few labels as a user asks for them: draws that repeat, whatever the order of the list, and classes with too few videos."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import FAST
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.models.encoder import VideoEncoder
from vidssl.models.load import load


def write_list(file: Path, folder: Path, most: dict[str, int] | None = None, seed: int | None = None) -> Path:
    """Videos of a folder as a list with their recordings, two of one each; of some classes so many, in random order if there is a seed."""
    index, rows = VideoIndex.read(folder), []
    for name in index.classes:
        own = [path for path, label in zip(index.paths, index.labels, strict=True) if label == name]
        rows += [
            (str(folder / path), name, f"{name}-{number // 2}")
            for number, path in enumerate(own[: (most or {}).get(name)])
        ]
    if seed is not None:
        random.Random(seed).shuffle(rows)
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([("path", "label", "group"), *rows])
    return file


@pytest.fixture
def probed(vidssl, checkpoint, tmp_path):
    """Runs a linear probe on two lists; what it printed and the record."""

    def run(train: Path, val: Path, *options: object) -> tuple[str, Any]:
        file = tmp_path / "result.json"
        code, out, err = vidssl("linear-probe", checkpoint, train, val, *FAST, *options, "--output", file)
        assert code == 0, err
        return out, json.loads(file.read_text())

    return run


def test_draws_repeat_whatever_the_order_of_the_lists(probed, sprites, tmp_path):
    few = ("--shots", 1, "--shots", 3, "--shots", 3, "--draws", 4)
    records = []
    for seed in (None, 0, 1):
        train = write_list(tmp_path / f"train-{seed}.csv", sprites / "train", seed=seed)
        val = write_list(tmp_path / f"val-{seed}.csv", sprites / "val", seed=seed)
        assert seed is None or train.read_text() != (tmp_path / "train-None.csv").read_text()
        records.append([probed(train, val, *few)[1], probed(train, val)[1]])
    for again in records[1:]:
        for one, same in zip(records[0], again, strict=True):
            for key in ("scores", "protocol", "answers", "l2"):
                assert one.get(key) == same.get(key)
    scores = records[0][0]["scores"]
    assert sum("3 shots" in title for title in scores) == 3  # trained, untrained, motion energy
    other = probed(train, val, *few, "--seed", 1)[1]
    assert other["scores"] != scores and other["protocol"]["hash"] != records[0][0]["protocol"]["hash"]


def test_results_of_few_shots_stand_side_by_side_with_the_spread_of_their_draws(
    probed, vidssl, checkpoint, sprites, tmp_path
):
    _, record = probed(sprites / "train", sprites / "val", "--shots", 1)
    (tmp_path / "result.json").rename(tmp_path / "first.json")
    start = checkpoint / "initial"
    again = ("--shots", 1, *FAST, "--output", tmp_path / "second.json")
    assert vidssl("linear-probe", start, sprites / "train", sprites / "val", *again)[0] == 0
    files = (tmp_path / "first.json", tmp_path / "second.json")
    code, _, err = vidssl("compare", *files, "--output", tmp_path / "compare")
    assert code == 0, err
    page = json.loads((tmp_path / "compare/compare.json").read_text())
    shown, score = page["results"][0]["scores"]["trained, 1 shots"], record["scores"]["trained, 1 shots"]
    assert (shown["value"], shown["spread"]) == (score["top1"], score["top1_std"]) and shown[
        "spread"
    ] is not None
    assert {one["protocol"] for one in page["results"]} == {"A"}
    assert page["comparisons"][0].get("p") is None  # no single answers


def test_classes_with_fewer_videos_than_shots_are_named(probed, sprites, tmp_path):
    train = write_list(tmp_path / "train.csv", sprites / "train", {"growing": 1, "moving_left": 3})
    out, _ = probed(train, sprites / "val", "--shots", 2, "--shots", 4, "--shots", 8)
    assert "2 shots: 1 class has fewer training videos, all of which are taken: growing (1)\n" in out
    assert (
        "4 shots: 2 classes have fewer training videos, all of which are taken: growing (1), moving_left (3)"
        in out
    )
    assert "8 shots: no class has more, so that all draws are the same videos and do not differ" in out
    assert "4 shots: no class" not in out


def test_a_video_that_one_encoder_cannot_use_changes_no_other_draw(
    probed, checkpoint, sprites, tmp_path, monkeypatch
):
    """The features of one training video are not finite for the untrained encoder alone."""
    train = write_list(tmp_path / "train.csv", sprites / "train")
    few = ("--shots", 2, "--draws", 6, "--no-cache")
    _, before = probed(train, sprites / "val", *few)
    started = load(checkpoint / "initial").state_dict()
    forward, seen = VideoEncoder.__call__, []

    def overflowing(self, clips, *given, **options):
        features = forward(self, clips, *given, **options)
        if not seen and all(bool((self.state_dict()[k].cpu() == x).all()) for k, x in started.items()):
            seen.append(1)
            features.clip[0] = float("nan")
        return features

    monkeypatch.setattr(VideoEncoder, "__call__", overflowing)
    out, after = probed(train, sprites / "val", *few)
    assert seen and "not finite" in out
    assert after["scores"]["trained, 2 shots"] == before["scores"]["trained, 2 shots"]
    assert after["train"]["failed"]


def test_a_video_of_both_parts_is_named_with_few_labels_too(probed, sprites, tmp_path):
    train = write_list(tmp_path / "train.csv", sprites / "train", {"growing": 2})
    with train.open("a", newline="") as stream:
        leaked = sorted((sprites / "val/growing").iterdir())[0]
        csv.writer(stream).writerow((leaked, "growing", "growing-9"))
    out, record = probed(train, sprites / "val", "--shots", 1)
    assert "1 of 9 test videos is in the training split too (same content):" in out
    assert [Path(pair["val"]).name for pair in record["in_both_splits"]] == [leaked.name]


def test_one_class_is_said_to_be_no_test(probed, sprites, tmp_path):
    none = {"moving_left": 0, "moving_right": 0}
    train = write_list(tmp_path / "train.csv", sprites / "train", none)
    val = write_list(tmp_path / "val.csv", sprites / "val", none)
    out, record = probed(train, val, "--shots", 2)
    assert "there is one class: every answer is right, whatever the encoder" in out
    assert record["scores"]["chance"]["top1"] == 1.0
