"""The same clip shown otherwise: in another order, backwards, faster, or as single frames that stand still."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from einops import repeat
from torch import Tensor

from vidssl.models.encoder import ClipFeatures, VideoEncoder

CLIP, SHUFFLED, REVERSED, FRAME, BAG = "clip", "frames shuffled", "backwards", "one frame", "mean of frames"
FAST, FAST_BAG = "twice as fast", "twice as fast, mean of frames"
WAYS = (CLIP, SHUFFLED, REVERSED, FRAME, BAG, FAST, FAST_BAG)


@torch.inference_mode()
def shown_ways(
    encoder: VideoEncoder, windows: Tensor, starts: Sequence[int], numbers: Sequence[int], seed: int = 0
) -> dict[str, Tensor]:
    """(B, D) clip features of each of `WAYS`.

    Args:
        windows: (B, 3, 2T, H, W), normalised.
        starts: of each, where the clip of T frames begins; `FAST` is every second frame of the window.
        numbers: of the videos; the order of a shuffled clip depends on (`seed`, its number) alone.
    """
    length = windows.shape[2] // 2
    first = torch.tensor([[start + t for t in range(length)] for start in starts], device=windows.device)
    clips = torch.take_along_dim(windows, first[:, None, :, None, None], dim=2)
    plain, fast = encoder(clips), encoder(windows[:, :, ::2])
    still, fast_still = still_frames(encoder, clips, plain), still_frames(encoder, windows[:, :, ::2], fast)
    alone = _sees_frames(encoder, plain, length)
    return {
        CLIP: plain.clip,
        SHUFFLED: plain.clip if alone else encoder(shuffled(clips, numbers, seed)).clip,
        REVERSED: plain.clip if alone else encoder(clips.flip(2)).clip,
        FRAME: still[:, length // 2],
        BAG: still.mean(dim=1),
        FAST: fast.clip,
        FAST_BAG: fast_still.mean(dim=1),
    }


def still_frames(encoder: VideoEncoder, clips: Tensor, plain: ClipFeatures) -> Tensor:
    """(B, T, D): every frame of clips (B, 3, T, H, W) as a clip of its own that stands still, as long as the whole.

    Args:
        plain: the encoder's features of the clips, which are those of their frames where it sees each by itself.
    """
    length = clips.shape[2]
    if _sees_frames(encoder, plain, length):
        return plain.frames
    frames = [encoder(repeat(clips[:, :, t], "b c h w -> b c t h w", t=length)).clip for t in range(length)]
    return torch.stack(frames, dim=1)


def shuffled(clips: Tensor, numbers: Sequence[int], seed: int = 0) -> Tensor:
    """Clips (B, 3, T, H, W) with their frames in an order that depends on (`seed`, the clip's number) alone."""
    orders = [np.random.default_rng((seed, number)).permutation(clips.shape[2]) for number in numbers]
    index = torch.from_numpy(np.stack(orders)).to(clips.device)
    return torch.take_along_dim(clips, index[:, None, :, None, None], dim=2)


def _sees_frames(encoder: VideoEncoder, plain: ClipFeatures, length: int) -> bool:
    return encoder.sees == "frame" and plain.frames.shape[1] == length
