"""Blobs are Gaussians of one pixel, and the swirl is that of scikit-image."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from vidssl.synthetic.blobs import blob_frames, swirl


def test_blob_is_a_gaussian_of_one_pixel_whose_first_coordinate_runs_along_rows() -> None:
    frames = blob_frames(torch.tensor([[0.6, -1.2], [0.0, 0.0]], dtype=torch.float64))
    for i in range(10):
        for j in range(10):
            # (0.6 + 3) · 10 / 6 = 6 and (-1.2 + 3) · 10 / 6 = 3
            assert frames[0, i, j].item() == pytest.approx(math.exp(-((i - 6) ** 2 + (j - 3) ** 2) / 2))
            assert frames[1, i, j].item() == pytest.approx(math.exp(-((i - 5) ** 2 + (j - 5) ** 2) / 2))


def test_blob_stays_inside_the_frame() -> None:
    far, edge = blob_frames(torch.tensor([[9.0, -9.0], [2.4, -3.0]]))
    torch.testing.assert_close(far, edge)
    assert far[9, 0].item() == 1


def skimage_swirl(image: np.ndarray, strength: float, radius: float) -> np.ndarray:
    """The definition in scikit-image's documentation, on top of SciPy's resampling."""
    height, width = image.shape
    row, column = np.mgrid[:height, :width].astype(float)
    x, y = column - width / 2, row - height / 2
    rho = np.sqrt(x**2 + y**2)
    theta = strength * np.exp(-rho / (radius / 5 * np.log(2))) + np.arctan2(y, x)
    source = [height / 2 + rho * np.sin(theta), width / 2 + rho * np.cos(theta)]
    return ndimage.map_coordinates(image, source, order=1, mode="mirror")


@given(st.integers(2, 12), st.integers(2, 12), st.floats(-12, 12), st.floats(1, 300), st.integers(0, 2**31))
def test_swirl_agrees_with_scipy(height: int, width: int, strength: float, radius: float, seed: int) -> None:
    images = np.random.default_rng(seed).standard_normal((2, height, width))
    ours = swirl(torch.from_numpy(images), strength, radius).numpy()
    for image, swirled in zip(images, ours, strict=True):
        np.testing.assert_allclose(swirled, skimage_swirl(image, strength, radius), atol=1e-9)


def test_no_swirl_is_no_change() -> None:
    frames = torch.randn(3, 10, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(swirl(frames, 0, 200), frames)
