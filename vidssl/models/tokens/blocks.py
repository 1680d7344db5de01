"""An image transformer taken apart: tokens, blocks, pool. What open_clip's own and timm's have in common.

    image ── embed ──▶ tokens (N, P + h w, W) ── enter ──▶ blocks ── pool ──▶ (N, D)

P prefix tokens (class token, registers; none with attention pooling alone) stand before the patches. Whoever runs the
blocks may put something between them or leave patches out: positions are in the tokens, or, where attention asks for them, in
`positions`: rotary ones, a row for each patch, or a bias for each pair of tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from vidssl.models.positions import resample_table
from vidssl.models.sharing import sharing_copy

Grid = tuple[int, int]


class ImageTransformer(Protocol):
    """An image tower of transformer blocks. It owns nothing: the weights are those of the tower it looks at.

    Attributes:
        blocks: of the tower. width: W. prefix: P. patch: pixels a side. size: pixels a side the tower is made for.
        whole_blocks: whether `block` calls them as they are, not their parts.
    """

    blocks: Sequence[nn.Module]
    width: int
    prefix: int
    patch: int
    size: int
    whole_blocks: bool

    def embed(self, images: Tensor) -> tuple[Tensor, Grid]:
        """(N, 3, H, W) -> tokens (N, P + h w, W) with their positions, and (h, w)."""

    def enter(self, x: Tensor) -> Tensor:
        """What stands before the first block: a norm, or nothing."""

    def positions(self, grid: Grid) -> list[Tensor | None]:
        """For each block what its attention is told of places: rotary positions (h w, R) or, for each head, (heads, h w, R);
        a bias (heads, S, S); or None."""

    def kept(self, positions: Tensor, keep: Tensor) -> Tensor:
        """The same for the patches that are kept, one row of `keep` (N, k) for every image; N goes first."""

    def block(self, index: int, x: Tensor, positions: Tensor | None) -> Tensor:
        """One block on (N, S, W); `positions` as given by `positions`, or by `kept` where patches are left out."""

    def patches(self, x: Tensor) -> Tensor:
        """(N, S, W) -> patches (N, S - P, W), after the final norm where that stands before the pool."""

    def pool(self, x: Tensor) -> Tensor:
        """(N, S, W) -> (N, D)."""


class OpenClipTransformer:
    """open_clip's own vision transformer."""

    prefix = 1
    whole_blocks = True

    def __init__(self, visual: Any) -> None:
        self.visual = visual
        self.blocks = visual.transformer.resblocks
        self.width = int(visual.transformer.width)
        self.patch, self.size = int(visual.patch_size[0]), int(visual.image_size[0])

    def embed(self, images: Tensor) -> tuple[Tensor, Grid]:
        """See :class:`ImageTransformer`."""
        visual = self.visual
        x = visual.conv1(images)
        grid = (x.shape[-2], x.shape[-1])
        x = rearrange(x, "n w height width -> n (height width) w")
        token = visual.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1)
        positions = _resampled(visual.positional_embedding, 1, tuple(visual.grid_size), grid)
        return torch.cat([token, x], dim=1) + positions.to(x.dtype), grid

    def enter(self, x: Tensor) -> Tensor:
        """See :class:`ImageTransformer`."""
        entered: Tensor = self.visual.ln_pre(x)
        return entered

    def positions(self, grid: Grid) -> list[Tensor | None]:
        """See :class:`ImageTransformer`."""
        return [None] * len(self.blocks)

    def kept(self, positions: Tensor, keep: Tensor) -> Tensor:
        """See :class:`ImageTransformer`; there are none."""
        raise AssertionError

    def block(self, index: int, x: Tensor, positions: Tensor | None) -> Tensor:
        """See :class:`ImageTransformer`."""
        after: Tensor = self.blocks[index](x)
        return after

    def patches(self, x: Tensor) -> Tensor:
        """See :class:`ImageTransformer`."""
        visual, x = self.visual, x[:, 1:]
        plain = visual.final_ln_after_pool or visual.attn_pool is not None
        tokens: Tensor = x if plain else visual.ln_post(x)
        return tokens

    def pool(self, x: Tensor) -> Tensor:
        """See :class:`ImageTransformer`."""
        visual = self.visual
        if visual.attn_pool is None and visual.pool_type == "tok":
            pooled = visual.ln_post(x[:, 0])  # the same as of all tokens, without the others
        else:
            pooled, _ = visual._pool(x)
        projected: Tensor = pooled if visual.proj is None else pooled @ visual.proj
        return projected


class TimmTransformer:
    """A `VisionTransformer` or `Eva` of timm as the trunk of an open_clip tower."""

    whole_blocks = True

    def __init__(self, visual: Any) -> None:
        self.visual, self.trunk = visual, visual.trunk
        self.blocks = self.trunk.blocks
        self.width, self.prefix = int(self.trunk.embed_dim), int(self.trunk.num_prefix_tokens)
        self.patch = int(self.trunk.patch_embed.feat_ratio())
        self.size = int(self.trunk.patch_embed.img_size[0])

    def embed(self, images: Tensor) -> tuple[Tensor, Grid]:
        """See :class:`ImageTransformer`; timm's `_pos_embed`, for any size."""
        trunk = self.trunk
        x = trunk.patch_embed(images)
        if x.ndim == 4:  # of a trunk that is made for any size
            x = rearrange(x, "n h w width -> n (h w) width")
        grid = trunk.patch_embed.dynamic_feat_size(tuple(images.shape[2:]))
        own = [token for token in (trunk.cls_token, trunk.reg_token) if token is not None]
        prefix = [token.to(x.dtype).expand(x.shape[0], -1, -1) for token in own]
        if trunk.pos_embed is None:
            return torch.cat([*prefix, x], dim=1), grid
        bare = 0 if trunk.no_embed_class else self.prefix  # rows of the table that are no patch's
        table = _resampled(trunk.pos_embed[0], bare, trunk.patch_embed.grid_size, grid).to(x.dtype)
        if trunk.no_embed_class:
            x = torch.cat([*prefix, x + table], dim=1)
        else:
            x = torch.cat([*prefix, x], dim=1) + table
        return trunk.pos_drop(x), grid

    def enter(self, x: Tensor) -> Tensor:
        """See :class:`ImageTransformer`."""
        entered: Tensor = self.trunk.norm_pre(x)
        return entered

    def positions(self, grid: Grid) -> list[Tensor | None]:
        """See :class:`ImageTransformer`."""
        rope = getattr(self.trunk, "rope", None)
        if rope is None:
            return [None] * len(self.blocks)
        fixed = getattr(rope, "feat_shape", None)
        if fixed is None or any(True for _ in rope.parameters()):
            positions = rope.get_embed(shape=list(grid))
        else:
            if tuple(fixed) != grid:
                rope = sharing_copy(rope)  # which keeps the positions of one grid
                rope.update_feat_shape(list(grid))
            positions = rope.get_embed()
        return list(positions) if self.trunk.rope_mixed else [positions] * len(self.blocks)

    def kept(self, positions: Tensor, keep: Tensor) -> Tensor:
        """See :class:`ImageTransformer`."""
        if positions.ndim == 2:
            return rearrange(positions[keep], "n k r -> n 1 k r")
        return rearrange(positions[:, keep], "heads n k r -> n heads k r")

    def block(self, index: int, x: Tensor, positions: Tensor | None) -> Tensor:
        """See :class:`ImageTransformer`."""
        block = self.blocks[index]
        after: Tensor = block(x) if positions is None else block(x, rope=positions)
        return after

    def patches(self, x: Tensor) -> Tensor:
        """See :class:`ImageTransformer`."""
        normed: Tensor = self.trunk.norm(x[:, self.prefix :])
        return normed

    def pool(self, x: Tensor) -> Tensor:
        """See :class:`ImageTransformer`."""
        pooled: Tensor = self.visual.head(self.trunk.forward_head(self.trunk.norm(x)))
        return pooled


class BiasedTransformer(TimmTransformer):
    """A `VisionTransformerRelPos` of timm, whose attention adds a bias for each pair of places, told by a small network of the
    distance between them (Liu et al. 2021, "Swin Transformer V2", arXiv 2111.09883)."""

    whole_blocks = False

    def embed(self, images: Tensor) -> tuple[Tensor, Grid]:
        """See :class:`ImageTransformer`; tokens know no place."""
        trunk = self.trunk
        x = trunk.patch_embed(images)
        prefix = [] if trunk.cls_token is None else [trunk.cls_token.to(x.dtype).expand(x.shape[0], -1, -1)]
        return torch.cat([*prefix, x], dim=1), trunk.patch_embed.dynamic_feat_size(tuple(images.shape[2:]))

    def enter(self, x: Tensor) -> Tensor:
        """See :class:`ImageTransformer`."""
        return x

    def positions(self, grid: Grid) -> list[Tensor | None]:
        """See :class:`ImageTransformer`."""
        if self.trunk.shared_rel_pos is not None:
            return [_bias(self.trunk.shared_rel_pos, grid)] * len(self.blocks)
        return [_bias(block.attn.rel_pos, grid) for block in self.blocks]

    def kept(self, positions: Tensor, keep: Tensor) -> Tensor:
        """See :class:`ImageTransformer`."""
        first = torch.arange(self.prefix, device=keep.device).expand(len(keep), -1)
        rows = torch.cat([first, keep + self.prefix], dim=1)
        return rearrange(positions[:, rows[:, :, None], rows[:, None]], "heads n q k -> n heads q k")

    def block(self, index: int, x: Tensor, positions: Tensor | None) -> Tensor:
        """See :class:`ImageTransformer`; timm's own would ask its own bias, of all patches."""
        block = self.blocks[index]
        if hasattr(block, "ls1"):
            x = x + block.drop_path1(block.ls1(_biased_attention(block.attn, block.norm1(x), positions)))
            after: Tensor = x + block.drop_path2(block.ls2(block.mlp(block.norm2(x))))
        else:  # with the norms behind
            x = x + block.drop_path1(block.norm1(_biased_attention(block.attn, x, positions)))
            after = x + block.drop_path2(block.norm2(block.mlp(x)))
        return after


def _bias(network: Any, grid: Grid) -> Tensor:
    """(heads, S, S)."""
    if tuple(network.window_size) != grid:
        network = sharing_copy(network)  # which keeps the distances of one grid
        network.set_window_size(grid)
    bias: Tensor = network.get_bias()
    return bias[0]


def _biased_attention(attention: Any, x: Tensor, bias: Tensor | None) -> Tensor:
    """timm's `RelPosAttention` with the bias given."""
    q, k, v = rearrange(attention.qkv(x), "n s (three h d) -> three n h s d", three=3, h=attention.num_heads)
    dropped = attention.attn_drop.p if attention.training else 0.0
    attended = F.scaled_dot_product_attention(
        attention.q_norm(q), attention.k_norm(k), v, attn_mask=bias, dropout_p=dropped
    )
    out: Tensor = attention.proj_drop(attention.proj(rearrange(attended, "n h s d -> n s (h d)")))
    return out


def take_apart(visual: Any) -> ImageTransformer | None:
    """The transformer that an open_clip image tower is, or None for a tower of another kind."""
    if hasattr(visual, "transformer") and hasattr(visual, "conv1"):
        return (
            None if visual.attn_pool is None and visual.pool_type == "none" else OpenClipTransformer(visual)
        )
    trunk = getattr(visual, "trunk", None)
    if trunk is None:
        return None
    from timm.layers.pos_embed_rel import RelPosMlp
    from timm.models.eva import Eva
    from timm.models.vision_transformer import VisionTransformer
    from timm.models.vision_transformer_relpos import VisionTransformerRelPos

    if isinstance(trunk, VisionTransformerRelPos):
        first: Any = trunk.blocks[0]
        network = trunk.shared_rel_pos or first.attn.rel_pos
        # A table of biases, which no named model has, cannot be made for another grid with its gradient.
        return BiasedTransformer(visual) if isinstance(network, RelPosMlp) else None
    return TimmTransformer(visual) if isinstance(trunk, VisionTransformer | Eva) else None


def blank_tower(config: Mapping[str, Any]) -> nn.Module:
    """The image tower of an open_clip config without memory for its weights, and without drawing any."""
    from open_clip.model import _build_vision_tower

    vision = {**config["vision_cfg"], "timm_model_pretrained": False}
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        tower: nn.Module = _build_vision_tower(config["embed_dim"], vision, False)
    return tower


def allow_any_size(visual: Any) -> None:
    """Let the patch embedding of a timm trunk take images of other sizes; `embed` interpolates the positions."""
    embedding: Any = getattr(getattr(visual, "trunk", None), "patch_embed", None)
    if hasattr(embedding, "strict_img_size"):
        embedding.strict_img_size = False


def _resampled(table: Tensor, bare: int, old: Grid, new: Grid) -> Tensor:
    """Positions of a grid, after `bare` rows that have no place in it."""
    return torch.cat([table[:bare], resample_table(table[bare:], tuple(old), new)])
