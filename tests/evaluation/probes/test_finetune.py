"""Tuning of a whole encoder: it learns, the same every time, and leaves the encoder it was given as it was."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from tests.evaluation.features.test_cache import subject_of
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.errors import VidsslError
from vidssl.evaluation.probes.tuning import Classifier, TuningOptions, _factor, tune
from vidssl.evaluation.setup import EvalOptions

OPTIONS = EvalOptions(clips=1, frames=4, seconds=0.5, size=32, workers=0, cache=False)


def tuned(sprites, **how) -> tuple[list[float], Classifier]:
    subject = subject_of(OPTIONS)
    index = VideoIndex.read(sprites / "val")
    classifier = Classifier(subject.encoder, 3, seed=1)
    labels = torch.full((len(index),), 2)  # of nothing else can so small an encoder be sure to learn
    return tune(classifier, subject, index, labels, TuningOptions(**how), "test"), classifier


def test_tuning_learns_and_is_the_same_every_time(sprites):
    how = {"epochs": 4, "batch_size": 4, "rate": 3e-2, "head_factor": 3.0}
    losses, first = tuned(sprites, **how)
    again, second = tuned(sprites, **how)
    assert losses == again and len(losses) == 4
    assert losses[-1] < 0.2 * math.log(3) and losses[-1] < losses[0]
    assert all(
        torch.equal(a, b)
        for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )
    start = Classifier(subject_of(OPTIONS).encoder, 3, seed=1).state_dict()
    assert all(not torch.equal(value, start[name]) for name, value in first.state_dict().items())
    assert not first.training


def test_the_default_generator_is_left_alone(sprites):
    subject, index = subject_of(OPTIONS), VideoIndex.read(sprites / "val")
    classifier = Classifier(subject.encoder, 3, seed=1)
    before = torch.get_rng_state()
    tune(classifier, subject, index, torch.from_numpy(index.label_ids), TuningOptions(epochs=1), "test")
    assert torch.equal(torch.get_rng_state(), before)


def test_a_loss_that_is_not_finite_is_an_error(sprites):
    with pytest.raises(VidsslError, match=r"the loss is (nan|inf) at step . of .*a lower rate than 1e"):
        tuned(sprites, epochs=20, rate=1e30, batch_size=9)


def test_rates_rise_and_fall():
    factors = [_factor(step, 50) for step in range(50)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0]) and factors[5] == 1
    assert factors[5:] == sorted(factors[5:], reverse=True) and 0 < factors[-1] < 0.01


@pytest.mark.parametrize("given", [{"epochs": 0}, {"rate": 0.0}, {"shots": 0}, {"decay": -1.0}])
def test_what_makes_no_sense_is_refused(given):
    with pytest.raises(VidsslError, match=next(iter(given))):
        replace(TuningOptions(), **given)
