"""A video encoder around an image tower of whatever kind: which modes it takes, its size, and what was learned of time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from vidssl.errors import VidsslError
from vidssl.models.encoder import VideoEncoder
from vidssl.models.options import ClipOptions
from vidssl.models.temporal.modes import IN_BLOCKS, ON_FRAMES
from vidssl.models.tokens.blocks import take_apart
from vidssl.models.towers.clip import ClipVideoEncoder
from vidssl.models.towers.frame_average import OF_FRAMES, OF_HEAD, FrameAverageEncoder
from vidssl.models.weights import load_strict


def check_mode(visual: nn.Module, name: str, temporal: str) -> bool:
    """Whether the image tower is a transformer that can be taken apart; raises where a mode needs one and it is not."""
    transformer = take_apart(visual) is not None
    if not transformer and temporal in IN_BLOCKS:
        kind = type(getattr(visual, "trunk", visual)).__name__
        raise VidsslError(
            f"{name}: temporal={temporal!r} cannot be put into this image tower, a {kind} (allowed: vision "
            f"transformers such as 'ViT-B-16' and 'ViT-B-16-SigLIP2', or temporal={', '.join(map(repr, ON_FRAMES))} or 'none')"
        )
    return transformer


def encoder_around(visual: nn.Module, *, spec: Mapping[str, Any], **interface: Any) -> VideoEncoder:
    """The encoder of a spec around its image tower.

    Args:
        visual: open_clip's, or one like it: a trunk and a head.
        spec: `temporal`, `options` (fields of `ClipOptions`), `model_cfg` with `embed_dim`.
        interface: mean, std, text: see :class:`VideoEncoder`.
    """
    options, interface = spec["options"], {**interface, "spec": dict(spec)}
    if take_apart(visual) is not None:
        return ClipVideoEncoder(visual, temporal=spec["temporal"], **interface, **options)
    size: Any = visual.image_size
    return FrameAverageEncoder(
        visual,
        embed_dim=spec["model_cfg"]["embed_dim"],
        image_size=int(size if isinstance(size, int) else size[0]),
        temporal=spec["temporal"],
        **interface,
        **{key: options[key] for key in OF_FRAMES if key in options},
    )


def set_size(visual: nn.Module, size: int, name: str) -> None:
    """Make a timm trunk for a size of images; those that are made for any are left as they are.

    Raises:
        VidsslError: for a trunk that cannot be.
    """
    trunk: Any = getattr(visual, "trunk", None)
    if getattr(getattr(trunk, "patch_embed", None), "img_size", None) in (None, (size, size)):
        return
    try:
        trunk.set_input_size(img_size=(size, size))
    except (AssertionError, AttributeError, RuntimeError, TypeError) as error:
        made = trunk.patch_embed.img_size[0]
        raise VidsslError(
            f"{name}: image_size: {size}: is not for this image tower, made for {made} ({' '.join(str(error).split())})"
        ) from None


def load_over_time(
    encoder: VideoEncoder, tensors: Mapping[str, Tensor], source: str, other: Mapping[str, Any]
) -> None:
    """Give an encoder the attention over time of another one, which has to have worked in the same way.

    Raises:
        VidsslError: naming the option in which they differ, or the keys.
    """
    temporal = other.get("temporal")
    if encoder.spec["temporal"] != temporal:  # names and shapes of weights can be the same
        raise VidsslError(f"{source}: was trained with temporal={temporal!r}; take temporal={temporal!r}")
    for key in ("cls_mode", *OF_HEAD):
        unsaid = getattr(ClipOptions, key)  # by what was written before there was such an option
        own, theirs = (spec.get("options", {}).get(key, unsaid) for spec in (encoder.spec, other))
        if own != theirs:
            raise VidsslError(
                f"{source}: was trained with {key}={theirs!r}, not {own!r}; set it in the options"
            )
    visual = {key: value for key, value in encoder.state_dict().items() if key.startswith("visual.")}
    load_strict(encoder, {**visual, **tensors}, source, "; max_frames has to be as it was")
