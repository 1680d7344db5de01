"""A small 3-D convolutional network to train from scratch: a few hundred videos, small frames, one CPU core.

Four layers of 3 x 3 x 3 filters, each followed by batch norm and ReLU, over grey frames: what is left of a video is
shapes and how they move. (Convolutions in time: Tran et al. 2015, C3D, arXiv 1412.0767.)

>>> encoder = vidssl.create_model("conv3d/small")
>>> encoder(clips).clip                          # (B, 128), clips (B, 3, T, H, W)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import torch
from einops import rearrange, reduce
from torch import Tensor, nn

from vidssl.errors import check_choice
from vidssl.models.encoder import ClipFeatures, VideoEncoder
from vidssl.models.options import check_options
from vidssl.models.stored import find_encoder, stored_tensors
from vidssl.models.weights import load_strict, read_tensors


class Layers(NamedTuple):
    """Output channels of the layers, and their strides in time and in both directions of space."""

    widths: tuple[int, ...]
    strides: tuple[tuple[int, int], ...]


NETWORKS = {
    "small": Layers((16, 32, 64, 128), ((2, 2), (1, 2), (2, 2), (1, 2))),
}
IMAGE_SIZE = 32
MEAN, STD = 0.45, 0.225  # of all channels
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


class Conv3dEncoder(VideoEncoder):
    """Clips of any size to features of the last layer.

    `patches` is the last feature map (B, T', h, w, W); T', h and w are a quarter of T and a sixteenth of the sides,
    rounded up. `frames` (B, T', D = W) is its mean over places, `clip` the mean of those.

    Args:
        spec: `name`, key of `NETWORKS`; `image_size`, the side of clips where nothing else decides it; `chunk_frames`,
            see :class:`VideoEncoder`.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        widths, strides = _find(spec["name"])
        super().__init__(
            embed_dim=widths[-1],
            width=widths[-1],
            mean=(MEAN, MEAN, MEAN),
            std=(STD, STD, STD),
            image_size=spec["image_size"],
            spec=dict(spec),
            chunk_frames=spec.get("chunk_frames"),
        )
        layers: list[nn.Module] = []
        for (inputs, outputs), (time, space) in zip(pairwise((1, *widths)), strides, strict=True):
            stride = (time, space, space)
            layers += [nn.Conv3d(inputs, outputs, 3, stride=stride, padding=1, bias=False)]
            layers += [nn.BatchNorm3d(outputs), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers)
        self.time_stride = prod(time for time, _ in strides)

    def features(self, clips: Tensor, patches: bool, keys: Tensor | None = None) -> ClipFeatures:
        """See :meth:`VideoEncoder.forward`."""
        grid = self.layers(_grey(clips))
        frames = reduce(grid, "b width t h w -> b t width", "mean")
        tokens = rearrange(grid, "b width t h w -> b t h w width") if patches else None
        return ClipFeatures(frames.mean(dim=1), frames, tokens)

    def maps(self, clips: Tensor) -> Iterator[Tensor]:
        """See :meth:`VideoEncoder.maps`; a layer is a convolution with its norm and ReLU."""
        x = _grey(clips)
        for convolution, norm, relu in self.stages():
            x = relu(norm(convolution(x)))
            yield rearrange(x, "b width t h w -> b t h w width")

    def stages(self) -> Sequence[Sequence[nn.Module]]:
        """See :meth:`VideoEncoder.stages`."""
        return [list(self.layers[start : start + 3]) for start in range(0, len(self.layers), 3)]


def _grey(clips: Tensor) -> Tensor:
    """(B, 3, T, H, W) to (B, 1, T, H, W)."""
    luma = torch.tensor(LUMA, dtype=clips.dtype, device=clips.device)
    grey = torch.einsum("b c t h w, c -> b t h w", clips, luma)[:, None]
    # Channels last is the faster layout for these convolutions on a CPU, and as fast elsewhere.
    return grey.contiguous(memory_format=torch.channels_last_3d)


def create_conv3d(name: str, pretrained: str | None, **options: Any) -> Conv3dEncoder:
    """Build one of `NETWORKS`, with random weights or those of a file or folder of ours.

    Args:
        name: key of `NETWORKS`.
        pretrained: None, a file of the network's weights, or a run, checkpoint or exported encoder.
        options: `image_size` (pixels) and `chunk_frames`.

    Raises:
        VidsslError: for unknown names and options, and for weights that do not fit.
    """
    _find(name)
    defaults = {"image_size": IMAGE_SIZE, "chunk_frames": None}
    check_options(options, defaults, f" of conv3d/{name}")
    encoder = Conv3dEncoder(
        {"family": "conv3d", "name": name, **defaults, **options, "pretrained": pretrained}
    )
    if pretrained is not None:
        place = Path(pretrained).expanduser()
        tensors = stored_tensors(find_encoder(place)) if place.is_dir() else read_tensors(place)
        load_strict(encoder, tensors, pretrained)
    return encoder


def _find(name: str) -> Layers:
    check_choice(
        "model name", name, NETWORKS, "{name} 'conv3d/{value}': no such network{guess} (allowed: {allowed})"
    )
    return NETWORKS[name]
