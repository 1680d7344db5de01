"""Features of a data set: in its order, with what could not be read marked."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import vidssl
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.manifest.quarantine import FailedVideo
from vidssl.evaluation.features import _in_order, _Part, extract_features, motion_energy
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
    assert bool(features.ok.all()) and features.failures == ()
    alone = replace(subject, options=replace(subject.options, batch_size=1))
    for name, rows in extract_features(alone, index, motion=True, description="test").features.items():
        torch.testing.assert_close(rows, features.features[name], atol=1e-5, rtol=0)


def test_rows_of_several_processes_come_in_the_order_of_the_index():
    parts = [
        _Part([torch.tensor([0, 2]), torch.tensor([4])], [torch.tensor([False, True]), torch.tensor([False])],
              {"x": [torch.tensor([[0.0], [2]]), torch.tensor([[4.0]])]}, [FailedVideo(2, "c", "torn")]),
        _Part([torch.tensor([1, 3])], [torch.tensor([True, False])],
              {"x": [torch.tensor([[1.0], [3]])]}, [FailedVideo(1, "b", "empty")]),
    ]  # fmt: skip
    found = _in_order(parts, 5)
    assert found.features["x"][:, 0].tolist() == [0, 0, 0, 3, 4]
    assert found.ok.tolist() == [True, False, False, True, True]
    assert [failure.path for failure in found.failures] == ["b", "c"]
    with pytest.raises(AssertionError, match="exactly once"):
        _in_order(parts[:1], 3)


def test_motion_energy_says_where_and_when_pixels_change():
    clips = torch.zeros(1, 3, 5, 16, 16)
    clips[:, :, 3:, :8, :8] = 1  # between the third and the fourth frame, in the top left corner
    energy = motion_energy(clips, grid=2, slices=4)["motion"].reshape(4, 2, 2)
    assert energy.nonzero().tolist() == [[2, 0, 0]]
    assert motion_energy(clips[:, :, :1], grid=2, slices=4)["motion"].abs().sum() == 0
