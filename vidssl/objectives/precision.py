"""Losses in float32 or wider, whatever the autocast dtype around them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

F = TypeVar("F", bound=Callable[..., Any])


@contextmanager
def full_precision(*tensors: Tensor) -> Iterator[None]:
    """Autocast switched off on the devices of `tensors`: losses and kernels need float32."""
    device = tensors[0].device.type if tensors else "cpu"
    with torch.autocast(device, enabled=False):
        yield


def widen(x: Any) -> Any:
    """Half-precision tensors become float32, also inside (named) tuples, lists and dicts."""
    if isinstance(x, Tensor):
        return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
    if isinstance(x, Mapping):
        return {key: widen(value) for key, value in x.items()}
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return type(x)(*(widen(field) for field in x))
    if isinstance(x, list | tuple):
        return type(x)(widen(item) for item in x)
    return x


def in_full_precision(forward: F) -> F:
    """Decorator for an objective's `forward`: autocast off, half-precision arguments promoted to float32."""

    @wraps(forward)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        with full_precision(*_tensors([*args, *kwargs.values()])):
            return forward(self, *widen(args), **widen(kwargs))

    return cast(F, wrapped)


def _tensors(x: Any) -> Iterator[Tensor]:
    if isinstance(x, Tensor):
        yield x
    elif isinstance(x, list | tuple):
        for item in x:
            yield from _tensors(item)
