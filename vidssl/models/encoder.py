"""What every video encoder of the package looks like: clips in, :class:`ClipFeatures` out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple, Protocol, Self

import torch
from einops import rearrange, reduce
from torch import Tensor, nn

from vidssl.errors import VidsslError
from vidssl.models.tokens.drop import piece_keys

_NOT_OF_FRAMES = (
    "does not see one frame at a time, so that nothing of single frames can be kept (allowed: image models, with "
    "temporal='none', 'head' or 'convolutions')"
)


class TextTower(Protocol):
    """A frozen text tower in the space of a video encoder's features; `vidssl.models.towers.text` has it."""

    context_length: int

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) over the weights and whatever else decides the features."""

    @property
    def temperature(self) -> float:
        """Softmax temperature for cosines that the model was trained with."""

    @property
    def bias(self) -> float | None:
        """Of a model trained with a sigmoid for each pair (SigLIP): what is added to cosines over the temperature; else None."""

    def num_tokens(self, text: str) -> int:
        """Length of a text in tokens, start and end included."""

    def encode(self, texts: Sequence[str], batch_size: int = 256) -> Tensor:
        """(N, D) float32 features, not normalised, without gradient."""

    def to(self, device: torch.device | str) -> object:
        """Move the tower."""


class ClipFeatures(NamedTuple):
    """Features of B clips; nothing in it is l2-normalised.

    clip: (B, D); frames: (B, T, D), T as in the clips unless the network strides over time; patches: (B, T, h, w, W)
    tokens of the last layer (after the final norm where the image tower norms before it pools), None unless asked for.
    """

    clip: Tensor
    frames: Tensor
    patches: Tensor | None


class VideoEncoder(nn.Module):
    """Base class of the encoders.

    Args:
        embed_dim: D, size of `clip` and `frames`.
        width: W, size of a patch token.
        mean, std: what clips in [0, 1] have to be normalised with, per colour channel.
        image_size: side in pixels the encoder was made for; others work where `size_multiple` divides them.
        spec: JSON-able description from which `build_from_spec` makes the same module without network access.
        size_multiple: what height and width must be divisible by.
        text: frozen text tower of the same embedding space. It is held beside the module, not in it: absent from
            `parameters()` and `state_dict()`, shared by `copy.deepcopy`, and moved along by `.to(device)`.
        chunk_frames: encode every so many frames as a clip of their own; None: the whole clip at once.

    Attributes:
        sees: what the feature of a frame can depend on: that ``"frame"``, it and the ``"past"``, or the whole
            ``"clip"`` (with `chunk_frames`, the whole chunk). Predicting a frame that its context has seen is no task.
        time_stride: frames that make one slice of patches in time, the shortest clip.
        token_drop: share of the patches that is left out where `forward` is given keys; 0 for networks without tokens.
        map_multiple: what height and width must be divisible by for `maps` to give all layers.
    """

    text: TextTower | None
    sees: str = "clip"
    time_stride: int = 1
    map_multiple: int = 1
    token_drop: float = 0.0

    def __init__(
        self,
        *,
        embed_dim: int,
        width: int,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        image_size: int,
        spec: dict[str, Any],
        size_multiple: int = 1,
        text: TextTower | None = None,
        chunk_frames: int | None = None,
    ) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        self.width = width
        self.mean = mean
        self.std = std
        self.image_size = image_size
        self.spec = spec
        self.size_multiple = size_multiple
        self.text = text
        self.chunk_frames = chunk_frames

    def forward(self, clips: Tensor, patches: bool = False, keys: Tensor | None = None) -> ClipFeatures:
        """Encode clips.

        Args:
            clips: (B, 3, T, H, W) floating point, normalised with `mean` and `std`; or (B, T, R), what `frame_rows` made of
                such clips.
            patches: whether to return the patch tokens as well.
            keys: (B,) int64: leave `token_drop` of every clip's patches out, those that its key stands for; None: none.

        Raises:
            VidsslError: for another shape or dtype, and patches that are to be returned and left out.
        """
        kept = clips.ndim == 3
        if not kept:
            self._check(clips)
        if keys is not None and self.token_drop and patches:
            raise VidsslError("encoder: patches: cannot be returned where some are left out; give no keys")
        if self.chunk_frames is None:
            return self.over_time(clips) if kept else self.features(clips, patches, keys)
        pattern = "b (n t) r -> (b n) t r" if kept else "b c (n t) h w -> (b n) c t h w"
        pieces = rearrange(clips, pattern, t=self.chunk_frames)
        if keys is not None:
            keys = piece_keys(keys, len(pieces) // len(clips))
        clip, frames, tokens = self.over_time(pieces) if kept else self.features(pieces, patches, keys)
        batch = clips.shape[0]
        return ClipFeatures(
            reduce(clip, "(b n) d -> b d", "mean", b=batch),
            rearrange(frames, "(b n) t d -> b (n t) d", b=batch),
            None if tokens is None else rearrange(tokens, "(b n) t h w d -> b (n t) h w d", b=batch),
        )

    @property
    def usual_frames(self) -> int:
        """Frames of a clip where nothing else decides it: those of the training, else what the network is made for, else 8."""
        return int(self.spec.get("sampling", {}).get("frames") or self.spec.get("max_frames") or 8)

    def check_size(self, frames: int, size: int) -> None:
        """Find out, before there are any, whether clips of so many frames and `size` pixels a side can be encoded.

        Raises:
            VidsslError: when they cannot.
        """
        self._check_shape(frames, size, size)

    def features(self, clips: Tensor, patches: bool, keys: Tensor | None = None) -> ClipFeatures:
        """`forward` without the checks; what a subclass implements."""
        raise NotImplementedError

    def frame_rows(self, clips: Tensor, grid: int, layer: int | None = None) -> Tensor:
        """What of each frame can be kept, so that `over_time` does the rest: `features` are one after the other.

        Args:
            clips: as in `forward`; not cut into chunks.
            grid, layer: cells a side, and of whose map, see `vidssl.models.temporal.rows`; of an encoder with a head, its own.

        Returns:
            (B, T, D + grid² W), no frame's depending on another.

        Raises:
            VidsslError: for a network that does not see one frame at a time, or shows no map of that layer.
        """
        raise VidsslError(f"encoder: {self.spec['name']}: {_NOT_OF_FRAMES}")

    def over_time(self, rows: Tensor) -> ClipFeatures:
        """The features of clips from `frame_rows` (B, T, R) of their frames.

        Raises:
            VidsslError: as `frame_rows`, and for rows of another size.
        """
        raise VidsslError(f"encoder: {self.spec['name']}: {_NOT_OF_FRAMES}")

    def maps(self, clips: Tensor) -> Iterator[Tensor]:
        """Patch features after each layer, first to last, each computed when it is asked for.

        Args:
            clips: as in `forward`; not cut into chunks.

        Yields:
            (B, T', h, w, width of the layer); the last are the `patches` of `forward`.

        Raises:
            VidsslError: for a network that shows none.
        """
        raise VidsslError(f"encoder: {self.spec['name']}: shows no patch features of its layers")

    def layer_map(self, clips: Tensor, layer: int) -> Tensor:
        """The `maps` of one layer, counted from 0; later ones are not computed."""
        return next(islice(self.maps(clips), layer, None))

    def units(self) -> Sequence[nn.Module]:
        """The modules that `forward` calls as wholes (``unit(x)``) and that hold nearly all weights, such as the blocks of a
        transformer: by them an encoder is compiled and split over processes. Empty: the encoder is one."""
        return ()

    def compile_units(self) -> None:
        """Have torch compile the units, which are mostly alike and then compiled once, or all of it where there are none."""
        for unit in self.units() or [self]:
            unit.compile()

    def stages(self) -> Sequence[Sequence[nn.Module]]:
        """The modules of each layer of a convolutional network, whose strides in space can be changed; else empty."""
        return ()

    def _check(self, clips: Tensor) -> None:
        shape = tuple(clips.shape)
        if clips.ndim != 5 or shape[1] != 3 or shape[2] < 1:
            raise VidsslError(
                f"encoder: clips of shape {shape}: must be (B, 3, T, H, W) with at least one frame"
                + ("; frames seem to come before the channels" if clips.ndim == 5 and shape[2] == 3 else "")
            )
        if not clips.is_floating_point():
            raise VidsslError(
                f"encoder: clips are {clips.dtype}: must be floating point, scaled to [0, 1] and normalised "
                "with the encoder's mean and std"
            )
        self._check_shape(shape[2], shape[3], shape[4])

    def _check_shape(self, frames: int, height: int, width: int) -> None:
        """What the numbers alone say; a network that takes fewer shapes says so here."""
        multiple = self.size_multiple
        if height < multiple or width < multiple or height % multiple or width % multiple:
            raise VidsslError(
                f"encoder: clips of {height}x{width} pixels: both sides must be multiples of {multiple}"
            )
        if self.chunk_frames is not None and frames % self.chunk_frames:
            raise VidsslError(
                f"encoder: clips of {frames} frames: must be a multiple of chunk_frames={self.chunk_frames}"
            )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Every `.to`, `.cuda`, `.cpu` of this module or of one that contains it passes here."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.text is not None:
            device = next(self.parameters(), torch.empty(0)).device
            if device.type != "meta":
                self.text.to(device)
        return self
