"""Video encoder around an open_clip image tower (Radford et al. 2021, arXiv 2103.00020; TimeSformer order, 2102.05095).

With ``temporal="divided"`` every block of the tower gets attention over time before its own attention within frames.
Its parameters are named ``temporal.<block>.*`` and ``time_embedding``; everything under ``visual.`` keeps open_clip's
names. At the start the clip feature is the mean over frames of the image features (``cls_mode="per_frame"``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vidssl.errors import VidsslError
from vidssl.models.encoder import ClipFeatures, VideoEncoder
from vidssl.models.positions import resample_table
from vidssl.models.temporal.convolutions import TemporalConvolutions
from vidssl.models.temporal.divided import TemporalAttention


class ClipVideoEncoder(VideoEncoder):
    """An open_clip vision transformer, with or without attention over time.

    Args:
        visual: open_clip `VisionTransformer` that pools a class token or the average patch.
        temporal: ``"divided"``; ``"convolutions"`` over the image features; or ``"none"`` for the mean over frames
            of the image features.
        cls_mode: ``"per_frame"``: each frame has its own class token, which takes part in the attention over time; clip
            features are the mean of the frame features. ``"shared"`` (as TimeSformer): one class token for the clip,
            left out of the attention over time and averaged over frames after the attention in every block; `frames`
            are then what the last block makes of it in each frame before that average.
        temporal_init: ``"copy"`` or ``"random"``, see :meth:`TemporalAttention.of_block`.
        max_frames: rows of the time embedding (zero at the start), interpolated linearly for clips of another T.
        time_signal: whether attention over time is told the order of frames from the start, see
            :class:`TemporalAttention`; the start stays that of the image model either way.
        causal: let a frame attend to itself and earlier frames only, so that its feature says nothing of later ones.
        activation_checkpointing: recompute each block in the backward pass; can be switched at any time.
        interface: mean, std, spec, text, chunk_frames: see :class:`VideoEncoder`.

    Raises:
        VidsslError: for `causal` with a class token that all frames share.
    """

    def __init__(
        self,
        visual: Any,
        *,
        temporal: str,
        cls_mode: str,
        temporal_init: str,
        max_frames: int,
        activation_checkpointing: bool,
        time_signal: bool = True,
        causal: bool = False,
        **interface: Any,
    ) -> None:
        super().__init__(
            embed_dim=visual.output_dim,
            width=visual.transformer.width,
            image_size=int(visual.image_size[0]),
            size_multiple=int(visual.patch_size[0]),
            **interface,
        )
        if causal and cls_mode == "shared":
            raise VidsslError(
                "create_model: causal: the class token of cls_mode='shared' sees every frame; use cls_mode='per_frame'"
            )
        self.visual = visual
        self.map_multiple = self.size_multiple
        self.cls_mode = cls_mode
        self.sees = "frame" if temporal == "none" else "past" if causal else "clip"
        self.activation_checkpointing = activation_checkpointing
        self.temporal: nn.ModuleList | None = None
        self.temporal_head = TemporalConvolutions(self.embed_dim) if temporal == "convolutions" else None
        if temporal == "divided":
            blocks = visual.transformer.resblocks
            self.temporal = nn.ModuleList(
                TemporalAttention.of_block(block, temporal_init, time_signal, causal) for block in blocks
            )
            self.time_embedding = nn.Parameter(torch.zeros(max_frames, self.width))

    def features(self, clips: Tensor, patches: bool) -> ClipFeatures:
        """See :meth:`VideoEncoder.forward`."""
        x, grid = self._embed(clips)
        frame_cls = None
        for index in range(len(self.visual.transformer.resblocks)):
            if self.activation_checkpointing and torch.is_grad_enabled():
                x, frame_cls = checkpoint(self._block, x, index, use_reentrant=False)
            else:
                x, frame_cls = self._block(x, index)
        tokens = self._patches(x, grid) if patches else None
        frames = self._project(x)
        if self.temporal_head is not None:
            frames = frames + self.temporal_head(frames)
        clip = frames.mean(dim=1)
        if frame_cls is not None and self.visual.pool_type == "tok":
            # The shared class token is the same in every frame: `clip` is its projection.
            frames = self._project(rearrange(frame_cls, "b t w -> b t 1 w"))
        return ClipFeatures(clip, frames, tokens)

    def maps(self, clips: Tensor) -> Iterator[Tensor]:
        """See :meth:`VideoEncoder.maps`; a layer is a block, and all but the last are as they leave it, without norm."""
        x, grid = self._embed(clips)
        last = len(self.visual.transformer.resblocks) - 1
        for index in range(last + 1):
            x, _ = self._block(x, index)
            if index < last:
                yield _on_grid(x[:, :, 1:], grid)
        yield self._patches(x, grid)

    def _embed(self, clips: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Tokens (B, T, 1 + h w, W), class token first, and the grid (h, w)."""
        visual, (batch, _, length) = self.visual, clips.shape[:3]
        x = visual.conv1(rearrange(clips, "b c t h w -> (b t) c h w"))
        grid = (x.shape[-2], x.shape[-1])
        x = rearrange(x, "(b t) w height width -> b t (height width) w", t=length)
        cls = visual.class_embedding.to(x.dtype).expand(batch, length, 1, -1)
        position = visual.positional_embedding
        position = torch.cat([position[:1], resample_table(position[1:], tuple(visual.grid_size), grid)])
        x = torch.cat([cls, x], dim=2) + position.to(x.dtype)
        if self.temporal is not None:
            time = resample_table(self.time_embedding, (self.time_embedding.shape[0],), (length,))
            time = rearrange(time.to(x.dtype), "t w -> t 1 w")
            if self.cls_mode == "shared":  # one token for the clip has no place in time
                x = torch.cat([x[:, :, :1], x[:, :, 1:] + time], dim=2)
            else:
                x = x + time
        return visual.ln_pre(x), grid

    def _block(self, x: Tensor, index: int) -> tuple[Tensor, Tensor | None]:
        """One block on (B, T, 1 + N, W); also each frame's class token (B, T, W), in the last block of shared mode."""
        block = self.visual.transformer.resblocks[index]
        if self.temporal is None:
            return _in_frames(block, x), None
        temporal = self.temporal[index]
        if self.cls_mode == "per_frame":
            return _in_frames(block, x + temporal(x)), None
        x = torch.cat([x[:, :, :1], x[:, :, 1:] + temporal(x[:, :, 1:])], dim=2)
        residual = _in_frames(lambda frames: block.ls_1(block.attention(q_x=block.ln_1(frames))), x)
        frame_cls = None
        if index == len(self.temporal) - 1:
            frame_cls = _mlp(block, x[:, :, 0] + residual[:, :, 0])
        shared = residual[:, :, :1].mean(dim=1, keepdim=True).expand(-1, x.shape[1], -1, -1)
        return _mlp(block, x + torch.cat([shared, residual[:, :, 1:]], dim=2)), frame_cls

    def _project(self, x: Tensor) -> Tensor:
        """(B, T, 1 + N, W) pooled over places, normed and projected: (B, T, D)."""
        visual = self.visual
        if visual.pool_type == "tok":
            pooled = visual.ln_post(x[:, :, 0])
        elif visual.final_ln_after_pool:
            pooled = visual.ln_post(x[:, :, 1:].mean(dim=2))
        else:
            pooled = visual.ln_post(x[:, :, 1:]).mean(dim=2)
        projected: Tensor = pooled if visual.proj is None else pooled @ visual.proj
        return projected

    def _patches(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        tokens = x[:, :, 1:] if self.visual.final_ln_after_pool else self.visual.ln_post(x[:, :, 1:])
        return _on_grid(tokens, grid)


def _on_grid(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    return rearrange(tokens, "b t (h w) width -> b t h w width", h=grid[0])


def _in_frames(function: Any, x: Tensor) -> Tensor:
    """Apply a map of token sequences (n, S, W) within each frame of (B, T, S, W)."""
    mapped: Tensor = function(rearrange(x, "b t s w -> (b t) s w"))
    return rearrange(mapped, "(b t) s w -> b t s w", b=x.shape[0])


def _mlp(block: Any, x: Tensor) -> Tensor:
    """The second half of an open_clip residual block."""
    residual: Tensor = block.ls_2(block.mlp(block.ln_2(x)))
    return x + residual
