"""VAMP-2 against canonical correlations, the closed form of a linear system, and chance; and its log in training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from vidssl.errors import VidsslError
from vidssl.models.heads import HeadOutput
from vidssl.objectives.base import BatchInfo
from vidssl.objectives.composite import Composite
from vidssl.objectives.spectral import TemporalSpectral
from vidssl.objectives.vamp import vamp2_score

TRANSITION = torch.tensor([[0.9, 0.2, 0.0], [-0.2, 0.9, 0.0], [0.0, 0.0, 0.4]], dtype=torch.float64)


def rows(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sequences(videos: int, steps: int, seed: int = 0) -> Tensor:
    """(videos, steps, 3) of z' = A z + N(0, I), from the stationary distribution."""
    generator = torch.Generator().manual_seed(seed)
    z = rows(videos, 3, seed + 1) @ torch.linalg.cholesky(stationary()).T
    path = [z]
    for _ in range(steps - 1):
        z = z @ TRANSITION.T + torch.randn(videos, 3, generator=generator, dtype=torch.float64)
        path.append(z)
    return torch.stack(path, dim=1)


def stationary() -> Tensor:
    """P = A P A' + I."""
    kronecker = torch.eye(9, dtype=torch.float64) - torch.kron(TRANSITION, TRANSITION)
    return torch.linalg.solve(kronecker, torch.eye(3, dtype=torch.float64).flatten()).reshape(3, 3)


def closed_form(lag: int) -> float:
    """tr(P⁻¹ C P⁻¹ C') with C = E z z'_later = P A'^lag."""
    cov = stationary()
    c = cov @ torch.linalg.matrix_power(TRANSITION, lag).T
    return torch.trace(torch.linalg.solve(cov, c) @ torch.linalg.solve(cov, c.T)).item()


def test_on_its_own_rows_it_is_the_sum_of_squared_canonical_correlations() -> None:
    x, y = rows(40, 4), rows(40, 4) + rows(40, 4, 1)
    a, b = ((z - z.mean(0)).numpy() for z in (x, y))
    correlations = np.linalg.svd(np.linalg.qr(a)[0].T @ np.linalg.qr(b)[0], compute_uv=False)
    score = vamp2_score((x, y), (x, y), ridge=0.0).item()
    assert score == pytest.approx((correlations**2).sum(), rel=1e-10)
    # Whatever they are read with.
    x, y = x @ rows(4, 4, 2) + 5, y @ rows(4, 4, 3) - 2
    assert vamp2_score((x, y), (x, y), ridge=0.0).item() == pytest.approx(score, rel=1e-8)


def test_it_is_what_the_fitted_kernel_is_worth_in_expectation() -> None:
    """2 E_joint k - E_independent k² - 1 by brute force over all pairs of test rows."""
    fit, test = (rows(9, 2), rows(9, 2, 1)), (rows(7, 2, 2) + 1, rows(7, 2, 3) - 1)
    x, y = (z - z.mean(0) for z in fit)
    cov_x, cov_y = (z.T @ z / 9 for z in (x, y))
    lift = 0.3 * torch.eye(2, dtype=torch.float64)
    inverse_x = torch.linalg.inv(cov_x + cov_x.trace() / 2 * lift)
    operator = inverse_x @ (x.T @ y / 9) @ torch.linalg.inv(cov_y + cov_y.trace() / 2 * lift)
    kernel = 1 + (test[0] - fit[0].mean(0)) @ operator @ (test[1] - fit[1].mean(0)).T
    expected = 2 * kernel.diagonal().mean() - kernel.square().mean() - 1
    assert vamp2_score(fit, test, ridge=0.3).item() == pytest.approx(expected.item(), rel=1e-10)


@pytest.mark.parametrize("lag", [1, 3])
def test_a_linear_system_has_its_closed_form_and_training_logs_it(lag: int) -> None:
    z = sequences(4000, 8)
    objective = TemporalSpectral(3, lag=lag).double()
    logs = objective([HeadOutput(z[:, 0], None, z)], None, BatchInfo(torch.arange(4000))).logs
    assert logs["temporal_spectral/vamp2"].item() == pytest.approx(closed_form(lag), rel=0.03)
    assert closed_form(3) < 0.7 * closed_form(1)  # the test above can tell lags apart


def test_chance_correlations_do_not_count() -> None:
    """Twenty features of forty rows correlate by chance; on other rows that is worth nothing."""
    scores = []
    for seed in range(20):
        fit, test = ((rows(40, 20, 4 * seed + i), rows(40, 20, 4 * seed + i + 1)) for i in (0, 2))
        assert vamp2_score(fit, fit).item() > 3
        scores.append(vamp2_score(fit, test).item())
        assert vamp2_score(fit, test, ridge=0.0).item() < -5  # what the default ridge is for
    assert -2.5 < np.mean(scores) < 0


def test_a_video_lies_in_one_half_and_what_cannot_be_judged_is_left_out() -> None:
    """Three videos, two copies of each: copies must not be fitted to in one half and judged on in the other."""
    frames = rows(3, 5, 1)[:, :, None].repeat(2, 1, 1)
    objective, batch = TemporalSpectral(1).double(), BatchInfo(torch.tensor([4, 7, 9] * 2))
    score = objective([HeadOutput(frames[:, 0], None, frames)], None, batch).logs["temporal_spectral/vamp2"]
    pairs = [
        (f[:, :-1].flatten(0, 1), f[:, 1:].flatten(0, 1)) for f in (frames[[0, 2, 3, 5]], frames[[1, 4]])
    ]
    expected = (vamp2_score(pairs[0], pairs[1]) + vamp2_score(pairs[1], pairs[0])) / 2
    torch.testing.assert_close(score, expected)
    alone = objective([HeadOutput(frames[:, 0], None, frames)], None, BatchInfo(torch.zeros(6).long()))
    assert "temporal_spectral/vamp2" not in alone.logs


def test_steps_that_are_not_logged_do_without() -> None:
    objective = TemporalSpectral(1).double()
    composite, frames = Composite({"temporal_spectral": objective}), rows(4, 5)[:, :, None]
    outputs = {"temporal_spectral": [HeadOutput(frames, None, None)]}
    assert "temporal_spectral/vamp2" in composite(outputs, None, BatchInfo(torch.arange(4))).logs
    composite.keep_logs(False)
    assert composite(outputs, None, BatchInfo(torch.arange(4))).logs.keys() == {
        "loss",
        "temporal_spectral/loss",
    }


def test_broken_rows_give_nan_and_shapes_an_error() -> None:
    x = rows(5, 2)
    assert vamp2_score((0 * x, x), (x, x)).isnan()
    assert vamp2_score((x / 0, x), (x, x)).isnan()
    assert vamp2_score((x[:1], x[:1]), (x, x)).isnan()
    with pytest.raises(VidsslError, match=r"vamp2: needs pairs of \(N, d\), got \(5, 2\), \(4, 2\)"):
        vamp2_score((x, x[:4]), (x, x))
