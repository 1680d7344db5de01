"""What travels from the workers to the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vidssl.data.manifest.quarantine import FailedVideo

# A `ViewDraw`: what it holds is the business of the views; here it is a named tuple of tensors.
Draw = tuple[Tensor, ...]


@dataclass(frozen=True)
class ClipSample:
    """The decoded frames of one video and what to cut from them; one row of a `ClipBatch`."""

    frames: Tensor  # (N, h, w, 3) uint8
    index: list[Tensor]  # per view: (T_v,) int64, into N
    times: list[Tensor]  # per view: (T_v,) float32, seconds since the first frame of the video
    video_id: int
    draws: Sequence[Draw] = field(default_factory=list)  # per view; empty in evaluation
    failures: list[FailedVideo] = field(default_factory=list)
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
    draws: Sequence[Draw]  # per view, stacked over B; CPU; empty in evaluation
    failures: list[FailedVideo]  # videos that could not be decoded while this batch was made
    failed: Tensor  # (B,) bool: evaluation rows with nothing to show (black); never set in training

    def __len__(self) -> int:
        return len(self.frames)

    def __getstate__(self) -> dict[str, Any]:
        # Arrays can be handed from process to process in place; tensors would be copied, or hold a file descriptor each.
        return {name: _convert(value, _to_array) for name, value in vars(self).items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, _convert(value, _to_tensor))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> ClipBatch:
        """A copy on the device; `non_blocking` overlaps with the host when the batch is pinned."""
        return self._moved(lambda x: x.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> ClipBatch:
        """A copy whose moving parts are in page-locked memory; called by the loader."""
        return self._moved(lambda x: x.pin_memory())

    def _moved(self, move: Callable[[Tensor], Tensor]) -> ClipBatch:
        moving = ("frames", "index", "times", "video_id", "failed")
        return replace(self, **{name: _convert(getattr(self, name), move) for name in moving})


def _convert(value: Any, convert: Callable[[Any], Any]) -> Any:
    """Apply `convert` to the leaves of lists and named tuples."""
    if isinstance(value, list):
        return [_convert(item, convert) for item in value]
    return type(value)(*(convert(leaf) for leaf in value)) if isinstance(value, tuple) else convert(value)


def _to_array(value: Any) -> Any:
    return value.numpy() if isinstance(value, Tensor) and value.device.type == "cpu" else value


def _to_tensor(value: Any) -> Any:
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def stack_draws(draws: Sequence[Any]) -> Any:
    """Stack the draws of one view over samples, every field gains a leading B."""
    return type(draws[0])(*(torch.stack(column) for column in zip(*draws, strict=True)))


def room(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.uint8)


class Canvas:
    """The memory of a batch's frames, where videos are decoded to when it is known beforehand how many frames of what size.

    Args:
        shapes: of every sample, (frames, height, width).
        empty: a uint8 tensor of a shape.
    """

    def __init__(self, shapes: Sequence[tuple[int, int, int]], empty: Callable[..., Tensor] = room) -> None:
        self.shapes = shapes
        self.frames = empty(len(shapes), *map(max, zip(*shapes, strict=True)), 3)

    def row(self, i: int) -> Tensor:
        """Where the frames of a sample belong."""
        num, height, width = self.shapes[i]
        return self.frames[i, :num, :height, :width]


def collate_clips(
    samples: Sequence[ClipSample], empty: Callable[..., Tensor] = room, canvas: Canvas | None = None
) -> ClipBatch:
    """Pad the frames of B samples to a common canvas (number of frames, height, width) and stack the rest.

    Args:
        empty: a uint8 tensor of a shape, which becomes the canvas.
        canvas: where frames of some samples may lie already; not used if others than expected came and it has another shape.
    """
    shapes = torch.tensor([sample.frames.shape[:3] for sample in samples])
    most = shapes.amax(0).tolist()
    # Not zeroed as a whole: most of it is overwritten, and writing to memory is what collating costs.
    fits = canvas is not None and [*canvas.frames.shape[1:4]] == most
    frames = canvas.frames if canvas is not None and fits else empty(len(samples), *most, 3)
    for row, sample in zip(frames.numpy(), samples, strict=True):  # numpy copies bytes twice as fast as torch
        n, h, w, _ = sample.frames.shape
        if row.ctypes.data != sample.frames.data_ptr():
            row[:n, :h, :w] = sample.frames.numpy()
        row[n:], row[:n, h:], row[:n, :h, w:] = 0, 0, 0
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
