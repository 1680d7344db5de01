"""Video networks of pytorchvideo behind the encoder interface.

Convolutional: X3D (Feichtenhofer 2020, arXiv 2004.04730), Slow (1812.03982), C2D, I3D (1705.07750), R(2+1)D
(1711.11248), CSN (1904.02811). Transformer: MViT (2104.11227). They are built by the constructors of
`pytorchvideo.models`; the classification head is removed. `pytorchvideo.transforms` is never imported.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from einops import rearrange, reduce
from torch import Tensor, nn

from vidssl.errors import VidsslError, check_choice
from vidssl.models.encoder import ClipFeatures, VideoEncoder
from vidssl.models.options import check_options
from vidssl.models.positions import resample_table
from vidssl.models.stored import find_encoder, stored_tensors
from vidssl.models.weights import load_strict, read_tensors


class Network(NamedTuple):
    """image_size, max_frames: of the published weights; stride: T / T', see :class:`PytorchVideoEncoder`."""

    image_size: int
    max_frames: int
    stride: int
    width: int
    round_up: bool = True


NETWORKS = {
    "x3d_xs": Network(160, 4, 1, 192),
    "x3d_s": Network(160, 13, 1, 192),
    "x3d_m": Network(224, 16, 1, 192),
    "x3d_l": Network(312, 16, 1, 192),
    "slow_r50": Network(224, 8, 1, 2048),
    "c2d_r50": Network(224, 8, 2, 2048, round_up=False),
    "i3d_r50": Network(224, 8, 2, 2048, round_up=False),
    "r2plus1d_r50": Network(224, 16, 4, 2048),
    "csn_r101": Network(224, 32, 8, 2048),
    "mvit_base_16x4": Network(224, 16, 2, 768),
    "mvit_base_32x3": Network(224, 32, 2, 768),
}
# Normalisation of every published pytorchvideo checkpoint.
_MEAN, _STD = 0.45, 0.225


class PytorchVideoEncoder(VideoEncoder):
    """A pytorchvideo network without its head.

    `patches` is the last feature map (B, T', h, w, W), `frames` (B, T', D = W) its mean over places, `clip` the mean
    of those. T' is T for X3D and Slow, ceil(T / 4) for R(2+1)D, ceil(T / 8) for CSN, floor(T / 2) for C2D and I3D, and
    ceil(T / 2) for MViT, whose T and image size are fixed when it is built.

    Args:
        spec: `name`, key of `NETWORKS`; `image_size` and `max_frames`, what MViT's position embedding is made for (the
            convolutional networks take any); `chunk_frames`, see :class:`VideoEncoder`.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        name = spec["name"]
        network = _find(name)
        super().__init__(
            embed_dim=network.width,
            width=network.width,
            mean=(_MEAN, _MEAN, _MEAN),
            std=(_STD, _STD, _STD),
            image_size=spec["image_size"],
            spec=dict(spec),
            chunk_frames=spec.get("chunk_frames"),
        )
        self.network = network
        self.time_stride = network.stride
        self.max_frames = spec["max_frames"]
        self.fixed_size = name.startswith("mvit")
        with warnings.catch_warnings():
            # Its layers are TorchScript, which torch deprecates.
            warnings.simplefilter("ignore", FutureWarning)
            from pytorchvideo.models import hub

            build = getattr(hub, name)
            if self.fixed_size:
                self.net = build(spatial_size=self.image_size, temporal_size=self.max_frames, head=None)
            else:
                self.net = build()
                self.net.blocks = nn.Sequential(*self.net.blocks[:-1])

    def _check_shape(self, frames: int, height: int, width: int) -> None:
        """Refuses too few frames, and for an MViT frames or sides other than those it was built for."""
        super()._check_shape(frames, height, width)
        length = self.chunk_frames or frames
        if self.fixed_size and (length, height, width) != (self.max_frames, self.image_size, self.image_size):
            raise VidsslError(
                f"{self.spec['name']}: clips of {length} frames, {height}x{width} pixels: built for "
                f"max_frames={self.max_frames}, image_size={self.image_size} (options of create_model)"
            )
        if not self.network.round_up and length < self.network.stride:
            raise VidsslError(f"{self.spec['name']}: {length} frame(s): needs at least {self.network.stride}")

    def features(self, clips: Tensor, patches: bool, keys: Tensor | None = None) -> ClipFeatures:
        """See :meth:`VideoEncoder.forward`."""
        [grid] = deque(self.maps(clips), maxlen=1)
        frames = reduce(grid, "b t h w width -> b t width", "mean")
        return ClipFeatures(frames.mean(dim=1), frames, grid if patches else None)

    def maps(self, clips: Tensor) -> Iterator[Tensor]:
        """See :meth:`VideoEncoder.maps`; a layer is a block of the network, any size will do, also for an MViT."""
        if self.fixed_size:
            yield from _mvit_maps(self.net, clips)
            return
        for block in self.net.blocks:
            clips = block(clips)
            yield rearrange(clips, "b width t h w -> b t h w width")

    def stages(self) -> Sequence[Sequence[nn.Module]]:
        """See :meth:`VideoEncoder.stages`."""
        return [] if self.fixed_size else [[block] for block in self.net.blocks]


def _mvit_maps(net: Any, clips: Tensor) -> Iterator[Tensor]:
    """Patch tokens of a multiscale vision transformer on their (t, h, w) grid behind each block; the last after its norm."""
    x, grid = _mvit_embed(net, clips)
    for number, block in enumerate(net.blocks, 1):
        x, grid = block(x, grid)
        tokens = net.norm_embed(x) if number == len(net.blocks) else x
        t, h, _ = grid
        yield rearrange(tokens[:, 1:], "b (t h w) width -> b t h w width", t=t, h=h)


def _mvit_embed(net: Any, clips: Tensor) -> tuple[Tensor, list[int]]:
    """Tokens, class token first, and their (t, h, w) grid; positions are interpolated to another than they were made for."""
    cells = net.patch_embed.patch_model(clips)
    grid = list(cells.shape[2:])
    encoding = net.cls_positional_encoding
    old = tuple(encoding.patch_embed_shape)
    space = resample_table(encoding.pos_embed_spatial[0], old[1:], tuple(grid[1:]))
    time = resample_table(encoding.pos_embed_temporal[0], old[:1], tuple(grid[:1]))
    places = rearrange(time, "t width -> t 1 width") + space
    position = torch.cat(
        [encoding.pos_embed_class[0], rearrange(places, "t places width -> (t places) width")]
    )
    tokens = rearrange(cells, "b width t h w -> b (t h w) width")
    x = torch.cat([encoding.cls_token.expand(len(tokens), -1, -1), tokens], dim=1) + position
    return x if net.norm_patch_embed is None else net.norm_patch_embed(x), grid


def create_pytorchvideo(name: str, pretrained: str | None, **options: Any) -> PytorchVideoEncoder:
    """Build one of `NETWORKS`, with random weights or those of a checkpoint file.

    Args:
        name: key of `NETWORKS`.
        pretrained: None, a file of pytorchvideo's weights, whose head is dropped, or a run, checkpoint or exported
            encoder of ours.
        options: `image_size` (pixels) and `max_frames`, needed by MViT only; `chunk_frames`.

    Raises:
        VidsslError: for unknown names and options, and for weights that do not fit.
    """
    network = _find(name)
    defaults = {"image_size": network.image_size, "max_frames": network.max_frames, "chunk_frames": None}
    check_options(options, defaults, f" of pytorchvideo/{name}")
    named = {"family": "pytorchvideo", "name": name}
    encoder = PytorchVideoEncoder({**named, **defaults, **options, "pretrained": pretrained})
    if pretrained is not None and Path(pretrained).expanduser().is_dir():
        load_strict(encoder, stored_tensors(find_encoder(pretrained)), pretrained)
    elif pretrained is not None:
        head = "head." if encoder.fixed_size else f"blocks.{len(encoder.net.blocks)}."
        tensors = read_tensors(Path(pretrained).expanduser())
        kept = {key: value for key, value in tensors.items() if not key.startswith(head)}
        load_strict(encoder.net, kept, pretrained)
    return encoder


def _find(name: str) -> Network:
    message = "{name} 'pytorchvideo/{value}': no such network{guess} (allowed: {allowed})"
    check_choice("model name", name, NETWORKS, message)
    return NETWORKS[name]
