"""Strong views: the operations of RandAugment (Cubuk et al. 2020, arXiv 1909.13719) on batches of clips.

Every clip has its own operations and strengths, held over its frames; clips that share an operation go through it together.
Operations and ranges are those of `torchvision.transforms.v2.RandAugment`, on each frame of the clip alone, but that geometry
turns about the centre, interpolates bilinearly and takes any fraction of a pixel. What lies outside the picture is black.

Values are RGB in [0, 1], shape (B, 3, T, S, S); strengths (B,) lie in [-1, 1]. No result depends on the other clips.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor
from torchvision.transforms.v2 import functional as tvf

from vidssl.data.views.colour import BRIGHTNESS, CONTRAST, SATURATION, blend_, blend_coefficients, solarize

# The largest factors, degrees, shares of the side, bits and thresholds.
ENHANCE, DEGREES, SHEAR, SHIFT, BITS = 0.9, 30.0, 0.3, 150 / 331, 4


def enhance(kind: int) -> Callable[[Tensor, Tensor], Tensor]:
    """Brightness, contrast or saturation by the factor 1 + 0.9 s."""

    def operation(x: Tensor, strength: Tensor) -> Tensor:
        kinds = torch.full(strength.shape, kind, device=x.device)
        coefficients = blend_coefficients(kinds, 1 + ENHANCE * strength)
        return blend_(x, coefficients, kind == SATURATION, kind == CONTRAST)

    return operation


def sharpness(x: Tensor, strength: Tensor) -> Tensor:
    """Away from the mean of a pixel (weight 5) and its eight neighbours by the factor 1 + 0.9 s; the border stays."""
    lines = (x[..., :-2, :] + x[..., 1:-1, :]).add_(x[..., 2:, :])
    smooth = (lines[..., :-2] + lines[..., 1:-1]).add_(lines[..., 2:])
    inner = x[..., 1:-1, 1:-1]
    smooth.add_(inner, alpha=4).div_(13)
    inner.copy_(smooth.lerp_(inner, 1 + ENHANCE * rearrange(strength, "b -> b 1 1 1 1")))
    return x.clamp_(0, 1)


def posterize(x: Tensor, strength: Tensor) -> Tensor:
    """Only the upper 8 - round(4 |s|) bits of every value."""
    levels = 2.0 ** (8 - (BITS * strength.abs()).round())
    levels = rearrange(levels, "b -> b 1 1 1 1")
    whole = x.mul_(levels).floor_()
    return torch.minimum(whole, levels - 1, out=whole).div_(levels)


def solarize_above(x: Tensor, strength: Tensor) -> Tensor:
    """Values of at least 1 - |s| inverted."""
    return solarize(x, rearrange(1 - strength.abs(), "b -> b 1 1 1 1"))


def autocontrast(x: Tensor, strength: Tensor) -> Tensor:
    """Every channel of every frame stretched to [0, 1]; the strength does not matter."""
    return torch.as_tensor(tvf.autocontrast(_planes(x))).view_as(x)


def equalize(x: Tensor, strength: Tensor) -> Tensor:
    """Every channel of every frame with a flat histogram of 256 levels; the strength does not matter."""
    return torch.as_tensor(tvf.equalize(_planes(x))).view_as(x)


def _planes(x: Tensor) -> Tensor:
    return rearrange(x, "b c t h w -> (b c t) 1 h w")  # as they lie in memory


def affine(place: Callable[[Tensor], list[list[Tensor]]]) -> Callable[[Tensor, Tensor], Tensor]:
    """Clips drawn anew: a pixel at (x, y) shows what was at the matrix times (x, y, 1); both run from -1 to 1.

    Args:
        place: strength (B,) -> the matrix's two rows of three numbers (B,).
    """

    def operation(x: Tensor, strength: Tensor) -> Tensor:
        matrix = torch.stack([torch.stack(row, dim=-1) for row in place(strength)], dim=-2)  # (B, 2, 3)
        frames = rearrange(x, "b c t h w -> b (c t) h w")
        grid = F.affine_grid(matrix, list(frames.shape), align_corners=False)
        return F.grid_sample(frames, grid, align_corners=False).view_as(x)

    return operation


def translate(dim: int) -> Callable[[Tensor, Tensor], Tensor]:
    """Clips moved along an axis by up to `SHIFT` of the side."""
    sampled = affine(_moved(4 - dim, 2, 2 * SHIFT))

    def operation(x: Tensor, strength: Tensor) -> Tensor:
        if x.device.type != "cpu":  # it would have to wait for the strengths
            return sampled(x, strength)
        out = torch.zeros_like(x)
        for clip, there, share in zip(x, out, strength.tolist(), strict=True):
            pixels = SHIFT * share * x.shape[dim]
            whole = math.floor(pixels)
            for shift, weight in ((whole, 1 - pixels + whole), (whole + 1, pixels - whole)):
                length = x.shape[dim] - abs(shift)
                if length > 0:
                    shown = clip.narrow(dim - 1, max(shift, 0), length)
                    there.narrow(dim - 1, max(-shift, 0), length).add_(shown, alpha=weight)
        return out

    return operation


def _turned(strength: Tensor) -> list[list[Tensor]]:
    angle = torch.deg2rad(DEGREES * strength)
    zero = torch.zeros_like(angle)
    return [[angle.cos(), -angle.sin(), zero], [angle.sin(), angle.cos(), zero]]


def _moved(row: int, column: int, most: float) -> Callable[[Tensor], list[list[Tensor]]]:
    """The identity, with `most` times the strength at one place of the matrix."""

    def place(strength: Tensor) -> list[list[Tensor]]:
        rows = [[torch.full_like(strength, float(i == j)) for j in range(3)] for i in range(2)]
        rows[row][column] = most * strength
        return rows

    return place


# By name, in the order of `ViewDraw.strong`. They may work in place, and return what they made.
OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "identity": lambda x, strength: x,
    "brightness": enhance(BRIGHTNESS),
    "contrast": enhance(CONTRAST),
    "colour": enhance(SATURATION),
    "sharpness": sharpness,
    "posterize": posterize,
    "solarize": solarize_above,
    "autocontrast": autocontrast,
    "equalize": equalize,
    "rotate": affine(_turned),
    "shear_x": affine(_moved(0, 1, SHEAR)),
    "shear_y": affine(_moved(1, 0, SHEAR)),
    "translate_x": translate(4),
    "translate_y": translate(3),
}


def strong_(x: Tensor, operations: Tensor, strength: Tensor) -> Tensor:
    """The operations (B, n) of every clip with these strengths (B, n), one after the other, in place; both on the CPU."""
    for drawn, strengths in zip(operations.unbind(1), strength.unbind(1), strict=True):
        for number, operation in enumerate(OPERATIONS.values()):
            rows = (drawn == number).nonzero()[:, 0]
            if number and len(rows) == len(x):  # a single clip, as on a CPU
                made = operation(x, strengths.to(x.device, non_blocking=True))
                x = made if made is x else x.copy_(made)
            elif number and len(rows):
                there, strengths_there = (v.to(x.device, non_blocking=True) for v in (rows, strengths[rows]))
                x.index_copy_(0, there, operation(x.index_select(0, there), strengths_there))
    return x
