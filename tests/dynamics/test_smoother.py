"""The smoother against the joint Gaussian and statsmodels, both methods."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.dynamics.kalman_reference import (
    condition,
    joint,
    observations,
    random_model,
    statsmodels_smoother,
)
from vidssl.dynamics.kalman import FilterResult, StateSpace, kalman_filter
from vidssl.dynamics.smoother import SmootherResult, rts_smoother

METHODS = ("joseph", "sqrt", "scan")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("predict_first", [True, False])
def test_smoother_conditions_the_joint_gaussian(predict_first: bool, method: str) -> None:
    steps, n, m = 5, 3, 2
    model, z = random_model(n, m, seed=1, time=steps), observations(steps, m, seed=1, missing=0.3)
    result = kalman_filter(z, **model._asdict(), predict_first=predict_first)
    smooth = rts_smoother(result, model.A, model.Q, method=method)
    mean, cov = condition(joint(model, steps, predict_first), z.numpy(), steps)
    blocks = cov.reshape(steps, n, steps, n)
    np.testing.assert_allclose(smooth.mean, mean.reshape(steps, n), atol=1e-12, rtol=1e-11)
    assert smooth.lag_one_cov.shape == (steps - 1, n, n)
    for t in range(steps):
        np.testing.assert_allclose(smooth.cov[t], blocks[t, :, t], atol=1e-12, rtol=1e-11)
        if t + 1 < steps:
            np.testing.assert_allclose(smooth.lag_one_cov[t], blocks[t + 1, :, t], atol=1e-12, rtol=1e-11)


@pytest.mark.parametrize("method", METHODS)
def test_smoother_equals_statsmodels_over_a_thousand_steps(method: str) -> None:
    steps = 1000
    model, z = random_model(4, 3, seed=2, time=steps), observations(steps, 3, seed=2, missing=0.2)
    smooth = rts_smoother(kalman_filter(z, **model._asdict()), model.A, model.Q, method=method)
    oracle = statsmodels_smoother(model, z, True)
    np.testing.assert_allclose(smooth.mean, oracle.smoothed_state.T, atol=1e-10, rtol=1e-10)
    np.testing.assert_allclose(
        smooth.cov, np.moveaxis(oracle.smoothed_state_cov, -1, 0), atol=1e-10, rtol=1e-10
    )
    # Theirs is Cov(x_{t+1}, x_t | z) too, with one entry more.
    lag = np.moveaxis(oracle.smoothed_state_autocov, -1, 0)[: steps - 1]
    np.testing.assert_allclose(smooth.lag_one_cov, lag, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("varying", ["", "A", "Q", "AQCRbd"], ids=lambda v: v or "constant")
@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_batches_equal_a_loop_over_sequences(varying: str, missing: float, method: str) -> None:
    batch, steps = (4,), 5
    model = random_model(3, 2, seed=3, time=steps, batch=batch, varying=varying)
    z = observations(*batch, steps, 2, seed=3, missing=missing)
    smooth = rts_smoother(kalman_filter(z, **model._asdict()), model.A, model.Q, method=method)
    assert (smooth.cov.stride(0) == 0) == (not varying and not missing)
    for i in range(4):
        one = StateSpace(*(x[i] if x.shape[0] == 4 else x for x in model))  # type: ignore[union-attr]
        alone = rts_smoother(kalman_filter(z[i], **one._asdict()), one.A, one.Q)
        for mine, theirs in zip(SmootherResult(*(x[i] for x in smooth)), alone, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


def test_square_roots_keep_digits_that_differences_of_covariances_lose() -> None:
    """Float32, a prior 1e8 times wider than the noise, ten models; worst error of Ps, relative to the largest."""
    errors: dict[str, list[float]] = {"sqrt": [], "joseph": [], "difference": []}
    for seed in range(10):
        model = random_model(4, 2, seed=seed)
        eye_n, eye_m = torch.eye(4).double(), torch.eye(2).double()
        model = model._replace(P0=1e6 * eye_n, Q=1e-2 * eye_n, R=1e-2 * eye_m)
        z = observations(30, 2, seed=4)
        exact = rts_smoother(kalman_filter(z, **model._asdict(), method="sqrt"), model.A, model.Q, "sqrt").cov
        small = StateSpace(*(None if x is None else x.float() for x in model))
        result = kalman_filter(z.float(), **small._asdict(), method="sqrt")
        covs = {
            method: rts_smoother(result, small.A, small.Q, method=method).cov for method in ("sqrt", "joseph")
        }
        cov = [result.filt_cov[-1]]
        for t in range(28, -1, -1):
            gain = torch.linalg.solve(result.pred_cov[t + 1], small.A @ result.filt_cov[t]).mT
            cov.insert(0, result.filt_cov[t] + gain @ (cov[0] - result.pred_cov[t + 1]) @ gain.mT)
        covs["difference"] = torch.stack(cov)
        for method, cov_ in covs.items():
            errors[method].append(((cov_.double() - exact).abs().max() / exact.abs().max()).item())
    medians = {method: sorted(found)[5] for method, found in errors.items()}
    assert medians["sqrt"] < 0.2
    assert medians["joseph"] > 3 * medians["sqrt"]
    assert medians["difference"] > 3 * medians["sqrt"]


@pytest.mark.parametrize("method", METHODS)
def test_known_states_have_a_pseudo_inverse(method: str) -> None:
    """The second state is a known constant: P^- is singular at every step."""
    model = random_model(2, 1, seed=5)
    only = torch.diag(torch.tensor([1.0, 0.0], dtype=torch.float64))
    A = torch.tensor([[0.8, 0.3], [0.0, 1.0]], dtype=torch.float64)
    model = model._replace(A=A, Q=only, P0=only)
    z = observations(6, 1, seed=5, missing=0.2)
    smooth = rts_smoother(kalman_filter(z, **model._asdict()), model.A, model.Q, method=method)
    mean, cov = condition(joint(model, 6, True), z.numpy(), 6)
    np.testing.assert_allclose(smooth.mean, mean.reshape(6, 2), atol=1e-11)
    for t in range(6):
        np.testing.assert_allclose(smooth.cov[t], cov[2 * t : 2 * t + 2, 2 * t : 2 * t + 2], atol=1e-11)


def test_one_step_is_its_own_smoother() -> None:
    model = random_model(3, 2, seed=6)
    result = kalman_filter(observations(2, 1, 2, seed=6), **model._asdict())
    smooth = rts_smoother(result, model.A, model.Q)
    torch.testing.assert_close(smooth.mean, result.filt_mean)
    torch.testing.assert_close(smooth.cov, result.filt_cov)
    assert smooth.lag_one_cov.shape == (2, 0, 3, 3)


def test_float32_is_close_to_float64() -> None:
    model, z = random_model(6, 3, seed=7), observations(2, 100, 3, seed=7, missing=0.1)
    wide = rts_smoother(kalman_filter(z, **model._asdict()), model.A, model.Q)
    small = {key: None if x is None else x.float() for key, x in model._asdict().items()}
    result = kalman_filter(z.float(), **small)  # type: ignore[arg-type]
    narrow = rts_smoother(FilterResult(*result), model.A.float(), model.Q.float())
    for mine, exact in zip(narrow, wide, strict=True):
        assert mine.dtype == torch.float32
        torch.testing.assert_close(mine.double(), exact, rtol=2e-5, atol=2e-5)
