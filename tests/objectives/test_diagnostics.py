"""Measures of rows against closed forms and scipy, and the sentence that a collapsed run gets."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vidssl.errors import VidsslError
from vidssl.objectives.diagnostics import (
    alignment,
    collapse_warning,
    dimension_std,
    effective_rank,
    lidar,
    linear_cka,
    rankme,
    same_view_warning,
    spectrum_exponent,
    uniformity,
)


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_ranks_count_equal_directions(rank: int) -> None:
    q = torch.linalg.qr(rows(40, 8))[0]  # orthonormal columns
    z = torch.zeros(40, 8, dtype=torch.float64)
    z[:, :rank] = q[:, :rank] - 0
    assert rankme(z, eps=0 if rank == 8 else 1e-12).item() == pytest.approx(rank, rel=1e-6)
    centred = torch.linalg.qr(rows(40, 8) - rows(40, 8).mean(dim=0))[0]
    assert effective_rank(centred[:, :rank]).item() == pytest.approx(rank, rel=1e-9)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(2, 9), d=st.integers(1, 9), seed=st.integers(0, 99))
def test_rankme_and_effective_rank_equal_numpy(n: int, d: int, seed: int) -> None:
    z = rows(n, d, seed=seed)
    p = np.linalg.svd(z.numpy(), compute_uv=False)
    p = p / p.sum() + 1e-7
    assert rankme(z).item() == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-10)
    eigenvalues = np.linalg.eigvalsh(np.cov(z.numpy(), rowvar=False).reshape(d, d))
    participation = eigenvalues.sum() ** 2 / (eigenvalues**2).sum()
    assert effective_rank(z).item() == pytest.approx(participation, rel=1e-8)


def test_effective_rank_does_not_depend_on_scale_shift_or_shape() -> None:
    z = rows(6, 20)
    assert effective_rank(5 * z + 3).item() == pytest.approx(effective_rank(z).item(), rel=1e-9)
    assert effective_rank(torch.ones(5, 3)).item() == 0


def test_lidar_equals_the_generalised_eigenvalues() -> None:
    z = rows(12, 4, 3) + 2 * rows(12, 1, 3, seed=1)
    means = z.mean(1).numpy()
    between = (means - means.mean(0)).T @ (means - means.mean(0)) / 12
    within = (
        sum(np.outer(x - m, x - m) for views, m in zip(z.numpy(), means, strict=True) for x in views) / 48
    )
    eigenvalues = scipy.linalg.eigh(between, within + 1e-4 * np.eye(3), eigvals_only=True)
    p = eigenvalues / eigenvalues.sum() + 1e-8
    assert lidar(z).item() == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-9)


def test_lidar_ignores_directions_that_do_not_tell_objects_apart() -> None:
    """Two directions differ between objects; ten more are noise between the views of one object."""
    objects = torch.cat(
        [rows(200, 1, 2).expand(-1, 8, -1), torch.zeros(200, 8, 10, dtype=torch.float64)], dim=2
    )
    noise = rows(200, 8, 12, seed=1)
    noise = noise - noise.mean(dim=1, keepdim=True)
    z = objects + noise
    assert lidar(z).item() == pytest.approx(2, abs=0.05)
    assert rankme(z.reshape(-1, 12)).item() > 10
    with pytest.raises(VidsslError, match="2 objects and 2 views"):
        lidar(rows(5, 1, 3))


def test_alignment_and_uniformity() -> None:
    x, y = rows(7, 4), rows(7, 4, seed=1)
    a, b = (z.numpy() / np.linalg.norm(z.numpy(), axis=1, keepdims=True) for z in (x, y))
    assert alignment(x, y).item() == pytest.approx(((a - b) ** 2).sum(1).mean(), rel=1e-10)
    pairs = [np.exp(-2 * ((a[i] - a[j]) ** 2).sum()) for i in range(7) for j in range(i)]
    assert uniformity(x).item() == pytest.approx(np.log(np.mean(pairs)), rel=1e-10)
    assert alignment(x, 3 * x).item() == pytest.approx(0, abs=1e-12)
    assert uniformity(torch.ones(5, 3, dtype=torch.float64)).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.8, 2.0])
def test_the_spectrum_exponent_is_that_of_a_power_law(alpha: float) -> None:
    """Exactly, for orthogonal columns of power-law length; nearly, for Gaussian rows of such variances."""
    scale = torch.arange(1, 33, dtype=torch.float64).pow(-alpha / 2)
    centred = rows(200, 32) - rows(200, 32).mean(dim=0)
    exact = torch.linalg.qr(centred)[0] * scale @ torch.linalg.qr(rows(32, 32, seed=1))[0] + 3
    assert spectrum_exponent(exact).item() == pytest.approx(alpha, abs=1e-8)
    assert spectrum_exponent(rows(5000, 32, seed=2) * scale).item() == pytest.approx(alpha, abs=0.06)
    assert spectrum_exponent(exact[:, :3]).isnan()
    assert spectrum_exponent(exact[:1].expand(50, 32)).isnan()


def test_cka_is_its_formula_and_knows_no_rotation_or_chance() -> None:
    x, y = rows(9, 3), rows(9, 2, seed=1) + rows(9, 3)[:, :2]
    first, second = (z.numpy() @ z.numpy().T for z in (x, y))

    def hsic(a: Any, b: Any) -> float:
        """Song et al. 2012, eq. 4: over all choices of four different rows."""
        n, total = 9, 0.0
        for i, j, q, r in permutations(range(n), 4):
            total += a[i, j] * (b[i, j] + b[q, r] - 2 * b[i, q])
        return total

    assert linear_cka(x, y).item() == pytest.approx(
        hsic(first, second) / np.sqrt(hsic(first, first) * hsic(second, second)), rel=1e-9
    )
    rotated = 3 * x @ torch.linalg.qr(rows(3, 3, seed=2))[0] - 7
    assert linear_cka(x, rotated).item() == pytest.approx(1, abs=1e-9)
    wide = rows(20, 200), rows(20, 200, seed=1)
    centred = [z - z.mean(0) for z in wide]
    a, b = (z @ z.T for z in centred)
    assert (a * b).sum() / (a.norm() * b.norm()) > 0.8  # the plain form sees likeness where there is none
    assert (
        abs(np.mean([linear_cka(rows(20, 200, seed=s), rows(20, 200, seed=s + 50)) for s in range(30)]))
        < 0.02
    )
    with pytest.raises(VidsslError, match="linear_cka: needs N >= 4 rows of both, got 9 and 8"):
        linear_cka(x, y[:8])


def test_standard_deviation_of_normalised_rows() -> None:
    assert dimension_std(rows(4000, 64)).item() == pytest.approx(1 / 8, rel=0.02)
    assert dimension_std(rows(1, 64).expand(50, 64)).item() == pytest.approx(0, abs=1e-12)


def test_half_precision_rows_are_measured_in_float32() -> None:
    z = rows(16, 4)
    for measure in (rankme, effective_rank, uniformity, dimension_std, spectrum_exponent):
        assert measure(z.to(torch.bfloat16)).dtype == torch.float32
        assert measure(z.to(torch.bfloat16)).item() == pytest.approx(measure(z).item(), abs=0.05)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_rows_that_cannot_be_measured_give_nan(value: float) -> None:
    """Also rows that are finite while their squares are not."""
    rows = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    broken = rows.clone()
    broken[2, 1] = value
    pairs = torch.stack([broken, rows], dim=1)
    assert lidar(pairs).isnan()
    assert rankme(broken).isnan() == (value != 1e30)
    assert effective_rank(broken).isnan()
    assert lidar(torch.stack([rows, rows.flip(0)], dim=1)).isfinite()


def test_warning_in_words() -> None:
    healthy = {"loss": -0.2, "hsic_xx": 0.01, "kernel_rank": 31, "rank_needed": 12, "std": 0.08, "dim": 128}
    assert collapse_warning(**healthy, rank=30) is None  # type: ignore[arg-type]
    message = collapse_warning(
        loss=0.0, hsic_xx=1e-9, kernel_rank=31, rank_needed=900.0, std=1e-4, dim=128, rank=1.2
    )
    assert message is not None
    assert "all rows are alike" in message
    assert "standard deviation" in message
    assert "effective rank is 1.2" in message
    assert "(gamma/rho)² = 900, which is at 31" in message
    assert "\n" not in message
    assert collapse_warning(rank=1.5) is not None
    assert collapse_warning(loss=0.0, hsic_xx=0.01) is None
    with pytest.raises(VidsslError, match="rows"):
        rankme(torch.zeros(3))


def test_warning_of_the_same_view() -> None:
    """The figures are those of a run that learned the shortcut; invariance makes both the same."""
    said = same_view_warning(0.379, 0.11)
    assert said is not None
    assert "0.38 within a view and 0.11 across views" in said
    assert same_view_warning(0.3, 0.28) is None
    assert same_view_warning(0.01, -0.01) is None  # the start of training
    assert same_view_warning(None, 0.2) is None  # no rows of the same view
