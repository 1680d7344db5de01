"""One row's scores in all five tasks, of many objects by looks alone."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vidssl.evaluation.tracking.keypoints import heatmaps
from vidssl.evaluation.tracking.layouts import find_sequences
from vidssl.evaluation.tracking.masks import labels_of
from vidssl.evaluation.tracking.run.features import grid_of
from vidssl.evaluation.tracking.run.options import TrackOptions
from vidssl.evaluation.tracking.run.pose import Pose
from vidssl.evaluation.tracking.run.sources import Source
from vidssl.evaluation.tracking.run.task import Task, Tracked
from vidssl.evaluation.tracking.run.track import TASKS
from vidssl.evaluation.tracking.run.video_objects import VideoObjects
from vidssl.evaluation.tracking.sequence import Sequence
from vidssl.models.encoder import VideoEncoder
from vidssl.models.patches import PatchFeatures, RawPixels
from vidssl.models.patches.pixels import MEAN

STRIDE, WINDOW = 4, 128  # pixels per cell, and side of the windows in which a single object is looked for
# What is reported of each task; of many objects it is that of a tracker without the stage that goes by overlap, which hides bad features.
METRICS = {
    "sot": ("AUC",),
    "vos": ("J&F",),
    "mot": ("IDF1", "HOTA"),
    "mots": ("IDF1", "HOTA"),
    "pose": ("PCK@0.2",),
}


def of_encoder(encoder: VideoEncoder, layer: int | None) -> Source:
    """Patch features of a layer, at STRIDE."""
    return _source(PatchFeatures(encoder.eval(), layer=layer, stride=STRIDE), encoder.mean)


def of_pixels() -> Source:
    """The pixels of a cell themselves."""
    return _source(RawPixels(STRIDE), (MEAN, MEAN, MEAN))


def follow(source: Source, data: Path) -> dict[str, float]:
    """Mean scores in all sequences of a folder, ``<task> <metric>``."""
    return _scores(data, lambda task, sequence: _by_looks(task.follow(source, sequence)))


def copies(data: Path) -> dict[str, dict[str, float]]:
    """Baselines without features: the first label copied; and of many objects, place alone."""
    names = ("first label copied", "place alone")
    return {
        name: _scores(data, lambda task, sequence, name=name: task.plain(sequence).get(name))  # type: ignore[misc]
        for name in names
    }


def ceiling(data: Path) -> dict[str, float]:
    """What features would reach that are the truth itself, so that only the grid and the way labels are read is left.

    Of masks the features of a cell are which object its middle shows; of key points how near each of them is.
    """
    return _scores(data, lambda task, sequence: _ideal(task, sequence))


def _ideal(task: Task, sequence: Sequence) -> Tracked | None:
    grid = grid_of(sequence, STRIDE, None).size
    if isinstance(task, VideoObjects) and sequence.masks is not None:
        masks = [np.asarray(sequence.masks[frame]) for frame in range(len(sequence))]
        ids = sorted(set(np.unique(masks).tolist()) - {0})
        maps = torch.stack([labels_of(mask, ids, grid) for mask in masks])
    elif isinstance(task, Pose) and sequence.keypoints is not None:
        points = np.concatenate(list(sequence.keypoints.values()), axis=1)  # (T, P, 2)
        cells = torch.from_numpy(np.where(points < 0, -1, np.maximum(points / STRIDE - 0.5, 0))).float()
        maps = torch.stack([heatmaps(frame, grid) for frame in cells])
    else:
        return None

    def shown(frames: Tensor) -> Tensor:
        assert len(frames) == len(sequence)  # short ones are encoded at one go
        return maps

    return task.follow(
        Source("truth", shown, STRIDE, maps.shape[1], 0, (0, 0, 0), torch.device("cpu")), sequence
    )


def _by_looks(tracked: Tracked) -> Tracked:
    return tracked.by_looks or tracked


def _scores(data: Path, tracked: Callable[[Task, Sequence], Tracked | None]) -> dict[str, float]:
    sequences = [found.read() for found in find_sequences(data)]
    scores = {}
    for name, metrics in METRICS.items():
        task = TASKS[name](TrackOptions(stride=STRIDE, size=WINDOW if name == "sot" else None))
        pairs = [(tracked(task, sequence), sequence) for sequence in sequences]
        units = [unit for found, sequence in pairs if found for unit in task.score(found, sequence)]
        for metric in metrics if units else ():
            scores[f"{name} {metric}"] = statistics.fmean(unit[metric] for unit in units)
    return scores


def _source(features: PatchFeatures | RawPixels, colour: tuple[float, float, float]) -> Source:
    def shown(frames: Tensor) -> Tensor:
        found: Tensor = features(frames)
        return found

    return Source("row", shown, features.stride, features.dim, 0, colour, torch.device("cpu"))
