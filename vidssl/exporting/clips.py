"""Clips to check an export on: of videos that are named, else rendered ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from vidssl.data.dataset import EvalClipDataset
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.views.colour import normalize_
from vidssl.errors import VidsslError
from vidssl.evaluation.setup import EvalOptions, shown_batches
from vidssl.models.encoder import VideoEncoder
from vidssl.synthetic.sprites import random_sprite, render_clip

LEAST = 3  # one more than the batch a program is made with, so that both smaller and larger ones are seen


class CheckClips(NamedTuple):
    """clips: (B, 3, T, H, W), normalised; names: of each the video's, or "rendered"."""

    clips: Tensor
    names: list[str]


def check_clips(
    encoder: VideoEncoder, videos: Sequence[str | Path], frames: int | None = None, size: int | None = None
) -> CheckClips:
    """A clip of each video as evaluations show it, and rendered ones up to `LEAST`.

    Args:
        encoder: whose normalisation, and whose frames and size where none are given, they have.
        videos: files. frames, size: T and pixels a side.

    Raises:
        VidsslError: for a video that cannot be decoded, and clips that the encoder does not take.
    """
    options = EvalOptions(frames=frames, size=size, clips=1, workers=0, device="cpu")
    spec = options.spec(encoder)
    length, side = spec.clip.frames, spec.size
    encoder.check_size(length, side)
    rows: list[Tensor] = []
    if videos:
        dataset = EvalClipDataset(VideoIndex.of_files(videos), spec)
        for batch, views in shown_batches(dataset, encoder, options, "export", "cpu"):
            if batch.failures:
                raise VidsslError(f"{batch.failures[0].path}: {batch.failures[0].reason}")
            rows.append(views[0])
    missing = max(LEAST - len(videos), 0)
    rows += [_rendered(encoder, number, length, side) for number in range(missing)]
    return CheckClips(torch.cat(rows), [Path(video).name for video in videos] + ["rendered"] * missing)


def _rendered(encoder: VideoEncoder, number: int, frames: int, size: int) -> Tensor:
    rng = np.random.default_rng(number)
    sprite = random_sprite(rng, vx=0.3 / frames, spin=1.0 / frames)
    pixels = torch.from_numpy(render_clip(sprite, frames, size, seed=number))
    clips = rearrange(pixels, "t h w c -> 1 c t h w").float().div_(255).contiguous()
    return normalize_(clips, encoder.mean, encoder.std)
