"""Colour and blur of whole clips on the device: one set of numbers per clip, shared by all its frames.

Values are RGB in [0, 1], shape (B, 3, T, H, W). Each operation equals `torchvision.transforms.v2.functional` applied
to one clip alone. Operations ending in `_` work in place. No result depends on the other clips of the batch, not even
in the last bit: the only reduction, the mean of the contrast, is summed in integers.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor

Triple = tuple[float, float, float]

LUMA = (0.2989, 0.587, 0.114)  # ITU-R BT.601
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)


def luma(x: Tensor) -> Tensor:
    """(B, 3, T, H, W) -> (B, T, H, W) grey value."""
    return (x[:, 0] * LUMA[0]).add_(x[:, 1], alpha=LUMA[1]).add_(x[:, 2], alpha=LUMA[2])


def frame_mean(gray: Tensor) -> Tensor:
    """Mean of every frame, (B, T, H, W) in [0, 1] -> (B, T, 1, 1).

    Summed as multiples of 2**-24, hence exactly and in any order: a float sum is split differently for other batch
    sizes and devices, and would give a clip other bits in another batch.
    """
    units = (gray * 2.0**24).round_().to(torch.int32)
    total = units.sum(dim=(-2, -1), dtype=torch.int64, keepdim=True)
    return total.float() / (2.0**24 * gray.shape[-2] * gray.shape[-1])


def blend_coefficients(operation: Tensor, factor: Tensor) -> Tensor:
    """Brightness, contrast and saturation as one formula: y = clamp(a x + b luma(x) + c mean(luma(x))).

    Args:
        operation: (...) int64, BRIGHTNESS, CONTRAST or SATURATION.
        factor: (...) float, the factor f of that operation.

    Returns:
        (..., 3) the coefficients a = f, b = 1 - f for saturation, c = 1 - f for contrast.
    """
    rest = 1.0 - factor
    zero = torch.zeros_like(factor)
    saturation = torch.where(operation == SATURATION, rest, zero)
    contrast = torch.where(operation == CONTRAST, rest, zero)
    return torch.stack((factor, saturation, contrast), dim=-1)


def blend_(x: Tensor, coefficients: Tensor, saturates: bool = True, contrasts: bool = True) -> Tensor:
    """Apply one step of `blend_coefficients` (B, 3) to x (B, 3, T, H, W), in place.

    Args:
        saturates, contrasts: whether b or c is not 0 for some clip. What none needs is not computed, which leaves every bit.
    """
    a, b, c = (rearrange(k, "b -> b 1 1 1") for k in coefficients.unbind(1))
    if not saturates and not contrasts:
        return x.mul_(a[:, None]).clamp_(0, 1)
    gray = luma(x)
    offset = frame_mean(gray).mul_(c) if contrasts else None
    if saturates:
        offset = gray.mul_(b) if offset is None else torch.addcmul(offset, gray, b)
    assert offset is not None
    return x.mul_(a[:, None]).add_(offset[:, None]).clamp_(0, 1)


def shift_hue_(x: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue of x (B, 3, T, H, W) by shift (B,) in turns, keeping HSV value and saturation, in place.

    With h6 the hue in sixths of a turn, V the maximum and C the maximum minus the minimum, the turned colour is
    V - C clamp(2 - |k - 2|, 0, 1), k = (n + h6) mod 6, n = 5, 3, 1 for red, green, blue.
    """
    red, green, blue = x.unbind(1)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    # The largest of the three tells where hues are counted from; of several the first. A product with 0 or 1 is exact, and
    # torch.where takes ten times as long.
    is_red = (value == red).to(x.dtype)
    is_green = (value == green).to(x.dtype).mul_(1 - is_red)
    is_blue = 1 - is_red - is_green
    sixths = (green - blue).mul_(is_red)
    sixths.addcmul_(blue - red, is_green).addcmul_(red - green, is_blue)
    sixths.div_(chroma.clamp_min(1e-30))  # grey pixels: 0 / 1e-30, a hue that chroma 0 makes irrelevant
    sixths.add_(is_green, alpha=2).add_(is_blue, alpha=4).add_(6 * rearrange(shift, "b -> b 1 1 1"))
    for channel, n in enumerate((5, 3, 1)):
        k = sixths + n
        k.sub_((k * (1 / 6)).floor_(), alpha=6)
        weight = k.sub_(2).abs_().neg_().add_(2).clamp_(0, 1)
        x[:, channel] = torch.addcmul(value, weight, chroma, value=-1)
    return x


def to_gray(x: Tensor) -> Tensor:
    """(B, 3, T, H, W), all three channels equal to the grey value."""
    return luma(x)[:, None].expand_as(x)


def solarize(x: Tensor, threshold: float | Tensor = 0.5) -> Tensor:
    """Invert the values of at least a threshold."""
    return (
        (x >= threshold).to(x.dtype).sub_(x).abs_()
    )  # |1 - x| or |0 - x|; torch.where takes four times as long


def gaussian_blur(x: Tensor, sigma: Tensor, kernel_size: int) -> Tensor:
    """Separable Gaussian blur of x (B, 3, T, H, W) with sigma (B,) in pixels, reflected borders.

    Args:
        kernel_size: odd number of taps, at most 2 min(H, W) - 1.
    """
    taps = torch.arange(kernel_size, device=x.device) - kernel_size // 2
    weight = torch.exp(-0.5 * (taps / sigma[:, None]) ** 2)
    weight = repeat(weight / weight.sum(1, keepdim=True), "b k -> (b p) k", p=x.shape[1] * x.shape[2])
    pad = kernel_size // 2
    # Depthwise: every plane of every clip is its own channel, so each clip can have its own kernel.
    planes = rearrange(x, "b c t h w -> 1 (b c t) h w")
    planes = F.pad(planes, (pad, pad, pad, pad), mode="reflect")
    planes = F.conv2d(planes, weight[:, None, None, :], groups=len(weight))
    planes = F.conv2d(planes, weight[:, None, :, None], groups=len(weight))
    return planes.clamp_(0, 1).view_as(x)


def normalize_(x: Tensor, mean: Triple, std: Triple) -> Tensor:
    """(x - mean) / std per channel of x (B, 3, T, H, W), in place."""
    shape = (1, 3, 1, 1, 1)
    return x.sub_(x.new_tensor(mean).view(shape)).div_(x.new_tensor(std).view(shape))
