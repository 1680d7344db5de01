"""What a format is: how an encoder is written in it, and how what was written is run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from einops import rearrange
from torch import Tensor

from vidssl.errors import VidsslError
from vidssl.models.encoder import VideoEncoder

Features = tuple[Tensor, Tensor]


class Loaded(NamedTuple):
    """An encoder that was read from what a format writes.

    encode: clips (B, 3, T, H, W), normalised -> (clip (B, D), frames (B, T, D)); texts: N strings -> (N, D), None without a
    text tower.
    """

    encode: Callable[[Tensor], Features]
    texts: Callable[[Sequence[str]], Tensor] | None = None


class Format(NamedTuple):
    """One format.

    require: raises `VidsslError` for an encoder that it has no place for, before anything is written.
    write: the encoder into an empty folder; the clips are examples of what it will be shown. Returns what is to be said of
        the result, JSON-able.
    read: what `write` wrote, with the library that others will read it with.
    library: that library, as the hub names it. usage: at most four lines of Python that load it; ``{place}`` stands for where it
        is, ``{mean}`` and ``{std}`` for how clips are normalised. here, hub: Python for that place, a folder or a repository ``{name}``.
    images: whether it holds an image model, which is shown images of its own size.
    """

    require: Callable[[VideoEncoder], None]
    write: Callable[[VideoEncoder, Path, Tensor], dict[str, Any]]
    read: Callable[[Path], Loaded]
    library: str
    usage: str
    here: str = '"{name}"'
    hub: str = 'snapshot_download("{name}")'
    images: bool = False


def require_images(encoder: VideoEncoder, library: str) -> None:
    """Insist that an encoder is the mean over frames of an image model.

    Raises:
        VidsslError: when it is something else, saying what would be lost.
    """
    temporal = encoder.spec.get("temporal")
    if temporal is None:
        raise VidsslError(
            f"{encoder.spec['name']}: is a video network, and {library} has no such model (allowed: image models with "
            "temporal='none'; every encoder can be written as vidssl, torch-export or onnx)"
        )
    if temporal != "none":
        raise VidsslError(
            f"{encoder.spec['name']}: {library} has no place for what was learned of time (temporal={temporal!r}); --image-tower "
            "leaves it out, and says by how much features change; vidssl, torch-export and onnx keep it"
        )


def over_frames(features: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Features]:
    """An image model, (N, 3, H, W) -> (N, D), shown every frame by itself; the clip is the mean."""

    def encode(clips: Tensor) -> Features:
        images = rearrange(clips, "b c t h w -> (b t) c h w")
        frames = rearrange(features(images), "(b t) d -> b t d", b=clips.shape[0])
        return frames.mean(dim=1), frames

    return encode
