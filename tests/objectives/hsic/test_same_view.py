"""Rows of one view: the shortcut they offer, and that pairs left out are neither positives nor negatives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.objectives.hsic import reference
from vidssl.errors import VidsslError
from vidssl.models.heads import HeadOutput
from vidssl.objectives.base import BatchInfo
from vidssl.objectives.hsic import SSLHSIC
from vidssl.objectives.hsic.imq import imq_hsic
from vidssl.objectives.hsic.labels import LabelPairs, label_pairs
from vidssl.objectives.hsic.random_features import hsic_xy_of_labels, random_features, sample_imq_features


def unit(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(
        torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1
    )


def run(
    rows: list[Tensor], targets: list[Tensor], batch: BatchInfo | None, **options: object
) -> dict[str, float]:
    objective = SSLHSIC(**options).double()  # type: ignore[arg-type]
    predicted = [HeadOutput(torch.zeros_like(row), row, None) for row in rows]
    output = objective(predicted, [HeadOutput(row, None, None) for row in targets], batch)
    return {key.removeprefix("hsic/"): value.item() for key, value in output.logs.items()}


def weights(pairs: LabelPairs) -> np.ndarray:
    """(n, n) the weight of every K_ij in HSIC(Z, Y)."""
    n = len(pairs.marginal)
    dense = torch.zeros(n, n, dtype=torch.float64)
    dense[pairs.first, pairs.second] = pairs.weight
    dense -= (pairs.marginal[:, None] + pairs.marginal) / n
    return (dense + pairs.share / n**2).numpy()


def hsic_with_unknown_labels(kernel: np.ndarray, labels: np.ndarray, unknown: np.ndarray) -> float:
    """tr(K H L H) / sum(L), where labels that are not known are such that (H L H)_ij = 0, for rows with equal row sums:
    the mean label. The mean over positives is that of pairs of different rows, as in `reference.hsic_xy`."""
    n, known = len(kernel), labels * ~unknown
    filled = np.where(unknown, known.sum() / (~unknown).sum(), labels)
    h = np.eye(n) - np.ones((n, n)) / n
    assert np.abs((h @ filled @ h)[unknown]).max() < 1e-12
    others = known * (1 - np.eye(n))
    total = np.trace(kernel @ h @ filled @ h) / known.sum()
    return float(total - (known * kernel).sum() / known.sum() + (others * kernel).sum() / others.sum())


def test_a_code_of_the_view_is_rewarded_as_published_and_not_without_its_pairs() -> None:
    """Prediction and target of a view agree, and nothing else does: no invariance at all."""
    codes = [unit(64, 32, seed=s) for s in range(2)]
    published = run(codes, codes, None)
    assert published["hsic_xy"] > 0.1
    assert published["hsic_xy_within"] > 0.35
    assert abs(published["hsic_xy_across"]) < 0.02
    assert abs(run(codes, codes, None, same_view_pairs=False)["hsic_xy"]) < 0.02
    # With rows that are invariant as well there is nothing to choose.
    same = run([codes[0]] * 2, [codes[0]] * 2, None)
    assert same["hsic_xy_within"] == pytest.approx(same["hsic_xy_across"], abs=1e-12)


@pytest.mark.parametrize("estimator", ["exact", "rff"])
def test_parts_of_hsic_add_up(estimator: str) -> None:
    parts = [unit(6, 4, seed=s) for s in range(4)]
    log = run(parts[:2], parts[2:], None, estimator=estimator, num_features=64)
    # 2 of the 6 pairs of rows of a video show one view.
    assert log["hsic_xy"] == pytest.approx(
        log["hsic_xy_within"] / 3 + log["hsic_xy_across"] * 2 / 3, abs=1e-12
    )
    apart = run(parts[:2], parts[2:], None, estimator=estimator, num_features=64, same_view_pairs=False)
    assert apart["hsic_xy_across"] == apart["hsic_xy"]
    assert "hsic_xy_within" not in apart


def test_pairs_left_out_by_counting() -> None:
    parts = [unit(5, 4, seed=s) for s in range(4)]
    kernel = reference.gram(torch.cat(parts).numpy(), 1.0)
    identity, view = np.tile(np.arange(5), 4), np.repeat([0, 1, 0, 1], 5)
    unknown = (identity[:, None] == identity) & (view[:, None] == view) & ~np.eye(20, dtype=bool)
    positive = (identity[:, None] == identity) & (view[:, None] != view)
    expected = kernel[positive].mean() - kernel[~unknown].mean()
    got = run(parts[:2], parts[2:], None, same_view_pairs=False)["hsic_xy"]
    assert got == pytest.approx(expected, abs=1e-12)
    labels = (identity[:, None] == identity).astype(float)
    assert got == pytest.approx(hsic_with_unknown_labels(kernel, labels, unknown), abs=1e-12)


def test_the_teacher_says_which_views_it_saw() -> None:
    """One target, of the second view: it is a positive of the first prediction alone."""
    first, second, target = (unit(5, 4, seed=s) for s in range(3))
    kernel = reference.gram(torch.cat([first, second, target]).numpy(), 1.0)
    batch = BatchInfo(torch.arange(5), teacher_views=(1,))
    identity, view = np.tile(np.arange(5), 3), np.repeat([0, 1, 1], 5)
    unknown = (identity[:, None] == identity) & (view[:, None] == view) & ~np.eye(15, dtype=bool)
    labels = (identity[:, None] == identity) * ~unknown * 1.0
    marginal = labels.sum(1) / labels.sum()
    negative = ((marginal[:, None] + marginal) / 15 - 1 / 15**2) * ~unknown
    others = labels - np.eye(15)
    expected = (others * kernel).sum() / others.sum() - (negative * kernel).sum() / negative.sum()
    got = run([first, second], [target], batch, same_view_pairs=False)["hsic_xy"]
    assert got == pytest.approx(expected, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(
    ids=st.lists(st.integers(0, 4), min_size=1, max_size=6),
    views=st.lists(st.integers(0, 2), min_size=3, max_size=6).filter(lambda v: len(set(v)) > 1),
    width=st.sampled_from([None, 0.5, 5.0]),
)
def test_pairs_left_out_weigh_nothing(ids: list[int], views: list[int], width: float | None) -> None:
    """Zero on the pairs left out, zero in all, symmetric, and every other pair as attractive as the kernel says."""
    times = torch.rand(len(views), len(ids), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    pairs = label_pairs(
        torch.tensor(ids), len(views), times, width, views=views, same_view_pairs=False, dtype=torch.float64
    )
    dense = weights(pairs)
    row, view = np.tile(np.arange(len(ids)), len(views)), np.repeat(views, len(ids))
    unknown = (row[:, None] == row) & (view[:, None] == view) & ~np.eye(len(row), dtype=bool)
    assert np.abs(dense[unknown]).max(initial=0) < 1e-14
    assert abs(dense.sum()) < 1e-12
    np.testing.assert_allclose(dense, dense.T, atol=1e-15)
    assert pairs.weight[: pairs.positives].sum().item() == pytest.approx(1)


@pytest.mark.parametrize("frames", [False, True])
def test_gradients_of_both_estimators(frames: bool) -> None:
    views = [0, 0, 1] if frames else [0, 1, 0]
    times = torch.rand(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([0, 1, 0, 2])
    pairs = label_pairs(ids, 3, times, 0.5, views=views, same_view_pairs=False, dtype=torch.float64)
    rows = unit(12, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: imq_hsic(x, 0.9, pairs)[:2], (rows,))
    phi = unit(12, 6, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: hsic_xy_of_labels(x, pairs)[0], (phi,))
    w, b = sample_imq_features(3, 100_000, torch.Generator().manual_seed(1), dtype=torch.float64)
    exact, approximate = (
        imq_hsic(rows, 0.9, pairs),
        hsic_xy_of_labels(random_features(rows, 0.9, w, b), pairs),
    )
    for one, other in zip(approximate, (exact.xy, exact.attraction, exact.within), strict=True):
        assert one.item() == pytest.approx(other.item(), abs=0.01)


def test_frames_of_a_view_can_be_left_out() -> None:
    frames = [unit(3, 2, 5, seed=s) for s in range(2)]
    rows = torch.cat([frame for view in frames for frame in view.unbind(1)])
    kernel = reference.gram(rows.numpy(), 1.0)
    identity, view = np.tile(np.arange(3), 4), np.repeat([0, 0, 1, 1], 3)
    same = identity[:, None] == identity
    unknown = same & (view[:, None] == view) & ~np.eye(12, dtype=bool)
    objective = SSLHSIC(frames=True, target=False, same_view_pairs=False).double()
    got = objective(frames).logs["hsic/hsic_xy"].item()
    assert got == pytest.approx(
        kernel[same & (view[:, None] != view)].mean() - kernel[~unknown].mean(), abs=1e-12
    )
    with_them = SSLHSIC(frames=True, target=False).double()(frames).logs
    assert with_them["hsic/hsic_xy_within"] != with_them["hsic/hsic_xy_across"]


def test_without_rows_of_one_view_nothing_changes() -> None:
    parts = [unit(5, 4, seed=s) for s in range(2)]
    outputs = [SSLHSIC(target=False, same_view_pairs=keep).double()(parts) for keep in (True, False)]
    assert outputs[0].logs.keys() == outputs[1].logs.keys()
    assert all(torch.equal(outputs[0].logs[key], outputs[1].logs[key]) for key in outputs[0].logs)


def test_one_view_leaves_no_pair() -> None:
    with pytest.raises(VidsslError, match="at least 2 views"):
        run([unit(5, 4)], [unit(5, 4, seed=1)], None, same_view_pairs=False)
