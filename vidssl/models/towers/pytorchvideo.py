"""Video networks of pytorchvideo behind the encoder interface.

Convolutional: X3D (Feichtenhofer 2020, arXiv 2004.04730) and its form for mobile processors, SlowFast and its slow pathway, a 3-D ResNet
(1812.03982), C2D, I3D (1705.07750), R(2+1)D (1711.11248), CSN (1904.02811). Transformer: MViT (2104.11227), for clips and for
images. They are built by the constructors of `pytorchvideo.models`; heads are removed. `pytorchvideo.transforms` is never imported.
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

# Normalisation of the published checkpoints of clips and of images.
_VIDEO = ((0.45,) * 3, (0.225,) * 3)
_IMAGES = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Network(NamedTuple):
    """image_size, max_frames: of the published weights; stride: T / T', see :class:`PytorchVideoEncoder`.

    layers: blocks before the head. pathways: frames of the fast pathway for one of the slow one, where there are two.
    statistics: mean and std of the published weights.
    """

    image_size: int
    max_frames: int
    stride: int
    width: int
    round_up: bool = True
    layers: int = 5
    pathways: int = 1
    statistics: tuple[tuple[float, float, float], tuple[float, float, float]] = _VIDEO


NETWORKS = {
    "x3d_xs": Network(160, 4, 1, 192),
    "x3d_s": Network(160, 13, 1, 192),
    "x3d_m": Network(224, 16, 1, 192),
    "x3d_l": Network(312, 16, 1, 192),
    "efficient_x3d_xs": Network(160, 4, 1, 192),
    "efficient_x3d_s": Network(160, 13, 1, 192),
    "slow_r50": Network(224, 8, 1, 2048),
    "slow_r50_detection": Network(256, 4, 1, 2048),
    "slowfast_r50": Network(224, 32, 4, 2304, pathways=4),
    "slowfast_r101": Network(224, 32, 4, 2304, pathways=4),
    "slowfast_16x8_r101_50_50": Network(224, 64, 4, 2304, pathways=4),
    "slowfast_r50_detection": Network(256, 32, 4, 2304, pathways=4),
    "c2d_r50": Network(224, 8, 2, 2048, round_up=False, layers=6),
    "i3d_r50": Network(224, 8, 2, 2048, round_up=False, layers=6),
    "r2plus1d_r50": Network(224, 16, 4, 2048),
    "csn_r101": Network(224, 32, 8, 2048),
    "mvit_base_16x4": Network(224, 16, 2, 768),
    "mvit_base_32x3": Network(224, 32, 2, 768),
    "mvit_base_16": Network(224, 1, 1, 768, statistics=_IMAGES),
}


class PytorchVideoEncoder(VideoEncoder):
    """A pytorchvideo network without its head.

    `patches` is the last feature map (B, T', h, w, W), `frames` (B, T', D = W) its mean over places, `clip` the mean
    of those. T' is T for X3D and Slow, ceil(T / 4) for R(2+1)D, ceil(T / 8) for CSN, floor(T / 2) for C2D and I3D, and
    ceil(T / 2) for MViT, whose T and image size are fixed when it is built. SlowFast, whose T is a multiple of 4, shows its slow pathway
    every fourth frame; T' is T / 4, and what the fast pathway says of those four is averaged and stands behind the slow one's. The MViT
    for images sees each frame by itself.

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
            mean=network.statistics[0],
            std=network.statistics[1],
            image_size=spec["image_size"],
            spec=dict(spec),
            chunk_frames=spec.get("chunk_frames"),
        )
        self.network = network
        self.time_stride = network.stride
        self.max_frames = spec["max_frames"]
        self.fixed_size = name.startswith("mvit")
        self.by_frame = name == "mvit_base_16"
        self.sees = "frame" if self.by_frame else "clip"
        with warnings.catch_warnings():
            # Its layers are TorchScript, which torch deprecates.
            warnings.simplefilter("ignore", FutureWarning)
            from pytorchvideo.models import hub

            build = getattr(hub, name)
            if self.fixed_size:
                frames = 1 if self.by_frame else self.max_frames
                self.net = build(spatial_size=self.image_size, temporal_size=frames, head=None)
            elif name.startswith("efficient"):
                self.net = build(enable_head=False)
            else:
                built = build()
                self.net = getattr(built, "model", built)  # of a detector
                self.net.blocks = nn.Sequential(*self.net.blocks[: network.layers])

    def _check_shape(self, frames: int, height: int, width: int) -> None:
        """Refuses too few frames, and for an MViT frames or sides other than those it was built for."""
        super()._check_shape(frames, height, width)
        length = self.chunk_frames or frames
        made_for = (length if self.by_frame else self.max_frames, self.image_size, self.image_size)
        if self.fixed_size and (length, height, width) != made_for:
            raise VidsslError(
                f"{self.spec['name']}: clips of {length} frames, {height}x{width} pixels: built for "
                f"max_frames={self.max_frames}, image_size={self.image_size} (options of create_model)"
            )
        if length % self.network.pathways:
            raise VidsslError(
                f"{self.spec['name']}: {length} frames: must be a multiple of {self.network.pathways}, of which the slow pathway sees one each"
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
        if self.by_frame:
            for grid in _mvit_maps(self.net, rearrange(clips, "b c t h w -> (b t) c h w")):
                yield rearrange(grid, "(b t) 1 h w width -> b t h w width", b=clips.shape[0])
        elif self.fixed_size:
            yield from _mvit_maps(self.net, clips)
        elif self.network.pathways > 1:
            yield from _two_pathway_maps(self._layers(), clips, self.network.pathways)
        else:
            for block in self._layers():
                clips = block(clips)
                yield rearrange(clips, "b width t h w -> b t h w width")

    def stages(self) -> Sequence[Sequence[nn.Module]]:
        """See :meth:`VideoEncoder.stages`."""
        return [] if self.fixed_size else [[block] for block in self._layers()]

    def _layers(self) -> Sequence[nn.Module]:
        """The blocks of a convolutional network, without its head."""
        if self.spec["name"].startswith("efficient"):
            return [getattr(self.net, f"s{number}") for number in range(1, self.network.layers + 1)]
        return list(self.net.blocks)


def _two_pathway_maps(blocks: Sequence[Any], clips: Tensor, ratio: int) -> Iterator[Tensor]:
    """Maps of a SlowFast network behind each block, those of the fast pathway averaged over the frames of a slow one.

    The slow pathway sees the frames that pytorchvideo's `PackPathway` picks, the first and the last among them.
    """
    length = clips.shape[2]
    slow = torch.linspace(0, length - 1, length // ratio, device=clips.device).long()
    x = [clips[:, :, slow], clips]
    for block in blocks:
        x = block(x)
        fast = reduce(x[1], "b width (t ratio) h w -> b t h w width", "mean", ratio=ratio)
        yield torch.cat([rearrange(x[0], "b width t h w -> b t h w width"), fast], dim=-1)


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
    if cells.ndim == 4:  # of images
        cells = rearrange(cells, "b width h w -> b width 1 h w")
    grid = list(cells.shape[2:])
    encoding = net.cls_positional_encoding
    old = tuple(encoding.patch_embed_shape)
    if not encoding.sep_pos_embed:  # one table for a single slice in time
        table = encoding.pos_embed[0]
        position = torch.cat([table[:1], resample_table(table[1:], old[1:], tuple(grid[1:]))])
        return _mvit_tokens(net, cells, position), grid
    space = resample_table(encoding.pos_embed_spatial[0], old[1:], tuple(grid[1:]))
    time = resample_table(encoding.pos_embed_temporal[0], old[:1], tuple(grid[:1]))
    places = rearrange(time, "t width -> t 1 width") + space
    position = torch.cat(
        [encoding.pos_embed_class[0], rearrange(places, "t places width -> (t places) width")]
    )
    return _mvit_tokens(net, cells, position), grid


def _mvit_tokens(net: Any, cells: Tensor, position: Tensor) -> Tensor:
    tokens = rearrange(cells, "b width t h w -> b (t h w) width")
    token = net.cls_positional_encoding.cls_token.expand(tokens.shape[0], -1, -1)
    x = torch.cat([token, tokens], dim=1) + position
    normed: Tensor = x if net.norm_patch_embed is None else net.norm_patch_embed(x)
    return normed


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
        tensors = read_tensors(Path(pretrained).expanduser())
        if name.endswith("_detection"):
            tensors = {key.removeprefix("model."): value for key, value in tensors.items()}
        beyond = () if encoder.fixed_size else (f"blocks.{n}." for n in range(network.layers, 9))
        heads = ("head.", "projection.", "detection_head.", *beyond)
        kept = {key: value for key, value in tensors.items() if not key.startswith(heads)}
        load_strict(encoder.net, kept, pretrained)
    return encoder


def _find(name: str) -> Network:
    message = "{name} 'pytorchvideo/{value}': no such network{guess} (allowed: {allowed})"
    check_choice("model name", name, NETWORKS, message)
    return NETWORKS[name]
