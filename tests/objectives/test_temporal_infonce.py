"""Temporal InfoNCE against NumPy loops, against NT-Xent where both are the same, and what it finds in mixed signals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vidssl.errors import VidsslError
from vidssl.models.heads import HeadOutput
from vidssl.objectives.base import BatchInfo
from vidssl.objectives.temporal_infonce import TemporalInfoNCE

KERNELS: dict[str, Any] = {
    "gaussian": lambda u: math.exp(-0.5 * u * u),
    "laplace": lambda u: math.exp(-u),
    "imq": lambda u: 1 / math.sqrt(1 + u * u),
}


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def output(frames: Tensor) -> HeadOutput:
    return HeadOutput(frames, None, frames)


def expected(
    frames: list[Tensor], batch: BatchInfo, tau: float, width: float, offset: float, kernel: str, same: bool
) -> float:
    """Loops over frames; video frames come in twos to a feature frame."""
    z, video, time = [], [], []
    for view, seconds in zip(frames, batch.times, strict=True):
        for i, t in np.ndindex(*view.shape[:2]):
            z.append(view[i, t].detach().numpy() / np.linalg.norm(view[i, t].detach().numpy()))
            video.append(int(batch.video_id[i]))
            time.append(seconds[i, 2 * t : 2 * t + 2].mean().item())
    n, total, weights = len(z), 0.0, 0.0
    for i in range(n):
        logits = [z[i] @ z[j] / tau for j in range(n)]
        positive = [j for j in range(n) if j != i and video[j] == video[i]]
        weight = [KERNELS[kernel](abs(abs(time[i] - time[j]) - offset) / width) for j in positive]
        for j, w in zip(positive, weight, strict=True):
            against = [k for k in range(n) if k != i and (same or video[k] != video[i] or k == j)]
            value = math.log(sum(math.exp(logits[k]) for k in against)) - logits[j]
            total += w * value
            weights += w
    return total / weights


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize(("kernel", "offset"), [("gaussian", 0.0), ("laplace", 0.7), ("imq", 0.3)])
def test_loss_equals_its_definition(same: bool, kernel: str, offset: float) -> None:
    frames = [rows(4, 3, 2, seed=s).requires_grad_() for s in range(2)]
    times = [rows(4, 6, seed=s + 9).cumsum(1).abs() for s in range(2)]
    batch = BatchInfo(torch.tensor([5, 1, 5, 2]), times)
    objective = TemporalInfoNCE(0.3, 0.8, offset, kernel, same)
    loss = objective([output(f) for f in frames], None, batch).loss
    assert loss.item() == pytest.approx(expected(frames, batch, 0.3, 0.8, offset, kernel, same), rel=1e-10)
    assert torch.autograd.gradcheck(
        lambda *x: objective([output(f) for f in x], None, batch).loss, tuple(frames)
    )


@pytest.mark.parametrize("same", [True, False])
def test_two_views_of_one_frame_are_nt_xent(same: bool) -> None:
    losses = pytest.importorskip("lightly.loss", reason="lightly is an optional extra")
    frames = [rows(6, 1, 4, seed=s) for s in range(2)]
    batch = BatchInfo(torch.arange(6), [torch.zeros(6, 1)] * 2)
    logs = TemporalInfoNCE(0.2, same_video_negatives=same)([output(f) for f in frames], None, batch).logs
    theirs = losses.NTXentLoss(0.2)(*(f[:, 0] for f in frames))
    torch.testing.assert_close(logs["temporal_infonce/loss"], theirs)
    assert logs["temporal_infonce/positives"].item() == pytest.approx(1)


def test_the_kernel_chooses_the_positives() -> None:
    """Frames a second apart: narrow kernels take the neighbours or those at the offset, wide ones all seven others."""
    batch = BatchInfo(torch.arange(3), [torch.arange(8.0).expand(3, 8)])
    frames = output(rows(3, 8, 2).float())

    def positives(**options: float) -> float:
        logs = TemporalInfoNCE(**options)([frames], None, batch).logs  # type: ignore[arg-type]
        return logs["temporal_infonce/positives"].item()

    assert positives(time_width=0.1, time_offset=1.0) == pytest.approx(
        14 / 8, abs=1e-3
    )  # two neighbours inside, one at each end
    assert positives(time_width=0.1, time_offset=7.0) == pytest.approx(2 / 8, abs=1e-3)
    assert positives(time_width=1e4) == pytest.approx(7, abs=1e-3)
    assert positives(time_width=0.1, time_offset=30.0) == 0
    assert positives(time_width=0.01) == 0  # the nearest frame is a hundred widths away


@pytest.mark.parametrize("shuffled", [False, True])
def test_it_finds_what_changes_slowly_and_needs_the_times_for_it(shuffled: bool) -> None:
    """Two of eight mixed signals turn once in a video, six are noise of the same variance: a linear encoder keeps the turn.

    Shuffled in a video, the frames next to a frame are no more like it than others: the turn has mean zero."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.linalg.qr(torch.randn(8, 8, generator=generator))[0]
    encoder = torch.nn.Linear(8, 2, bias=False)
    torch.nn.init.orthogonal_(encoder.weight, generator=generator)
    optimiser = torch.optim.Adam(encoder.parameters(), lr=0.02)
    objective, times = TemporalInfoNCE(0.2, time_width=1.0), torch.arange(12.0).expand(24, 12)
    for _ in range(150):
        phase = 2 * math.pi * (times / 12 + torch.rand(24, 1, generator=generator))
        turn = 1.4 * torch.stack([phase.cos(), phase.sin()], dim=2)
        signals = torch.cat([turn, torch.randn(24, 12, 6, generator=generator)], dim=2)
        if shuffled:
            order = torch.rand(24, 12, generator=generator).argsort(dim=1)
            signals = signals.take_along_dim(order[..., None], dim=1)
        loss = objective([output(encoder(signals @ mixing))], None, BatchInfo(torch.arange(24), [times])).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    kept = torch.linalg.qr((encoder.weight @ mixing.T).detach().T)[0]  # (8, 2) in the unmixed signals
    overlap = kept[:2].square().sum().item() / 2
    assert overlap < 0.3 if shuffled else overlap > 0.95


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature=0.0: must be positive"),
        ({"time_width": 0.0}, "time_width=0.0: must be positive"),
        ({"time_offset": -1.0}, "time_offset=-1.0: must be at least 0"),
        ({"time_kernel": "gausian"}, "did you mean 'gaussian'"),
    ],
)
def test_refused_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(VidsslError, match=message):
        TemporalInfoNCE(**options)


def test_it_needs_times_and_frames() -> None:
    with pytest.raises(VidsslError, match="the batch gives no times"):
        TemporalInfoNCE()([output(rows(3, 2, 2))])
    with pytest.raises(VidsslError, match="per-frame rows"):
        TemporalInfoNCE()([rows(3, 2)], None, BatchInfo(torch.arange(3), [torch.zeros(3, 1)]))
