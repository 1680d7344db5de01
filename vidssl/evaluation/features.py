"""Features of a data set: several clips a video, averaged; one decoding pass serves every encoder and baseline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from torch import Tensor
from tqdm import tqdm

from vidssl import distributed
from vidssl.data.batch import Failure
from vidssl.data.dataset import EvalClipDataset
from vidssl.data.loader import build_eval_loader
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.views.evaluation import EvalSpec, render_eval_views
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
    failures: tuple[Failure, ...]


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
    extractors: Mapping[str, Extractor],
    index: VideoIndex,
    spec: EvalSpec,
    *,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    device: torch.device | str = "cpu",
    batch_size: int = 16,
    workers: int = 2,
    backend: str = "auto",
    description: str = "features",
) -> FeatureSet:
    """Decode every video once, run all extractors on its clips, average over the clips.

    With several processes each takes every n-th video; all of them return the complete set. No video is left out,
    repeated or replaced.

    Args:
        extractors: name -> function from normalised clips (B, 3, T, H, W) to named (B, D) features.
        spec: clips per video, their sampling and cropping.
        mean, std: normalisation, that of the encoder.
    """
    rank, processes = distributed.rank(), distributed.world_size()
    loader = build_eval_loader(
        EvalClipDataset(index, spec, backend=backend),
        batch_size,
        num_processes=processes,
        rank=rank,
        num_workers=workers,
    )
    rows: dict[str, list[Tensor]] = {}
    ids: list[Tensor] = []
    failed: list[Tensor] = []
    failures: list[Failure] = []
    share = len(range(rank, len(index), processes))
    bar = tqdm(total=share, desc=description, unit="video", disable=rank > 0 or share < 2, delay=1)
    for batch in loader:
        views = render_eval_views(batch.to(device, non_blocking=True), spec, mean, std)
        for name, feature in _average_over_views(extractors, views).items():
            rows.setdefault(name, []).append(feature)
        ids.append(batch.video_id)
        failed.append(batch.failed)
        failures.extend(batch.failures)
        bar.update(len(batch))
    bar.close()
    mine = _Part(
        torch.cat([torch.empty(0, dtype=torch.int64), *ids]),
        torch.cat([torch.empty(0, dtype=torch.bool), *failed]),
        {name: torch.cat(parts) for name, parts in rows.items()},
        failures,
    )
    return _collect(distributed.gather_objects(mine), len(index))


def _average_over_views(extractors: Mapping[str, Extractor], views: list[Tensor]) -> dict[str, Tensor]:
    totals: dict[str, Tensor] = {}
    for view in views:
        for extractor in extractors.values():
            for name, feature in extractor(view).items():
                totals[name] = totals[name] + feature if name in totals else feature
    return {name: (total / len(views)).cpu() for name, total in totals.items()}


class _Part(NamedTuple):
    """One process's rows."""

    ids: Tensor
    failed: Tensor
    rows: dict[str, Tensor]
    failures: list[Failure]


def _collect(parts: list[_Part], total: int) -> FeatureSet:
    """Put the processes' rows into the order of the index."""
    parts = [part for part in parts if len(part.ids)]
    order = torch.cat([part.ids for part in parts])
    assert order.sort().values.equal(torch.arange(total)), "every video exactly once"
    ok = torch.ones(total, dtype=torch.bool)
    ok[order] = ~torch.cat([part.failed for part in parts])
    features = {}
    for name in parts[0].rows:
        stacked = torch.cat([part.rows[name] for part in parts])
        ordered = torch.empty_like(stacked)
        ordered[order] = stacked
        features[name] = torch.where(ok[:, None], ordered, torch.zeros(()))
    failures = sorted((failure for part in parts for failure in part.failures), key=lambda f: f.video_id)
    return FeatureSet(features, ok, tuple(failures))
