from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as tvf

from tests.data.views.rendering import noise
from vidssl.data.views.crop import crop_resize, resize_short_side


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
    box = torch.tensor([[top, left, height, width]])
    ours = crop_resize(
        frames, torch.zeros(1, dtype=torch.long), torch.tensor([[1, 0]]), box, torch.tensor([flip]), size
    )
    crop = tvf.crop(frames[0, [1, 0]].permute(0, 3, 1, 2), top, left, height, width).float()
    theirs = tvf.resize(crop, [size, size], antialias=False)
    theirs = tvf.horizontal_flip(theirs) if flip else theirs
    torch.testing.assert_close(ours[0].transpose(0, 1) / 255, theirs / 255, atol=1e-4, rtol=0)


def test_a_box_of_the_output_size_is_copied_exactly() -> None:
    frames = noise(2, 3, 37, 51, 3)
    box = torch.tensor([[3, 5, 32, 32], [0, 19, 32, 32]])
    index = torch.tensor([[0, 2], [1, 1]])
    ours = crop_resize(frames, torch.arange(2), index, box, torch.tensor([False, True]), 32)
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
