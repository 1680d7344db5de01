"""Features of a data set: several clips a video, averaged; one decoding pass serves every encoder and baseline.

What counts is decided here, once for all protocols: features that are not finite are those of a video that failed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from torch import Tensor

from vidssl import distributed
from vidssl.data.dataset import EvalClipDataset
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.manifest.quarantine import FailedVideo
from vidssl.errors import VidsslError
from vidssl.evaluation.setup import Subject, shown_batches
from vidssl.models.encoder import VideoEncoder

Extractor = Callable[[Tensor], dict[str, Tensor]]


@dataclass(frozen=True)
class FeatureSet:
    """Features of N videos, in the order of the index.

    Attributes:
        features: name -> (N, D) float32, finite; rows that are not ok are zero.
        ok: name -> (N,) bool, False where the video could not be decoded, or these features of it are not finite.
        failures: one entry for each video that is not ok somewhere.
        fewer_clips: how many videos are too short for as many different clips as were asked for.
    """

    features: dict[str, Tensor]
    ok: dict[str, Tensor]
    failures: tuple[FailedVideo, ...]
    fewer_clips: int

    def constant(self, name: str) -> bool:
        """Whether these features are, up to rounding, the same for all of two or more videos."""
        rows = self.features[name][self.ok[name]]
        if len(rows) < 2:
            return False
        return bool((rows.amax(0) - rows.amin(0)).max() <= 1e-6 * rows.abs().max())


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

    The features of a video are the mean over its clips, of which those of the same frames are one. With several processes
    each takes every n-th video; all of them return the complete set. No video is left out, repeated or replaced.

    Args:
        subject: whose features; they are named ``trained`` and ``untrained``, see `encoder_extractor`, and ``motion``.
        index: the N videos.
        description: of the progress bar.

    Raises:
        VidsslError: when features are finite for none of the videos.
    """
    twins = {"trained": subject.encoder, "untrained": subject.untrained}
    extractors = [encoder_extractor(encoder, name) for name, encoder in twins.items() if encoder is not None]
    if motion:
        extractors.append(motion_energy)
    part = _Part([], [], {}, [])
    options, encoder = subject.options, subject.encoder
    dataset = EvalClipDataset(index, options.spec(encoder), backend=options.backend)
    for batch, views in shown_batches(dataset, encoder, options, description, subject.device):
        new = new_clips(batch.index)
        for name, feature in _average_over_clips(extractors, views, new).items():
            part.rows.setdefault(name, []).append(feature)
        part.ids.append(batch.video_id)
        part.failed.append(batch.failed)
        part.failures.extend(batch.failures)
        part.short += int((~new.all(dim=0) & ~batch.failed).sum())
    return _in_order(
        [part for part in distributed.gather_objects(part) if part.ids], index, str(subject.path)
    )


def new_clips(index: Sequence[Tensor]) -> Tensor:
    """(C, B) bool: False for a clip of the same frames as an earlier one of its video, from C tensors (B, T) of frames."""
    rows = [torch.stack([(clip == earlier).all(dim=1) for earlier in index]) for clip in index]
    return torch.stack([~same[:number].any(dim=0) for number, same in enumerate(rows)])


def _average_over_clips(
    extractors: Sequence[Extractor], views: Sequence[Tensor], new: Tensor
) -> dict[str, Tensor]:
    """Means over the different clips of each video, the crops of a clip lying next to each other in `views`."""
    crops = len(views) // len(new)
    totals: dict[str, Tensor] = {}
    for number, view in enumerate(views):
        rows = new[number // crops].to(view.device)
        if not bool(rows.any()):
            continue
        shown = view if bool(rows.all()) else view[rows]
        for extractor in extractors:
            for name, feature in extractor(shown).items():
                if len(shown) < len(view):
                    feature = feature.new_zeros(len(view), feature.shape[1]).index_put((rows,), feature)
                totals[name] = totals[name] + feature if name in totals else feature
    counts = crops * new.sum(dim=0)[:, None]
    return {name: total.cpu() / counts for name, total in totals.items()}


@dataclass
class _Part:
    """One process's rows, batch by batch, and how many of its videos have fewer clips than the others."""

    ids: list[Tensor]
    failed: list[Tensor]
    rows: dict[str, list[Tensor]]
    failures: list[FailedVideo]
    short: int = 0


def _in_order(parts: Sequence[_Part], index: VideoIndex, source: str) -> FeatureSet:
    """The processes' rows in the order of the index, without those that are not finite; `source` is whose they are."""
    ids, order = torch.cat([rows for part in parts for rows in part.ids]).sort()
    assert ids.equal(torch.arange(len(index))), "every video exactly once"
    decoded = ~torch.cat([rows for part in parts for rows in part.failed])[order]
    failures = [failure for part in parts for failure in part.failures]
    features, ok = {}, {}
    broken: dict[int, list[str]] = {}
    for name in parts[0].rows:
        rows = torch.cat([rows for part in parts for rows in part.rows[name]])[order]
        # The length too: a row whose length overflows would become a row of zeros when it is normalised.
        finite = rows.norm(dim=1).isfinite()
        ok[name] = decoded & finite
        if bool(decoded.any()) and not bool(ok[name].any()):
            raise VidsslError(
                f"{source}: the features of {name!r} are finite for none of the {len(index)} videos"
            )
        features[name] = torch.where(ok[name][:, None], rows, torch.zeros(()))
        for video in (decoded & ~finite).nonzero()[:, 0].tolist():
            broken.setdefault(video, []).append(name)
    for video, names in broken.items():
        reason = f"features are not finite ({', '.join(names)})"
        failures.append(FailedVideo(video, str(index.path(video)), reason))
    failures.sort(key=lambda failure: failure.video_id)
    return FeatureSet(features, ok, tuple(failures), sum(part.short for part in parts))
