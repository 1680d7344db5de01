"""Which detections are alike, and which pairs they make: both by brute force."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vidssl.errors import VidsslError
from vidssl.evaluation.tracking.association import assign, reconstruction_cost


def sets(counts: list[int], seed: int = 0, dim: int = 6) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(dim, count, dtype=torch.float64, generator=generator) for count in counts]


def cost_by_loops(
    tracks: list[Tensor], detections: list[Tensor], temperature: float, floor: float = 0
) -> np.ndarray:
    """The definition, column by column."""

    def columns(features: list[Tensor]) -> list[np.ndarray]:
        longest = max(x.shape[1] for x in features)
        unit = []
        for x in features:
            norms = np.linalg.norm(x.numpy(), axis=0)
            padded = np.zeros((len(x), longest))
            padded[:, : x.shape[1]] = np.divide(x.numpy(), norms, where=norms > 0, out=np.zeros(x.shape))
            unit.append(padded)
        return unit

    def rebuilt(target: np.ndarray, sources: list[np.ndarray], which: int) -> np.ndarray:
        result = np.zeros_like(target)
        for p in range(target.shape[1]):
            weights = [
                [np.exp(temperature * target[:, p] @ s[:, q]) for q in range(s.shape[1])] for s in sources
            ]
            for q in range(sources[which].shape[1]):
                result[:, p] += weights[which][q] / np.sum(weights) * sources[which][:, q]
        return result

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        norm = max(np.linalg.norm(a), floor) * np.linalg.norm(b)
        return float((a * b).sum() / norm) if norm else 0.0

    ts, ds = columns(tracks), columns(detections)
    return np.array(
        [
            [1 - (cosine(rebuilt(t, ds, j), t) + cosine(rebuilt(d, ts, i), d)) / 2 for j, d in enumerate(ds)]
            for i, t in enumerate(ts)
        ]
    )


@pytest.mark.parametrize("temperature", [1.0, 20.0, 100.0])
@pytest.mark.parametrize(
    ("counts", "others"), [([3, 3], [3, 3, 3]), ([1, 5, 2], [4, 3]), ([2], [2]), ([3], [1, 7])]
)
def test_the_cost_is_its_definition(temperature: float, counts: list[int], others: list[int]) -> None:
    tracks, detections = sets(counts), sets(others, seed=1)
    tracks[0][:, 0] = 0  # a column that is zero stays so
    cost = reconstruction_cost(tracks, detections, temperature)
    np.testing.assert_allclose(cost, cost_by_loops(tracks, detections, temperature), atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=4),
    st.lists(st.integers(1, 4), min_size=1, max_size=4),
    st.integers(0, 9),
)
def test_time_has_no_direction(counts: list[int], others: list[int], seed: int) -> None:
    tracks, detections = sets(counts, seed), sets(others, seed + 10)
    cost = reconstruction_cost(tracks, detections)
    torch.testing.assert_close(cost, reconstruction_cost(detections, tracks).T, atol=1e-12, rtol=0)
    assert cost.shape == (len(counts), len(others))
    assert (cost >= 0).all() and (cost <= 2).all()
    order = torch.randperm(len(counts), generator=torch.Generator().manual_seed(seed)).tolist()
    torch.testing.assert_close(reconstruction_cost([tracks[i] for i in order], detections), cost[order])


def test_the_same_objects_cost_nothing_and_others_much() -> None:
    """Columns in another order too; single precision, where plain weights of other objects would vanish."""
    objects = [x.float() for x in sets([12, 12, 12], dim=64)]
    shuffled = [x[:, torch.randperm(12, generator=torch.Generator().manual_seed(1))] for x in objects]
    cost = reconstruction_cost(objects, shuffled)
    assert cost.diagonal().max() < 1e-3
    assert cost[~torch.eye(3, dtype=torch.bool)].min() > 0.7
    torch.testing.assert_close(
        cost.double(),
        reconstruction_cost([x.double() for x in objects], [x.double() for x in shuffled]),
        atol=1e-4,
        rtol=0,
    )


def test_one_column_each_is_the_cosine() -> None:
    tracks, detections = sets([1] * 4), sets([1] * 3, seed=1)
    t, d = (torch.stack(x)[:, :, 0] for x in (tracks, detections))
    expected = 1 - torch.nn.functional.cosine_similarity(t[:, None], d[None], dim=2)
    torch.testing.assert_close(reconstruction_cost(tracks, detections), expected)


def test_nothing_to_compare_is_no_trouble() -> None:
    some = sets([3, 2])
    assert reconstruction_cost([], some).shape == (0, 2)
    assert reconstruction_cost(some, []).shape == (2, 0)
    assert reconstruction_cost([], []).shape == (0, 0)
    empty = torch.zeros(6, 0, dtype=torch.float64)
    np.testing.assert_array_equal(reconstruction_cost([empty], some), [[1, 1]])
    assert reconstruction_cost([empty, *some], some)[0].tolist() == [1, 1]
    np.testing.assert_array_equal(
        reconstruction_cost([torch.zeros(6, 3, dtype=torch.float64)], some), [[1, 1]]
    )


def test_features_that_are_not_finite_are_named() -> None:
    broken = sets([3, 2])
    broken[1][2, 1] = torch.nan
    with pytest.raises(VidsslError, match="detection 1: its features are not finite"):
        reconstruction_cost(sets([2]), broken)
    with pytest.raises(VidsslError, match=r"features of widths \[5, 6\]: must be one"):
        reconstruction_cost(sets([2]), sets([2], dim=5))


def least_total(cost: np.ndarray, limit: float) -> float:
    """Of all matchings, of any number of pairs."""
    n, m = cost.shape
    totals = []
    for k in range(min(n, m) + 1):
        for rows in combinations(range(n), k):
            for columns in permutations(range(m), k):
                totals.append(
                    sum(cost[r, c] for r, c in zip(rows, columns, strict=True)) + limit / 2 * (n + m - 2 * k)
                )
    return float(min(totals))


costs = st.one_of(st.floats(-1, 2), st.just(np.inf), st.sampled_from([0.0, 0.5, 0.7, 1.0]))


@settings(max_examples=80, deadline=None)
@given(st.data(), st.integers(0, 4), st.integers(0, 4), st.sampled_from([0.0, 0.5, 0.7, 1.5]))
def test_the_assignment_is_the_best_of_all_matchings(
    data: st.DataObject, n: int, m: int, limit: float
) -> None:
    cost = np.array(data.draw(st.lists(costs, min_size=n * m, max_size=n * m)), dtype=float).reshape(n, m)
    pairs, rows, columns = assign(cost, limit)
    assert pairs.shape == (len(pairs), 2)
    assert sorted([*pairs[:, 0], *rows]) == list(range(n))
    assert sorted([*pairs[:, 1], *columns]) == list(range(m))
    assert all(cost[r, c] < limit for r, c in pairs)
    total = sum(cost[r, c] for r, c in pairs) + limit / 2 * (len(rows) + len(columns))
    assert total == pytest.approx(least_total(cost, limit), abs=1e-9)


def test_a_pair_that_does_not_pay_is_left_out() -> None:
    # The cheapest pair of row 0 stands in the way of a better total.
    pairs, rows, columns = assign(torch.tensor([[0.1, 0.2], [0.15, 0.9]]), 0.7)
    assert pairs.tolist() == [[0, 1], [1, 0]]
    pairs, rows, columns = assign([[0.1, 0.2], [0.75, 0.9]], 0.7)
    assert (pairs.tolist(), rows.tolist(), columns.tolist()) == ([[0, 0]], [1], [1])
    pairs, rows, columns = assign([[np.inf, np.nan]], 0.7)
    assert (pairs.tolist(), rows.tolist(), columns.tolist()) == ([], [0], [0, 1])


@pytest.mark.parametrize(
    ("cost", "limit"), [([1.0, 2.0], 0.5), ([[-np.inf]], 0.5), ([[1.0]], np.inf), ([[1.0]], np.nan)]
)
def test_what_is_no_cost_is_refused(cost: list[float], limit: float) -> None:
    with pytest.raises(VidsslError, match=r"must be \(n, m\) above -inf, with a finite limit"):
        assign(cost, limit)
