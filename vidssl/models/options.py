"""Options of `create_model`: which there are, and the line that names a wrong one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vidssl.errors import VidsslError, check_choice
from vidssl.models.temporal.modes import HEEDS
from vidssl.models.tokens.drop import MOST

CHOICE = "create_model: {name}: {value!r}{guess} (allowed: {allowed})"
# What is heeded by every encoder, and what by image transformers.
_ALWAYS = ("image_size", "load_text", "load_weights")
_OF_TOKENS = ("chunk_frames", "activation_checkpointing", "token_drop")
_LEAST = {"head_layer": 0}
_CHOICES = {
    "cls_mode": ("per_frame", "shared"),
    "temporal_init": ("copy", "random"),
    "head_pool": ("mean", "std"),
}


@dataclass(frozen=True)
class ClipOptions:
    """Options of :func:`create_model` for CLIP towers.

    cls_mode: of `divided`: a class token "per_frame", or one "shared" by all frames of a clip.
    temporal_init: attention along time starts as a "copy" of the block's own, or "random".
    max_frames: rows of the time embedding, interpolated for longer clips.
    time_signal: whether the order of frames is told from the start.
    causal: a frame sees itself and earlier ones.
    head_width: channels of what stands behind the image tower; None: as many as its features have (convolutions: twice).
    head_grid: cells a side of a coarse grid of the picture that it is told of beside the features; None: these alone.
    head_layer: whose map that grid is made of, counted from 0; None: the last.
    head_alone: what stands behind the tower gives the features, instead of being added to the tower's.
    head_pool: of such features, whether a clip's are the "mean" over its frames, or the "std": how much each moves.
    chunk_frames: frames that the image tower encodes at a time; None: all.
    activation_checkpointing: compute activations again in the backward pass, which needs less memory.
    token_drop: share of the patches that is left out in training, 0 to 0.95.
    image_size: side in pixels the encoder is made for instead of the architecture's; the position embedding of loaded
        weights is interpolated. (Clips of other sizes work in any case.)
    load_text: whether to build and load the text tower too.
    load_weights: False starts a ``local-dir:`` or ``hf-hub:`` name from random weights.
    """

    cls_mode: str = "per_frame"
    temporal_init: str = "copy"
    max_frames: int = 8
    time_signal: bool = True
    causal: bool = False
    head_width: int | None = None
    head_grid: int | None = None
    head_layer: int | None = None
    head_alone: bool = False
    head_pool: str = "mean"
    chunk_frames: int | None = None
    image_size: int | None = None
    activation_checkpointing: bool = False
    token_drop: float = 0.0
    load_text: bool = True
    load_weights: bool = True


def check_options(options: Mapping[str, Any], defaults: Mapping[str, Any], of: str = "") -> None:
    """Check the names of options and the kind of their values, which is that of the default.

    Args:
        options: as given.
        defaults: the options there are. True or False is a switch, a string one of several choices, a fraction a share
            of patches to leave out; the others count something, and may be None only where that is the default.
        of: whose options they are, for the error.

    Raises:
        VidsslError: naming the first option that is unknown or of another kind.
    """
    unknown = f"create_model: unknown option {{value!r}}{of}{{guess}} (allowed: {{allowed}})"
    for key, value in options.items():
        check_choice("option", key, defaults, unknown)
        default = defaults[key]
        if isinstance(default, str):
            check_choice(key, value, _CHOICES[key], CHOICE)
        elif isinstance(default, bool):
            if not isinstance(value, bool):
                raise VidsslError(f"create_model: {key}: {value!r}: must be true or false")
        elif isinstance(default, float):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST:
                raise VidsslError(f"create_model: {key}: {value!r}: must be a number from 0 to {MOST}")
        elif not (value is None and default is None):
            least = _LEAST.get(key, 1)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise VidsslError(
                    f"create_model: {key}: {value!r}: must be a whole number of at least {least}"
                )


def check_effect(options: Mapping[str, Any], name: str, temporal: str, *, transformer: bool) -> None:
    """Check that an encoder heeds its options; those that say what holds anyway pass.

    Args:
        options: as given.
        name: of the model, for the error.
        temporal: as in `create_model`.
        transformer: whether the image tower is one whose blocks can be taken apart.

    Raises:
        VidsslError: naming the first option that would change nothing.
    """
    reason = f"temporal={temporal!r}" if transformer else "an image tower that sees one frame at a time"
    heeded = {*_ALWAYS, *HEEDS[temporal]}
    if transformer:
        heeded |= {*_OF_TOKENS}
    elif temporal != "none":
        heeded |= {"chunk_frames"}
    for key, value in options.items():
        if key not in heeded and value != getattr(ClipOptions, key):
            raise VidsslError(
                f"create_model: {key}: {value!r}: has no effect on {name} ({reason}); leave it out"
            )
