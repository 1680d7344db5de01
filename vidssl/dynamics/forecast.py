"""Forecasts: the model run on without observations, past the last step or from every step."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vidssl.dynamics._engine.layout import Layout, check_values, compact, in_one_precision, sequences, shared
from vidssl.dynamics._engine.recurrence import congruence_recurrence, linear_recurrence
from vidssl.dynamics._engine.results import FilterResult, Forecast
from vidssl.dynamics._engine.riccati import symmetric
from vidssl.errors import VidsslError


def forecast(
    result: FilterResult,
    horizon: int,
    A: Tensor,
    Q: Tensor,
    C: Tensor,
    R: Tensor,
    b: Tensor | None = None,
    d: Tensor | None = None,
) -> Forecast:
    """States and observations of the `horizon` steps after the last one.

    Args:
        result: of `kalman_filter`, T steps.
        horizon: H, at least 1.
        A, Q, C, R, b, d: as for the filter, with H in place of T: what varies over time is given for the steps
            T … T + H - 1, so A[0] leads from the last filtered step into the first forecast one.

    Returns:
        Forecast(mean (…, H, n), cov (…, H, n, n), obs_mean (…, H, m), obs_cov (…, H, m, m)). Differentiable.

    Raises:
        VidsslError: for a horizon below 1, wrong shapes, or values that the filter would not take either.
    """
    if horizon < 1:
        raise VidsslError(f"forecast: horizon={horizon}; it must be at least 1")
    last = result._replace(filt_mean=result.filt_mean[..., -1:, :], filt_cov=result.filt_cov[..., -1:, :, :])
    with torch.autocast(result.filt_mean.device.type, enabled=False):
        model = _read("forecast", horizon, last, {"A": A, "Q": Q, "C": C, "R": R, "b": b, "d": d})
        n, layout = model.A.shape[-1], model.layout
        lead, k = (layout.size, 1) if model.vectors_per_sequence else (1, layout.size)
        offsets = model.A.new_zeros(()) if model.b is None else model.b
        means = linear_recurrence(
            model.A.expand(-1, lead, n, n),
            offsets.expand(horizon, lead, n, k),
            model.filt_mean[0].expand(lead, n, k),
        )
        size = sequences(model.A, model.Q, model.filt_cov)
        square = (horizon, size, n, n)
        covs = congruence_recurrence(
            model.A.expand(square), model.Q.expand(square), model.filt_cov[0].expand(square[1:])
        )
        return _observe(model, means[1:], covs[1:], 0)


def multi_step(
    result: FilterResult,
    steps: int,
    A: Tensor,
    Q: Tensor,
    C: Tensor,
    R: Tensor,
    b: Tensor | None = None,
    d: Tensor | None = None,
) -> list[Forecast]:
    """Forecasts 1, 2, … `steps` ahead from every step of the sequence, for errors against the horizon.

    Args:
        result: of `kalman_filter`, T steps.
        steps: largest horizon H, from 1 to T - 1.
        A, Q, C, R, b, d: as given to the filter.

    Returns:
        H forecasts. Entry t of number h - 1 is made at step t for step t + h, so its time axis has length T - h and it
        is to be compared with z[…, h:, :]. Number 0 repeats the filter's own predictions. Differentiable.

    Raises:
        VidsslError: for steps outside 1 … T - 1, wrong shapes, or values that the filter would not take either.
    """
    total = result.filt_mean.shape[-2]
    if not 1 <= steps < total:
        raise VidsslError(
            f"multi_step: steps={steps}; it must be from 1 to {total - 1}, one less than the sequence"
        )
    with torch.autocast(result.filt_mean.device.type, enabled=False):
        model = _read("multi_step", total, result, {"A": A, "Q": Q, "C": C, "R": R, "b": b, "d": d})
        mean, cov, forecasts = model.filt_mean, model.filt_cov, []
        for h in range(1, steps + 1):
            into = model.A[h:]
            mean = into @ mean[:-1] if model.b is None else into @ mean[:-1] + model.b[h:]
            cov = into @ cov[:-1] @ into.mT + model.Q[h:]
            forecasts.append(_observe(model, mean, cov, h))
        return forecasts


class _Model(NamedTuple):
    """Time first, see `layout`."""

    filt_mean: Tensor
    filt_cov: Tensor
    A: Tensor
    Q: Tensor
    C: Tensor
    R: Tensor
    b: Tensor | None
    d: Tensor | None
    layout: Layout
    vectors_per_sequence: bool


def _read(name: str, steps: int, result: FilterResult, given: dict[str, Tensor | None]) -> _Model:
    *batch, known, n = result.filt_mean.shape
    m = result.innovation.shape[-1]
    x = in_one_precision(name, {"mean": result.filt_mean, "cov": result.filt_cov, **given})
    layout = Layout(name, steps, batch, of="result")
    layout.read(x, n, m)
    check_values(name, x, vectors=["b", "d"], matrices=["A", "C"], covariances=["Q", "R"], definite=["R"])
    columns = shared(x["A"], x["C"])
    return _Model(
        layout.vectors(x["mean"], columns, known),
        layout.matrices(compact(x["cov"], 2), known),
        layout.matrices(x["A"]),
        symmetric(layout.matrices(x["Q"])),
        layout.matrices(x["C"]),
        symmetric(layout.matrices(x["R"])),
        layout.vectors(x["b"], columns) if "b" in x else None,
        layout.vectors(x["d"], columns) if "d" in x else None,
        layout,
        not columns,
    )


def _observe(model: _Model, mean: Tensor, cov: Tensor, first: int) -> Forecast:
    """Moments of the states from step `first` on, and what would be observed of them."""
    C, R, back = model.C[first:], model.R[first:], model.layout
    obs_mean = C @ mean if model.d is None else C @ mean + model.d[first:]
    obs_cov = C @ cov @ C.mT + R
    return Forecast(
        back.vectors_back(mean),
        back.matrices_back(symmetric(cov)),
        back.vectors_back(obs_mean),
        back.matrices_back(symmetric(obs_cov)),
    )
