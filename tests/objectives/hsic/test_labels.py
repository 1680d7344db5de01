"""Duplicated videos, time-aware and frame-level SSL-HSIC against a dense label kernel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.objectives.hsic import reference
from vidssl.errors import VidsslError
from vidssl.objectives.base import BatchInfo, frame_times
from vidssl.objectives.hsic import SSLHSIC, hsic_exact
from vidssl.objectives.hsic.imq import imq_hsic
from vidssl.objectives.hsic.labels import label_pairs
from vidssl.objectives.hsic.random_features import (
    hsic_xy_of_labels,
    hsic_xy_of_views,
    random_features,
    sample_imq_features,
)


def unit(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(
        torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1
    )


def log_of(objective: SSLHSIC, parts: list[Tensor], batch: BatchInfo | None) -> float:
    return objective.double()(parts, None, batch).logs["hsic/hsic_xy"].item()


def test_distinct_videos_give_plain_hsic() -> None:
    parts = [unit(5, 4, seed=s) for s in range(3)]
    batch = BatchInfo(torch.tensor([40, 2, 31, 7, 11]))
    plain = hsic_exact(parts, 1.0)[0].item()
    assert log_of(SSLHSIC(estimator="exact"), parts, batch) == pytest.approx(plain, rel=1e-14)


def test_a_video_that_occurs_twice_counts_as_one_identity() -> None:
    parts = [unit(5, 4, seed=s) for s in range(2)]
    ids = torch.tensor([3, 8, 3, 5, 3])
    kernel = reference.gram(torch.cat(parts).numpy(), 1.0)
    identity = np.tile(ids.numpy(), 2)
    labels = (identity[:, None] == identity[None, :]).astype(float)
    expected = reference.hsic_xy(kernel, labels)
    assert log_of(SSLHSIC(estimator="exact"), parts, BatchInfo(ids)) == pytest.approx(expected, abs=1e-12)
    # Taken for different videos, they give another number.
    assert log_of(SSLHSIC(estimator="exact"), parts, None) != pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("width", [0.5, 2.0])
def test_time_aware_kernel(width: float) -> None:
    parts = [unit(4, 3, seed=s) for s in range(3)]
    ids = torch.tensor([0, 1, 1, 2])
    times = [
        torch.rand(4, 6, generator=torch.Generator().manual_seed(s), dtype=torch.float64) * 5
        for s in range(3)
    ]
    kernel = reference.gram(torch.cat(parts).numpy(), 1.0)
    seconds = torch.cat([t.mean(1) for t in times]).numpy()
    labels = reference.time_labels(np.tile(ids.numpy(), 3), seconds, width)
    batch = BatchInfo(ids, times)
    got = log_of(SSLHSIC(estimator="exact", time_width=width), parts, batch)
    assert got == pytest.approx(reference.hsic_xy(kernel, labels), abs=1e-12)


def test_time_aware_kernel_tends_to_the_plain_one() -> None:
    parts = [unit(4, 3, seed=s) for s in range(2)]
    times = [
        torch.rand(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(s)) for s in range(2)
    ]
    batch = BatchInfo(torch.arange(4), times)
    plain = hsic_exact(parts, 1.0)[0].item()
    infinite = log_of(SSLHSIC(estimator="exact", time_width=float("inf")), parts, batch)
    assert infinite == plain
    gaps = [
        abs(log_of(SSLHSIC(estimator="exact", time_width=w, time_kernel=kernel), parts, batch) - plain)
        for kernel in ("gaussian", "imq", "laplace")
        for w in (1.0, 1e3, 1e6)
    ]
    assert all(a > 1e-6 and c < 1e-6 for a, _, c in zip(gaps[::3], gaps[1::3], gaps[2::3], strict=True))
    # All weights underflow: no attraction is left, only the mean over all pairs.
    far = BatchInfo(torch.arange(4), [times[0], times[1] + 1e6])
    mean_kernel = reference.gram(torch.cat(parts).numpy(), 1.0).mean()
    got = log_of(SSLHSIC(estimator="exact", time_width=1e-3), parts, far)
    assert got == pytest.approx(-mean_kernel, abs=1e-12)


@pytest.mark.parametrize("width", [None, 1.5])
def test_frame_level_rows(width: float | None) -> None:
    frames = [unit(3, 4, 5, seed=s) for s in range(2)]
    times = [
        torch.rand(3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(s)) * 4
        for s in range(2)
    ]
    ids = torch.tensor([9, 4, 9])
    rows, identity, seconds = [], [], []
    for view, t in zip(frames, times, strict=True):
        for video in range(3):
            for frame in range(4):
                rows.append(view[video, frame].numpy())
                identity.append(int(ids[video]))
                seconds.append(t[video, 2 * frame : 2 * frame + 2].mean().item())
    kernel = reference.gram(np.array(rows), 1.0)
    labels = reference.time_labels(np.array(identity), np.array(seconds), width or 1e12)
    objective = SSLHSIC(frames=True, estimator="exact", time_width=width)
    output = objective.double()(frames, None, BatchInfo(ids, times))
    assert output.logs["hsic/hsic_xy"].item() == pytest.approx(reference.hsic_xy(kernel, labels), abs=1e-10)
    assert output.logs["hsic/hsic_xx"].item() == pytest.approx(reference.hsic_xx(kernel), abs=1e-12)


def test_gradient_of_a_general_label_kernel() -> None:
    times = torch.rand(2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    pairs = label_pairs(torch.tensor([0, 1, 0, 2]), 2, times, 0.5, dtype=torch.float64)
    rows = unit(8, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: imq_hsic(x, 0.9, pairs)[:2], (rows,))
    phi = unit(8, 6, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: hsic_xy_of_labels(x, pairs)[0], (phi,))


def test_random_features_with_labels() -> None:
    """With a Gram matrix of unit diagonal the estimate is HSIC itself, and agrees with the form for views."""
    phi = unit(8, 6)
    gram = (phi @ phi.T).numpy()
    for ids in (torch.arange(4), torch.tensor([0, 1, 0, 2])):
        pairs = label_pairs(ids, 2, dtype=torch.float64)
        identity = np.tile(ids.numpy(), 2)
        labels = (identity[:, None] == identity[None, :]).astype(float)
        assert hsic_xy_of_labels(phi, pairs)[0].item() == pytest.approx(
            reference.hsic_xy(gram, labels), abs=1e-12
        )
    plain = label_pairs(torch.arange(4), 2, dtype=torch.float64)
    assert hsic_xy_of_labels(phi, plain)[0].item() == pytest.approx(
        hsic_xy_of_views(phi, 2).item(), abs=1e-12
    )


def test_random_features_of_duplicates_are_close_to_the_exact_kernel() -> None:
    parts = [unit(12, 4, seed=s) for s in range(2)]
    times = torch.rand(2, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([0, 1, 2, 3, 4, 5, 0, 1, 2, 6, 7, 8])
    pairs = label_pairs(ids, 2, times, 0.7, dtype=torch.float64)
    rows = torch.cat(parts)
    w, b = sample_imq_features(4, 100_000, torch.Generator().manual_seed(1), dtype=torch.float64)
    approximate = hsic_xy_of_labels(random_features(rows, 1.0, w, b), pairs)[0].item()
    assert approximate == pytest.approx(imq_hsic(rows, 1.0, pairs).xy.item(), abs=0.005)


def test_the_module_estimates_duplicates_with_random_features() -> None:
    parts = [unit(6, 4, seed=s) for s in range(2)]
    batch = BatchInfo(torch.tensor([0, 1, 0, 2, 3, 4]))
    exact = log_of(SSLHSIC(estimator="exact"), parts, batch)
    draws = SSLHSIC(estimator="rff", num_features=256)
    values = [log_of(draws, parts, batch) for _ in range(300)]
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    assert abs(np.mean(values) - exact) < 4 * error < 0.01


def test_mistakes_are_named() -> None:
    parts = [unit(3, 2, seed=s) for s in range(2)]
    with pytest.raises(VidsslError, match="gives no times"):
        SSLHSIC(time_width=1.0).double()(parts, None, BatchInfo(torch.arange(3)))
    with pytest.raises(VidsslError, match="do not divide"):
        frame_times(torch.zeros(2, 7), 4)
    with pytest.raises(VidsslError, match="per-frame rows"):
        SSLHSIC(frames=True)([torch.zeros(2, 3)])
    with pytest.raises(VidsslError, match="at least 2 views"):
        label_pairs(torch.arange(3), 1, dtype=torch.float64)
