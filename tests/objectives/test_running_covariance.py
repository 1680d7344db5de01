"""The entropy of few rows by a covariance of many batches: its value, its gradient, its state."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vidssl.errors import VidsslError
from vidssl.objectives.entropy import gaussian_entropy
from vidssl.objectives.running_covariance import RunningCovariance


def normal(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def copies(clips: int, frames: int, d: int, seed: int) -> Tensor:
    """Frames of few clips, of N(0, I)."""
    common, own = (
        normal(clips, d, seed)[:, None],
        normal(clips * frames, d, seed + 1000).unflatten(0, (clips, frames)),
    )
    return (math.sqrt(0.91) * common + 0.3 * own).flatten(0, 1)


def gradient(entropy: Tensor, z: Tensor) -> Tensor:
    return torch.autograd.grad(entropy, z)[0]


def test_of_one_batch_it_is_the_gaussian_entropy() -> None:
    z = (3 * normal(50, 4) + 1).requires_grad_()
    running, plain = RunningCovariance(4, 0.9).double()(z), gaussian_entropy(z, eps=1e-6, relative=True)
    assert running.item() == pytest.approx(plain.item(), abs=1e-9)
    torch.testing.assert_close(gradient(running, z), gradient(plain, z), rtol=1e-4, atol=1e-9)


def test_few_clips_have_the_entropy_of_many() -> None:
    """N(0, I_16) from batches of 8 clips of near-copies: one batch says 9 nats too little, 200 of them 0.5."""
    truth = 8 * (1 + math.log(2 * math.pi))
    running = RunningCovariance(16, 0.99).double()
    batches = [copies(8, 16, 16, seed) for seed in range(200)]
    found = [running(z).item() for z in batches]
    assert gaussian_entropy(batches[-1], relative=True).item() < truth - 7
    assert found[-1] == pytest.approx(truth, abs=0.6)


def test_the_gradient_is_that_of_the_population() -> None:
    """For N(0, I) it is z / N; that of a batch of near-copies is mostly the inverse of its noise."""
    running = RunningCovariance(16, 0.99).double()
    for seed in range(200):
        running(copies(8, 16, 16, seed))
    z = copies(8, 16, 16, 777).requires_grad_()
    truth = z.detach() / len(z)
    wrong = [
        ((gradient(entropy, z) - truth).norm() / truth.norm()).item()
        for entropy in (running(z), gaussian_entropy(z, relative=True))
    ]
    assert wrong[0] < 0.4
    assert wrong[1] > 1.5


def test_units_move_it_in_every_batch() -> None:
    """Σ_i z_i · ∂H/∂z_i = D about the mean: z → c z has D log c more, also when the average lags."""
    running = RunningCovariance(3, 0.9).double()
    running(normal(20, 3))
    z = (5 * normal(20, 3, 1)).requires_grad_()
    grad = gradient(running(z), z)
    assert (grad * (z - running.mean)).sum().item() == pytest.approx(3)


def test_averages_are_those_of_all_rows_at_first_and_forget_later() -> None:
    running, batches = RunningCovariance(2, 0.999999).double(), [normal(30, 2, s) + s for s in range(4)]
    for z in batches:
        running(z)
    rows = torch.cat(batches)
    torch.testing.assert_close(running.mean, rows.mean(0), rtol=1e-4, atol=1e-4)
    expected = sum(z.T.cov() for z in batches) / 4 + torch.stack([z.mean(0) for z in batches]).T.cov(
        correction=0
    )
    torch.testing.assert_close(running.cov, expected, rtol=1e-4, atol=1e-4)
    forgetful = RunningCovariance(2, 0.5).double()
    for z in [*[100 * batches[0]] * 3, *[batches[1]] * 40]:
        forgetful(z)
    torch.testing.assert_close(forgetful.cov, batches[1].T.cov(), rtol=1e-6, atol=1e-6)


def test_masks_state_and_evaluation() -> None:
    z, kept = normal(40, 3), torch.arange(40) % 3 != 0
    rubbish = torch.where(kept[:, None], z, torch.nan).requires_grad_()
    first, second = RunningCovariance(3, 0.9).double(), RunningCovariance(3, 0.9).double()
    entropy = first(rubbish, kept)
    assert entropy.item() == pytest.approx(second(z[kept]).item(), abs=1e-12)
    assert (gradient(entropy, rubbish)[~kept] == 0).all()
    second.load_state_dict(first.state_dict())
    second.eval()
    before = second.cov.clone()
    assert second(z) == first(z)
    assert torch.equal(second.cov, before)
    assert not torch.equal(first.cov, before)
    assert torch.isnan(RunningCovariance(3, 0.9)(torch.full((8, 3), torch.nan)))
    with pytest.raises(VidsslError, match=r"memory=1\.0"):
        RunningCovariance(3, 1.0)
