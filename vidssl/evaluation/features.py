"""Features of a data set: several clips a video, averaged; one decoding pass serves every encoder and baseline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from torch import Tensor

from vidssl import distributed
from vidssl.data.dataset import EvalClipDataset
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.manifest.quarantine import FailedVideo
from vidssl.evaluation.setup import Subject, shown_batches
from vidssl.models.encoder import VideoEncoder

Extractor = Callable[[Tensor], dict[str, Tensor]]


@dataclass(frozen=True)
class FeatureSet:
    """Features of N videos, in the order of the index.

    Attributes:
        features: name -> (N, D) float32, rows of failed videos are zero.
        ok: (N,) bool, False where the video could not be decoded.
        failures: one entry for each failed video.
    """

    features: dict[str, Tensor]
    ok: Tensor
    failures: tuple[FailedVideo, ...]


def encoder_extractor(encoder: VideoEncoder, name: str) -> Extractor:
    """``<name>``: clip features as they are; ``<name>/unit``: mean of the unit-length frame features.

    The first is what probes use; the second is the order of CLIP's zero-shot evaluation of video (each frame's
    embedding normalised, then averaged).
    """

    def extract(clips: Tensor) -> dict[str, Tensor]:
        features = encoder(clips)
        unit = reduce(F.normalize(features.frames.float(), dim=-1), "b t d -> b d", "mean")
        return {name: features.clip.float(), f"{name}/unit": unit}

    return extract


def motion_energy(clips: Tensor, grid: int = 8, slices: int = 4) -> dict[str, Tensor]:
    """Baseline without learning: where and when pixels change.

    (B, 3, T, H, W) clips -> (B, slices · grid²): absolute differences of successive grey frames, averaged over a grid of
    cells and over slices of the clip. A data set whose classes this tells apart needs little understanding.
    """
    grey = reduce(clips.float(), "b c t h w -> b t h w", "mean")
    if grey.shape[1] < 2:
        return {"motion": grey.new_zeros(len(grey), slices * grid * grid)}
    change = rearrange((grey[:, 1:] - grey[:, :-1]).abs(), "b t h w -> b 1 t h w")
    pooled = F.adaptive_avg_pool3d(change, (slices, grid, grid))
    return {"motion": rearrange(pooled, "b 1 s h w -> b (s h w)")}


@torch.inference_mode()
def extract_features(
    subject: Subject, index: VideoIndex, *, motion: bool = False, description: str
) -> FeatureSet:
    """Features of the encoder, its untrained twin and (with `motion`) the motion baseline, in one decoding pass.

    The features of a video are the mean over its clips. With several processes each takes every n-th video; all of them
    return the complete set. No video is left out, repeated or replaced.

    Args:
        subject: whose features; they are named ``trained`` and ``untrained``, see `encoder_extractor`, and ``motion``.
        index: the N videos.
        description: of the progress bar.
    """
    twins = {"trained": subject.encoder, "untrained": subject.untrained}
    extractors = [encoder_extractor(encoder, name) for name, encoder in twins.items() if encoder is not None]
    if motion:
        extractors.append(motion_energy)
    part = _Part([], [], {}, [])
    options, encoder = subject.options, subject.encoder
    dataset = EvalClipDataset(index, options.spec(encoder), backend=options.backend)
    for batch, views in shown_batches(dataset, encoder, options, description, subject.device):
        for name, feature in _average_over_views(extractors, views).items():
            part.rows.setdefault(name, []).append(feature)
        part.ids.append(batch.video_id)
        part.failed.append(batch.failed)
        part.failures.extend(batch.failures)
    return _in_order([part for part in distributed.gather_objects(part) if part.ids], len(index))


def _average_over_views(extractors: Sequence[Extractor], views: Sequence[Tensor]) -> dict[str, Tensor]:
    totals: dict[str, Tensor] = {}
    for view in views:
        for extractor in extractors:
            for name, feature in extractor(view).items():
                totals[name] = totals[name] + feature if name in totals else feature
    return {name: (total / len(views)).cpu() for name, total in totals.items()}


class _Part(NamedTuple):
    """One process's rows, batch by batch."""

    ids: list[Tensor]
    failed: list[Tensor]
    rows: dict[str, list[Tensor]]
    failures: list[FailedVideo]


def _in_order(parts: Sequence[_Part], total: int) -> FeatureSet:
    """The processes' rows in the order of the index."""
    ids, order = torch.cat([rows for part in parts for rows in part.ids]).sort()
    assert ids.equal(torch.arange(total)), "every video exactly once"
    ok = ~torch.cat([rows for part in parts for rows in part.failed])[order]
    features = {}
    for name in parts[0].rows:
        stacked = torch.cat([rows for part in parts for rows in part.rows[name]])
        features[name] = torch.where(ok[:, None], stacked[order], torch.zeros(()))
    failures = sorted((failure for part in parts for failure in part.failures), key=lambda f: f.video_id)
    return FeatureSet(features, ok, tuple(failures))
