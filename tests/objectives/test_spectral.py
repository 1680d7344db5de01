"""Spectral contrastive loss against NumPy loops, its bounds, duplicates, processes and the temporal form."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from vidssl.errors import VidsslError
from vidssl.models.heads import HeadOutput
from vidssl.objectives.base import BatchInfo
from vidssl.objectives.spectral import (
    SpectralContrastive,
    TemporalSpectral,
    mean_square_product,
    spectral_contrastive_loss,
)


def rows(b: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(b, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def expected(z1: Tensor, z2: Tensor, mu: float, clip: bool, ids: list[int] | None = None) -> float:
    a, b = z1.detach().numpy().copy(), z2.detach().numpy().copy()
    n = len(a)
    ids = list(range(n)) if ids is None else ids
    if clip:
        for matrix in (a, b):
            for i in range(n):
                norm = np.linalg.norm(matrix[i])
                if norm >= np.sqrt(mu):
                    matrix[i] *= np.sqrt(mu) / norm
    attraction = -2 / n * sum(a[i] @ b[i] for i in range(n))
    negative = [(a[i] @ b[j]) ** 2 for i in range(n) for j in range(n) if i != j and ids[i] != ids[j]]
    return float((attraction + (np.mean(negative) if negative else 0)) / mu)


@settings(max_examples=25, deadline=None)
@given(b=st.integers(2, 7), d=st.integers(1, 6), mu=st.floats(0.2, 20), clip=st.booleans())
def test_loss_equals_its_definition(b: int, d: int, mu: float, clip: bool) -> None:
    z1, z2 = rows(b, d, b), rows(b, d, d + 50)
    loss = spectral_contrastive_loss(z1, z2, mu, clip).item()
    assert loss == pytest.approx(expected(z1, z2, mu, clip), rel=1e-11, abs=1e-11)
    assert spectral_contrastive_loss(z2, z1, mu, clip).item() == pytest.approx(loss, rel=1e-11, abs=1e-11)
    if clip:
        assert loss >= -2


def test_without_clipping_it_is_the_loss_of_evolution_operators() -> None:
    """Off-diagonal mean of <x_i, y_j>² minus twice the mean of <x_i, y_i>, as trained in kooplearn."""
    x, y = rows(6, 3, 1).numpy(), rows(6, 3, 2).numpy()
    products = (x @ y.T) ** 2
    value = products[~np.eye(6, dtype=bool)].mean() - 2 * (x * y).sum(1).mean()
    got = spectral_contrastive_loss(torch.from_numpy(x), torch.from_numpy(y), clip=False).item()
    assert got == pytest.approx(value, abs=1e-12)


def test_minimum_is_minus_two() -> None:
    z = torch.eye(4, dtype=torch.float64) * 9
    assert spectral_contrastive_loss(z, z, mu=3.0).item() == pytest.approx(-2, abs=1e-12)


@pytest.mark.parametrize("clip", [True, False])
def test_gradient(clip: bool) -> None:
    z1, z2 = rows(4, 3).requires_grad_(), rows(4, 3, 1).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: spectral_contrastive_loss(a, b, 2.0, clip), (z1, z2))
    zero = torch.zeros(3, 2, requires_grad=True)
    spectral_contrastive_loss(zero, zero, 1.0, clip).backward()
    assert zero.grad is not None
    assert torch.isfinite(zero.grad).all()


def test_more_views_are_averaged_over_pairs_and_duplicates_do_not_repel() -> None:
    views = [rows(5, 3, seed) for seed in range(3)]
    ids = [4, 1, 4, 2, 4]
    loss = SpectralContrastive(mu=2.0)(views, None, BatchInfo(torch.tensor(ids))).loss.item()
    pairs = [expected(a, b, 2.0, True, ids) for a, b in combinations(views, 2)]
    assert loss == pytest.approx(np.mean(pairs), abs=1e-12)
    assert SpectralContrastive(mu=2.0)(views).loss.item() != pytest.approx(loss, abs=1e-4)
    same = SpectralContrastive()(views, None, BatchInfo(torch.zeros(5, dtype=torch.int64))).loss
    assert torch.isfinite(same)


@settings(max_examples=25, deadline=None)
@given(videos=st.integers(2, 9), steps=st.integers(1, 3), d=st.integers(1, 8), names=st.integers(1, 9))
def test_products_of_the_features_give_what_products_of_the_rows_give(
    videos: int, steps: int, d: int, names: int
) -> None:
    """Few rows are compared one by one and many through X'X and Y'Y: the same, with gradients, to rounding."""
    x, y = (rows(videos * steps, d, seed).requires_grad_() for seed in (videos, d + 50))
    ids = torch.arange(videos) * 7 % names
    mean = mean_square_product(x, y, ids)
    squares = (x @ y.T).square()
    apart = (ids[:, None] != ids[None, :]).repeat_interleave(steps, 0).repeat_interleave(steps, 1)
    direct = (squares * apart).sum() / apart.sum().clamp_min(1)
    torch.testing.assert_close(mean, direct, rtol=1e-12, atol=1e-12)
    for found, wanted in zip(
        torch.autograd.grad(mean, (x, y)), torch.autograd.grad(direct, (x, y)), strict=True
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-12)
    if names == 1:
        assert mean == 0


class Largest(TorchDispatchMode):
    """Notes how many numbers the largest tensor made in its block has."""

    numbers = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        if isinstance(out, Tensor):
            self.numbers = max(self.numbers, out.numel())
        return out


@pytest.mark.parametrize("temporal", [False, True])
def test_many_rows_need_no_matrix_of_rows_by_rows(temporal: bool) -> None:
    frames = torch.randn(100, 10, 4).requires_grad_()
    with Largest() as largest:
        if temporal:
            loss = TemporalSpectral(4)([HeadOutput(frames[:, 0], None, frames)]).loss
        else:
            loss = spectral_contrastive_loss(*(frames.flatten(0, 1) for _ in "ab"))
        loss.backward()
    assert largest.numbers <= 100**2  # of videos by videos: who is who


def test_negatives_of_the_own_process() -> None:
    views = [rows(7, 3, seed) for seed in range(2)]
    batch = BatchInfo(torch.arange(7), rows_per_process=(3, 3, 1))
    loss = SpectralContrastive(mu=2.0, negatives="process")(views, None, batch).loss.item()
    blocks = [expected(views[0][s], views[1][s], 2.0, True) for s in (slice(0, 3), slice(3, 6))]
    assert loss == pytest.approx(np.mean(blocks), abs=1e-12)
    alone = SpectralContrastive(negatives="process")
    assert alone(views).loss.item() == SpectralContrastive()(views).loss.item()
    with pytest.raises(VidsslError, match="at least 2 videos on some process"):
        alone([v[:2] for v in views], None, BatchInfo(torch.arange(2), rows_per_process=(1, 1)))


@pytest.mark.parametrize("same_video", [True, False])
def test_temporal_form(same_video: bool) -> None:
    frames = torch.stack([rows(5, 3, seed) for seed in range(4)])  # (B=4, T=5, d=3)
    objective = TemporalSpectral(3, lag=2, same_video_negatives=same_video).double()
    operator = rows(3, 3, 77)
    objective.evolution.weight.data.copy_(operator)
    ids = torch.tensor([0, 1, 0, 2])
    loss = objective([HeadOutput(rows(4, 3), None, frames)], None, BatchInfo(ids)).loss.item()
    x = torch.stack([frames[b, t] for b in range(4) for t in range(3)])
    y = torch.stack([operator @ frames[b, t + 2] for b in range(4) for t in range(3)])
    video = None if same_video else [int(ids[b]) for b in range(4) for _ in range(3)]
    assert loss == pytest.approx(expected(x, y, 1.0, False, video), rel=1e-12)


def test_the_operator_learns_linear_dynamics() -> None:
    """Frames that rotate by a fixed angle: after training, the operator undoes the rotation up to scale."""
    angle = torch.tensor(0.9, dtype=torch.float64)
    rotation = torch.stack(
        [torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])]
    )
    start = torch.nn.functional.normalize(rows(64, 2, 3), dim=1)
    frames = torch.stack([start @ torch.linalg.matrix_power(rotation, t).T for t in range(4)], dim=1)
    objective = TemporalSpectral(2, lag=1).double()
    optimiser = torch.optim.Adam(objective.parameters(), lr=0.05)
    for _ in range(200):
        optimiser.zero_grad()
        objective([frames]).loss.backward()
        optimiser.step()
    direction = objective.evolution.weight.detach() / torch.linalg.matrix_norm(
        objective.evolution.weight.detach(), 2
    )
    torch.testing.assert_close(direction, rotation.T, rtol=0, atol=0.1)


def test_autocast_gives_float32() -> None:
    views = [rows(4, 3, seed).to(torch.bfloat16) for seed in range(2)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = SpectralContrastive()(views).loss
        temporal = TemporalSpectral(3)([torch.randn(4, 3, 3, dtype=torch.bfloat16)]).loss
    assert loss.dtype == temporal.dtype == torch.float32
    assert loss.item() == SpectralContrastive()([v.float() for v in views]).loss.item()


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="at least 2 videos"):
        spectral_contrastive_loss(rows(1, 3), rows(1, 3))
    with pytest.raises(ValueError, match="one shape"):
        spectral_contrastive_loss(rows(3, 3), rows(2, 3))
    with pytest.raises(VidsslError, match="mu=0"):
        spectral_contrastive_loss(rows(3, 3), rows(3, 3), mu=0)
    with pytest.raises(VidsslError, match="needs more than 2 frames"):
        TemporalSpectral(3, lag=2)([torch.zeros(2, 2, 3)])
    with pytest.raises(VidsslError, match="at least 2 views"):
        SpectralContrastive()([rows(3, 3)])
