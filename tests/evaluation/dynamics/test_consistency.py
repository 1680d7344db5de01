"""Affine maps between two runs' latents are found, chance and leaks are not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.evaluation.dynamics.simulation import simulate
from vidssl.errors import VidsslError
from vidssl.evaluation.dynamics.consistency import affine_r2, compare_latents


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_an_affine_map_is_seen_in_full_and_a_curved_one_in_part():
    z = simulate()
    moved = z._replace(z=z.z @ normal(2, 3) + 5)
    same = compare_latents(z, moved)
    assert same["to_second"] == pytest.approx(1, abs=1e-9) and same["to_first"] == pytest.approx(1, abs=1e-9)
    assert same["rows"] == 60 * 40
    assert compare_latents(z, z._replace(z=-2 * z.z))["cka"] == pytest.approx(1, abs=1e-9)
    curved = compare_latents(z, z._replace(z=z.z + 0.5 * z.z.square()))
    assert 0.2 < curved["to_second"] < 0.95
    other = compare_latents(z, simulate(seed=7))
    assert max(abs(other["to_second"]), abs(other["cka"])) < 0.05


def test_noise_leaves_its_share():
    """z + e with variances 1 and 0.25: R² is 0.8 either way."""
    x = normal(20_000, 3)
    y = x + 0.5 * normal(20_000, 3, seed=1)
    groups = torch.arange(20_000)
    assert affine_r2(x, y, groups) == pytest.approx(1 / 1.25, abs=0.01)
    assert affine_r2(y, x, groups) == pytest.approx(1 / 1.25, abs=0.01)


def test_it_is_numpys_least_squares_on_the_other_half():
    x, y, groups = normal(30, 3), normal(30, 2, seed=1), torch.arange(30) // 5
    errors = total = 0.0
    for fit in (groups % 2 == 1, groups % 2 == 0):
        design = np.concatenate([x.numpy(), np.ones((30, 1))], axis=1)
        weight = np.linalg.lstsq(design[fit], y.numpy()[fit], rcond=None)[0]
        errors += ((y.numpy() - design @ weight)[~fit] ** 2).sum()
        total += ((y.numpy() - y.numpy()[fit].mean(0))[~fit] ** 2).sum()
    assert affine_r2(x, y, groups, ridge=0.0) == pytest.approx(1 - errors / total, rel=1e-8)


def test_videos_stay_together():
    """Latents that are constant in a video, many dimensions: known only to those who have seen the video."""
    groups = torch.arange(20).repeat_interleave(30)
    x, y = normal(20, 15)[groups], normal(20, 2, seed=1)[groups]
    assert affine_r2(x, y, torch.arange(600)) > 0.6
    assert affine_r2(x, y, groups) < 0.2


def test_invalid_steps_are_left_out_and_bad_arguments_refused():
    z = simulate()
    broken = z._replace(z=z.z.clone(), valid=z.valid.clone())
    broken.z[:, 30:] = 1e3 * normal(60, 10, 2)
    broken.valid[:, 30:] = False
    found = compare_latents(broken, z)
    assert found["rows"] == 60 * 30 and found["to_first"] == pytest.approx(1, abs=1e-9)
    with pytest.raises(VidsslError, match="40 and 20 latents of a clip"):
        compare_latents(z, simulate(steps=20))
    with pytest.raises(VidsslError, match="at least two groups"):
        affine_r2(normal(5, 2), normal(5, 2), torch.zeros(5))
