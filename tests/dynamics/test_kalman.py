"""The filter against the joint Gaussian, statsmodels, and itself by other methods and layouts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.dynamics.kalman_reference import (
    condition,
    covariance,
    joint,
    log_density,
    observations,
    random_model,
    statsmodels_smoother,
)
from vidssl.dynamics.kalman import FilterResult, StateSpace, innovation_log_likelihood, kalman_filter
from vidssl.dynamics.smoother import rts_smoother

METHODS = ("joseph", "sqrt", "scan")


def assert_equal(a: tuple[Tensor, ...], b: tuple[Tensor, ...], atol: float = 1e-11) -> None:
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-10, atol=atol)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("predict_first", [True, False])
@pytest.mark.parametrize(("n", "m"), [(3, 2), (2, 3), (1, 1)])
def test_filter_conditions_the_joint_gaussian(n: int, m: int, predict_first: bool, method: str) -> None:
    steps = 5
    model, z = random_model(n, m, seed=n, time=steps), observations(steps, m, seed=m, missing=0.3)
    assert torch.isnan(z).any()
    result = kalman_filter(z, **model._asdict(), predict_first=predict_first, method=method)
    law, numbers = joint(model, steps, predict_first), z.numpy()
    for t in range(steps):
        here = slice(t * n, (t + 1) * n)
        for upto, mean, cov in (
            (t, result.pred_mean, result.pred_cov),
            (t + 1, result.filt_mean, result.filt_cov),
        ):
            expected_mean, expected_cov = condition(law, numbers, upto)
            np.testing.assert_allclose(mean[t], expected_mean[here], atol=1e-12, rtol=1e-11)
            np.testing.assert_allclose(cov[t], expected_cov[here, here], atol=1e-12, rtol=1e-11)
        expected = log_density(law, numbers, t + 1) - log_density(law, numbers, t)
        assert result.log_likelihood[t].item() == pytest.approx(expected, abs=1e-11)
        full = law.H[t * m : (t + 1) * m, here] @ condition(law, numbers, t)[1][here, here]
        full = full @ law.H[t * m : (t + 1) * m, here].T + law.noise[t * m : (t + 1) * m, t * m : (t + 1) * m]
        np.testing.assert_allclose(result.innovation_cov[t], full, atol=1e-12)
    assert (result.innovation[torch.isnan(z)] == 0).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("predict_first", [True, False])
def test_filter_equals_statsmodels_over_a_thousand_steps(predict_first: bool, method: str) -> None:
    steps, n, m = 1000, 4, 3
    model, z = random_model(n, m, seed=7, time=steps), observations(steps, m, seed=7, missing=0.2)
    result = kalman_filter(z, **model._asdict(), predict_first=predict_first, method=method)
    oracle = statsmodels_smoother(model, z, predict_first)

    def close(mine: Tensor, theirs: np.ndarray) -> None:  # type: ignore[type-arg]
        np.testing.assert_allclose(mine.numpy(), np.moveaxis(theirs, -1, 0), atol=1e-10, rtol=1e-10)

    close(result.pred_mean, oracle.predicted_state[..., :-1])
    close(result.pred_cov, oracle.predicted_state_cov[..., :-1])
    close(result.filt_mean, oracle.filtered_state)
    close(result.filt_cov, oracle.filtered_state_cov)
    close(result.log_likelihood, oracle.llf_obs)
    seen = ~torch.isnan(z)
    close(result.innovation[seen], oracle.forecasts_error.T[seen.numpy()].T)
    whole = seen.all(-1)
    close(result.innovation_cov[whole], oracle.forecasts_error_cov[..., whole.numpy()])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "varying", ["", "A", "Qb", "C", "R", "AQCRbd", "AQCRbd0", "0", "d"], ids=lambda v: v or "constant"
)
@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_batches_equal_a_loop_over_sequences(varying: str, missing: float, method: str) -> None:
    batch, steps, n, m = (3, 2), 6, 3, 2
    model = random_model(n, m, seed=3, time=steps, batch=batch, varying=varying)
    z = observations(*batch, steps, m, seed=3, missing=missing)
    result = kalman_filter(z, **model._asdict(), method=method)
    for i in range(3):
        for j in range(2):
            one = StateSpace(*(x[i, j] if x.shape[:2] == batch else x for x in model))  # type: ignore[union-attr]
            alone = kalman_filter(z[i, j], **one._asdict(), method=method)
            assert_equal(FilterResult(*(x[i, j] for x in result)), alone)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_argument_may_have_any_axes(data: st.DataObject) -> None:
    """Against the filter of the fully expanded arguments, which share nothing."""
    batch, steps, n, m = (2, 2), 3, 2, 2
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))

    def lead(time: bool) -> tuple[int, ...]:
        options = [(), (1,), (2,), (2, 1), (1, 2), (2, 2)]
        axes = data.draw(st.sampled_from(options))
        if not time:
            return axes
        return (
            axes + data.draw(st.sampled_from([(1,), (steps,)]))
            if axes
            else data.draw(st.sampled_from([(), (steps,)]))
        )

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    arguments = {
        "A": randn(*lead(True), n, n),
        "Q": covariance(*lead(True), n, n, generator=generator),
        "C": randn(*lead(True), m, n),
        "R": covariance(*lead(True), m, m, generator=generator) + 0.1 * torch.eye(m),
        "m0": randn(*lead(False), n),
        "P0": covariance(*lead(False), n, n, generator=generator),
        "b": randn(*lead(True), n),
        "d": randn(*lead(True), m),
    }
    z = randn(*data.draw(st.sampled_from([(), (2,), (2, 2)])), steps, m)
    mask = (
        torch.rand(*data.draw(st.sampled_from([(), (2,), (2, 1), (2, 2)])), steps, m, generator=generator)
        < 0.7
    )
    cores = {"A": (steps, n, n), "Q": (steps, n, n), "C": (steps, m, n), "R": (steps, m, m)}
    cores |= {"m0": (n,), "P0": (n, n), "b": (steps, n), "d": (steps, m)}
    full = {key: x.expand(*batch, *cores[key]).contiguous() for key, x in arguments.items()}
    result = kalman_filter(z, **arguments, mask=mask)
    given_batch = result.log_likelihood.shape[:-1]
    assert given_batch == torch.broadcast_shapes(
        z.shape[:-2],
        mask.shape[:-2],
        *(x.shape[: max(x.ndim - len(cores[key]), 0)] for key, x in arguments.items()),
    )
    expected = kalman_filter(
        z.expand(*batch, steps, m), **full, mask=mask.expand(*batch, steps, m).contiguous()
    )
    for mine, theirs in zip(result, expected, strict=True):
        torch.testing.assert_close(mine.expand(theirs.shape), theirs, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("method", METHODS)
def test_a_prefix_is_filtered_as_by_itself(method: str) -> None:
    steps, cut = 9, 4
    model = random_model(3, 2, seed=5, time=steps)
    z = observations(2, steps, 2, seed=5, missing=0.2)
    whole = kalman_filter(z, **model._asdict(), method=method)
    head = StateSpace(*(x[:cut] if name in "AQCRbd" else x for name, x in model._asdict().items()))  # type: ignore[index]
    part = kalman_filter(z[:, :cut], **head._asdict(), method=method)
    assert_equal(FilterResult(*(x[:, :cut] for x in whole)), part)


def test_sequences_do_not_touch_each_other() -> None:
    model, z = random_model(3, 2, seed=6), observations(5, 7, 2, seed=6, missing=0.3)
    order = torch.tensor([3, 1, 4, 0, 2])
    result, turned = (kalman_filter(x, **model._asdict()) for x in (z, z[order]))
    assert_equal(FilterResult(*(x[order] for x in result)), turned, atol=1e-13)


def test_entries_of_a_step_may_be_observed_one_after_another() -> None:
    """Independent noise: one step with two entries equals two steps with one entry each and no time between."""
    model = random_model(3, 2, seed=8)._replace(R=torch.diag(torch.tensor([0.5, 2.0], dtype=torch.float64)))
    z = observations(1, 2, seed=8)
    together = kalman_filter(z, **model._asdict())
    eye, zero = torch.eye(3, dtype=torch.float64), torch.zeros(3, 3, dtype=torch.float64)
    split = model._replace(
        A=torch.stack([model.A, eye]),
        Q=torch.stack([model.Q, zero]),
        b=torch.stack([model.b, zero[0]]),  # type: ignore[list-item]
    )
    apart = kalman_filter(
        z.expand(2, 2), **split._asdict(), mask=torch.tensor([[True, False], [False, True]])
    )
    torch.testing.assert_close(apart.filt_mean[-1], together.filt_mean[0])
    torch.testing.assert_close(apart.filt_cov[-1], together.filt_cov[0])
    torch.testing.assert_close(apart.log_likelihood.sum(), together.log_likelihood.sum())


@pytest.mark.parametrize("method", METHODS)
def test_a_missing_step_only_predicts(method: str) -> None:
    model = random_model(3, 2, seed=9)
    z = observations(4, 6, 2, seed=9)
    z[1, 2] = math.nan
    z[:, 4] = math.nan
    result = kalman_filter(z, **model._asdict(), method=method)
    assert torch.equal(result.filt_mean[1, 2], result.pred_mean[1, 2])
    torch.testing.assert_close(result.filt_cov[1, 2], result.pred_cov[1, 2], rtol=0, atol=1e-14)
    assert (result.log_likelihood[:, 4] == 0).all()
    assert result.log_likelihood[1, 2] == 0
    mask = torch.ones(4, 6, 1, dtype=torch.bool)
    mask[1, 2] = mask[:, 4] = False
    masked = kalman_filter(observations(4, 6, 2, seed=9), **model._asdict(), mask=mask, method=method)
    assert_equal(result, masked, atol=0)


def test_covariances_are_computed_once_for_all_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    from vidssl.dynamics import kalman

    passes = []
    original = kalman.covariance_pass

    def spy(*arguments: Tensor, method: str = "") -> kalman.CovariancePass:
        result = original(*arguments)
        passes.append(result.pred.shape[1])
        return result

    monkeypatch.setattr(kalman, "covariance_pass", spy)
    model, z = random_model(3, 2, seed=1), observations(8, 5, 2, seed=1)
    result = kalman_filter(z, **model._asdict())
    assert result.filt_cov.shape == (8, 5, 3, 3)
    assert result.filt_cov.stride(0) == result.pred_cov.stride(0) == result.innovation_cov.stride(0) == 0
    kalman_filter(
        z, **model._asdict(), mask=torch.rand(5, 2, generator=torch.Generator().manual_seed(0)) < 0.5
    )
    kalman_filter(z.index_fill(-2, torch.tensor([3]), math.nan), **model._asdict())
    lengths = torch.arange(5)[None, :, None] < torch.tensor([5, 4, 4, 5, 3, 5, 5, 3])[:, None, None]
    kalman_filter(z, **model._asdict(), mask=lengths)
    kalman_filter(z, **model._replace(R=model.R.expand(8, 5, 2, 2).contiguous())._asdict())
    kalman_filter(z, **model._replace(R=model.R.expand(8, 5, 2, 2), m0=model.m0 + torch.rand(8, 1))._asdict())
    assert passes == [1, 1, 1, 3, 8, 1]


@pytest.mark.parametrize("method", METHODS)
def test_noise_and_prior_may_be_singular(method: str) -> None:
    """A constant and a clockwork state, both known exactly: no covariance of theirs is anything but 0."""
    generator = torch.Generator().manual_seed(4)
    model = random_model(4, 2, seed=4)
    known = torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.float64)
    keep = torch.outer(known, known)
    A = model.A.clone()
    A[2:] = torch.tensor([[0, 0, 1.0, 0], [0, 0, 0.5, -1]], dtype=torch.float64)
    model = model._replace(A=A, Q=covariance(4, 4, generator=generator, rank=1) * keep, P0=model.P0 * keep)
    z = observations(3, 8, 2, seed=4, missing=0.2)
    result = kalman_filter(z, **model._asdict(), method=method)
    law = joint(model, 8, True)
    mean, cov = condition(law, z[2].numpy(), 8)
    np.testing.assert_allclose(result.filt_mean[2, -1], mean[-4:], atol=1e-11)
    np.testing.assert_allclose(result.filt_cov[2, -1], cov[-4:, -4:], atol=1e-11)
    assert result.filt_cov[..., 2:, :].abs().max() < 1e-14


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_covariances_are_symmetric_to_the_last_bit(missing: float, method: str) -> None:
    model, z = random_model(5, 3, seed=12), observations(3, 20, 3, seed=12, missing=missing)
    result = kalman_filter(z, **model._asdict(), method=method)
    for cov in (result.pred_cov, result.filt_cov, result.innovation_cov):
        assert torch.equal(cov, cov.mT)


@pytest.mark.parametrize("method", METHODS)
def test_one_step_and_no_sequences(method: str) -> None:
    model = random_model(3, 2, seed=2)
    z = observations(1, 2, seed=2)
    for predict_first in (True, False):
        result = kalman_filter(z, **model._asdict(), predict_first=predict_first, method=method)
        mean, cov = condition(joint(model, 1, predict_first), z.numpy(), 1)
        np.testing.assert_allclose(result.filt_mean[0], mean, atol=1e-12)
        np.testing.assert_allclose(result.filt_cov[0], cov, atol=1e-12)
    empty = kalman_filter(torch.zeros(0, 4, 2, dtype=torch.float64), **model._asdict(), method=method)
    assert empty.filt_cov.shape == (0, 4, 3, 3)
    assert empty.log_likelihood.shape == (0, 4)


@pytest.mark.parametrize("method", METHODS)
def test_float32_and_half_precision(method: str) -> None:
    model, z = random_model(6, 3, seed=11), observations(4, 100, 3, seed=11, missing=0.1)
    wide = kalman_filter(z, **model._asdict(), method=method)
    narrow_model = {key: None if x is None else x.float() for key, x in model._asdict().items()}
    narrow = kalman_filter(z.float(), **narrow_model, method=method)  # type: ignore[arg-type]
    for mine, exact in zip(narrow, wide, strict=True):
        assert mine.dtype == torch.float32
        torch.testing.assert_close(mine.double(), exact, rtol=2e-5, atol=2e-5)
    half = {key: None if x is None else x.bfloat16() for key, x in narrow_model.items()}
    promoted = {key: None if x is None else x.float() for key, x in half.items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = kalman_filter(z.bfloat16(), **half, method=method)  # type: ignore[arg-type]
    same = kalman_filter(z.bfloat16().float(), **promoted, method=method)  # type: ignore[arg-type]
    for mine, exact in zip(low, same, strict=True):
        assert torch.equal(mine, exact)


def ill_conditioned(dtype: torch.dtype) -> dict[str, Tensor]:
    """Two positions and velocities known to 1000 units, seen three times over to 1e-4: their ratio is 1e7."""
    line = torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    numbers = {
        "A": torch.block_diag(line, line),
        "Q": 1e-10 * torch.eye(4),
        "C": torch.tensor([[1.0, 0, 0, 0], [0, 0, 1, 0], [1, 0, 1, 0]]),
        "R": 1e-8 * torch.eye(3),
        "m0": torch.zeros(4),
        "P0": 1e6 * torch.eye(4),
    }
    generator = torch.Generator().manual_seed(1)
    x, z = torch.randn(4, generator=generator), []
    for _ in range(50):
        x = numbers["A"] @ x + 1e-5 * torch.randn(4, generator=generator)
        z.append(numbers["C"] @ x + 1e-4 * torch.randn(3, generator=generator))
    return {"z": torch.stack(z).to(dtype), **{key: value.to(dtype) for key, value in numbers.items()}}


def plain_filter(z: Tensor, A: Tensor, Q: Tensor, C: Tensor, R: Tensor, m0: Tensor, P0: Tensor) -> float:
    """Smallest eigenvalue that the textbook's P = (I - K C) P^- ever has."""
    P, smallest = P0, math.inf
    for _ in range(len(z)):
        P = A @ P @ A.T + Q
        gain = P @ C.T @ torch.linalg.pinv(C @ P @ C.T + R)
        P = P - gain @ C @ P
        smallest = min(smallest, torch.linalg.eigvalsh(P.double()).min().item())
    return smallest


def test_square_roots_survive_what_other_forms_do_not() -> None:
    wide, narrow = ill_conditioned(torch.float64), ill_conditioned(torch.float32)
    exact = kalman_filter(**wide, method="sqrt")
    survived = kalman_filter(**narrow, method="sqrt")
    assert torch.linalg.eigvalsh(survived.filt_cov.double()).min() > 0
    total = exact.log_likelihood.sum().item()
    assert survived.log_likelihood.sum().item() == pytest.approx(total, rel=2e-3)
    torch.testing.assert_close(survived.filt_mean.double(), exact.filt_mean, rtol=0, atol=1e-4)
    # In float32 the innovation covariance is singular to all digits in covariance form, and the plain form indefinite.
    for method in ("joseph", "scan"):
        with pytest.raises(ValueError, match="innovation covariance at step 0 is not positive definite"):
            kalman_filter(**narrow, method=method)
    assert plain_filter(**narrow) < -0.1


def test_square_root_likelihood_against_forty_digits() -> None:
    mpmath = pytest.importorskip("mpmath", reason="comes with torch")
    numbers = ill_conditioned(torch.float64)
    with mpmath.workdps(40):
        exact = {key: mpmath.matrix(x.tolist()) for key, x in numbers.items()}
        x, P, total = exact["m0"], exact["P0"], mpmath.mpf(0)
        A, C = exact["A"], exact["C"]
        for row in numbers["z"].tolist():
            x, P = A * x, A * P * A.T + exact["Q"]
            S, e = C * P * C.T + exact["R"], mpmath.matrix(row) - C * x
            gain = P * C.T * S**-1
            total -= ((e.T * S**-1 * e)[0] + mpmath.log(mpmath.det(S)) + 3 * mpmath.log(2 * mpmath.pi)) / 2
            x, P = x + gain * e, P - gain * C * P
        truth = float(total)
    errors = {
        method: abs(kalman_filter(**numbers, method=method).log_likelihood.sum().item() - truth)
        for method in METHODS
    }
    assert errors["sqrt"] < 1e-6
    assert errors["joseph"] > 100 * errors["sqrt"]


def test_moderate_conditioning_is_fine_in_joseph_form() -> None:
    """P0 = 1e6, R = 1e-8, every state seen by itself, float32: no cancellation that Joseph's form does not cover."""
    numbers = {
        "A": 0.9 * torch.eye(2),
        "Q": 1e-2 * torch.eye(2),
        "C": torch.eye(2),
        "R": 1e-8 * torch.eye(2),
        "m0": torch.zeros(2),
        "P0": 1e6 * torch.eye(2),
    }
    z = observations(20, 2, seed=0)
    exact = kalman_filter(z, **{key: x.double() for key, x in numbers.items()}, method="sqrt")
    for method in METHODS:
        mine = kalman_filter(z.float(), **numbers, method=method)
        torch.testing.assert_close(mine.filt_mean.double(), exact.filt_mean, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(mine.log_likelihood.double(), exact.log_likelihood, rtol=1e-4, atol=1e-4)
        assert torch.linalg.eigvalsh(mine.filt_cov.double()).min() > 0


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_likelihood_of_innovations_is_the_filters(batched: bool, missing: float) -> None:
    model = random_model(3, 2, seed=1, time=6, batch=(4,), varying="R" if batched else "")
    z = observations(4, 6, 2, seed=1, missing=missing)
    result = kalman_filter(z, **model._asdict())
    mask = ~torch.isnan(z)
    value = innovation_log_likelihood(result.innovation, result.innovation_cov, mask)
    torch.testing.assert_close(value, result.log_likelihood, rtol=1e-12, atol=1e-12)
    with_nan = result.innovation.masked_fill(~mask, math.nan)
    assert torch.equal(innovation_log_likelihood(with_nan, result.innovation_cov), value)


def test_likelihood_of_another_target() -> None:
    e = observations(2, 5, 3, seed=0)
    S = covariance(5, 3, 3, generator=torch.Generator().manual_seed(0))
    value = innovation_log_likelihood(e, S)
    expected = torch.distributions.MultivariateNormal(torch.zeros(3).double(), S).log_prob(e)
    torch.testing.assert_close(value, expected)
    entries = torch.tensor([True, False, True])
    part = innovation_log_likelihood(e, S, entries.expand(5, 3))
    expected = torch.distributions.MultivariateNormal(
        torch.zeros(2).double(), S[:, entries][:, :, entries]
    ).log_prob(e[..., entries])
    torch.testing.assert_close(part, expected)
    assert innovation_log_likelihood(e.bfloat16(), S.bfloat16().float()).dtype == torch.float32


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("method", METHODS)
def test_a_gpu_has_the_results_and_gradients_of_a_cpu(method: str) -> None:
    z = observations(3, 20, 2, seed=1, missing=0.2)

    def results(device: str) -> list[Tensor]:
        model = random_model(4, 2, seed=1)
        given = {key: value.to(device).requires_grad_() for key, value in model._asdict().items()}
        result = kalman_filter(z.to(device), **given, method=method)
        smoothed = rts_smoother(result, given["A"], given["Q"], method=method)
        total = result.log_likelihood.sum() + smoothed.mean.square().sum()
        gradients = torch.autograd.grad(total, list(given.values()), allow_unused=True)
        tensors = [*result[:6], *smoothed, *gradients]
        return [x.detach().cpu() for x in tensors if isinstance(x, Tensor)]

    for x, y in zip(results("cuda"), results("cpu"), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-8, atol=1e-9)
