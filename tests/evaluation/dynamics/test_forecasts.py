"""Forecast errors are those of the closed form, and no baseline is left out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.evaluation.dynamics.simulation import ANGLE, RADIUS, rotating_model, simulate
from vidssl.evaluation.dynamics.forecasts import SMOOTHING_FACTORS, clock_means, smoothed
from vidssl.evaluation.dynamics.latents import LatentSequences
from vidssl.evaluation.dynamics.measure import measure_dynamics


def test_forecast_errors_are_those_of_the_closed_form(sequences):
    found = measure_dynamics(rotating_model(), sequences, horizon=10).forecast
    stationary = 0.3 / (1 - RADIUS**2)
    # Settled error of the filter: p = r² p / (p + 1) + q for the prediction, p / (p + 1) after the latent is seen.
    predicted = max(np.roots([1, 1 - RADIUS**2 - 0.3, -0.3]))
    for h in range(1, 11):
        decay = RADIUS ** (2 * h)
        error = decay * predicted / (predicted + 1) + 0.3 * (1 - decay) / (1 - RADIUS**2) + 1
        turned = 2 * stationary * (1 - RADIUS**h * math.cos(h * ANGLE)) + 2
        nrmse = {name: row[h - 1].value for name, row in found.nrmse.items()}
        assert nrmse["model"] == pytest.approx(math.sqrt(error / (stationary + 1)), rel=0.08)
        assert nrmse["persistence"] == pytest.approx(math.sqrt(turned / (stationary + 1)), rel=0.08)
        assert nrmse["mean"] == pytest.approx(1, abs=1e-12)
        assert found.ratio["persistence"][h - 1].interval[1] < 1
        assert found.ratio["smoothing"][h - 1].interval[1] < 1
        assert found.ratio["persistence"][h - 1].value == pytest.approx(
            nrmse["model"] / nrmse["persistence"], rel=1e-12
        )
    assert found.pairs == [60 * (37 - h) for h in range(1, 11)]


def test_without_motion_the_model_beats_the_last_latent_but_not_the_average():
    rng = torch.Generator().manual_seed(3)
    still = 3 * torch.randn(80, 1, 2, generator=rng).double()
    z = still + torch.randn(80, 30, 2, generator=rng).double()
    sequences = simulate(80, 30)._replace(z=z)
    model = rotating_model(1e-6)
    with torch.no_grad():
        model.transition.A.copy_(torch.eye(2))
        model.fixed_point.zero_()
    found = measure_dynamics(model, sequences, horizon=6, context=10).forecast
    for h in range(6):
        assert found.ratio["persistence"][h].interval[1] < 0.8
        assert found.ratio["smoothing"][h].value == pytest.approx(1, abs=0.06)
        assert found.smoothing[h] < 0.3 and found.kept[h] > 0.9


def test_an_average_of_latents_that_are_forgotten_is_drawn_to_the_mean():
    z = torch.randn(60, 20, 2, generator=torch.Generator().manual_seed(5)).double()
    found = measure_dynamics(rotating_model(), simulate(60, 20)._replace(z=z), horizon=4).forecast
    for h in range(4):  # nothing of white noise is kept
        assert found.nrmse["smoothing"][h].value == pytest.approx(1, abs=0.01) and found.kept[h] < 0.3
        assert found.nrmse["persistence"][h].value == pytest.approx(math.sqrt(2), rel=0.05)


def test_latents_that_only_tell_the_frame_do_not_beat_the_clock():
    angle = 2 * math.pi / 16 * torch.arange(16, dtype=torch.float64)
    circle = 5 * torch.stack([angle.cos(), angle.sin()], dim=-1)
    z = circle + 0.5 * torch.randn(50, 16, 2, generator=torch.Generator().manual_seed(0)).double()
    sequences = LatentSequences(z, torch.ones(50, 16, dtype=torch.bool), *simulate(50, 16)[2:])
    model = rotating_model(0.01)
    step = [[math.cos(2 * math.pi / 16), -math.sin(2 * math.pi / 16)]]
    step.append([-step[0][1], step[0][0]])
    with torch.no_grad():
        model.transition.A.copy_(torch.tensor(step))
    found = measure_dynamics(model, sequences).forecast
    assert found.ratio["persistence"][3].interval[1] < 0.4
    assert found.nrmse["clock"][3].value < 0.2
    assert found.ratio["clock"][3].interval[0] > 1


def test_the_clock_is_the_mean_of_the_other_videos():
    z = torch.tensor([[1.0, 2, 9], [3, 4, 0], [5, 9, 0]], dtype=torch.float64)[..., None]
    valid = torch.tensor([[True, True, True], [True, True, False], [True, False, False]])
    everything = float(z[valid].mean())
    assert clock_means(z, valid)[..., 0].tolist() == [[4, 4, everything], [3, 2, 9], [2, 3, 9]]


def test_smoothing_skips_what_is_missing_and_one_is_the_last_latent():
    z = torch.tensor([[1.0, 9, 3, 5]], dtype=torch.float64)[..., None]
    valid = torch.tensor([[True, False, True, True]])
    assert smoothed(z, valid, 1.0).flatten().tolist() == [1, 1, 3, 5]
    assert smoothed(z, valid, 0.5).flatten().tolist() == [1, 1, 2, 3.5]
    assert SMOOTHING_FACTORS[0] == 1.0
