"""Strides of a network: found by a black clip, and set finer in convolutional networks.

Strides inside the late layers are set to 1, without dilation (as in UniTrack, Wang et al. 2021, arXiv 2107.02156).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from vidssl.models.encoder import VideoEncoder

_THREE_AXES = (nn.Conv3d, nn.MaxPool3d, nn.AvgPool3d)
# Those of other classes pad by their stride themselves, such as timm's Conv2dSame.
_PADDED_AS_TOLD = (nn.Conv2d.forward, nn.Conv3d.forward)
_STRIDED = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, *_THREE_AXES)


class Layer(NamedTuple):
    """Of a layer's patch features: pixels per cell, and D."""

    stride: int
    dim: int


@torch.no_grad()
def layers_of(encoder: VideoEncoder) -> list[Layer]:
    """Every layer of an encoder in evaluation mode."""
    side = -(-64 // encoder.map_multiple) * encoder.map_multiple
    black = next(encoder.parameters()).new_zeros(1, 3, encoder.time_stride, side, side)
    return [Layer(side // grid.shape[2], grid.shape[-1]) for grid in encoder.maps(black)]


def set_stride(encoder: VideoEncoder, layers: list[Layer], stride: int) -> None:
    """Let no layer of a convolutional network go beyond a stride, which is that of one of its layers, in place."""
    for modules, layer in zip(encoder.stages(), layers, strict=True):
        if layer.stride > stride:
            for part in modules:
                for module in part.modules():
                    _unstride(module)


def _unstride(module: nn.Module) -> None:
    """Set the stride in space to 1; the stride in time of a 3-D module stays."""
    if not isinstance(module, _STRIDED):
        return
    axes = 3 if isinstance(module, _THREE_AXES) else 2
    stride, kernel, padding = (
        _per_axis(value, axes) for value in (module.stride, module.kernel_size, module.padding)
    )
    module.stride = (*stride[:-2], 1, 1)
    if not isinstance(module, nn.Conv2d | nn.Conv3d):
        if stride[-2:] == kernel[-2:]:  # cells that do not overlap: nothing is left to pool
            module.kernel_size = (*kernel[:-2], 1, 1)
    elif not isinstance(module.padding, str) and type(module).forward in _PADDED_AS_TOLD:
        lacking = [max(k - 1 - 2 * p, 0) for k, p in zip(kernel[-2:], padding[-2:], strict=True)]
        margins = (0, lacking[1], 0, lacking[0])
        if any(margins):  # an even kernel, which fitted into its stride
            module.register_forward_pre_hook(lambda _, inputs: (F.pad(inputs[0], margins),))


def _per_axis(value: Any, axes: int) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,) * axes
