"""Features of a data set: in its order, with what could not be read marked."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import vidssl
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.manifest.quarantine import FailedVideo
from vidssl.errors import VidsslError
from vidssl.evaluation.features.blocks import block_rows, new_clips
from vidssl.evaluation.features.means import FeatureSet, _in_order, _Part, extract_features, mean_over_views
from vidssl.evaluation.features.sources import motion_energy
from vidssl.evaluation.setup import EvalOptions, Subject


@pytest.fixture(scope="module")
def subject(tiny_clip, tmp_path_factory):
    encoder = vidssl.create_model(f"local-dir:{tiny_clip}", load_text=False).eval()
    options = EvalOptions(clips=2, frames=4, seconds=0.5, size=32, workers=0, batch_size=4)
    return Subject(tmp_path_factory.mktemp("encoder"), encoder, None, options, torch.device("cpu"))


def test_a_video_is_the_mean_of_its_clips_whatever_the_batch(subject, sprites):
    index = VideoIndex.read(sprites / "val")
    features = extract_features(subject, index, motion=True, description="test")
    assert set(features.features) == {"trained", "trained/unit", "motion"}
    assert all(bool(ok.all()) for ok in features.ok.values()) and features.failures == ()
    assert features.fewer_clips == 0
    alone = replace(subject, options=replace(subject.options, batch_size=1))
    for name, rows in extract_features(alone, index, motion=True, description="test").features.items():
        torch.testing.assert_close(rows, features.features[name], atol=1e-5, rtol=0)


def index_of(total: int) -> VideoIndex:
    return VideoIndex.of(Path("/videos"), [f"{number}.mp4" for number in range(total)], [None] * total)


def part_of(ids, failed, rows, failures=()):
    """What a process knows of videos of one clip."""
    part = _Part(ids)
    part.failed = torch.tensor(failed)
    part.failures = list(failures)
    for name, values in rows.items():
        part.add(name, torch.arange(len(ids)), values[:, None], torch.ones(len(ids), 1).bool())
    return part


def test_rows_of_several_processes_come_in_the_order_of_the_index():
    parts = [
        part_of([0, 1, 4], [False, True, False], {"x": torch.tensor([[0.0], [1], [4]])}, [FailedVideo(1, "c", "torn")]),
        part_of([2, 3], [True, False], {"x": torch.tensor([[2.0], [3]])}, [FailedVideo(2, "b", "empty")]),
        _Part([]),
    ]  # fmt: skip
    found = _in_order(parts, index_of(5), "run")
    assert found.features["x"][:, 0].tolist() == [0, 0, 0, 3, 4]
    assert found.ok["x"].tolist() == [True, False, False, True, True]
    assert [failure.path for failure in found.failures] == ["c", "b"]
    with pytest.raises(AssertionError, match="exactly once"):
        _in_order(parts[:1], index_of(3), "run")


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, 1e30])
def test_features_that_are_not_finite_are_those_of_a_failed_video(broken):
    """Only for the encoder that gave them; a length that overflows would become a row of zeros when normalised."""
    rows = {"x": torch.tensor([[1.0, 2], [broken, 0], [3, 4]]), "y": torch.ones(3, 2)}
    found = _in_order([part_of([0, 1, 2], [False] * 3, rows)], index_of(3), "run")
    assert found.ok["x"].tolist() == [True, False, True] and bool(found.ok["y"].all())
    assert found.features["x"].tolist() == [[1, 2], [0, 0], [3, 4]]
    assert [(x.path, x.reason) for x in found.failures] == [("/videos/1.mp4", "features are not finite (x)")]
    with pytest.raises(VidsslError, match="run: the features of 'x' are finite for none of the 3 videos"):
        _in_order([part_of([0, 1, 2], [False] * 3, {"x": torch.full((3, 2), broken)})], index_of(3), "run")


def test_the_mean_is_over_the_views_that_are_shown():
    rows = torch.arange(12.0).reshape(2, 3, 2)
    shown = torch.tensor([[True, True, True], [True, False, True]])
    assert mean_over_views(rows, shown).tolist() == [[2, 3], [8, 9]]
    rows[1, 1] = torch.nan
    assert mean_over_views(rows, shown).tolist() == [[2, 3], [8, 9]]


@pytest.mark.parametrize(("videos", "rows"), [(1, 1), (16, 16), (17, 9), (20, 10), (33, 11), (9537, 16)])
def test_blocks_are_as_small_as_their_number_allows(videos, rows):
    assert block_rows(videos, 16) == rows


def test_constant_features_are_recognised():
    rows = 5 + torch.tensor([[0.0], [1e-7], [1.0]])
    found = FeatureSet({"x": rows}, {"x": torch.tensor([True, True, False])}, (), 0)
    assert found.constant("x")
    assert not FeatureSet({"x": rows}, {"x": torch.ones(3, dtype=torch.bool)}, (), 0).constant("x")
    assert not FeatureSet({"x": rows}, {"x": torch.tensor([True, False, False])}, (), 0).constant("x")


def test_clips_of_the_same_frames_are_one():
    index = [torch.tensor(rows) for rows in ([[0, 1], [0, 1]], [[0, 1], [1, 2]], [[0, 1], [0, 1]])]
    assert new_clips(index).tolist() == [[True, True], [False, True], [False, False]]


def test_a_short_video_is_shown_as_often_as_it_has_clips(subject, sprites, monkeypatch):
    """Of 12 frames, 11 leave room for two clips: the three asked for are the first, the second and the second again."""
    options = EvalOptions(clips=3, frames=11, stride=1, size=32, workers=0, batch_size=4)
    index = VideoIndex.read(sprites / "val").subset(range(4))
    three = extract_features(replace(subject, options=options), index, description="test")
    assert three.fewer_clips == 4
    two = extract_features(replace(subject, options=replace(options, clips=2)), index, description="test")
    assert two.fewer_clips == 0
    torch.testing.assert_close(three.features["trained"], two.features["trained"])
    whole = replace(options, stride=None, seconds=math.inf)
    assert whole.spec(subject.encoder).clips_per_video == 1


def test_motion_energy_says_where_and_when_pixels_change():
    clips = torch.zeros(1, 3, 5, 16, 16)
    clips[:, :, 3:, :8, :8] = 1  # between the third and the fourth frame, in the top left corner
    energy = motion_energy(clips, grid=2, slices=4).reshape(4, 2, 2)
    assert energy.nonzero().tolist() == [[2, 0, 0]]
    assert motion_energy(clips[:, :, :1], grid=2, slices=4).abs().sum() == 0
