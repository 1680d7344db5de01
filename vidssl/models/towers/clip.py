"""Video encoder around an image transformer of open_clip or timm (Radford et al. 2021, arXiv 2103.00020; SigLIP, PE-Core, EVA02).

With ``temporal="divided"``, ``"joint"`` or ``"adapter"`` every block of the tower has something along time before it. Its
parameters are named ``temporal.<block>.*`` and ``time_embedding``, what stands behind the tower ``temporal_head.*``; everything
under ``visual.`` keeps open_clip's names. At the start the clip feature is the mean over frames of the image features
(``cls_mode="per_frame"``), whatever the mode.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vidssl.errors import VidsslError
from vidssl.models.encoder import ClipFeatures, VideoEncoder
from vidssl.models.positions import resample_table
from vidssl.models.temporal.adapter import TemporalAdapter
from vidssl.models.temporal.divided import TemporalAttention
from vidssl.models.temporal.joint import JointAttention
from vidssl.models.temporal.modes import sees, temporal_head
from vidssl.models.temporal.rows import behind_frames, check_layer, frame_rows
from vidssl.models.tokens.blocks import ImageTransformer, allow_any_size, take_apart
from vidssl.models.tokens.drop import kept_patches


class ClipVideoEncoder(VideoEncoder):
    """An image transformer, with or without something along time.

    Args:
        visual: open_clip tower that `take_apart` knows: its own vision transformer, or a `VisionTransformer`, `VisionTransformerRelPos`
            or `Eva` of timm, with class token, average or attention pooling.
        temporal: ``"divided"``, ``"joint"`` or ``"adapter"`` in every block (the last leaves the tower frozen);
            ``"convolutions"`` or ``"head"`` over the image features; or ``"none"`` for their mean over frames.
        cls_mode: ``"per_frame"``: each frame has its own class token, which takes part in the attention over time; clip
            features are the mean of the frame features. ``"shared"`` (as TimeSformer; for open_clip's own towers): one class
            token for the clip, left out of the attention over time and averaged over frames after the attention in every
            block; `frames` are then what the last block makes of it in each frame before that average.
        temporal_init: ``"copy"`` or ``"random"``, see :meth:`TemporalAttention.of_block`.
        max_frames: rows of the time embedding (zero at the start), interpolated linearly for clips of another T.
        time_signal: whether attention over time is told the order of frames from the start, see
            :class:`TemporalAttention`; the start stays that of the image model either way.
        causal: let a frame attend to itself and earlier frames only, so that its feature says nothing of later ones.
        activation_checkpointing: recompute each block in the backward pass; can be switched at any time.
        head_width, head_grid, head_layer, head_alone, head_pool: of ``"head"`` and ``"convolutions"``, see `ClipOptions`.
        token_drop: share of the patches left out where `forward` is given keys; along time at a place (divided, adapter) the
            same ones in all frames of a clip, otherwise drawn for each frame.
        interface: mean, std, spec, text, chunk_frames: see :class:`VideoEncoder`.

    Raises:
        VidsslError: for a class token that all frames share in a tower that has none, or with `causal`; for a grid of patches
            that are left out.
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
        token_drop: float = 0.0,
        head_width: int | None = None,
        head_grid: int | None = None,
        head_layer: int | None = None,
        head_alone: bool = False,
        head_pool: str = "mean",
        **interface: Any,
    ) -> None:
        tower = take_apart(visual)
        assert tower is not None
        allow_any_size(visual)
        embed_dim = int(interface["spec"]["model_cfg"]["embed_dim"])
        super().__init__(
            embed_dim=embed_dim,
            width=tower.width,
            image_size=tower.size,
            size_multiple=tower.patch,
            **interface,
        )
        if cls_mode == "shared":
            _check_shared(tower, causal)
        self.visual = visual
        self.map_multiple = self.size_multiple
        self.cls_mode = cls_mode
        self.sees = sees(temporal, causal)
        self.token_drop = float(token_drop)
        self.activation_checkpointing = activation_checkpointing
        self.temporal: nn.ModuleList | None = None
        self.head_grid, self.head_layer = head_grid or 0, head_layer
        check_layer(self, head_layer, len(tower.blocks))
        if self.head_grid and token_drop:
            raise VidsslError(
                "create_model: head_grid: needs the patches that token_drop leaves out; give one of them"
            )
        self.temporal_head = temporal_head(
            temporal,
            embed_dim,
            time_signal=time_signal,
            causal=causal,
            width=head_width,
            cells=self.head_grid**2 * self.width,
            alone=head_alone,
            pool=head_pool,
        )
        self.drops_tubes = temporal in ("divided", "adapter")
        if temporal in ("divided", "joint"):
            attention = TemporalAttention if temporal == "divided" else JointAttention
            self.temporal = nn.ModuleList(
                attention.of_block(block, temporal_init, time_signal, causal) for block in tower.blocks
            )
            self.time_embedding = nn.Parameter(torch.zeros(max_frames, self.width))
        elif temporal == "adapter":
            self.temporal = nn.ModuleList(TemporalAdapter(self.width, causal) for _ in tower.blocks)
            visual.requires_grad_(False)

    @property
    def tower(self) -> ImageTransformer:
        """The image tower by its parts."""
        tower = take_apart(self.visual)
        assert tower is not None
        return tower

    def units(self) -> Sequence[nn.Module]:
        """See :meth:`VideoEncoder.units`: the blocks, and what each of them has for time."""
        temporal = list(self.temporal or [])
        taken_apart = (bool(temporal) and self.cls_mode == "shared") or not self.tower.whole_blocks
        return temporal if taken_apart else [*self.tower.blocks, *temporal]

    def features(self, clips: Tensor, patches: bool, keys: Tensor | None = None) -> ClipFeatures:
        """See :meth:`VideoEncoder.forward`."""
        x, grid, frame_cls, inner = self._tokens(clips, keys, self.head_layer)
        tokens = self._patches(x, grid) if patches else None
        rows = self._rows(x, grid, self.head_grid, inner)
        found = behind_frames(rows, self.embed_dim, self.temporal_head)
        frames = found.frames
        if frame_cls is not None and self.visual.pool_type == "tok":
            # The shared class token is the same in every frame: `clip` is its projection.
            frames = _in_frames(self.tower.pool, rearrange(frame_cls, "b t w -> b t 1 w"))
        return ClipFeatures(found.clip, frames, tokens)

    def frame_rows(self, clips: Tensor, grid: int, layer: int | None = None) -> Tensor:
        """See :meth:`VideoEncoder.frame_rows`."""
        if self.temporal is not None:
            return super().frame_rows(clips, grid, layer)
        x, size, _, inner = self._tokens(clips, layer=layer)
        return self._rows(x, size, grid, inner)

    def over_time(self, rows: Tensor) -> ClipFeatures:
        """See :meth:`VideoEncoder.over_time`."""
        if self.temporal is not None:
            return super().over_time(rows)
        return behind_frames(rows, self.embed_dim, self.temporal_head)

    def _rows(self, x: Tensor, size: tuple[int, int], grid: int, inner: Tensor | None) -> Tensor:
        """Of the tokens (B, T, S, W) behind the last block, a grid of `size` among them, or cells of those behind another."""
        pooled = _in_frames(self.tower.pool, x)
        if not grid:
            return pooled
        maps = self._patches(x, size) if inner is None else _on_grid(inner[:, :, self.tower.prefix :], size)
        return frame_rows(pooled, rearrange(maps, "b t h w width -> (b t) width h w"), grid)

    def _tokens(self, clips: Tensor, keys: Tensor | None = None, layer: int | None = None) -> _Tokens:
        """What the blocks make of clips.

        Args:
            layer: of which block the tokens are wanted too.
        """
        last = len(self.tower.blocks) - 1
        layer, inner = check_layer(self, layer, last + 1), None
        x, grid = self._embed(clips)
        places = self.tower.positions(grid)
        if keys is not None and self.token_drop:
            x, places = self._dropped(x, places, keys)
        frame_cls = None
        for index, positions in enumerate(places):
            if self.activation_checkpointing and torch.is_grad_enabled():
                x, frame_cls = checkpoint(self._block, x, index, positions, use_reentrant=False)
            else:
                x, frame_cls = self._block(x, index, positions)
            if index == layer < last:
                inner = x
        return _Tokens(x, grid, frame_cls, inner)

    def maps(self, clips: Tensor) -> Iterator[Tensor]:
        """See :meth:`VideoEncoder.maps`; a layer is a block, and all but the last are as they leave it, without norm."""
        x, grid = self._embed(clips)
        places = self.tower.positions(grid)
        for index, positions in enumerate(places):
            x, _ = self._block(x, index, positions)
            if index < len(places) - 1:
                yield _on_grid(x[:, :, self.tower.prefix :], grid)
        yield self._patches(x, grid)

    def _embed(self, clips: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Tokens (B, T, P + h w, W), the prefix first, and the grid (h, w)."""
        length = clips.shape[2]
        x, grid = self.tower.embed(rearrange(clips, "b c t h w -> (b t) c h w"))
        x = rearrange(x, "(b t) s w -> b t s w", t=length)
        if hasattr(self, "time_embedding"):
            time = resample_table(self.time_embedding, (self.time_embedding.shape[0],), (length,))
            time = rearrange(time.to(x.dtype), "t w -> t 1 w")
            if self.cls_mode == "shared":  # one token for the clip has no place in time
                x = torch.cat([x[:, :, :1], x[:, :, 1:] + time], dim=2)
            else:
                x = x + time
        return self.tower.enter(x), grid

    def _dropped(
        self, x: Tensor, positions: list[Tensor | None], keys: Tensor
    ) -> tuple[Tensor, list[Tensor | None]]:
        """The tokens that stay, (B, T, P + k, W), and their positions."""
        prefix = self.tower.prefix
        keep = kept_patches(keys, x.shape[1], x.shape[2] - prefix, self.token_drop, tubes=self.drops_tubes)
        kept = x[:, :, prefix:].gather(2, keep[..., None].expand(-1, -1, -1, x.shape[3]))
        rows = rearrange(keep, "b t k -> (b t) k")
        # Most towers have one table.
        found = {id(table): None if table is None else self.tower.kept(table, rows) for table in positions}
        return torch.cat([x[:, :, :prefix], kept], dim=2), [found[id(table)] for table in positions]

    def _block(self, x: Tensor, index: int, positions: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """One block on (B, T, S, W); also each frame's class token (B, T, W), in the last block of shared mode."""
        tower = self.tower
        if self.temporal is None:
            return _in_frames(lambda frames: tower.block(index, frames, positions), x), None
        temporal = self.temporal[index]
        if self.cls_mode == "per_frame":
            return _in_frames(lambda frames: tower.block(index, frames, positions), x + temporal(x)), None
        block: Any = tower.blocks[index]
        x = torch.cat([x[:, :, :1], x[:, :, 1:] + temporal(x[:, :, 1:])], dim=2)
        residual = _in_frames(lambda frames: block.ls_1(block.attention(q_x=block.ln_1(frames))), x)
        frame_cls = None
        if index == len(self.temporal) - 1:
            frame_cls = _mlp(block, x[:, :, 0] + residual[:, :, 0])
        shared = residual[:, :, :1].mean(dim=1, keepdim=True).expand(-1, x.shape[1], -1, -1)
        return _mlp(block, x + torch.cat([shared, residual[:, :, 1:]], dim=2)), frame_cls

    def _patches(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        return _on_grid(_in_frames(self.tower.patches, x), grid)


class _Tokens(NamedTuple):
    """Tokens (B, T, S, W) behind the last block, the size of their grid, the last block's class tokens of frames (B, T, W)
    where a clip has one for all, and the tokens behind another block where they were wanted."""

    x: Tensor
    grid: tuple[int, int]
    frame_cls: Tensor | None
    inner: Tensor | None


def _check_shared(tower: ImageTransformer, causal: bool) -> None:
    if not hasattr(tower.blocks[0], "attention"):
        raise VidsslError(
            "create_model: cls_mode: 'shared': is for open_clip's own vision transformers; use cls_mode='per_frame'"
        )
    if causal:
        raise VidsslError(
            "create_model: causal: the class token of cls_mode='shared' sees every frame; use cls_mode='per_frame'"
        )


def _on_grid(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    return rearrange(tokens, "b t (h w) width -> b t h w width", h=grid[0])


def _in_frames(function: Any, x: Tensor) -> Tensor:
    """Apply a map of token sequences (n, S, W) within each frame of (B, T, S, W); the frames come back as (B, T, …)."""
    mapped: Tensor = function(rearrange(x, "b t s w -> (b t) s w"))
    return mapped.reshape(*x.shape[:2], *mapped.shape[1:])


def _mlp(block: Any, x: Tensor) -> Tensor:
    """The second half of an open_clip residual block."""
    residual: Tensor = block.ls_2(block.mlp(block.ln_2(x)))
    return x + residual
