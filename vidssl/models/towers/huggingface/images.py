"""An image model of transformers, which sees each frame by itself: the mean over frames, or what is learned behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from vidssl.models.encoder import ClipFeatures, TextTower
from vidssl.models.temporal.rows import check_layer, frame_rows
from vidssl.models.towers.frame_average import OF_FRAMES, FrameAverageEncoder


class ImageTower(nn.Module):
    """CLIP, SigLIP, SigLIP 2, DINOv2 or DINOv3: images to pooled features and to the tokens of every layer.

    Args:
        network: of transformers.
        kind: its `model_type`.
    """

    def __init__(self, network: nn.Module, kind: str) -> None:
        super().__init__()
        self.net: Any = network
        config: Any = network.config
        self.clip, self.packed = kind.startswith("clip"), kind.startswith("siglip2")
        self.convolutional = kind == "dinov3_convnext"
        # Positions of DINO models follow the image by themselves.
        self.resize = (
            {"interpolate_pos_encoding": True}
            if kind.startswith("clip") or kind.startswith("siglip_") or kind == "siglip"
            else {}
        )
        self.patch = 2 ** (len(config.hidden_sizes) + 1) if self.convolutional else int(config.patch_size)
        sizes = config.hidden_sizes if self.convolutional else [config.hidden_size] * config.num_hidden_layers
        self.widths = [int(size) for size in sizes]
        self.width = self.widths[-1]
        self.dim = int(config.projection_dim) if self.clip else self.width
        self.prefix = 0 if kind.startswith("siglip") else 1 + int(getattr(config, "num_register_tokens", 0))

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, D)."""
        return self.pooled(self.run(images))

    def run(self, images: Tensor, layers: bool = False) -> Any:
        """The output of transformers, with the tokens of every layer if asked for."""
        if not self.packed:
            return self.net(images, output_hidden_states=layers, **self.resize)
        pixels = rearrange(images, "n c (h p) (w q) -> n (h w) (p q c)", p=self.patch, q=self.patch)
        grid = torch.tensor([[images.shape[2] // self.patch, images.shape[3] // self.patch]])
        return self.net(
            pixels,
            pixel_attention_mask=torch.ones(pixels.shape[:2], dtype=torch.int32, device=images.device),
            spatial_shapes=grid.expand(images.shape[0], -1),
            output_hidden_states=layers,
        )

    def pooled(self, output: Any) -> Tensor:
        """(N, D): what the model compares images by."""
        found: Tensor = output.image_embeds if self.clip else output.pooler_output
        return found

    def patches(self, output: Any, height: int) -> Tensor:
        """(N, h, w, W) behind the final norm."""
        tokens = output.last_hidden_state[:, self.prefix :]
        if self.clip:
            tokens = self.net.vision_model.post_layernorm(tokens)
        grid: Tensor = rearrange(tokens, "n (h w) width -> n h w width", h=height // self.patch)
        return grid

    def layer(self, output: Any, number: int, height: int) -> Tensor:
        """(N, h, w, width) behind a layer, the last also behind the final norm; of the others `run` has to have kept the tokens."""
        if number == len(self.widths) - 1:
            return self.patches(output, height)
        x: Tensor = output.hidden_states[number + 1]
        if self.convolutional:
            return rearrange(x, "n width h w -> n h w width")
        return rearrange(x[:, self.prefix :], "n (h w) width -> n h w width", h=height // self.patch)

    def maps(self, images: Tensor) -> Iterator[Tensor]:
        """(N, h, w, width) behind every layer."""
        output = self.run(images, layers=True)
        for number in range(len(self.widths)):
            yield self.layer(output, number, images.shape[2])


class TransformersImageEncoder(FrameAverageEncoder):
    """Mean over frames of an image model of transformers, or what a temporal head makes of them; patches are its tokens.

    Args:
        network: of transformers.
        spec: `name`, `config`, `preprocess`, `image_size`, `temporal`, `options` (of :class:`ClipOptions`).
        text: see :class:`VideoEncoder`.
    """

    def __init__(self, network: nn.Module, spec: Mapping[str, Any], text: TextTower | None) -> None:
        tower = ImageTower(network, spec["config"]["model_type"])
        mean, std = (tuple(float(value) for value in spec["preprocess"][key]) for key in ("mean", "std"))
        options = spec["options"]
        super().__init__(
            tower,
            embed_dim=tower.dim,
            image_size=spec["image_size"],
            temporal=spec["temporal"],
            mean=mean,
            std=std,
            spec=dict(spec),
            text=text,
            size_multiple=tower.patch,
            **{key: options[key] for key in OF_FRAMES if key in options},
        )
        self.width = tower.width
        self.map_multiple = tower.patch

    def features(self, clips: Tensor, patches: bool, keys: Tensor | None = None) -> ClipFeatures:
        """See :meth:`VideoEncoder.forward`."""
        number = check_layer(self, self.head_layer, len(self.visual.widths))
        output = self._run(clips, number)
        found = self.over_time(self._rows_of(output, clips, self.head_grid, number))
        if not patches:
            return found
        tokens = self.visual.patches(output, clips.shape[3])
        return found._replace(patches=rearrange(tokens, "(b t) h w width -> b t h w width", b=clips.shape[0]))

    def frame_rows(self, clips: Tensor, grid: int, layer: int | None = None) -> Tensor:
        """See :meth:`VideoEncoder.frame_rows`."""
        number = check_layer(self, layer, len(self.visual.widths))
        return self._rows_of(self._run(clips, number), clips, grid, number)

    def _run(self, clips: Tensor, number: int) -> Any:
        """The output for all frames; the tokens of every layer are kept where those of layer `number` are not the output's own."""
        frames = rearrange(clips, "b c t h w -> (b t) c h w")
        return self.visual.run(frames, layers=number < len(self.visual.widths) - 1)

    def _rows_of(self, output: Any, clips: Tensor, grid: int, number: int) -> Tensor:
        pooled = rearrange(self.visual.pooled(output), "(b t) d -> b t d", b=clips.shape[0])
        maps = self.visual.layer(output, number, clips.shape[3]) if grid else None
        return frame_rows(pooled, None if maps is None else rearrange(maps, "n h w c -> n c h w"), grid)

    def _map_widths(self) -> list[int]:
        """See :meth:`FrameAverageEncoder._map_widths`."""
        widths: list[int] = self.visual.widths
        return widths

    def check_size(self, frames: int, size: int) -> None:
        """See :meth:`VideoEncoder.check_size`; any multiple of the patch."""
        self._check_shape(frames, size, size)

    def maps(self, clips: Tensor) -> Iterator[Tensor]:
        """See :meth:`VideoEncoder.maps`; a layer is a block, or a stage of a convolutional network."""
        for grid in self.visual.maps(rearrange(clips, "b c t h w -> (b t) c h w")):
            yield rearrange(grid, "(b t) h w width -> b t h w width", b=clips.shape[0])
