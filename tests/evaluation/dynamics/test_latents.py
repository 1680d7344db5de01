"""Latents of videos, at the rate of the training."""

from __future__ import annotations

import pytest
import torch

from vidssl.data.clips import ClipSpec
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.views.evaluation import EvalSpec
from vidssl.evaluation import EvalOptions
from vidssl.evaluation.dynamics.latents import StepSpec, encode_sequences
from vidssl.runs import load_run


def test_latents_are_those_of_the_encoder_and_short_videos_end(run, sprites):
    restored = load_run(run)
    index = VideoIndex.read(sprites / "val")
    # 12 frames a video: a clip of all of them, then one of twice as many at the same rate.
    found, failures = encode_sequences(
        {"x": (restored.student, "ldm")}, index, StepSpec(12, stride=1, size=32), EvalOptions(workers=0)
    )
    assert not failures and bool(found["x"].valid.all())
    longer, _ = encode_sequences(
        {"x": (restored.student, "ldm")}, index, StepSpec(24, stride=1, size=32), EvalOptions(workers=0)
    )
    assert longer["x"].valid.sum(1).tolist() == [12] * len(index)
    assert EvalSpec(ClipSpec(12, stride=1)).clips_per_video == 1
    seconds = found["x"].step_seconds
    steady, _ = encode_sequences(
        {"x": (restored.student, "ldm")},
        index,
        StepSpec(12, seconds=seconds, size=32),
        EvalOptions(workers=0),
    )
    torch.testing.assert_close(steady["x"].z, found["x"].z)
    slower, _ = encode_sequences(
        {"x": (restored.student, "ldm")},
        index,
        StepSpec(12, seconds=3 * seconds, size=32),
        EvalOptions(workers=0),
    )
    assert slower["x"].valid.sum(1).tolist() == [4] * len(index)
    assert slower["x"].step_seconds == pytest.approx(3 * seconds, rel=1e-6)
    # More frames than the video has: each counts once.
    faster, _ = encode_sequences(
        {"x": (restored.student, "ldm")},
        index,
        StepSpec(24, seconds=seconds / 2, size=32),
        EvalOptions(workers=0),
    )
    assert faster["x"].valid.sum(1).tolist() == [12] * len(index)


def test_a_video_whose_latents_are_not_finite_is_left_out_and_named(run, sprites):
    restored, index = load_run(run), VideoIndex.read(sprites / "val")
    shown = []

    def overflow(module, given, found):
        shown.append(len(given[0]))
        return found._replace(frames=found.frames * torch.inf) if len(shown) == 3 else found

    restored.student.encoder.register_forward_hook(overflow)
    students, spec = {"teacher": (restored.student, "ldm")}, StepSpec(12, stride=1, size=32)
    found, failures = encode_sequences(students, index, spec, EvalOptions(workers=0, batch_size=1))
    assert found["teacher"].names == (*index.paths[:2], *index.paths[3:])
    assert [(x.path, x.reason) for x in failures] == [
        (str(index.path(2)), "latents are not finite (teacher)")
    ]
