"""The steady state against scipy's Riccati solver and against a long filter."""

from __future__ import annotations

import pytest
import torch
from scipy.linalg import solve_discrete_are
from torch import Tensor

from tests.dynamics.kalman_reference import covariance, observations, random_model
from vidssl.dynamics.kalman import kalman_filter
from vidssl.dynamics.steady import steady_state
from vidssl.errors import VidsslError


def tensor(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("radius", [0.3, 0.95, 1.0, 1.2])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (4, 2), (8, 3)])
def test_steady_state_solves_the_riccati_equation(n: int, m: int, radius: float) -> None:
    A, Q, C, R, *_ = random_model(n, m, seed=n, radius=radius)
    pred, gain = steady_state(A, Q, C, R)
    expected = torch.from_numpy(solve_discrete_are(A.mT.numpy(), C.mT.numpy(), Q.numpy(), R.numpy()))
    torch.testing.assert_close(pred, expected, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(
        gain, expected @ C.mT @ torch.linalg.inv(C @ expected @ C.mT + R), rtol=1e-9, atol=1e-11
    )


def test_a_filter_settles_there() -> None:
    model = random_model(3, 2, seed=5)
    result = kalman_filter(observations(300, 2, seed=5), **model._asdict())
    pred, gain = steady_state(model.A, model.Q, model.C, model.R)
    torch.testing.assert_close(result.pred_cov[-1], pred, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(
        result.filt_mean[-1] - result.pred_mean[-1], gain @ result.innovation[-1], rtol=1e-10, atol=1e-12
    )


def test_batch_axes_gradients_and_precision() -> None:
    A, Q, C, R, *_ = random_model(3, 2, seed=6)
    scaled = A * torch.linspace(0.5, 1.2, 4, dtype=torch.float64)[:, None, None]
    pred, gain = steady_state(scaled, Q, C, R.expand(2, 1, 2, 2))
    assert pred.shape == (2, 4, 3, 3)
    assert gain.shape == (2, 4, 3, 2)
    for i in range(4):
        torch.testing.assert_close(pred[1, i], steady_state(scaled[i], Q, C, R)[0])
    roots = (A, torch.linalg.cholesky(Q), C, torch.linalg.cholesky(R))
    assert torch.autograd.gradcheck(
        lambda a, q, c, r: steady_state(a, q @ q.mT, c, r @ r.mT),
        tuple(x.clone().requires_grad_() for x in roots),
    )
    narrow = steady_state(A.float(), Q.float(), C.float(), R.float())[0]
    torch.testing.assert_close(narrow.double(), steady_state(A, Q, C, R)[0], rtol=1e-5, atol=1e-5)


def test_noise_may_be_singular_where_the_mode_decays() -> None:
    A, C, R = tensor([0.5, 0.2], [0.0, 0.7]), tensor([1.0, 0.0]), tensor([1.0])
    Q = covariance(2, 2, generator=torch.Generator().manual_seed(0), rank=1)
    expected = torch.from_numpy(solve_discrete_are(A.mT.numpy(), C.mT.numpy(), Q.numpy(), R.numpy()))
    torch.testing.assert_close(steady_state(A, Q, C, R)[0], expected)
    assert (steady_state(A, torch.zeros(2, 2), C, R)[0] == 0).all()


@pytest.mark.parametrize(
    ("A", "Q", "C", "message"),
    [
        (tensor([0.5, 0], [0, 1.05]), torch.eye(2), tensor([1.0, 0]), "eigenvalue 1.05 does not decay, and C does not see it"),
        (tensor([0.5, 0], [0, 1.0]), torch.eye(2), tensor([1.0, 0]), "eigenvalue 1 does not decay, and C does not see it"),
        (
            tensor([0.5, 0, 0], [0, 0.6, -0.8], [0, 0.8, 0.6]),
            torch.eye(3),
            tensor([1.0, 0, 0]),
            r"eigenvalue 0.6[+-]0.8j does not decay, and C does not see it",
        ),
        (tensor([0.5, 0], [0, 1.3]), tensor([1.0, 0], [0, 0]), tensor([1.0, 1.0]), "eigenvalue 1.3 .* Q does not drive it"),
        (tensor([0.5, 0], [0, 1.0]), tensor([1.0, 0], [0, 0]), tensor([1.0, 1.0]), "eigenvalue 1 .* Q does not drive it"),
    ],
)  # fmt: skip
def test_the_mode_that_never_settles_is_named(A: Tensor, Q: Tensor, C: Tensor, message: str) -> None:
    with pytest.raises(VidsslError, match=message):
        steady_state(A, Q, C, torch.eye(1))
    several = torch.stack([0.3 * A, A])
    with pytest.raises(VidsslError, match="sequence 1"):
        steady_state(several, Q, C, torch.eye(1))


def test_arguments_are_checked() -> None:
    eye = torch.eye(2)
    with pytest.raises(VidsslError, match=r"steady_state: A has shape \(2, 3\)"):
        steady_state(torch.ones(2, 3), eye, eye, eye)
    with pytest.raises(VidsslError, match=r"steady_state: Q has shape \(3, 3\)"):
        steady_state(eye, torch.eye(3), eye, eye)
    with pytest.raises(VidsslError, match="steady_state: R is not positive definite"):
        steady_state(0.5 * eye, eye, eye, 0 * eye)
