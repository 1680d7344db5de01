"""The plane of a figure is that of the motion."""

from __future__ import annotations

import pytest
import torch

from vidssl.evaluation.dynamics.trajectories import motion_axes


def test_motion_axes_ignore_where_a_video_is():
    generator = torch.Generator().manual_seed(0)
    z = torch.zeros(20, 30, 5, dtype=torch.float64)
    z[..., 3] = torch.randn(20, 30, generator=generator).double()
    z[..., 1] = 0.5 * torch.randn(20, 30, generator=generator).double()
    z[..., 0] = 100 * torch.randn(20, 1, generator=generator).double()
    axes, shares = motion_axes(z, torch.ones(20, 30, dtype=torch.bool))
    assert axes[3, 0] > 0.99 and axes[1, 1] > 0.99
    assert shares[0] == pytest.approx(0.8, abs=0.05) and sum(shares) == pytest.approx(1)
