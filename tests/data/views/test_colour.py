from __future__ import annotations

import pytest
import torch
from torchvision.transforms.v2 import functional as tvf

from tests.data.views.rendering import OPERATIONS, noise, per_clip
from vidssl.data.views import colour


@pytest.mark.parametrize("operation", [colour.BRIGHTNESS, colour.CONTRAST, colour.SATURATION])
def test_blends_equal_torchvision(operation: int) -> None:
    clips = noise(5, 3, 2, 17, 23).float() / 255
    factors = [0.0, 0.6, 1.0, 1.3, 2.5]
    steps = colour.blend_coefficients(torch.full((5,), operation), torch.tensor(factors))
    ours = colour.blend_(clips.clone(), steps)
    theirs = per_clip(clips, OPERATIONS[operation], factors)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    assert (ours - per_clip(clips, OPERATIONS[operation], factors[::-1])).abs().max() > 0.05


def test_hue_equals_torchvision() -> None:
    clips = noise(6, 3, 2, 17, 23).float() / 255
    clips[0, :, 0, 0] = 0.5  # grey pixels have no hue
    clips[1, :, 0, 0] = 0.0
    shifts = [0.1, -0.5, 0.5, -0.07, 0.33, 0.0]
    ours = colour.shift_hue_(clips.clone(), torch.tensor(shifts))
    torch.testing.assert_close(ours, per_clip(clips, tvf.adjust_hue, shifts), atol=2e-3, rtol=0)
    assert (ours - clips).abs().amax((1, 2, 3, 4))[:5].min() > 0.1


def test_gray_and_solarize_equal_torchvision() -> None:
    clips = noise(2, 3, 2, 9, 9).float() / 255
    frames = clips.transpose(1, 2)
    torch.testing.assert_close(
        colour.to_gray(clips), tvf.rgb_to_grayscale(frames, 3).transpose(1, 2), atol=1e-5, rtol=0
    )
    assert torch.equal(colour.solarize(clips), tvf.solarize(frames, 0.5).transpose(1, 2))


@pytest.mark.parametrize(("kernel_size", "size"), [(3, 9), (23, 40), (9, 31)])
def test_blur_equals_torchvision(kernel_size: int, size: int) -> None:
    clips = noise(4, 3, 2, size, size).float() / 255
    sigmas = [0.1, 0.8, 1.4, 2.0]
    ours = colour.gaussian_blur(clips, torch.tensor(sigmas), kernel_size)
    theirs = per_clip(clips, lambda x, s: tvf.gaussian_blur(x, [kernel_size] * 2, [s] * 2), sigmas)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_exact_mean_is_the_mean() -> None:
    gray = noise(3, 2, 31, 57).float() / 255
    expected = gray.double().mean((-2, -1), keepdim=True)
    torch.testing.assert_close(colour.frame_mean(gray).double(), expected, atol=1e-6, rtol=0)
