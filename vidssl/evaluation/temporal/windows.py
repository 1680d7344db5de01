"""Windows of videos, twice as long as a clip, encoded in all ways at once; and the set that is rendered where none is named."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import mkdtemp

import torch
from torch import Tensor

from vidssl import distributed
from vidssl.data.clips import ClipSpec
from vidssl.data.dataset import EvalClipDataset
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.manifest.quarantine import FailedVideo
from vidssl.errors import VidsslError, counted
from vidssl.evaluation.setup import Subject, shown_batches
from vidssl.evaluation.temporal.ways import WAYS, shown_ways
from vidssl.synthetic.noise import write_noise_dataset


@dataclass(frozen=True)
class Shown:
    """N videos shown in all ways.

    Attributes:
        features: encoder -> way -> (N, D); rows that are not ok are zero.
        ok: encoder -> (N,) bool: decoded, and all of its features finite.
        long: (N,) bool: videos with 2T different frames for a window; only they can be shown faster.
        failures: one for each video that is not ok somewhere.
    """

    features: dict[str, dict[str, Tensor]]
    ok: dict[str, Tensor]
    long: Tensor
    failures: tuple[FailedVideo, ...]


def encode_windows(subject: Subject, index: VideoIndex, seed: int = 0) -> Shown:
    """Decode a window of 2T frames from the middle of every video, at the step of the encoder's clips, and encode it in all ways.

    Where there are fewer frames the clip of T is taken from the middle of what there is.

    Raises:
        VidsslError: when features are finite for none of the videos.
    """
    spec = window_spec(subject)
    dataset = EvalClipDataset(index, replace(subject.options.spec(subject.encoder), clip=spec, clips_per_video=1), backend=subject.options.backend)  # fmt: skip
    encoders = {"trained": subject.encoder, "untrained": subject.untrained}
    rows: list[tuple[int, bool, bool, dict[str, dict[str, Tensor]]]] = []
    failures: list[FailedVideo] = []
    batches = shown_batches(
        dataset, subject.encoder, subject.options, "showing clips otherwise", subject.device
    )
    for batch, (windows, *_) in batches:
        numbers, indices = batch.video_id.tolist(), batch.index[0]
        starts = [_start(row) for row in indices]
        found = {
            name: {
                way: x.float().cpu() for way, x in shown_ways(encoder, windows, starts, numbers, seed).items()
            }
            for name, encoder in encoders.items()
            if encoder is not None
        }
        failures += batch.failures
        for place, number in enumerate(numbers):
            own = {name: {way: x[place] for way, x in ways.items()} for name, ways in found.items()}
            long = len(indices[place].unique()) == spec.frames
            rows.append((number, bool(batch.failed[place]), long, own))
    gathered = distributed.gather_objects((rows, failures))
    return _in_order(
        [row for part in gathered for row in part[0]], [x for part in gathered for x in part[1]], index
    )


def window_spec(subject: Subject) -> ClipSpec:
    """Twice the frames of the encoder's clips over twice their extent."""
    clip = subject.options.spec(subject.encoder).clip
    seconds = None if clip.seconds is None else 2 * clip.seconds
    return ClipSpec(2 * clip.frames, stride=clip.stride, seconds=seconds)


def _start(indices: Tensor) -> int:
    """Where the clip begins in a window (2T,) whose last frame is held once the video has ended."""
    moving = int((indices != indices[-1]).sum()) + 1
    return max(moving - len(indices) // 2, 0) // 2


def _in_order(rows: list[tuple[int, bool, bool, dict[str, dict[str, Tensor]]]], failures: list[FailedVideo], index: VideoIndex) -> Shown:  # fmt: skip
    rows = sorted(rows, key=lambda row: row[0])
    failed = torch.tensor([row[1] for row in rows])
    features, ok = {}, {}
    for name in rows[0][3]:
        ways = {way: torch.stack([row[3][name][way] for row in rows]) for way in WAYS}
        finite = torch.stack([x.norm(dim=1).isfinite() for x in ways.values()]).all(dim=0)
        for number in (finite.logical_not() & ~failed).nonzero()[:, 0].tolist():
            failures.append(FailedVideo(number, str(index.path(number)), f"features are not finite ({name})"))
        ok[name] = finite & ~failed
        if not bool(ok[name].any()):
            raise VidsslError(
                f"{name}: none of {counted(len(index), 'video')} has features; {failures[0].path}: {failures[0].reason}"
            )
        features[name] = {way: torch.where(ok[name][:, None], x, 0) for way, x in ways.items()}
    failures.sort(key=lambda failure: failure.video_id)
    return Shown(features, ok, torch.tensor([row[2] for row in rows]), tuple(failures))


@contextmanager
def rendered_noise(clips: int, frames: int, seed: int) -> Iterator[Path]:
    """A folder of noise in which motion alone carries the class (`vidssl.synthetic.noise`), ``train`` and ``val``, gone after the block."""

    def render() -> Path:
        folder = Path(mkdtemp(prefix="vidssl-noise-"))
        write_noise_dataset(folder, clips, clips, frames=frames, seed=seed)
        return folder

    folder = distributed.on_first(render)
    try:
        yield folder
    finally:
        if distributed.rank() == 0:
            shutil.rmtree(folder, ignore_errors=True)
