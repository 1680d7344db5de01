"""Forecasts against a filter that is given nothing more to see."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.dynamics.kalman_reference import observations, random_model
from vidssl.dynamics.forecast import forecast, multi_step
from vidssl.dynamics.kalman import StateSpace, kalman_filter


def matrices(model: StateSpace, times: slice | None = None) -> dict[str, Tensor | None]:
    """What a forecast takes; of a time-varying model the steps `times`."""
    cut = {"A": 2, "Q": 2, "C": 2, "R": 2, "b": 1, "d": 1}
    named = {name: getattr(model, name) for name in cut}
    if times is None:
        return named
    return {
        name: x if x is None or x.ndim == cut[name] else x[(..., times, *[slice(None)] * cut[name])]
        for name, x in named.items()
    }


@pytest.mark.parametrize("varying", ["", "AQCRbd", "R", "b"], ids=lambda v: v or "constant")
@pytest.mark.parametrize("batch", [(), (2, 2)])
@pytest.mark.parametrize("offsets", [True, False])
def test_a_forecast_is_a_filter_without_observations(
    varying: str, batch: tuple[int, ...], offsets: bool
) -> None:
    steps, horizon = 4, 3
    model = random_model(3, 2, seed=1, time=steps + horizon, batch=batch, varying=varying, offsets=offsets)
    z = observations(2, 2, steps + horizon, 2, seed=1, missing=0.2)
    z[..., steps:, :] = math.nan
    whole = kalman_filter(z, **model._asdict())
    known = {**model._asdict(), **matrices(model, slice(steps))}
    result = kalman_filter(z[..., :steps, :], **known)  # type: ignore[arg-type]
    ahead = forecast(result, horizon, **matrices(model, slice(steps, None)))  # type: ignore[arg-type]
    for mine, theirs in (
        (ahead.mean, whole.pred_mean),
        (ahead.cov, whole.pred_cov),
        (ahead.obs_cov, whole.innovation_cov),
    ):
        axis = 2
        torch.testing.assert_close(mine, theirs.narrow(axis, steps, horizon), rtol=1e-11, atol=1e-12)
    # The forecast observation is that whose innovation is 0.
    filled = torch.cat([z[..., :steps, :], ahead.obs_mean], dim=-2)
    innovation = kalman_filter(filled, **model._asdict()).innovation
    assert innovation[..., steps, :].abs().max() < 1e-11


def test_one_step_ahead_repeats_the_filter() -> None:
    model = random_model(3, 2, seed=2, time=6)
    z = observations(4, 6, 2, seed=2, missing=0.3)
    result = kalman_filter(z, **model._asdict())
    (ahead,) = multi_step(result, 1, model)
    torch.testing.assert_close(ahead.mean, result.pred_mean[:, 1:], rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(ahead.cov, result.pred_cov[:, 1:], rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(ahead.obs_cov, result.innovation_cov[:, 1:], rtol=1e-11, atol=1e-12)
    seen = ~torch.isnan(z[:, 1:])
    error = (z[:, 1:] - ahead.obs_mean)[seen]
    torch.testing.assert_close(error, result.innovation[:, 1:][seen], rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("varying", ["", "AQCRbd"], ids=lambda v: v or "constant")
def test_every_horizon_from_every_step_is_a_forecast_of_the_prefix(varying: str) -> None:
    steps, largest = 6, 3
    model = random_model(2, 2, seed=3, time=steps, varying=varying)
    z = observations(3, steps, 2, seed=3, missing=0.2)
    ahead = multi_step(kalman_filter(z, **model._asdict()), largest, model)
    assert [x.mean.shape for x in ahead] == [(3, steps - h, 2) for h in (1, 2, 3)]
    for t in range(steps - 1):
        head = {**model._asdict(), **matrices(model, slice(t + 1))}
        result = kalman_filter(z[:, : t + 1], **head)  # type: ignore[arg-type]
        reach = min(largest, steps - 1 - t)
        direct = forecast(result, reach, **matrices(model, slice(t + 1, t + 1 + reach)))  # type: ignore[arg-type]
        for h in range(1, reach + 1):
            for mine, theirs in zip(ahead[h - 1], direct, strict=True):
                torch.testing.assert_close(mine[:, t], theirs[:, h - 1], rtol=1e-11, atol=1e-12)
