"""Losses in float32 or wider, whatever the autocast dtype around them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


@contextmanager
def full_precision(*tensors: Tensor) -> Iterator[None]:
    """Autocast switched off on the devices of `tensors`: losses and kernels need float32."""
    device = tensors[0].device.type if tensors else "cpu"
    with torch.autocast(device, enabled=False):
        yield


def widen(x: Any) -> Any:
    """Half-precision tensors become float32, also inside (named) tuples and lists."""
    if isinstance(x, Tensor):
        return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return type(x)(*(widen(field) for field in x))
    if isinstance(x, list | tuple):
        return type(x)(widen(item) for item in x)
    return x
