"""A video transformer of transformers behind the encoder interface."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from vidssl.errors import VidsslError
from vidssl.models.encoder import ClipFeatures, VideoEncoder
from vidssl.models.towers.huggingface.clips import PARTS, VideoTransformer


class TransformersVideoEncoder(VideoEncoder):
    """VideoMAE, TimeSformer, ViViT, V-JEPA 2 or X-CLIP.

    `patches` are the tokens of the last layer behind its norm (B, T', h, w, W), T' = T / tubelet. `frames` (B, T', D) is their mean
    over places and `clip` the mean of those, or the class token where the network has one (TimeSformer, ViViT); for X-CLIP both are
    what its multi-frame transformer makes of the projected class tokens, as its `get_video_features`.

    Args:
        network: of transformers.
        spec: `name`, `config`, `preprocess`, `chunk_frames`.
    """

    def __init__(self, network: nn.Module, spec: Mapping[str, Any]) -> None:
        kind = spec["config"]["model_type"]
        parts = PARTS[kind](network)
        mean, std = (tuple(float(value) for value in spec["preprocess"][key]) for key in ("mean", "std"))
        super().__init__(
            embed_dim=parts.dim,
            width=parts.width,
            mean=mean,  # type: ignore[arg-type]
            std=std,  # type: ignore[arg-type]
            image_size=parts.size,
            spec=dict(spec),
            chunk_frames=spec.get("chunk_frames"),
        )
        self.kind = kind
        self.net = network
        self.time_stride = parts.tubelet
        self.map_multiple = parts.patch

    @property
    def parts(self) -> VideoTransformer:
        """The network by its parts."""
        return PARTS[self.kind](self.net)

    def _check_shape(self, frames: int, height: int, width: int) -> None:
        """Refuses sizes and lengths other than those the network was made for; rotary positions allow any length."""
        super()._check_shape(frames, height, width)
        parts, name = self.parts, self.spec["name"]
        if (height, width) != (parts.size, parts.size):
            raise VidsslError(
                f"{name}: clips of {height}x{width} pixels: the network was made for {parts.size}x{parts.size}"
            )
        length = self.chunk_frames or frames
        if parts.any_length and length % parts.tubelet:
            raise VidsslError(f"{name}: {length} frame(s): must be a multiple of {parts.tubelet}")
        if not parts.any_length and length != parts.frames:
            raise VidsslError(
                f"{name}: clips of {length} frames: the network was made for {parts.frames} (show it {parts.frames}, or encode longer clips "
                f"in pieces with chunk_frames={parts.frames})"
            )

    def features(self, clips: Tensor, patches: bool, keys: Tensor | None = None) -> ClipFeatures:
        """See :meth:`VideoEncoder.forward`."""
        parts = self.parts
        [(x, grid)] = deque(self._layers(parts, clips), maxlen=1)
        clip, frames = parts.pool(x, grid)
        return ClipFeatures(clip, frames, parts.patches(x, grid) if patches else None)

    def maps(self, clips: Tensor) -> Iterator[Tensor]:
        """See :meth:`VideoEncoder.maps`; any size and length will do, positions are interpolated."""
        parts = self.parts
        for x, grid in self._layers(parts, clips):
            yield parts.patches(x, grid)

    def _layers(
        self, parts: VideoTransformer, clips: Tensor
    ) -> Iterator[tuple[Tensor, tuple[int, int, int]]]:
        """Tokens behind each layer, the last also behind the norm, and the grid of the patches."""
        x, grid = parts.embed(clips)
        for index in range(len(parts.layers)):
            x = parts.layer(index, x, grid)
            yield (parts.norm(x) if index == len(parts.layers) - 1 else x), grid
