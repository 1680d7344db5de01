"""Video transformers of transformers by their parts: tokens with positions, layers, and how features are pooled.

The parts are those of the network, put together as its own `forward` does for clips of the size it was made for; `embed` also takes
others, for maps of whole frames: learned and sinusoidal positions are interpolated, rotary ones computed.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from einops import rearrange, reduce, repeat
from torch import Tensor, nn

from vidssl.models.positions import resample_table

Grid = tuple[int, int, int]  # slices in time, rows, columns


class VideoTransformer:
    """What the networks have in common. It owns nothing: the weights are those of the network it looks at.

    Attributes:
        layers: of the network. frames, size: of the clips it was made for. tubelet: frames of a slice. patch: pixels a side.
        prefix: tokens before those of the patches. width: of a token. dim: of a feature. any_length: whether clips of any length are
            what it was made for.
    """

    layers: Sequence[Any]
    frames: int
    size: int
    tubelet: int
    patch: int
    width: int
    dim: int
    prefix = 0
    any_length = False

    def __init__(self, network: Any) -> None:
        self.network, config = network, network.config
        self.frames, self.size, self.width = (
            int(config.num_frames),
            _side(config.image_size),
            int(config.hidden_size),
        )
        self.dim = self.width
        self.tubelet, self.patch = 1, _side(getattr(config, "patch_size", 0))

    @property
    def grid(self) -> Grid:
        """Of the clips that it was made for."""
        side = self.size // self.patch
        return self.frames // self.tubelet, side, side

    def embed(self, clips: Tensor) -> tuple[Tensor, Grid]:
        """(B, 3, T, H, W) -> tokens with their positions, and the grid of the patches."""
        raise NotImplementedError

    def layer(self, index: int, x: Tensor, grid: Grid) -> Tensor:
        """One layer."""
        after = self.layers[index](x)
        tokens: Tensor = after[0] if isinstance(after, tuple) else after
        return tokens

    def norm(self, x: Tensor) -> Tensor:
        """What stands behind the last layer."""
        normed: Tensor = self.network.layernorm(x)
        return normed

    def patches(self, x: Tensor, grid: Grid) -> Tensor:
        """Tokens to (B, T', h, w, W)."""
        t, h, _ = grid
        return rearrange(x[:, self.prefix :], "b (t h w) width -> b t h w width", t=t, h=h)

    def pool(self, x: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        """Tokens behind the norm to features of the clip (B, D) and of its slices (B, T', D)."""
        frames = reduce(self.patches(x, grid), "b t h w width -> b t width", "mean")
        return (x[:, 0] if self.prefix else frames.mean(dim=1)), frames


class VideoMae(VideoTransformer):
    """VideoMAE (Tong et al. 2022, arXiv 2203.12602): the mean of all tokens, and the classifier's norm where it was finetuned."""

    def __init__(self, network: Any) -> None:
        super().__init__(network)
        self.layers, self.tubelet = network.encoder.layer, int(network.config.tubelet_size)

    def embed(self, clips: Tensor) -> tuple[Tensor, Grid]:
        """See :class:`VideoTransformer`."""
        embeddings = self.network.embeddings
        x, grid = _cells(embeddings.patch_embeddings.projection, clips)
        positions = embeddings.position_embeddings[0].to(x.device, x.dtype)
        return x + _in_space_and_time(positions, self.grid, grid), grid

    def norm(self, x: Tensor) -> Tensor:
        """See :class:`VideoTransformer`; a finetuned one has its norm behind the mean."""
        return x if self.network.layernorm is None else super().norm(x)

    def pool(self, x: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        """See :class:`VideoTransformer`."""
        clip, frames = super().pool(x, grid)
        norm = getattr(self.network, "fc_norm", None)
        return (clip, frames) if norm is None else (norm(clip), norm(frames))


class Vivit(VideoTransformer):
    """ViViT (Arnab et al. 2021, arXiv 2103.15691): the class token."""

    prefix = 1

    def __init__(self, network: Any) -> None:
        super().__init__(network)
        self.layers = network.layers
        self.tubelet, self.patch = int(network.config.tubelet_size[0]), int(network.config.tubelet_size[1])

    def embed(self, clips: Tensor) -> tuple[Tensor, Grid]:
        """See :class:`VideoTransformer`."""
        embeddings = self.network.embeddings
        x, grid = _cells(embeddings.patch_embeddings.projection, clips)
        first, rest = embeddings.position_embeddings[0].split(
            [1, embeddings.position_embeddings.shape[1] - 1]
        )
        x = torch.cat([embeddings.cls_token.expand(x.shape[0], -1, -1), x], dim=1)
        return embeddings.dropout(x + torch.cat([first, _in_space_and_time(rest, self.grid, grid)])), grid


class TimeSformer(VideoTransformer):
    """TimeSformer (Bertasius et al. 2021, arXiv 2102.05095): the class token; patches of a place stand together."""

    prefix = 1

    def __init__(self, network: Any) -> None:
        super().__init__(network)
        self.layers = network.encoder.layer

    def embed(self, clips: Tensor) -> tuple[Tensor, Grid]:
        """See :class:`VideoTransformer`."""
        embeddings = self.network.embeddings
        images = rearrange(clips, "b c t h w -> (b t) c h w")
        cells = embeddings.patch_embeddings.projection(images)
        grid = (clips.shape[2], int(cells.shape[2]), int(cells.shape[3]))
        table = embeddings.position_embeddings[0]
        x = rearrange(cells, "n width h w -> n (h w) width") + resample_table(
            table[1:], self.grid[1:], grid[1:]
        )
        x = rearrange(embeddings.pos_drop(x), "(b t) places width -> b places t width", t=grid[0])
        if hasattr(embeddings, "time_embeddings"):
            time = embeddings.time_embeddings[0]
            x = embeddings.time_drop(x + resample_table(time, (len(time),), grid[:1]))
        first = embeddings.cls_token.expand(x.shape[0], -1, -1) + table[:1]
        return torch.cat(
            [embeddings.pos_drop(first), rearrange(x, "b places t width -> b (places t) width")], dim=1
        ), grid

    def layer(self, index: int, x: Tensor, grid: Grid) -> Tensor:
        """See :class:`VideoTransformer`; its layers read the grid from their config."""
        layer = self.layers[index]
        if (layer.config.num_frames, layer.config.image_size) != (grid[0], grid[2] * self.patch):
            layer.config = copy.copy(layer.config)
            layer.config.num_frames, layer.config.image_size = grid[0], grid[2] * self.patch
        return super().layer(index, x, grid)

    def patches(self, x: Tensor, grid: Grid) -> Tensor:
        """See :class:`VideoTransformer`."""
        t, h, _ = grid
        return rearrange(x[:, 1:], "b (h w t) width -> b t h w width", t=t, h=h)


class Vjepa2(VideoTransformer):
    """V-JEPA 2 (Assran et al. 2025, arXiv 2506.09985): the mean of all tokens; rotary positions, so clips may have any length."""

    any_length = True

    def __init__(self, network: Any) -> None:
        self.network, config = network, network.config
        self.frames, self.size = int(config.frames_per_clip), _side(config.crop_size)
        self.width = self.dim = int(config.hidden_size)
        self.tubelet, self.patch = int(config.tubelet_size), int(config.patch_size)
        self.layers = network.encoder.layer

    def embed(self, clips: Tensor) -> tuple[Tensor, Grid]:
        """See :class:`VideoTransformer`; positions are given to the layers."""
        return _cells(self.network.encoder.embeddings.patch_embeddings.proj, clips)

    def layer(self, index: int, x: Tensor, grid: Grid) -> Tensor:
        """See :class:`VideoTransformer`; a layer takes positions as numbers of cells of a square grid of its own."""
        side = max(grid[1:])
        layer = self.layers[index]
        if layer.attention.grid_size != side:
            layer.attention.grid_size = side
        time, row, column = (torch.arange(count, device=x.device) for count in grid)
        cells = (time[:, None, None] * side + row[:, None]) * side + column
        after: Tensor = layer(x, repeat(cells, "t h w -> b (t h w)", b=x.shape[0]))[0]
        return after

    def norm(self, x: Tensor) -> Tensor:
        """See :class:`VideoTransformer`."""
        normed: Tensor = self.network.encoder.layernorm(x)
        return normed


class XClip(VideoTransformer):
    """X-CLIP (Ni et al. 2022, arXiv 2208.02816): class tokens of frames, projected and joined by its multi-frame transformer."""

    prefix = 1

    def __init__(self, network: Any) -> None:
        self.network, config = network, network.config.vision_config
        self.frames, self.size, self.width = (
            int(config.num_frames),
            int(config.image_size),
            int(config.hidden_size),
        )
        self.dim = int(network.config.projection_dim)
        self.tubelet, self.patch = 1, int(config.patch_size)
        self.layers = network.vision_model.encoder.layers

    def embed(self, clips: Tensor) -> tuple[Tensor, Grid]:
        """See :class:`VideoTransformer`; tokens (B T, 1 + h w, W)."""
        vision = self.network.vision_model
        images = rearrange(clips, "b c t h w -> (b t) c h w")
        table = vision.embeddings.position_embedding.weight
        cells = vision.embeddings.patch_embedding(images)
        grid = (clips.shape[2], int(cells.shape[2]), int(cells.shape[3]))
        x = rearrange(cells, "n width h w -> n (h w) width") + resample_table(
            table[1:], self.grid[1:], grid[1:]
        )
        first = (vision.embeddings.class_embedding + table[0]).expand(x.shape[0], 1, -1)
        return vision.pre_layernorm(torch.cat([first, x], dim=1)), grid

    def layer(self, index: int, x: Tensor, grid: Grid) -> Tensor:
        """See :class:`VideoTransformer`."""
        layer = self.layers[index]
        if layer.num_frames != grid[0]:
            layer.num_frames = grid[0]
        after: Tensor = layer(x, None)
        return after

    def norm(self, x: Tensor) -> Tensor:
        """See :class:`VideoTransformer`."""
        normed: Tensor = self.network.vision_model.post_layernorm(x)
        return normed

    def patches(self, x: Tensor, grid: Grid) -> Tensor:
        """See :class:`VideoTransformer`."""
        t, h, _ = grid
        return rearrange(x[:, 1:], "(b t) (h w) width -> b t h w width", t=t, h=h)

    def pool(self, x: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        """See :class:`VideoTransformer`."""
        tokens = rearrange(self.network.visual_projection(x[:, 0]), "(b t) d -> b t d", t=grid[0])
        frames = self.network.mit(tokens).last_hidden_state
        return frames.mean(dim=1), frames


PARTS: dict[str, type[VideoTransformer]] = {
    "videomae": VideoMae,
    "timesformer": TimeSformer,
    "vivit": Vivit,
    "vjepa2": Vjepa2,
    "xclip": XClip,
}


def _side(size: Any) -> int:
    """Of squares, which is all there are; (height, width) or one number."""
    return int(size if isinstance(size, int) else size[0])


def _cells(projection: nn.Module, clips: Tensor) -> tuple[Tensor, Grid]:
    """Tubelets of clips as tokens, time first, and their grid."""
    cells = projection(clips)
    return rearrange(cells, "b width t h w -> b (t h w) width"), (
        int(cells.shape[2]),
        int(cells.shape[3]),
        int(cells.shape[4]),
    )


def _in_space_and_time(table: Tensor, old: Grid, new: Grid) -> Tensor:
    """Positions (t h w, W) of one grid interpolated to another, in space and then in time."""
    if old == new:
        return table
    places = rearrange(table, "(t places) width -> places (t width)", t=old[0])
    places = resample_table(places, old[1:], new[1:])
    slices = resample_table(
        rearrange(places, "places (t width) -> t (places width)", t=old[0]), old[:1], new[:1]
    )
    return rearrange(slices, "t (places width) -> (t places) width", places=new[1] * new[2])
