"""Patch features of whole frames: any encoder, layer and stride, at any size, without a look at later frames.

    >>> features = PatchFeatures(vidssl.load_encoder("ViT-B-16:openai"), stride=8)
    >>> features(frames).shape                     # frames (T, 3, 480, 854) in [0, 1]
    torch.Size([T, 768, 60, 107])

Cell (i, j) stands for the pixels from (i, j) · stride up to the next cell. The last rows and columns of a frame are
repeated until its sides are multiples of the stride, so h = ceil(H / stride); nothing is squashed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from vidssl.errors import check_choice, check_value
from vidssl.models.encoder import VideoEncoder
from vidssl.models.patches.frames import check_frames, fill_cells
from vidssl.models.patches.strides import layers_of, set_stride
from vidssl.models.sharing import sharing_copy

Mode = Literal["static", "window"]
MODES = ("static", "window")
STRIDE = 8  # of convolutional networks, as in UniTrack (Wang et al. 2021, arXiv 2107.02156)
PIXELS = 2**20  # shown to the network at a time, if one clip has no more


class PatchFeatures:
    """Frames to the patch features of an encoder.

    Args:
        encoder: any video encoder. It stays as it is: strides are set in a copy that shares its weights.
        layer: whose features, counted from 0 or, below 0, from the last; None is the last. Of a vision transformer a layer
            is a block, and the last comes after the final norm.
        stride: pixels per cell. Of convolutional networks one of the strides its layers have, 8 by default where the
            layer has no finer one: later strides are set to 1. Of transformers anything up to the patch, the default:
            frames are enlarged until a patch covers that many pixels, and positions interpolated.
        mode: what is shown of a video for the features of a frame: ``"static"`` the frame alone, repeated where the network
            needs more than one; ``"window"`` the clip that ends with it, whose last slice in time is taken. Before the
            first frame comes the first frame. Later frames are seen in neither.
        frames: length of the window; by default what the encoder was trained with. Rounded up to the encoder's time stride;
            that of an encoder with `chunk_frames` is always these.

    Attributes:
        stride, dim: pixels per cell, and D. layer: counted from 0. mode: as given.
        frames: how many frames the network is shown at once for the features of one.

    Raises:
        VidsslError: for a layer or stride that is not there (with those that are), an unknown mode, a window without frames,
            and an encoder that shows no layers.
    """

    def __init__(
        self,
        encoder: VideoEncoder,
        *,
        layer: int | None = None,
        stride: int | None = None,
        mode: Mode = "static",
        frames: int | None = None,
    ) -> None:
        check_choice("mode", mode, MODES)
        check_value("frames", frames, frames is None or frames >= 1, "at least 1")
        self.encoder = sharing_copy(encoder).eval()
        layers = layers_of(self.encoder)
        count = len(layers)
        chosen = -1 if layer is None else layer
        check_value(
            "layer", layer, -count <= chosen < count, f"from 0 to {count - 1}, or from -{count} to -1"
        )
        self.mode, self.layer = mode, chosen % count
        native, self.dim = layers[self.layer]
        if self.encoder.stages():
            there = sorted({one.stride for one in layers[: self.layer + 1]})
            self.stride = min(STRIDE, native) if stride is None else stride
            allowed = " or ".join(map(str, there))
            check_value("stride", self.stride, self.stride in there, f"{allowed} for layer {self.layer}")
            set_stride(self.encoder, layers, self.stride)
            reached = layers_of(self.encoder)[self.layer].stride
            check_value(
                "stride", self.stride, reached == self.stride, f"{native}: strides of this network stay"
            )
            native = self.stride
        self.stride = native if stride is None else stride
        check_value("stride", self.stride, 1 <= self.stride <= native, f"from 1 to {native}, the patch")
        self._patch = native
        self.frames = self._length(frames)

    @property
    def record(self) -> dict[str, int | str]:
        """What a result says of them, as JSON data."""
        names = ("layer", "stride", "dim", "mode", "frames")
        return {name: getattr(self, name) for name in names}

    def _length(self, frames: int | None) -> int:
        encoder = self.encoder
        if encoder.sees == "frame":
            return 1
        if encoder.chunk_frames is not None:
            return encoder.chunk_frames
        unit = encoder.time_stride
        if self.mode == "static":
            return unit
        return -(-(frames or encoder.usual_frames) // unit) * unit

    @torch.no_grad()
    def __call__(self, frames: Tensor) -> Tensor:
        """Patch features of every frame of a video.

        Args:
            frames: (T, 3, H, W) floating point RGB in [0, 1], any H and W, on any device. A video that is given in pieces has
                to overlap by `self.frames` - 1 frames in mode ``"window"``.

        Returns:
            (T, D, h, w) float32 on the device of the frames, not normalised.

        Raises:
            VidsslError: for frames that are none.
        """
        check_frames(frames)
        count, _, height, width = frames.shape
        h, w = (-(-side // self.stride) for side in (height, width))
        features = frames.new_empty(count, self.dim, h, w, dtype=torch.float32)
        at_a_time = max(1, PIXELS // (self.frames * h * w * self._patch**2))
        before = (
            torch.arange(1 - self.frames, 1) if self.mode == "window" else torch.zeros(self.frames).long()
        )
        for start in range(0, count, at_a_time):
            stop = min(start + at_a_time, count)
            index = (torch.arange(start, stop)[:, None] + before).clamp(min=0)
            first = int(index.min())
            shown = self._shown(frames[first:stop])[index - first]
            with _lean_attention():
                grid = self.encoder.layer_map(rearrange(shown, "b t c h w -> b c t h w"), self.layer)
            features[start:stop] = rearrange(grid[:, -1], "b h w d -> b d h w")
        return features

    def _shown(self, frames: Tensor) -> Tensor:
        """What the network is shown of frames (T, 3, H, W): filled up, enlarged and normalised, on its device."""
        weight = next(self.encoder.parameters())
        filled = fill_cells(frames.to(weight.device, weight.dtype), self.stride)
        if self._patch != self.stride:
            size = [side // self.stride * self._patch for side in filled.shape[-2:]]
            filled = F.interpolate(filled, size=size, mode="bilinear", align_corners=False)
        mean, std = (
            filled.new_tensor(value)[:, None, None] for value in (self.encoder.mean, self.encoder.std)
        )
        return (filled - mean) / std


@contextmanager
def _lean_attention() -> Iterator[None]:
    """Without torch's fast path for attention, which holds all pairs of patches of all heads: 2 GB for ViT-B at 6,420."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)
