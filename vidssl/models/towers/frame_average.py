"""Any open_clip image tower, which sees each frame by itself: the mean over frames, or what is learned behind it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from vidssl.errors import VidsslError
from vidssl.models.batch_norm import takes_statistics
from vidssl.models.encoder import ClipFeatures, VideoEncoder
from vidssl.models.sharing import sharing_copy
from vidssl.models.temporal.modes import sees, temporal_head
from vidssl.models.temporal.rows import behind_frames, check_layer, frame_rows

# Options of `ClipOptions` that an image tower heeds whose blocks are left alone.
OF_HEAD = ("time_signal", "causal", "head_width", "head_grid", "head_layer", "head_alone", "head_pool")
OF_FRAMES = (*OF_HEAD, "chunk_frames")

PIXELS = 400_000  # shown to a tower at once on a CPU, 16 frames of 160 x 160: what a layer gives then stays in its cache


class FrameAverageEncoder(VideoEncoder):
    """Mean over frames of any open_clip image tower (ResNet, ConvNeXt, FastViT, Swin and so on).

    `forward` gives no patch tokens, since no tower of these pools what its last layer gives; `maps` shows its layers.

    Args:
        visual: the tower.
        embed_dim, image_size: of the tower; interface: mean, std, spec, text, chunk_frames: see :class:`VideoEncoder`.
        temporal: ``"convolutions"`` or ``"head"`` over the features of frames, or ``"none"``.
        time_signal, causal, head_width, head_grid, head_layer, head_alone, head_pool: of the head, see `ClipOptions`.
    """

    def __init__(
        self,
        visual: Any,
        *,
        embed_dim: int,
        image_size: int,
        temporal: str = "none",
        time_signal: bool = True,
        causal: bool = False,
        head_width: int | None = None,
        head_grid: int | None = None,
        head_layer: int | None = None,
        head_alone: bool = False,
        head_pool: str = "mean",
        **interface: Any,
    ) -> None:
        super().__init__(embed_dim=embed_dim, width=embed_dim, image_size=image_size, **interface)
        self.visual = visual
        self.sees = sees(temporal, causal)
        self.head_grid, self.head_layer = head_grid or 0, head_layer
        cells = self.head_grid**2 * self._map_width(head_layer) if self.head_grid else 0
        self.temporal_head = temporal_head(
            temporal,
            embed_dim,
            time_signal=time_signal,
            causal=causal,
            width=head_width,
            cells=cells,
            alone=head_alone,
            pool=head_pool,
        )
        if self._trunk is not None:
            self.map_multiple = max(layer["reduction"] for layer in self._trunk.feature_info)

    def features(self, clips: Tensor, patches: bool, keys: Tensor | None = None) -> ClipFeatures:
        """See :meth:`VideoEncoder.forward`.

        Raises:
            VidsslError: when patch tokens are asked for.
        """
        if patches:
            raise VidsslError(
                f"encoder: {self.spec['name']}: this image tower gives no patch tokens (a vision transformer would)"
            )
        return self.over_time(self.frame_rows(clips, self.head_grid, self.head_layer))

    def frame_rows(self, clips: Tensor, grid: int, layer: int | None = None) -> Tensor:
        """See :meth:`VideoEncoder.frame_rows`."""
        return frame_rows(*self._seen(clips, grid > 0, layer), grid)

    def over_time(self, rows: Tensor) -> ClipFeatures:
        """See :meth:`VideoEncoder.over_time`."""
        return behind_frames(rows, self.embed_dim, self.temporal_head)

    @torch.no_grad()
    def check_size(self, frames: int, size: int) -> None:
        """Which sizes a tower takes besides its own, only it can tell: it is shown a black frame."""
        super().check_size(frames, size)
        if size != self.image_size:
            training = self.training
            try:
                self.eval()._tower(next(self.parameters()).new_zeros(1, 3, size, size))
            finally:
                self.train(training)

    def _seen(self, clips: Tensor, maps: bool, layer: int | None = None) -> tuple[Tensor, Tensor | None]:
        """(B, T, D) features of frames and, where maps are wanted, (B T, W, h, w) of a layer."""
        images = frames_of(clips)
        seen = [self._tower(some, maps, layer) for some in self._at_once(images)]
        pooled = torch.cat([features for features, _ in seen])
        grids = [grid for _, grid in seen if grid is not None]
        return rearrange(pooled, "(b t) d -> b t d", b=clips.shape[0]), torch.cat(grids) if grids else None

    def _at_once(self, images: Tensor) -> Sequence[Tensor]:
        """The images that the tower is shown together: on a CPU few, unless their statistics are taken."""
        few = images.device.type == "cpu" and not torch.compiler.is_compiling()
        if not few or takes_statistics(self.visual):
            return [images]
        return torch.split(images, max(1, PIXELS // (images.shape[2] * images.shape[3])))

    def _tower(
        self, images: Tensor, maps: bool = False, layer: int | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """(N, 3, H, W) -> (N, D), and (N, W, h, w) where maps are wanted."""
        height, width = images.shape[2:]
        try:
            return self._with_map(images, layer) if maps else (self.visual(images), None)
        except (AssertionError, RuntimeError) as error:
            if height == width == self.image_size or isinstance(error, torch.OutOfMemoryError):
                raise
            raise VidsslError(
                f"encoder: frames of {height}x{width} pixels: are not for this image tower, made for {self.image_size} a side "
                f"(allowed: {self._sizes()})"
            ) from None

    def _with_map(self, images: Tensor, layer: int | None) -> tuple[Tensor, Tensor]:
        """What the tower gives, and the map of a layer on the way there."""
        widths = self._map_widths()
        number = check_layer(self, layer, len(widths))
        if self._resnet is not None:
            grids = list(_resnet_maps(self._resnet, images))
            return self._resnet.attnpool(grids[-1]), grids[number]
        assert self._trunk is not None
        last = number == len(widths) - 1
        x, [grid] = self._trunk.forward_intermediates(images, indices=[number], norm=last)
        return self.visual.head(self._trunk.forward_head(x)), grid

    def _map_width(self, layer: int | None) -> int:
        """W, channels of the map of a layer; raises where there is none."""
        widths = self._map_widths()
        return widths[check_layer(self, layer, len(widths))]

    def _map_widths(self) -> list[int]:
        """Channels of the maps of all layers.

        Raises:
            VidsslError: for a tower that shows none.
        """
        if self._resnet is not None:
            stem = [int(self._resnet.conv3.out_channels)]
            return stem + [int(stage[-1].conv3.out_channels) for stage in _stages(self._resnet)]
        if self._trunk is None:
            raise VidsslError(f"encoder: {self.spec['name']}: shows no map of a layer; leave the grid out")
        return [int(layer["num_chs"]) for layer in self._trunk.feature_info]

    def _sizes(self) -> str:
        """What sides this tower takes, in words; its own at least."""
        pool = getattr(self.visual, "attnpool", None)
        if pool is None or not hasattr(pool, "positional_embedding"):
            return f"{self.image_size}"
        # A CLIP ResNet: a position for each cell after a convolution that rounds up and four halvings that round down.
        cells = math.isqrt(len(pool.positional_embedding) - 1)
        return f"{32 * cells - 1} to {32 * cells + 30}"

    def maps(self, clips: Tensor) -> Iterator[Tensor]:
        """See :meth:`VideoEncoder.maps`; a layer is the stem or a stage of a ResNet, or what timm counts as one.

        Raises:
            VidsslError: for a tower that shows no layers.
        """
        images = frames_of(clips)
        if self._resnet is not None:
            grids = _resnet_maps(self._resnet, images)
        elif self._trunk is not None:
            grids = _timm_maps(self._trunk, images)
        else:
            yield from super().maps(clips)
            return
        for grid in grids:
            yield rearrange(grid, "(b t) width h w -> b t h w width", b=clips.shape[0])

    def layer_map(self, clips: Tensor, layer: int) -> Tensor:
        """See :meth:`VideoEncoder.layer_map`."""
        if self._trunk is None:
            return super().layer_map(clips, layer)
        grid = _timm_map(self._trunk, frames_of(clips), layer)
        return rearrange(grid, "(b t) width h w -> b t h w width", b=clips.shape[0])

    def stages(self) -> Sequence[Sequence[nn.Module]]:
        """See :meth:`VideoEncoder.stages`."""
        if self._resnet is not None:
            return [[self._resnet.conv1, self._resnet.avgpool], *([stage] for stage in _stages(self._resnet))]
        if self._trunk is None or _has_positions(self._trunk):
            return []
        names = [str(layer["module"]) for layer in self._trunk.feature_info]
        return [[self._trunk.get_submodule(part) for part in parts] for parts in _with_those_between(names)]

    @property
    def _resnet(self) -> Any:
        """open_clip's ResNet, or None."""
        return self.visual if hasattr(self.visual, "layer4") else None

    @property
    def _trunk(self) -> Any:
        """A trunk of timm that shows its layers, or None."""
        trunk = getattr(self.visual, "trunk", None)
        return trunk if hasattr(trunk, "forward_intermediates") else None


def frames_of(clips: Tensor) -> Tensor:
    """(B, 3, T, H, W) -> (B T, 3, H, W), each pixel's channels next to each other, which convolutions work on faster, on CPUs and GPUs;
    their weights stay as they are, and what a network gives keeps the layout."""
    return rearrange(rearrange(clips, "b c t h w -> (b t) h w c").contiguous(), "n h w c -> n c h w")


def _stages(resnet: Any) -> list[Any]:
    return [resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4]


def _resnet_maps(resnet: Any, images: Tensor) -> Iterator[Tensor]:
    """(N, width, h, w) behind the stem and every stage."""
    x = resnet.stem(images)
    yield x
    for stage in _stages(resnet):
        x = stage(x)
        yield x


def _with_those_between(names: Sequence[str]) -> list[list[str]]:
    """Of each layer, the submodules that make it from the one before: ``blocks.2`` and ``blocks.4`` are of blocks 2, and 3 and 4."""
    found, before = [], ("", -1)
    for name in names:
        room, _, number = name.rpartition(".")
        if not number.isdecimal():
            found.append([name])
            continue
        first = before[1] + 1 if before[0] == room else int(number)
        found.append([f"{room}.{n}" for n in range(first, int(number) + 1)])
        before = (room, int(number))
    return found


def _has_positions(trunk: Any) -> bool:
    """Whether a trunk of timm is made for a size: a transformer, whose positions can be interpolated."""
    return hasattr(trunk, "set_input_size")


def _timm_maps(trunk: Any, images: Tensor) -> Iterator[Tensor]:
    """(N, width, h, w) of every layer; all at once, since timm computes them so."""
    *inner, _ = _sized(trunk, images).forward_intermediates(images, intermediates_only=True)
    yield from inner
    yield _timm_map(trunk, images, len(inner))


def _timm_map(trunk: Any, images: Tensor, layer: int) -> Tensor:
    """(N, width, h, w) of one layer, the last after the final norm."""
    [grid] = _sized(trunk, images).forward_intermediates(
        images,
        indices=[layer],
        norm=layer == len(trunk.feature_info) - 1,
        stop_early=True,
        intermediates_only=True,
    )
    assert isinstance(grid, Tensor)
    return grid


def _sized(trunk: Any, images: Tensor) -> Any:
    """The trunk for a size of images; positions are interpolated in a copy."""
    if not _has_positions(trunk):
        return trunk
    trunk = sharing_copy(trunk)
    trunk.set_input_size(img_size=tuple(images.shape[2:]))
    return trunk
