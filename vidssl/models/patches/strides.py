"""Strides of a network: found by a black clip, and set finer in convolutional networks.

Strides inside the late layers are set to 1, without dilation (as in UniTrack, Wang et al. 2021, arXiv 2107.02156).
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import nn

from vidssl.models.encoder import VideoEncoder

_STRIDED = (nn.Conv2d, nn.Conv3d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool2d, nn.AvgPool3d)


class Layer(NamedTuple):
    """Of a layer's patch features: pixels per cell, and D."""

    stride: int
    dim: int


def sharing_copy(encoder: VideoEncoder) -> VideoEncoder:
    """Another encoder of the very same weights and buffers, whose modules can be changed by themselves."""
    memo = {id(tensor): tensor for tensor in [*encoder.parameters(), *encoder.buffers()]}
    return copy.deepcopy(encoder, memo)


@torch.no_grad()
def layers_of(encoder: VideoEncoder) -> list[Layer]:
    """Every layer of an encoder in evaluation mode."""
    side = 64 if encoder.size_multiple == 1 else 2 * encoder.size_multiple
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
    if isinstance(module, _STRIDED):
        axes = 3 if isinstance(module, nn.Conv3d | nn.MaxPool3d | nn.AvgPool3d) else 2
        stride, kernel = (_per_axis(value, axes) for value in (module.stride, module.kernel_size))
        if stride[-2:] == kernel[-2:]:  # a pool of cells that do not overlap: nothing is left to pool
            module.kernel_size = (*kernel[:-2], 1, 1)
        module.stride = (*stride[:-2], 1, 1)


def _per_axis(value: int | tuple[int, ...], axes: int) -> tuple[int, ...]:
    return (value,) * axes if isinstance(value, int) else tuple(value)
