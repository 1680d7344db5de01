"""The spectral sampler: its distribution, and the means of the estimators against the exact kernel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats

from vidssl.errors import VidsslError
from vidssl.objectives.hsic import hsic_exact, hsic_random_features, sample_imq_features
from vidssl.objectives.hsic.random_features import draw_features


def rows(b: int, d: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(b, d, generator=generator, dtype=torch.float64), dim=1)


@pytest.mark.parametrize("estimate", ["xy", "xx"])
@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_mean_over_draws_is_the_exact_kernel(estimate: str, scale: float) -> None:
    parts = [rows(6, 5, seed) for seed in range(2)]
    generator = torch.Generator().manual_seed(11)
    index = 0 if estimate == "xy" else 1
    values = [
        hsic_random_features(
            parts, scale, draw_features(5, 256, generator, device=parts[0].device, dtype=torch.float64)
        )[index].item()
        for _ in range(500)
    ]
    exact = hsic_exact(parts, scale)[index].item()
    standard_error = np.std(values, ddof=1) / np.sqrt(len(values))
    assert abs(np.mean(values) - exact) < 4 * standard_error
    assert standard_error < 4e-3  # the test has the power to notice a bias


@pytest.mark.parametrize("dim", [2, 8, 64])
def test_radii_follow_the_spectral_measure(dim: int) -> None:
    """The radius density of the kernel's Fourier transform is r^((d-1)/2) K_((d-1)/2)(r), up to a constant."""
    w, _ = sample_imq_features(dim, 20_000, torch.Generator().manual_seed(5), dtype=torch.float64)
    radii = w.norm(dim=1).numpy()
    order = (dim - 1) / 2

    def log_density(r: np.ndarray) -> np.ndarray:
        return order * np.log(r) + np.log(special.kve(order, r)) - r

    grid = np.linspace(1e-4, max(60.0, radii.max() * 1.05), 200_001)
    with np.errstate(over="ignore"):
        log_values = log_density(grid)
    finite = np.isfinite(log_values)
    grid, log_values = grid[finite], log_values[finite]
    density = np.exp(log_values - log_values.max())
    cdf = integrate.cumulative_simpson(density, x=grid, initial=0)
    cdf /= cdf[-1]
    assert stats.kstest(radii, lambda r: np.interp(r, grid, cdf)).pvalue > 1e-3


def test_phases_are_uniform_and_independent_of_the_directions() -> None:
    w, b = sample_imq_features(3, 20_000, torch.Generator().manual_seed(5), dtype=torch.float64)
    assert stats.kstest(b.numpy() / (2 * np.pi), "uniform").pvalue > 1e-3
    assert abs(stats.spearmanr(w[:, 0].numpy(), b.numpy()).statistic) < 0.03


def test_the_generator_decides() -> None:
    first = sample_imq_features(4, 8, torch.Generator().manual_seed(1))
    again = sample_imq_features(4, 8, torch.Generator().manual_seed(1))
    other = sample_imq_features(4, 8, torch.Generator().manual_seed(2))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    with pytest.raises(VidsslError, match="num_features=0"):
        sample_imq_features(4, 0)
