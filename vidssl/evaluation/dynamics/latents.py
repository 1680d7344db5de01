"""Videos to sequences of latents: frames a fixed time apart, one row for every frame that an objective's head gives.

A model of motion was fitted to steps of one length. A short video must therefore not be stretched, as clips for
classification are: it simply ends early, and what would follow is marked as not there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from einops import reduce
from numpy.typing import NDArray
from torch import Tensor

from vidssl import distributed
from vidssl.data.clips import ClipSpec, uniform_clips, whole
from vidssl.data.dataset import EvalClipDataset
from vidssl.data.decode.open import open_video
from vidssl.data.decode.reader import VideoReader
from vidssl.data.decode.timeline import Timeline
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.manifest.quarantine import FailedVideo
from vidssl.data.views.evaluation import EvalSpec
from vidssl.errors import VidsslError, counted
from vidssl.evaluation.setup import EvalOptions, shown_batches
from vidssl.models.student import Student
from vidssl.objectives.base import frame_rows, frame_times


@dataclass(frozen=True)
class StepSpec:
    """Frames of a clip and the distance between them, exactly one of `seconds` and `stride`.

    Args:
        frames: T.
        seconds: between two frames; between those of a slower video the earlier one is repeated and counts once.
        stride: source frames from one to the next.
        size: side of the square clip in pixels.
    """

    frames: int
    seconds: float | None = None
    stride: int | None = None
    size: int = 224
    resize: Literal["crop", "squash"] = "squash"

    def __post_init__(self) -> None:
        if self.frames < 2:
            raise VidsslError(f"frames={self.frames}: motion needs at least 2")
        if (self.seconds is None) == (self.stride is None):
            raise VidsslError(
                f"step of {self.seconds} s and stride {self.stride}: give exactly one of the two"
            )
        if self.seconds is not None and not 0 < self.seconds < math.inf:
            raise VidsslError(f"step of {self.seconds} s: must be positive and finite")


class LatentSequences(NamedTuple):
    """Latents of N videos, on the CPU, float64.

    Attributes:
        z: (N, T, d), rows of the head; finite everywhere, meaningless where not valid.
        valid: (N, T) bool, False past the end of a video and for repeated frames.
        times: (N, T) seconds since the first frame of the video; held where it has ended.
        names: of the N videos.
    """

    z: Tensor
    valid: Tensor
    times: Tensor
    names: tuple[str, ...]

    @property
    def step_seconds(self) -> float:
        """Mean time between two latents; nan when no two of a video follow each other. (Frames lie where the video has them,
        so that single steps differ.)"""
        both = self.valid[:, 1:] & self.valid[:, :-1]
        return float(self.times.diff(dim=1)[both].mean()) if bool(both.any()) else math.nan


@torch.inference_mode()
def encode_sequences(
    students: Mapping[str, tuple[Student, str]],
    index: VideoIndex,
    spec: StepSpec,
    options: EvalOptions,
    device: torch.device | str = "cpu",
) -> tuple[dict[str, LatentSequences], tuple[FailedVideo, ...]]:
    """Decode every video once and run all students on it.

    Args:
        students: name -> student, and which of its heads to read.
        index: the videos.
        spec: their frames.
        options: decoder, batch size and workers count.

    Returns:
        Latents by name, of the videos that could be read and whose latents are finite for all students, in the order of
        the index; and the others.

    Raises:
        VidsslError: when there are none, students want clips that are normalised in other ways, or the encoder or head
            cannot take `spec.frames` frames.
    """
    view = EvalSpec(ClipSpec(spec.frames, stride=spec.stride or 1), size=spec.size, resize=spec.resize)
    step, backend = spec.seconds, options.backend
    opener = None if step is None else partial(_SteadyReader, step=step, backend=backend)
    dataset = EvalClipDataset(index, view, backend=backend, opener=opener)
    encoder = next(iter(students.values()))[0].encoder
    for other, (student, _) in students.items():
        if (student.encoder.mean, student.encoder.std) != (encoder.mean, encoder.std):
            raise VidsslError(
                f"{other}: its encoder wants clips normalised in another way; they cannot share them"
            )
    rows: list[_Row] = []
    failures: list[FailedVideo] = []
    for batch, views in shown_batches(dataset, encoder, options, "latents", device):
        latents = {name: _latents(*student, views[0]) for name, student in students.items()}
        for row, video in enumerate(batch.video_id.tolist()):
            own = {name: z[row] for name, z in latents.items()}
            broken = [name for name, z in own.items() if not bool(z.isfinite().all())]
            if broken and not bool(batch.failed[row]):
                reason = f"latents are not finite ({', '.join(broken)})"
                failures.append(FailedVideo(video, str(index.path(video)), reason))
            elif not bool(batch.failed[row]):
                rows.append(_Row(video, batch.times[0][row], own))
        failures.extend(batch.failures)
    parts = distributed.gather_objects((rows, failures))
    rows = sorted((row for part, _ in parts for row in part), key=lambda row: row.video)
    failures = sorted((failure for _, part in parts for failure in part), key=lambda f: f.video_id)
    if not rows:
        raise VidsslError(
            f"none of {counted(len(index), 'video')} could be used; {failures[0].path}: {failures[0].reason}"
        )
    return _stacked(rows, tuple(index.paths[row.video] for row in rows)), tuple(failures)


class _Row(NamedTuple):
    """A video: its number, times (T,) of the frames, latents (T', d) by name."""

    video: int
    times: Tensor
    latents: dict[str, Tensor]


def _latents(student: Student, head: str, clips: Tensor) -> Tensor:
    (rows,) = frame_rows([student.heads[head](student.encoder(clips))], predicted=False)
    return rows.double().cpu()


def _stacked(rows: list[_Row], names: tuple[str, ...]) -> dict[str, LatentSequences]:
    times, found = torch.stack([row.times for row in rows]).double(), {}
    for name in rows[0].latents:
        z = torch.stack([row.latents[name] for row in rows])
        found[name] = LatentSequences(z, *_steps(times, z.shape[1]), names)
    return found


def _steps(times: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """(N, steps) which latents are real, and their times, from the times (N, T) of the frames.

    A latent made of several frames is real when all of them are.
    """
    later = times[:, 1:] > times[:, :-1].cummax(dim=1).values
    real = torch.cat([torch.ones_like(later[:, :1]), later], dim=1)
    valid = reduce(real.double(), "n (t s) -> n t", "min", t=steps) > 0
    return valid, frame_times(times, steps)


class _SteadyReader(VideoReader):
    """A video as if it had been filmed at one frame every `step` seconds."""

    def __init__(self, path: Path, step: float, backend: str, timeline: Timeline | None = None) -> None:
        self.reader = open_video(path, backend, timeline)
        self.path, self.backend = self.reader.path, self.reader.backend
        start, stop = whole(self.reader.times)
        steps = max(math.floor((stop - start) / step + 1e-3), 1)
        clip = uniform_clips(self.reader.times, ClipSpec(steps, seconds=steps * step), 1)
        self.chosen, self.times = clip.indices[0], clip.times[0]
        self.info = replace(self.reader.info, num_frames=steps)

    def _decode(self, wanted: NDArray[np.int64]) -> NDArray[np.uint8]:
        unique, place = np.unique(self.chosen[wanted], return_inverse=True)
        return self.reader.frames(unique)[place]

    def close(self) -> None:
        self.reader.close()
