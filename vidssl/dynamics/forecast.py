"""Forecasts: the model run on without observations, past the last step or from every step."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vidssl.dynamics._engine.layout import Layout, compact, in_one_precision, sequences, shared, symmetric
from vidssl.dynamics._engine.recurrence import congruence_recurrence, linear_recurrence
from vidssl.dynamics._engine.results import FilterResult, StateSpace
from vidssl.errors import VidsslError


class Forecast(NamedTuple):
    """Moments of steps not yet seen.

    Attributes:
        mean, cov: (…, H, n) and (…, H, n, n) of the state.
        obs_mean, obs_cov: (…, H, m) and (…, H, m, m) of the observation, noise included.
    """

    mean: Tensor
    cov: Tensor
    obs_mean: Tensor
    obs_cov: Tensor


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
        given = {"A": A, "Q": Q, "C": C, "R": R, "b": b, "d": d}
        model, layout, columns = _read("forecast", horizon, last, given)
        A, Q, _, _, mean, cov, b, _ = model
        n = A.shape[-1]
        lead, k = (1, layout.size) if columns else (layout.size, 1)
        offsets = (A.new_zeros(()) if b is None else b).expand(horizon, lead, n, k)
        means = linear_recurrence(A.expand(-1, lead, n, n), offsets, mean[0].expand(lead, n, k))
        square = (horizon, sequences(A, Q, cov), n, n)
        covs = congruence_recurrence(A.expand(square), Q.expand(square), cov[0].expand(square[1:]))
        return _observe(model, layout, means[1:], covs[1:], 0)


def multi_step(result: FilterResult, steps: int, model: StateSpace, check: bool = True) -> list[Forecast]:
    """Forecasts 1, 2, … `steps` ahead from every step of the sequence, for errors against the horizon.

    Args:
        result: of `kalman_filter`, T steps.
        steps: largest horizon H, from 1 to T - 1.
        model: as given to the filter; its m0 and P0 are not used.
        check: as in `kalman_filter`.

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
        given = {key: x for key, x in model._asdict().items() if key not in ("m0", "P0")}
        model, layout, _ = _read("multi_step", total, result, given, check)
        (A, Q, _, _, mean, cov, b, _), forecasts = model, []
        for h in range(1, steps + 1):
            into = A[h:]
            mean = into @ mean[:-1] if b is None else into @ mean[:-1] + b[h:]
            cov = into @ cov[:-1] @ into.mT + Q[h:]
            forecasts.append(_observe(model, layout, mean, cov, h))
        return forecasts


def _read(
    name: str, steps: int, result: FilterResult, given: dict[str, Tensor | None], check: bool = True
) -> tuple[StateSpace, Layout, bool]:
    """The model time first, its m0 and P0 the filtered moments; its layout; and `columns` as in `Layout.vectors`."""
    *batch, known, n = result.filt_mean.shape
    m = result.innovation.shape[-1]
    x = in_one_precision(name, {"mean": result.filt_mean, "cov": result.filt_cov, **given})
    layout = Layout(name, steps, batch, of="result")
    layout.read(x, n, m)
    if check:
        layout.check_values(x)
    x["m0"], x["P0"] = x["mean"], compact(x["cov"], 2)
    columns = shared(x["A"], x["C"])
    model = layout.model(x, columns, priors=known)
    return model._replace(Q=symmetric(model.Q), R=symmetric(model.R)), layout, columns


def _observe(model: StateSpace, back: Layout, mean: Tensor, cov: Tensor, first: int) -> Forecast:
    """Moments of the states from step `first` on, and what would be observed of them."""
    C, R, d = model.C[first:], model.R[first:], model.d
    obs_mean = C @ mean if d is None else C @ mean + d[first:]
    obs_cov = C @ cov @ C.mT + R
    return Forecast(
        back.vectors_back(mean),
        back.matrices_back(symmetric(cov)),
        back.vectors_back(obs_mean),
        back.matrices_back(symmetric(obs_cov)),
    )
