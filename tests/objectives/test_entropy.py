"""Entropy estimators against closed forms, NumPy and SciPy, their invariances, and the rows that break naive ones."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree
from scipy.special import digamma, gammaln
from torch import Tensor

from vidssl.errors import VidsslError
from vidssl.objectives.entropy import (
    gaussian_entropy,
    kde_entropy,
    knn_entropy,
    taylor_entropy,
)


def normal(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def correlated(n: int, d: int, seed: int = 0) -> tuple[Tensor, float]:
    """Gaussian rows with a random covariance, and their true entropy."""
    mix = normal(d, d, seed + 1) + 2 * torch.eye(d, dtype=torch.float64)
    return normal(n, d, seed) @ mix.T, d / 2 * (1 + math.log(2 * math.pi)) + torch.linalg.slogdet(mix)[
        1
    ].item()


ESTIMATORS: dict[str, Callable[[Tensor], Tensor]] = {
    "gaussian": lambda z: gaussian_entropy(z, eps=0.0),
    "gaussian_relative": lambda z: gaussian_entropy(z, eps=1e-2, relative=True),
    "taylor": taylor_entropy,
    "knn": knn_entropy,
    "knn_clipped": lambda z: knn_entropy(z, k=2, clip_quantile=0.8),
    "kde": lambda z: kde_entropy(z, 0.7),
}


# -- values ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 2, 5, 20])
def test_gaussians_have_their_known_entropy(d: int) -> None:
    """Var of ½ log det of a Wishart is D / 2N, its bias -D(D+1) / 4N; four standard errors."""
    n = 4000
    z, truth = correlated(n, d)
    bound = d * (d + 1) / (4 * n) + 4 * math.sqrt(d / (2 * n))
    assert gaussian_entropy(z).item() == pytest.approx(truth, abs=bound)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_neighbours_find_the_entropy_of_gaussians(d: int) -> None:
    """Four standard errors of (D/2 + ψ'(k)) / N; the bias from curvature, O((k/N)^{2/D}), stays below 0.02 here."""
    n = 4000
    z, truth = correlated(n, d)
    assert knn_entropy(z, k=3).item() == pytest.approx(truth, abs=4 * math.sqrt((d / 2 + 0.4) / n) + 0.02)


@pytest.mark.parametrize("d", [1, 2])
def test_neighbours_find_the_entropy_of_a_cube(d: int) -> None:
    z = 3 * torch.rand(4000, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert knn_entropy(z, k=3).item() == pytest.approx(d * math.log(3), abs=0.06)


def test_a_narrow_kernel_finds_the_entropy_in_one_dimension() -> None:
    """To second order the cross-entropy of N(0, 1) to N(0, 1 + h²): ½ log(1 + h²) + ½ (1/(1 + h²) - 1) too much."""
    h = 0.3
    excess = 0.5 * math.log(1 + h**2) + 0.5 * (1 / (1 + h**2) - 1)
    truth = 0.5 * (1 + math.log(2 * math.pi))
    assert kde_entropy(normal(4000, 1), h).item() == pytest.approx(
        truth + excess, abs=4 / math.sqrt(2 * 4000)
    )


def test_a_ring_is_thin_for_neighbours_and_fat_for_a_gaussian() -> None:
    """Radius 1, noise 0.05: log 2π + ½ log(2πe 0.05²) = 0.26 nats; the covariance is that of a disc."""
    n = 2000
    angle = 2 * math.pi * torch.rand(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ring = torch.stack([angle.cos(), angle.sin()], dim=1) + 0.05 * normal(n, 2)
    truth = math.log(2 * math.pi) + 0.5 * math.log(2 * math.pi * math.e * 0.05**2)
    assert gaussian_entropy(ring).item() == pytest.approx(2.14, abs=0.03)
    assert knn_entropy(ring).item() == pytest.approx(truth, abs=0.1)


def test_taylor_is_the_gaussian_form_to_second_order() -> None:
    exact, gap = [], []
    for size in (0.02, 0.01):
        z = normal(500, 4)
        z = torch.linalg.qr(z - z.mean(0))[0] * math.sqrt(499)  # sample covariance exactly I
        mix = torch.eye(4, dtype=torch.float64) + size * normal(4, 4, 1)
        z = z @ mix
        exact.append(gaussian_entropy(z, eps=0.0))
        gap.append((taylor_entropy(z) - exact[-1]).abs().item())
    assert gap[0] < 1e-4
    assert gap[0] / gap[1] > 6  # third order: halving the correlations divides by 8


# -- rows that depend on each other --------------------------------------------------------------------------------------


def near_copies(clips: int, frames: int, d: int, spread: float = 0.1, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Rows of N(0, I) of which those of a clip differ by a `spread` share, and the clips' numbers."""
    own, common = normal(clips * frames, d, seed).unflatten(0, (clips, frames)), normal(clips, d, seed + 1)
    z = math.sqrt(1 - spread**2) * common[:, None] + spread * own
    return z.flatten(0, 1), torch.arange(clips).repeat_interleave(frames)


def test_near_copies_have_the_entropy_of_what_they_copy() -> None:
    """N(0, I_8) has 11.35 nats. Neighbours among all rows are those of one's own clip and find 3.9 or less; the estimate of
    500 independent rows is off by 0.2."""
    truth = 4 * (1 + math.log(2 * math.pi))
    for spread, pooled in ((0.2, 8.0), (0.1, 2.5)):
        z, clips = near_copies(500, 4, 8, spread)
        assert knn_entropy(z).item() < pooled
        assert knn_entropy(z, groups=clips).item() == pytest.approx(truth, abs=0.25)
        # A kernel of width h has the entropy of N(0, 1 + h²) and more: 0.4 nats at h = 0.8.
        assert kde_entropy(z, 0.8).item() < truth - 0.1
        assert kde_entropy(z, 0.8, groups=clips).item() == pytest.approx(truth + 0.5, abs=0.2)


def test_groups_of_copies_are_as_good_as_one_row_of_each() -> None:
    z = normal(40, 3)
    copies, clips = z.repeat_interleave(5, dim=0), torch.arange(40).repeat_interleave(5)
    assert knn_entropy(copies, groups=clips).item() == pytest.approx(knn_entropy(z).item(), abs=1e-12)
    expected = kde_entropy(z, 0.5)
    assert kde_entropy(copies, 0.5, groups=clips).item() == pytest.approx(expected.item(), abs=1e-12)


def test_groups_of_one_row_are_no_groups() -> None:
    z, alone = normal(40, 3), torch.randperm(40)
    torch.testing.assert_close(knn_entropy(z, groups=alone), knn_entropy(z))
    torch.testing.assert_close(kde_entropy(z, 0.5, groups=alone), kde_entropy(z, 0.5))


@settings(max_examples=20, deadline=None)
@given(sizes=st.lists(st.integers(1, 5), min_size=4, max_size=8), seed=st.integers(0, 99))
def test_rows_of_uneven_groups_equal_numpy(sizes: list[int], seed: int) -> None:
    """Every row against every sample of one row of each other group, found one by one; rows in any order."""
    n, k = sum(sizes), 2
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    groups = torch.repeat_interleave(torch.tensor(sizes))[order]
    z = normal(n, 2, seed)
    x, g = z.numpy(), groups.numpy()
    start = torch.rand(len(sizes), generator=torch.Generator().manual_seed(0))
    logs = []
    for s in range(max(sizes)):
        members = [np.flatnonzero(g == j) for j in range(len(sizes))]
        sample = [rows[(s + int(float(start[j]) * len(rows))) % len(rows)] for j, rows in enumerate(members)]
        for i in range(n):
            others = [j for j in sample if g[j] != g[i]]
            logs.append(np.log(np.sort(np.linalg.norm(x[others] - x[i], axis=1))[k - 1]))
    expected = 2 * np.mean(logs) + math.log(math.pi) + digamma(len(sizes)) - digamma(k)
    assert knn_entropy(z, k=k, groups=groups).item() == pytest.approx(expected, abs=1e-6)
    kernel = np.exp(-((x[:, None] - x[None]) ** 2).sum(-1) / 2) / (2 * np.pi) * (g[:, None] != g[None])
    expected = -np.log(kernel.sum(1) / (g[:, None] != g[None]).sum(1)).mean()
    assert kde_entropy(z, 1.0, groups=groups).item() == pytest.approx(expected, abs=1e-9)


def test_groups_have_gradients_masks_and_draws() -> None:
    z, clips = near_copies(12, 3, 2)
    z.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: knn_entropy(z, groups=clips), (z,))
    assert torch.autograd.gradcheck(lambda z: kde_entropy(z, 0.5, groups=clips), (z,))
    kept = torch.arange(36) % 5 != 0
    rubbish = torch.where(kept[:, None], z.detach(), torch.nan)
    torch.testing.assert_close(
        knn_entropy(rubbish, mask=kept, groups=clips), knn_entropy(z[kept], groups=clips[kept])
    )
    drawn = knn_entropy(z, max_rows=30, generator=torch.Generator().manual_seed(0), groups=clips)
    assert torch.isfinite(drawn)
    assert drawn.item() != knn_entropy(z, groups=clips).item()
    with pytest.raises(VidsslError, match="rows of 3 groups; needs at least 4"):
        knn_entropy(z[:9], groups=clips[:9])
    with pytest.raises(VidsslError, match="rows of one group; needs at least 2"):
        kde_entropy(z[:3], 1.0, groups=clips[:3])
    with pytest.raises(VidsslError, match="groups is torch"):
        knn_entropy(z, groups=torch.ones(36))


# -- independent evaluation ----------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(n=st.integers(8, 60), d=st.integers(1, 6), seed=st.integers(0, 100))
def test_numpy_and_scipy_agree(n: int, d: int, seed: int) -> None:
    z, _ = correlated(n + 10 * d, d, seed)
    rows = z.numpy()
    count = len(rows)
    cov = np.atleast_2d(np.cov(rows.T)) + 1e-3 * np.eye(d)
    gaussian = 0.5 * np.linalg.slogdet(cov)[1] + d / 2 * (1 + np.log(2 * np.pi))
    assert gaussian_entropy(z, eps=1e-3).item() == pytest.approx(gaussian, abs=1e-9)

    distance = cKDTree(rows).query(rows, k=4)[0][:, 3]
    constant = d / 2 * np.log(np.pi) - gammaln(d / 2 + 1) + digamma(count) - digamma(3)
    assert knn_entropy(z).item() == pytest.approx(d * np.log(distance).mean() + constant, abs=1e-9)
    clipped = np.minimum(distance, np.quantile(distance, 0.9))
    expected = d * np.log(clipped).mean() + constant
    assert knn_entropy(z, clip_quantile=0.9).item() == pytest.approx(expected, abs=1e-9)

    h = 1.3
    square = ((rows[:, None] - rows[None]) ** 2).sum(-1)
    kernel = np.exp(-square / (2 * h**2)) / (2 * np.pi * h**2) ** (d / 2)
    np.fill_diagonal(kernel, 0)
    expected = -np.log(kernel.sum(1) / (count - 1)).mean()
    assert kde_entropy(z, h).item() == pytest.approx(expected, abs=1e-9)

    correlation = np.atleast_2d(np.corrcoef(rows.T))
    expected = 0.5 * np.log(np.diag(np.atleast_2d(np.cov(rows.T)))).sum() - 0.25 * (
        (correlation**2).sum() - d
    )
    assert taylor_entropy(z).item() == pytest.approx(expected + d / 2 * (1 + np.log(2 * np.pi)), abs=1e-9)


# -- invariances ---------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(list(ESTIMATORS)),
    c=st.floats(1e-3, 1e3),
    d=st.integers(1, 5),
    seed=st.integers(0, 9),
)
def test_scaling_adds_d_log_c(name: str, c: float, d: int, seed: int) -> None:
    z, _ = correlated(50, d, seed)
    entropy = ESTIMATORS[name] if name != "kde" else None
    before = kde_entropy(z, 0.7) if entropy is None else entropy(z)
    after = kde_entropy(c * z, 0.7 * c) if entropy is None else entropy(c * z)
    assert after.item() == pytest.approx(before.item() + d * math.log(c), abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(name=st.sampled_from([n for n in ESTIMATORS if n != "taylor"]), seed=st.integers(0, 9))
def test_rotation_changes_nothing(name: str, seed: int) -> None:
    z, _ = correlated(50, 4, seed)
    rotation = torch.linalg.qr(normal(4, 4, seed + 50))[0]
    torch.testing.assert_close(ESTIMATORS[name](z @ rotation), ESTIMATORS[name](z), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("spread", [1.0, 1e-3])
def test_translation_changes_nothing_far_from_the_origin(name: str, spread: float) -> None:
    """In float64 an offset of 1e4 costs 1e-12 of the coordinates; inner-product distances would lose half the digits."""
    z = spread * correlated(60, 3)[0]
    torch.testing.assert_close(ESTIMATORS[name](z + 1e4), ESTIMATORS[name](z), rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_translation_in_float32(name: str) -> None:
    """Coordinates that float32 holds exactly at both places."""
    z = torch.round(correlated(60, 3)[0] * 64).float() / 64
    torch.testing.assert_close(ESTIMATORS[name](z + 1e4), ESTIMATORS[name](z), rtol=0, atol=1e-5)


def test_the_gaussian_form_is_an_upper_bound() -> None:
    """Of all densities with a covariance the Gaussian has the most entropy; two clusters have less."""
    z = normal(3000, 2)
    z[:1500] += 6
    assert gaussian_entropy(z).item() > knn_entropy(z).item() + 0.4


# -- gradients -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ESTIMATORS)
def test_gradient(name: str) -> None:
    z = correlated(14, 2)[0].requires_grad_()
    if name == "knn_clipped":
        # The quantile is a constant for the gradient, so compare with a limit that does not move.
        z = z.detach().requires_grad_()
        (grad,) = torch.autograd.grad(ESTIMATORS[name](z), z)
        assert torch.isfinite(grad).all()
        assert grad.abs().max() > 0
        return
    assert torch.autograd.gradcheck(ESTIMATORS[name], (z,))


def test_gradient_of_a_learned_bandwidth() -> None:
    h = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(kde_entropy, (correlated(10, 2)[0].requires_grad_(), h))


def test_far_neighbours_beyond_the_quantile_get_no_gradient() -> None:
    z = normal(30, 2)
    z[0] += 100
    z.requires_grad_()
    (plain,) = torch.autograd.grad(knn_entropy(z), z)
    (clipped,) = torch.autograd.grad(knn_entropy(z, clip_quantile=0.9), z)
    assert plain[0].abs().max() > 1e-4
    assert clipped[0].abs().max() == 0


def test_duplicates_are_finite_and_without_gradient() -> None:
    z = torch.cat([normal(10, 2)] * 4).requires_grad_()
    entropy = knn_entropy(z)
    (grad,) = torch.autograd.grad(entropy, z)
    assert torch.isfinite(entropy)
    assert grad.abs().max() == 0
    assert torch.isfinite(knn_entropy(torch.zeros(5, 2)))
    z = torch.cat([normal(10, 2)] * 4).requires_grad_()
    (grad,) = torch.autograd.grad(kde_entropy(z, 0.5), z)
    assert torch.isfinite(grad).all()


def test_the_floor_is_relative() -> None:
    """Rows whose spread is 1e-12 have neighbours as good as any."""
    z, _ = correlated(50, 2)
    assert knn_entropy(1e-12 * z).item() == pytest.approx(
        knn_entropy(z).item() + 2 * math.log(1e-12), abs=1e-8
    )


# -- rows, precision, errors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "entropy", [gaussian_entropy, taylor_entropy, knn_entropy, lambda z, mask: kde_entropy(z, 0.7, mask)]
)
def test_masked_rows_do_not_exist(entropy: Callable[..., Tensor]) -> None:
    z = normal(40, 3)
    mask = torch.rand(40, generator=torch.Generator().manual_seed(0)) < 0.7
    rubbish = torch.where(mask[:, None], z, torch.nan).requires_grad_()
    value = entropy(rubbish, mask=mask)
    torch.testing.assert_close(value, entropy(z[mask], mask=None), rtol=0, atol=1e-12)
    (grad,) = torch.autograd.grad(value, rubbish)
    assert grad[~mask].abs().max() == 0
    assert torch.isfinite(grad).all()


def test_a_draw_of_rows() -> None:
    z = normal(3000, 2)
    draws = [
        knn_entropy(z, max_rows=500, generator=torch.Generator().manual_seed(seed)).item()
        for seed in (0, 0, 1)
    ]
    assert draws[0] == draws[1] != draws[2]
    assert draws[0] == pytest.approx(knn_entropy(z).item(), abs=0.2)
    assert knn_entropy(z[:400], max_rows=500).item() == knn_entropy(z[:400]).item()
    with pytest.raises(VidsslError, match="generator"):
        kde_entropy(z, 1.0, max_rows=500)


def test_half_precision_rows_are_widened_under_autocast() -> None:
    z = normal(64, 4).to(torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for name, entropy in ESTIMATORS.items():
            assert entropy(z).dtype == torch.float32, name
            torch.testing.assert_close(entropy(z), entropy(z.float()), rtol=0, atol=0)


def test_nearly_dependent_dimensions_in_float32() -> None:
    """128 dimensions, all but one of them noise at the level of rounding: still a determinant."""
    z = (normal(512, 1) @ normal(1, 128, 1)).float().requires_grad_()
    entropy = gaussian_entropy(z, relative=True)
    (grad,) = torch.autograd.grad(entropy, z)
    assert torch.isfinite(entropy)
    assert torch.isfinite(grad).all()


def test_mistakes_are_named() -> None:
    z = normal(5, 5)
    with pytest.raises(VidsslError, match="5 rows in 5 dimensions"):
        gaussian_entropy(z)
    with pytest.raises(VidsslError, match="3 rows; needs at least 4"):
        knn_entropy(z[:3], k=3)
    with pytest.raises(VidsslError, match="k=0"):
        knn_entropy(z, k=0)
    with pytest.raises(VidsslError, match=r"clip_quantile=1\.5"):
        knn_entropy(z, clip_quantile=1.5)
    with pytest.raises(VidsslError, match="needs at least 2"):
        kde_entropy(z[:1], 1.0)
    with pytest.raises(VidsslError, match="bandwidth=0"):
        kde_entropy(z, 0.0)
    with pytest.raises(VidsslError, match="singular"):
        gaussian_entropy(torch.zeros(8, 2), eps=0.0)
    with pytest.raises(VidsslError, match=r"must be \(N, D\)"):
        knn_entropy(z[0])
    with pytest.raises(VidsslError, match="mask is"):
        gaussian_entropy(normal(8, 2), mask=torch.ones(8))
