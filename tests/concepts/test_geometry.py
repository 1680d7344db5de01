from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vidssl.concepts.geometry import Whitener, merge_groups, near_duplicates
from vidssl.errors import VidsslError


def rows(*angles: float) -> Tensor:
    """Unit rows in the plane, at angles in degrees."""
    radians = torch.tensor(angles, dtype=torch.float64).deg2rad()
    return torch.stack([radians.cos(), radians.sin()], dim=1)


def test_near_duplicates_are_pairs_above_the_threshold():
    found = near_duplicates(rows(0, 3, 90, 91), ["a", "b", "c", "d"], "category", math.cos(math.radians(4)))
    assert [(pair.first, pair.second) for pair in found] == [("c", "d"), ("a", "b")]
    assert found[1].cosine == pytest.approx(math.cos(math.radians(3)), abs=1e-6)
    assert near_duplicates(rows(0, 3), ["a", "b"], "category", 0.9999) == []


def test_only_pairs_close_in_both_spaces_are_merged():
    near = math.cos(math.radians(5))
    assert merge_groups(rows(0, 1, 90), rows(0, 1, 90), near) == [[0, 1], [2]]
    assert merge_groups(rows(0, 1, 90), rows(0, 60, 90), near) == [
        [0],
        [1],
        [2],
    ]  # names alike, sentences not
    # No chains: 0-4-8 are neighbours, but 0 and 8 are not; the closest pair is joined first.
    assert merge_groups(rows(0, 4, 7), rows(0, 4, 7), near) == [[0], [1, 2]]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(0, 90), min_size=1, max_size=12), st.floats(0.5, 0.9999))
def test_groups_cover_everything_once_and_hold_close_pairs_only(angles, threshold):
    points = rows(*angles)
    groups = merge_groups(points, points, threshold)
    assert sorted(index for group in groups for index in group) == list(range(len(angles)))
    cosines = points @ points.T
    for group in groups:
        assert all(cosines[i, j] > threshold for i in group for j in group if i < j)


def test_centring_removes_the_common_direction():
    generator = torch.Generator().manual_seed(0)
    cone = torch.nn.functional.normalize(torch.randn(40, 8, generator=generator) + 4.0, dim=1)
    centred = Whitener(cone, "center")(cone)
    expected = cone.double() - cone.double().mean(dim=0)
    torch.testing.assert_close(centred, expected / expected.norm(dim=1, keepdim=True))
    common = cone.double().mean(dim=0)
    assert (cone.double() @ common).min() > 0.5 and (centred @ common).mean().abs() < 0.1


@pytest.mark.parametrize("count", [40, 5])  # more and fewer rows than dimensions
def test_zca_makes_the_covariance_the_identity_on_the_span(count):
    generator = torch.Generator().manual_seed(1)
    scales = torch.linspace(0.2, 2.0, 8, dtype=torch.float64)
    points = torch.randn(count, 8, generator=generator, dtype=torch.float64) * scales + 3.0
    whitener = Whitener(points, "zca")
    assert whitener.shift is not None and whitener.matrix is not None
    moved = (points - whitener.shift) @ whitener.matrix
    covariance = moved.T @ moved / count
    rank = min(count - 1, 8)
    values = torch.linalg.eigvalsh(covariance)
    torch.testing.assert_close(values[-rank:], torch.ones(rank, dtype=torch.float64))
    torch.testing.assert_close(values[:-rank], torch.zeros(8 - rank, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(whitener.matrix, whitener.matrix.T)  # ZCA, not just any whitening
    torch.testing.assert_close(whitener(points).norm(dim=1), torch.ones(count, dtype=torch.float64))
    if count == 5:  # centred and whitened, K < D points are the corners of a regular simplex
        cosines = whitener(points) @ whitener(points).T
        torch.testing.assert_close(
            cosines[~torch.eye(5, dtype=torch.bool)], torch.full((20,), -0.25).double()
        )


def test_rows_that_are_all_the_same_cannot_be_whitened():
    with pytest.raises(VidsslError, match="no direction left"):
        Whitener(torch.ones(1, 4), "center")
