"""What is measured is what is there, of every kind of model."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluation.dynamics.simulation import rotating_model
from vidssl.dynamics.recurrent import RecurrentPredictor
from vidssl.dynamics.ssm import LinearGaussianSSM
from vidssl.errors import VidsslError
from vidssl.evaluation.dynamics.measure import longest_horizon, measure_dynamics


def test_what_is_not_there_changes_nothing(sequences):
    short = sequences._replace(z=sequences.z.clone(), valid=sequences.valid.clone())
    short.valid[::2, 25:] = False
    short.z[::2, 25:] = 1e3
    other = short._replace(z=torch.where(short.valid[..., None], short.z, -7.0))
    first, second = (measure_dynamics(rotating_model(), x) for x in (short, other))
    assert first.forecast.record() == second.forecast.record()
    assert first.calibration.record() == second.calibration.record()
    assert first.forecast.pairs[0] == 30 * 36 + 30 * (25 - 4)


@pytest.mark.parametrize("variance", ["fixed", "learned"])
def test_a_recurrent_model_has_no_eigenvalues(sequences, variance):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = RecurrentPredictor(2, 8, (8,), variance)
    found = measure_dynamics(model, sequences, horizon=3)
    assert found.eigenvalues is None
    with torch.no_grad():
        direct = model.double().multi_step(sequences.z, 3)[2]
    error = (direct.mean - sequences.z[:, 3:])[:, 3:]
    mean = sequences.z.flatten(0, 1).mean(0)
    wanted = error.square().sum().sqrt() / (mean - sequences.z[:, 6:]).square().sum().sqrt()
    assert found.forecast.nrmse["model"][2].value == pytest.approx(wanted.item(), rel=1e-9)


def test_noise_from_the_frames_is_read_from_the_second_half(sequences):
    model = LinearGaussianSSM(2, 2, R="input").double()
    raw = torch.zeros_like(sequences.z)
    found = measure_dynamics(model, sequences._replace(z=torch.cat([sequences.z, raw], dim=-1)))
    own = LinearGaussianSSM(2, 2).double()
    own.load_state_dict(model.state_dict())
    same = measure_dynamics(own, sequences)
    assert found.calibration.mean_nis.value == pytest.approx(same.calibration.mean_nis.value, rel=1e-3)
    with pytest.raises(VidsslError, match="2 dimensions, the model 4"):
        measure_dynamics(model, sequences)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"horizon": 37}, "horizon=37.*from 1 to 36"),
        ({"horizon": 0}, "horizon=0"),
        ({"horizon": 2, "lag": 3}, "predict 3 steps ahead"),
    ],
)
def test_impossible_horizons_are_refused(sequences, options, message):
    with pytest.raises(VidsslError, match=message):
        measure_dynamics(rotating_model(), sequences, **options)


def test_videos_too_short_for_the_horizon_are_named(sequences):
    valid = sequences.valid.clone()
    valid[:, 8:] = False
    with pytest.raises(VidsslError, match=r"long enough for 5 steps.*give a horizon of at most 4"):
        measure_dynamics(rotating_model(), sequences._replace(valid=valid), horizon=8)
    valid[:, 1::2] = False  # every second frame repeats the one before
    with pytest.raises(VidsslError, match=r"long enough for 1 steps.*give frames that lie further apart"):
        measure_dynamics(rotating_model(), sequences._replace(valid=valid), horizon=1)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 4), st.integers(0, 10_000))
def test_the_longest_horizon_is_that_of_a_search(steps, context, seed):
    valid = torch.rand(3, steps, generator=torch.Generator().manual_seed(seed)) < 0.7
    judged = {
        h
        for row in valid.tolist()
        for t in range(steps)
        for h in range(1, steps - t)
        if row[t] and row[t + h] and sum(row[: t + 1]) >= context
    }
    expected = next(h for h in range(steps + 1) if h + 1 not in judged)
    assert longest_horizon(valid, context) == expected
