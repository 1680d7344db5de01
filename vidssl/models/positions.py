"""Resampling of learned position tables, as a product with a constant matrix.

Interpolation is linear in the table, so it is one matrix for a pair of grids. Unlike `F.interpolate` itself, a matrix
product has a deterministic gradient on every device, and nothing has to be kept in the module.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes


def resample_table(table: Tensor, old: tuple[int, ...], new: tuple[int, ...]) -> Tensor:
    """Positions of one grid interpolated to another, with gradient.

    Args:
        table: (prod(old), W), one row per cell of the grid in row-major order.
        old, new: grids of one axis (linear interpolation, for time) or of two (bicubic with antialiasing, for space),
            both without aligned corners.

    Returns:
        (prod(new), W); `table` itself when the grids are equal.
    """
    if old == new:
        return table
    if torch.compiler.is_exporting():  # to a program that takes one shape: the matrix is a constant of it
        with _disable_current_modes():
            constant = _interpolation(old, new, table.device, table.dtype)
        return constant @ table
    # The compiler traces the matrix into its own graph; it cannot see through a cache.
    matrix = _matrix if torch.compiler.is_compiling() else _cached_matrix
    return matrix(old, new, table.device, table.dtype) @ table


def _matrix(old: tuple[int, ...], new: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """`_interpolation`, whatever is going on around it."""
    # A matrix first asked for under inference_mode would otherwise be useless to a later backward pass.
    with torch.inference_mode(False), torch.no_grad(), torch.autocast(device.type, enabled=False):
        return _interpolation(old, new, device, dtype)


_cached_matrix = lru_cache(maxsize=64)(_matrix)


def _interpolation(
    old: tuple[int, ...], new: tuple[int, ...], device: torch.device, dtype: torch.dtype
) -> Tensor:
    """(prod(new), prod(old)): the interpolation of every unit table."""
    units = torch.eye(prod(old), dtype=torch.float64).reshape(prod(old), 1, *old)
    if len(old) == 1:
        cells = F.interpolate(units, size=new, mode="linear", align_corners=False)
    else:
        cells = F.interpolate(units, size=new, mode="bicubic", align_corners=False, antialias=True)
    return rearrange(cells.flatten(1), "old new -> new old").to(device, dtype).contiguous()
