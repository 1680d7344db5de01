"""The ways to learn of time, which towers each is for, and which options it heeds."""

from __future__ import annotations

from torch import nn

from vidssl.errors import VidsslError
from vidssl.models.temporal.convolutions import TemporalConvolutions
from vidssl.models.temporal.head import TemporalTransformer

# Between the blocks of an image transformer, and behind any image tower.
IN_BLOCKS = ("divided", "joint", "adapter")
ON_FRAMES = ("convolutions", "head")
MODES = (*IN_BLOCKS, *ON_FRAMES, "none")
HEEDS = {
    "divided": ("cls_mode", "temporal_init", "max_frames", "time_signal", "causal"),
    "joint": ("temporal_init", "max_frames", "time_signal", "causal"),
    "adapter": ("causal",),
    "convolutions": ("head_width", "head_grid", "head_layer", "head_alone", "head_pool"),
    "head": ("time_signal", "causal", "head_width", "head_grid", "head_layer", "head_alone", "head_pool"),
    "none": (),
}


def temporal_head(
    temporal: str,
    dim: int,
    *,
    time_signal: bool,
    causal: bool,
    width: int | None = None,
    cells: int = 0,
    alone: bool = False,
    pool: str = "mean",
) -> nn.Module | None:
    """What stands behind an image tower whose frame features have size `dim`; None for the other modes.

    `alone`: what it gives are the features, not what is added to them. Its last map then starts as any other, for behind a map of zeros
    all videos would be the same. `pool`: see `ClipOptions`.

    Raises:
        VidsslError: for another pooling of features that are not the head's alone.
    """
    head: TemporalConvolutions | TemporalTransformer
    if temporal == "convolutions":
        head = TemporalConvolutions(dim, width, cells)
    elif temporal == "head":
        head = TemporalTransformer(dim, time_signal, causal, width=width, cells=cells)
    else:
        return None
    if pool != "mean" and not alone:
        raise VidsslError(
            f"create_model: head_pool: {pool!r}: is of features of the head alone; set head_alone"
        )
    head.pool = pool
    if alone:
        head.alone, head.fc = True, nn.Linear(head.fc.in_features, dim)
    return head


def sees(temporal: str, causal: bool) -> str:
    """What the feature of a frame can depend on, see `VideoEncoder.sees`."""
    return "frame" if temporal == "none" else "past" if causal else "clip"
