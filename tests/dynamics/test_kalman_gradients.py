"""Gradients of the filter and what follows it: finite differences, plain autograd, and every method against another."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.dynamics.kalman_reference import observations, random_model
from tests.dynamics.test_kalman import METHODS, ill_conditioned
from vidssl.dynamics.forecast import multi_step
from vidssl.dynamics.kalman import (
    FilterResult,
    StateSpace,
    forecast,
    innovation_log_likelihood,
    kalman_filter,
    rts_smoother,
)

NAMES = ("z", "A", "Q", "C", "R", "m0", "P0", "b", "d")


def transcribed_filter(
    z: Tensor,
    A: Tensor,
    Q: Tensor,
    C: Tensor,
    R: Tensor,
    m0: Tensor,
    P0: Tensor,
    b: Tensor,
    d: Tensor,
    seen: Tensor,
) -> FilterResult:
    """The formulas word for word for one sequence, observed entries picked by index, left to autograd."""
    x, P, rows = m0, P0, []
    for t in range(len(z)):
        pick = lambda v, core, t=t: v[t] if v.ndim > core else v  # noqa: E731
        a, q, c, r = (pick(v, 2) for v in (A, Q, C, R))
        x_pred, P_pred = a @ x + pick(b, 1), a @ P @ a.T + q
        k = seen[t].nonzero()[:, 0]
        e = (z[t] - c @ x_pred - pick(d, 1))[k]
        S = (c @ P_pred @ c.T + r)[k][:, k]
        gain = P_pred @ c[k].T @ torch.linalg.inv(S)
        x, P = x_pred + gain @ e, P_pred - gain @ S @ gain.T
        ll = -0.5 * (e @ torch.linalg.inv(S) @ e + torch.logdet(S) + len(k) * math.log(2 * math.pi))
        whole = torch.zeros_like(z[t]).index_put((k,), e)
        rows.append((x_pred, P_pred, x, P, whole, c @ P_pred @ c.T + r, ll))
    return FilterResult(*(torch.stack(column) for column in zip(*rows, strict=True)))


def weighted(result: tuple[Tensor, ...], seed: int = 0) -> Tensor:
    """A scalar in which every entry of every output counts, unsymmetric ones too."""
    generator = torch.Generator().manual_seed(seed)
    return sum(  # type: ignore[return-value]
        (torch.randn(x.shape, generator=generator, dtype=x.dtype) * x).sum() for x in result
    )


def leaves(z: Tensor, model: StateSpace) -> dict[str, Tensor]:
    named = {"z": z, **model._asdict()}
    return {name: x.detach().clone().requires_grad_() for name, x in named.items() if x is not None}


def gradients(value: Tensor, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    found = dict(zip(inputs, torch.autograd.grad(value, list(inputs.values())), strict=True))
    # Only the symmetric part of a covariance's gradient means anything.
    return {name: 0.5 * (g + g.mT) if name in ("Q", "R", "P0") else g for name, g in found.items()}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("varying", ["", "AQCRbd"])
@pytest.mark.parametrize("missing", ["nothing", "alike", "differently"])
def test_gradients_equal_those_of_the_transcribed_filter(missing: str, varying: str, method: str) -> None:
    sequences, steps, n, m = 2, 5, 3, 2
    model = random_model(n, m, seed=1, time=steps, varying=varying)
    z = observations(sequences, steps, m, seed=1)
    gone = torch.isnan(observations(sequences, steps, m, seed=1, missing={"nothing": 0.0}.get(missing, 0.4)))
    if missing == "alike":
        gone = gone[:1].expand_as(gone)
    inputs = leaves(z, model)
    result = kalman_filter(**inputs, mask=~gone, method=method)
    found = gradients(weighted(result), inputs)

    one_by_one = [
        transcribed_filter(inputs["z"][s], *(inputs[name] for name in NAMES[1:]), ~gone[s])
        for s in range(sequences)
    ]
    expected_result = tuple(torch.stack(x) for x in zip(*one_by_one, strict=True))
    expected = gradients(weighted(expected_result), inputs)
    for name, gradient in found.items():
        torch.testing.assert_close(
            gradient, expected[name], rtol=1e-9, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}"
        )
    assert (found["z"][gone] == 0).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("per_sequence", [False, True])
def test_gradients_equal_finite_differences(per_sequence: bool, method: str) -> None:
    steps = 3
    model = random_model(2, 2, seed=2, time=steps, batch=(2,), varying="AR" if per_sequence else "")
    z = observations(2, steps, 2, seed=2)
    mask = ~torch.isnan(observations(2, steps, 2, seed=5, missing=0.3))
    names = [name for name in NAMES if name == "z" or getattr(model, name) is not None]
    values = leaves(z, model)
    roots = [
        torch.linalg.cholesky(values[k].detach()) if k in ("Q", "R", "P0") else values[k].detach()
        for k in names
    ]

    def run(*given: Tensor) -> tuple[Tensor, ...]:
        arguments = {k: x @ x.mT if k in ("Q", "R", "P0") else x for k, x in zip(names, given, strict=True)}
        return tuple(kalman_filter(**arguments, mask=mask, method=method))

    inputs = tuple(x.clone().requires_grad_() for x in roots)
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)


@pytest.mark.parametrize("method", METHODS)
def test_second_derivatives(method: str) -> None:
    model, z = random_model(2, 1, seed=3), observations(2, 3, 1, seed=3)
    names = ["z", "A", "Q", "C", "R", "m0", "P0"]
    values = leaves(z, model)
    roots = [
        torch.linalg.cholesky(values[k].detach()) if k in ("Q", "R", "P0") else values[k].detach()
        for k in names
    ]

    def run(*given: Tensor) -> Tensor:
        arguments = {k: x @ x.mT if k in ("Q", "R", "P0") else x for k, x in zip(names, given, strict=True)}
        return kalman_filter(**arguments, method=method).log_likelihood

    assert torch.autograd.gradgradcheck(run, tuple(x.clone().requires_grad_() for x in roots), fast_mode=True)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_methods_have_the_same_gradients_over_long_sequences(missing: float, method: str) -> None:
    model = random_model(4, 3, seed=4)
    z = observations(3, 200, 3, seed=4, missing=missing)

    def run(method: str) -> dict[str, Tensor]:
        inputs = leaves(z, model)
        result = kalman_filter(**inputs, method=method)
        smooth = rts_smoother(result, inputs["A"], inputs["Q"], method=method)
        return gradients(weighted((*result, *smooth)) / 1000, inputs)

    for name, gradient in run(method).items():
        torch.testing.assert_close(gradient, run("joseph")[name], rtol=1e-8, atol=1e-8, equal_nan=True)


@pytest.mark.parametrize("method", METHODS)
def test_nan_under_a_mask_gives_finite_gradients(method: str) -> None:
    model, z = random_model(3, 2, seed=5), observations(4, 6, 2, seed=5, missing=0.4)
    z[0] = math.nan
    z[1, 0, 0] = math.inf
    mask = torch.isfinite(z)
    inputs = leaves(z, model)
    result = kalman_filter(**inputs, mask=mask, method=method)
    for gradient in gradients(weighted(result), inputs).values():
        assert torch.isfinite(gradient).all()
    assert (gradients(weighted(kalman_filter(**inputs, mask=mask)), inputs)["z"][~mask] == 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_singular_noise_has_finite_and_equal_gradients(method: str) -> None:
    """Where a QR or a Cholesky decomposition of a singular matrix would have no derivative."""
    model = random_model(3, 2, seed=6)
    z = observations(2, 6, 2, seed=6)
    zero = torch.zeros_like(model.P0)
    zero[0, 0] = 1.0
    model = model._replace(Q=zero, P0=0.5 * zero)

    def run(method: str) -> dict[str, Tensor]:
        inputs = leaves(z, model)
        return gradients(weighted(kalman_filter(**inputs, method=method)), inputs)

    for name, gradient in run(method).items():
        assert torch.isfinite(gradient).all()
        torch.testing.assert_close(gradient, run("joseph")[name], rtol=1e-9, atol=1e-9)


def test_ill_conditioned_square_roots_have_finite_gradients() -> None:
    def run(dtype: torch.dtype) -> dict[str, Tensor]:
        inputs = {name: x.requires_grad_() for name, x in ill_conditioned(dtype).items()}
        value = kalman_filter(**inputs, method="sqrt").log_likelihood[5:].sum()
        return gradients(value, inputs)

    wide, narrow = run(torch.float64), run(torch.float32)
    for name, gradient in narrow.items():
        assert torch.isfinite(gradient).all(), name
    # The first steps, where a prior of 1e6 meets a noise of 1e-8, have no digits in float32; the others recover.
    largest = wide["z"].abs().max().item()
    torch.testing.assert_close(narrow["z"][6:].double(), wide["z"][6:], rtol=0, atol=1e-2 * largest)


def test_only_the_target_is_detached() -> None:
    """Stop-gradient alignment: nothing reaches the last observation, something every earlier one."""
    model = random_model(3, 2, seed=7)
    z = observations(2, 5, 2, seed=7).requires_grad_()
    result = kalman_filter(z, **model._asdict())
    assert model.d is not None
    target = z.detach() - result.pred_mean @ model.C.mT - model.d
    value = innovation_log_likelihood(target, result.innovation_cov)
    torch.testing.assert_close(value, result.log_likelihood)
    (gradient,) = torch.autograd.grad(value.sum(), z, retain_graph=True)
    assert (gradient[:, -1] == 0).all()
    assert (gradient[:, :-1].abs().amax(-1) > 1e-6).all()
    (full,) = torch.autograd.grad(result.log_likelihood.sum(), z)
    assert full[:, -1].abs().min() > 1e-6


def test_gradients_reach_smoother_and_forecasts() -> None:
    model, z = random_model(2, 2, seed=8), observations(2, 4, 2, seed=8, missing=0.3)
    mask, z = ~torch.isnan(z), z.nan_to_num()

    def run(build: Callable[..., tuple[Tensor, ...]]) -> bool:
        def function(z: Tensor, A: Tensor, q: Tensor, C: Tensor, r: Tensor, p: Tensor) -> tuple[Tensor, ...]:
            Q, R, P0 = q @ q.mT, r @ r.mT, p @ p.mT
            result = kalman_filter(z, A, Q, C, R, model.m0, P0, model.b, model.d, mask)
            return build(result, A, Q, C, R)

        roots = (z, model.A, *map(torch.linalg.cholesky, (model.Q,)), model.C)
        roots += tuple(map(torch.linalg.cholesky, (model.R, model.P0)))
        return torch.autograd.gradcheck(
            function, tuple(x.clone().requires_grad_() for x in roots), fast_mode=True
        )

    for method in METHODS:
        assert run(lambda result, A, Q, C, R, m=method: tuple(rts_smoother(result, A, Q, method=m)))
    assert run(lambda result, A, Q, C, R: tuple(forecast(result, 3, A, Q, C, R, model.b, model.d)))
    assert run(
        lambda result, A, Q, C, R: sum(
            map(tuple, multi_step(result, 2, model._replace(A=A, Q=Q, C=C, R=R))), ()
        )
    )


def test_gradient_is_float32_when_backward_runs_under_autocast() -> None:
    def run(autocast: bool) -> dict[str, Tensor]:
        model, z = random_model(3, 2, seed=9), observations(2, 6, 2, seed=9)
        inputs = {name: x.detach().float().requires_grad_() for name, x in leaves(z, model).items()}
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            value = kalman_filter(**inputs).log_likelihood.sum()
            return gradients(value, inputs)

    for name, gradient in run(True).items():
        assert gradient.dtype == torch.float32
        expected = run(False)[name]
        torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-2 * expected.abs().max().item())
