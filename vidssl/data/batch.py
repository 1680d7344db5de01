"""What travels from the workers to the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vidssl.data.views.render import ViewDraw, stack_draws


class Failure(NamedTuple):
    """A video that could not be decoded."""

    video_id: int
    path: str
    reason: str  # one line


@dataclass(frozen=True)
class ClipSample:
    """The decoded frames of one video and what to cut from them; one row of a `ClipBatch`."""

    frames: Tensor  # (N, h, w, 3) uint8
    index: list[Tensor]  # per view: (T_v,) int64, into N
    times: list[Tensor]  # per view: (T_v,) float32, seconds since the first frame of the video
    video_id: int
    draws: list[ViewDraw]  # per view; empty in evaluation
    failures: list[Failure]
    failed: bool = False


@dataclass(frozen=True)
class ClipBatch:
    """Decoded windows of B videos on one canvas, with the draws of every view.

    `to` moves what the device computes with (frames, index, times, video_id, failed). `sizes` and `draws` stay on the
    CPU: they decide which rows an operation touches, and reading them from a device would make the host wait.
    """

    frames: Tensor  # (B, N, H, W, 3) uint8; row i is valid up to its own number of frames and sizes[i], zero beyond
    sizes: Tensor  # (B, 2) int64, true height and width of every row; CPU
    index: list[Tensor]  # per view: (B, T_v) int64, into N
    times: list[Tensor]  # per view: (B, T_v) float32, seconds since the first frame of the video
    video_id: Tensor  # (B,) int64, of the video actually shown
    draws: list[ViewDraw]  # per view, stacked over B; CPU; empty in evaluation
    failures: list[Failure]  # videos that could not be decoded while this batch was made
    failed: Tensor  # (B,) bool: evaluation rows with nothing to show (black); never set in training

    def __len__(self) -> int:
        return len(self.frames)

    def __getstate__(self) -> dict[str, Any]:
        # A tensor sent by a worker holds a file descriptor while it lives. A batch of ten views has a hundred small
        # ones, and prefetched batches would exhaust the usual limit of 1024: only the frames travel as a tensor.
        return {
            name: value if name == "frames" else _convert(value, _to_array)
            for name, value in vars(self).items()
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, _convert(value, _to_tensor))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> ClipBatch:
        """A copy on the device; `non_blocking` overlaps with the host when the batch is pinned."""

        def move(x: Tensor) -> Tensor:
            return x.to(device, non_blocking=non_blocking)

        return replace(
            self,
            frames=move(self.frames),
            index=[move(x) for x in self.index],
            times=[move(x) for x in self.times],
            video_id=move(self.video_id),
            failed=move(self.failed),
        )

    def pin_memory(self) -> ClipBatch:
        """A copy whose moving parts are in page-locked memory; called by the DataLoader."""
        return replace(
            self,
            frames=self.frames.pin_memory(),
            index=[x.pin_memory() for x in self.index],
            times=[x.pin_memory() for x in self.times],
            video_id=self.video_id.pin_memory(),
            failed=self.failed.pin_memory(),
        )


def _convert(value: Any, convert: Callable[[Any], Any]) -> Any:
    """Apply `convert` to the leaves of lists and named tuples."""
    if isinstance(value, list):
        return [_convert(item, convert) for item in value]
    return type(value)(*(convert(leaf) for leaf in value)) if isinstance(value, tuple) else convert(value)


def _to_array(value: Any) -> Any:
    return value.numpy() if isinstance(value, Tensor) and value.device.type == "cpu" else value


def _to_tensor(value: Any) -> Any:
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def collate_clips(samples: Sequence[ClipSample]) -> ClipBatch:
    """Pad the frames of B samples to a common canvas (number of frames, height, width) and stack the rest."""
    shapes = torch.tensor([sample.frames.shape[:3] for sample in samples])
    num, height, width = shapes.amax(0).tolist()
    frames = torch.zeros((len(samples), num, height, width, 3), dtype=torch.uint8)
    for canvas, sample in zip(frames, samples, strict=True):
        n, h, w, _ = sample.frames.shape
        canvas[:n, :h, :w] = sample.frames
    return ClipBatch(
        frames=frames,
        sizes=shapes[:, 1:].clone(),
        index=[torch.stack(view) for view in zip(*(s.index for s in samples), strict=True)],
        times=[torch.stack(view) for view in zip(*(s.times for s in samples), strict=True)],
        video_id=torch.tensor([sample.video_id for sample in samples]),
        draws=[stack_draws(view) for view in zip(*(s.draws for s in samples), strict=True)],
        failures=[failure for sample in samples for failure in sample.failures],
        failed=torch.tensor([sample.failed for sample in samples]),
    )
