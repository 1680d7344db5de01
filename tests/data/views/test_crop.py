from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as tvf

from tests.data.views.rendering import noise
from vidssl.data.views.crop import _crop_all, _crop_each, crop_resize, resize_short_side


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(2, 24),
    st.booleans(),
    st.integers(0, 2**31),
    st.data(),
)
@settings(max_examples=25, deadline=None)
def test_crop_resize_flip_equals_torchvision(
    height: int, width: int, size: int, flip: bool, seed: int, data: st.DataObject
) -> None:
    top, left = data.draw(st.integers(0, 9)), data.draw(st.integers(0, 9))
    frames = noise(1, 2, top + height + 3, left + width + 4, 3, seed=seed)
    numbers = (torch.tensor([[1, 0]]), torch.tensor([[top, left, height, width]]), torch.tensor([flip]))
    ours = crop_resize(frames, torch.zeros(1, dtype=torch.long), *numbers, torch.empty(1, 3, 2, size, size))
    part = tvf.crop(frames[0, [1, 0]].permute(0, 3, 1, 2), top, left, height, width)
    theirs = tvf.resize(part, [size, size], antialias=True)
    theirs = tvf.horizontal_flip(theirs) if flip else theirs
    assert torch.equal(ours[0].transpose(0, 1), theirs.float())


@given(st.integers(1, 40), st.integers(1, 40), st.integers(2, 24), st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_the_batched_filter_is_the_triangle_written_out(
    height: int, width: int, size: int, seed: int
) -> None:
    frames = noise(2, 2, height + 5, width + 6, 3, seed=seed)
    rows, index, flip = (
        torch.tensor([1, 0, 1]),
        torch.tensor([[1, 0], [0, 0], [1, 1]]),
        torch.tensor([True, False, False]),
    )
    box = torch.tensor([[2, 3, height, width], [0, 0, 1, 2], [5, 6, height, width]])
    ours = _crop_all(frames, rows, index, box, flip, torch.empty(3, 3, 2, size, size))
    for clip, row, frame, (top, left, *sides), mirror in zip(
        ours, rows, index, box.tolist(), flip, strict=True
    ):
        part = frames[row, frame, top : top + sides[0], left : left + sides[1]].double().numpy()
        by_line, by_column = (triangle(side, size) for side in sides)
        exact = np.einsum("yh,thwc,xw->ctyx", by_line, part, by_column)
        exact = exact[..., ::-1] if mirror else exact
        assert np.abs(clip.numpy() - exact).max() < 0.5 + 1e-3
    each = _crop_each(frames, rows, index, box, flip, torch.empty_like(ours))
    assert (ours - each).abs().max() <= 1
    alone = _crop_all(frames, rows[1:2], index[1:2], box[1:2], flip[1:2], torch.empty_like(ours[:1]))
    assert torch.equal(alone[0], ours[1])  # though it needs fewer taps


def triangle(length: int, size: int) -> np.ndarray[Any, Any]:
    """(size, length) weights of a linear filter as wide as the larger of the two pixels."""
    scale = length / size
    weights = np.zeros((size, length))
    for i in range(size):
        for j in range(length):
            weights[i, j] = max(0.0, 1 - abs((j + 0.5) - (i + 0.5) * scale) / max(scale, 1.0))
    return weights / weights.sum(1, keepdims=True)


def test_fine_stripes_become_grey_and_not_a_pattern() -> None:
    stripes = torch.zeros(1, 1, 96, 96, 3, dtype=torch.uint8)
    stripes[:, :, :, ::2] = 255
    box, none = torch.tensor([[0, 0, 96, 96]]), torch.zeros(1, dtype=torch.long)
    for crop in (_crop_each, _crop_all):
        view = crop(stripes, none, none[:, None], box, none.bool(), torch.empty(1, 3, 1, 36, 36))
        assert view[..., 2:-2].std() < 13  # 65 without the filter
        assert (view.mean() - 127.5).abs() < 1


def test_a_box_of_the_output_size_is_copied_exactly() -> None:
    frames = noise(2, 3, 37, 51, 3)
    box = torch.tensor([[3, 5, 32, 32], [0, 19, 32, 32]])
    index = torch.tensor([[0, 2], [1, 1]])
    for crop in (_crop_each, _crop_all):
        ours = crop(
            frames, torch.arange(2), index, box, torch.tensor([False, True]), torch.empty(2, 3, 2, 32, 32)
        )
        assert torch.equal(ours[0].permute(1, 2, 3, 0).to(torch.uint8), frames[0, [0, 2], 3:35, 5:37])
        assert torch.equal(ours[1].permute(1, 2, 3, 0).to(torch.uint8), frames[1, [1, 1], :32, 19:51].flip(2))


def test_short_sides_are_shrunk_and_long_frames_cut() -> None:
    assert resize_short_side(noise(1, 100, 150, 3), 50).shape == (1, 50, 75, 3)
    assert resize_short_side(noise(1, 150, 100, 3), 50).shape == (1, 75, 50, 3)
    small = noise(1, 30, 40, 3)
    assert torch.equal(resize_short_side(small, 50), small)
    assert resize_short_side(small, 60, upsample=True).shape == (1, 60, 80, 3)
    strip = noise(1, 10, 100, 3)
    assert torch.equal(resize_short_side(strip, 50), strip[:, :, 30:70])
    assert torch.equal(resize_short_side(strip.transpose(1, 2), 10), strip[:, :, 30:70].transpose(1, 2))
