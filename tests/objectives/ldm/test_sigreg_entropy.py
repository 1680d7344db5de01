"""SIGReg in the place of an entropy: its value, the scale it holds, and what it lets the encoder find."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.evaluation.dynamics.simulation import simulate
from vidssl.errors import VidsslError
from vidssl.evaluation.dynamics.consistency import affine_r2
from vidssl.models.heads import HeadOutput
from vidssl.objectives.base import BatchInfo
from vidssl.objectives.ldm.frame_entropy import DIRECTIONS, FrameEntropy
from vidssl.objectives.ldm.objective import LDM
from vidssl.objectives.sigreg import draw_directions, gaussianity


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def entropy(z: Tensor, valid: Tensor | None = None) -> Tensor:
    found = FrameEntropy("sigreg", z.shape[2], torch.Generator().manual_seed(3))
    value: Tensor = found(z, valid, torch.arange(len(z)), torch.ones(()))
    return value


def test_its_value_and_frames_that_are_not_real() -> None:
    z, valid = rows(6, 4, 3), rows(6, 4, seed=1) > -0.5
    directions = draw_directions(3, DIRECTIONS, torch.Generator().manual_seed(3), z)
    expected = 1.5 * (1 + math.log(2 * math.pi)) - 30 * gaussianity(z[valid], directions) / valid.sum()
    assert entropy(z, valid).item() == pytest.approx(expected.item(), rel=1e-12)


def test_its_size_does_not_depend_on_how_many_frames_there_are() -> None:
    """And near N(0, I) it is the entropy less 4.8 m (s - 1)², as the docs say; far away it is bounded."""
    top = 1 + math.log(2 * math.pi)
    for n in (1000, 8000):
        z = rows(n, 1, 2)
        assert (top - entropy(0.9 * z)).item() == pytest.approx(4.8 * 2 * 0.01, rel=0.4)
        assert (top - entropy(0 * z)).item() == pytest.approx(10 * 2 * 0.40, rel=0.01)


def test_the_weight_is_free_and_the_noise_is_learned() -> None:
    objective = LDM(2, entropy="sigreg", entropy_weight=0.3, observation_noise="identity")
    assert objective.model.learns_scale
    with pytest.raises(VidsslError, match=r"entropy_weight=0.3: must be exactly 1"):
        LDM(2, entropy="logdet", entropy_weight=0.3)


@pytest.mark.parametrize(("start", "dead"), [(0.5, False), (0.02, True)])
def test_it_finds_what_moves_and_shrinks_what_starts_too_small(start: float, dead: bool) -> None:
    """Two of six mixed signals turn, four are noise."""
    data, generator = simulate(128, 12, seed=5), torch.Generator().manual_seed(0)
    mixing = torch.linalg.qr(torch.randn(6, 6, generator=generator))[0]
    x = (
        torch.cat([data.z.float() / data.z.std(), torch.randn(128, 12, 4, generator=generator)], dim=2)
        @ mixing
    )
    encoder = torch.nn.Linear(6, 2)
    torch.nn.init.orthogonal_(encoder.weight, gain=start, generator=generator)
    torch.nn.init.zeros_(encoder.bias)
    objective, times = LDM(2, entropy="sigreg"), torch.arange(12.0).expand(32, 12)
    groups = [{"params": encoder.parameters(), "lr": 1e-2}, {"params": objective.parameters(), "lr": 0.1}]
    optimiser = torch.optim.Adam(groups)
    for _ in range(60 if dead else 250):
        chosen = torch.randint(128, (32,), generator=generator)
        z = encoder(x[chosen])
        optimiser.zero_grad()
        objective([HeadOutput(z, None, z)], None, BatchInfo(chosen, [times])).loss.backward()
        optimiser.step()
        objective.after_step()
    z = encoder(x).detach()
    if dead:
        assert z.std() < 0.02
        return
    assert z.std().item() == pytest.approx(0.9, abs=0.06)
    video = torch.arange(128).repeat_interleave(12)
    assert affine_r2(z.flatten(0, 1), data.z.flatten(0, 1), video) > 0.9
