"""How alike the layers of encoders see the same videos: means of their patch features over space and time, compared by linear CKA."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from einops import rearrange, reduce
from torch import Tensor

from vidssl import distributed
from vidssl.data.dataset import EvalClipDataset
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.errors import VidsslError
from vidssl.evaluation.geometry.measure import number
from vidssl.evaluation.setup import Subject, shown_batches
from vidssl.models.encoder import VideoEncoder
from vidssl.objectives.diagnostics import linear_cka

VIDEOS = 1000  # compared at most: kernels have their square
OUTPUT = "output"
Matrix = list[list[float | None]]


@torch.inference_mode()
def layer_means(subject: Subject, index: VideoIndex) -> dict[str, dict[str, Tensor]]:
    """Encoder -> layer -> (N, D_layer) of one clip from the middle of each video, nan for those that fail.

    The last is `OUTPUT`, the encoder's clip feature; the others are called ``0``, ``1``, … An encoder that shows none has it alone.
    """
    spec = replace(subject.options.spec(subject.encoder), clips_per_video=1, crops=1)
    dataset = EvalClipDataset(index, spec, backend=subject.options.backend)
    twins = {"trained": subject.encoder, "untrained": subject.untrained}
    encoders = {name: encoder for name, encoder in twins.items() if encoder is not None}
    rows: list[tuple[int, dict[str, dict[str, Tensor]]]] = []
    for batch, (clips,) in shown_batches(dataset, subject.encoder, subject.options, "layers", subject.device):
        found = {name: _means(encoder, clips) for name, encoder in encoders.items()}
        for place, video in enumerate(batch.video_id.tolist()):
            lost = torch.nan if bool(batch.failed[place]) else 0.0
            rows.append(
                (
                    video,
                    {
                        name: {layer: x[place] + lost for layer, x in own.items()}
                        for name, own in found.items()
                    },
                )
            )
    gathered = sorted(
        (row for part in distributed.gather_objects(rows) for row in part), key=lambda row: row[0]
    )
    first = gathered[0][1]
    return {
        name: {layer: torch.stack([row[1][name][layer] for row in gathered]) for layer in own}
        for name, own in first.items()
    }


def _means(encoder: VideoEncoder, clips: Tensor) -> dict[str, Tensor]:
    pieces, length = clips, encoder.chunk_frames
    if length is not None:
        pieces = rearrange(clips, "b c (n t) h w -> (b n) c t h w", t=length)
    found = {}
    try:
        for layer, grid in enumerate(encoder.maps(pieces)):
            found[str(layer)] = reduce(grid.float(), "(b n) t h w d -> b d", "mean", b=len(clips)).cpu()
    except VidsslError:
        found = {}
    return {**found, OUTPUT: encoder(clips).clip.float().cpu()}


def cka_matrix(first: Sequence[Tensor], second: Sequence[Tensor]) -> Matrix:
    """CKA of each of the first with each of the second, over the videos that are finite in all; null where there are fewer than 4 or where one is constant.

    Args:
        first, second: of L and L' layers (N, D_layer), row i of all of the same video.
    """
    fine = torch.stack([x.isfinite().all(dim=1) for x in (*first, *second)]).all(dim=0)
    if int(fine.sum()) < 4:
        return [[None] * len(second) for _ in first]
    return [[number(linear_cka(x[fine].double(), y[fine].double())) for y in second] for x in first]
