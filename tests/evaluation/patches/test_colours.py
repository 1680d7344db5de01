"""Principal components as colours, against scikit-learn, and what has no variance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor
from torch.nn.functional import normalize

from vidssl.errors import VidsslError
from vidssl.evaluation.patches.colours import TAILS, principal_colours


def features(dim: int = 7) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(dim, dim, generator=generator) * torch.arange(1, dim + 1)
    return torch.einsum("tdhw,ed->tehw", torch.randn(4, dim, 5, 6, generator=generator), mixing)


def test_colours_are_the_first_three_components_of_all_frames_together() -> None:
    given = features()
    pictures, shares = principal_colours(given)
    rows = normalize(given.double(), dim=1).permute(0, 2, 3, 1).reshape(-1, 7).numpy()
    model = PCA(3, svd_solver="full").fit(rows)
    axes = model.components_
    axes = axes * np.sign(axes[range(3), np.abs(axes).argmax(1)])[:, None]  # the largest weight is positive
    values = (rows - rows.mean(0)) @ axes.T
    low, high = np.quantile(values, TAILS, axis=0)
    expected = np.clip((values - low) / (high - low), 0, 1).reshape(4, 5, 6, 3).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(pictures, expected, atol=1e-5)
    np.testing.assert_allclose(shares, model.explained_variance_ratio_, atol=1e-6)
    assert pictures.amin() == 0
    assert pictures.amax() == 1


def test_what_is_the_same_has_the_same_colour_in_every_frame() -> None:
    given = features()
    given[3] = 5 * given[0].flip(1, 2)  # the same patches elsewhere, and longer
    pictures, _ = principal_colours(given)
    torch.testing.assert_close(pictures[3], pictures[0].flip(1, 2))
    again, _ = principal_colours(given.clone())
    assert torch.equal(again, pictures)


def test_components_without_variance_are_grey() -> None:
    pictures, shares = principal_colours(torch.ones(2, 5, 3, 3))
    assert (pictures == 0.5).all()
    assert (shares == 0).all()
    pictures, shares = principal_colours(torch.zeros(1, 5, 1, 1))
    assert (pictures == 0.5).all()
    two = torch.randn(2, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    pictures, shares = principal_colours(two)
    assert pictures.shape == (2, 3, 4, 4)
    assert (pictures[:, 2] == 0.5).all()
    assert shares.sum() == pytest.approx(1)
    assert shares[2] == 0


def test_features_that_are_not_finite_are_an_error() -> None:
    given = features()
    given[1, 2, 3, 4] = float("inf")
    with pytest.raises(VidsslError, match="not finite"):
        principal_colours(given)
