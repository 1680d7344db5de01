"""What every evaluation starts from: the encoder under test, its untrained twin, and how videos are shown to them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from vidssl import distributed
from vidssl.data.batch import ClipBatch
from vidssl.data.clips import ClipSpec
from vidssl.data.dataset import EvalClipDataset
from vidssl.data.loader import build_eval_loader
from vidssl.data.manifest.check import check_index, require_readable_classes
from vidssl.data.manifest.formats.lists import Missing
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.views.evaluation import EvalSpec, render_eval_views
from vidssl.devices import find_device
from vidssl.distributed import on_first
from vidssl.errors import VidsslError
from vidssl.models.encoder import VideoEncoder
from vidssl.models.load import load_encoder
from vidssl.progress import Progress
from vidssl.runs import find_initial


@dataclass(frozen=True)
class EvalOptions:
    """How videos are shown; None takes what the checkpoint was trained with.

    Args:
        frames: frames of a clip.
        seconds: temporal extent of a clip; `math.inf` for the whole video.
        stride: distance of two frames, instead of `seconds`.
        clips: clips of a video, whose features are averaged; of whole videos there is one.
        crops: 1 (centre) or 3 along the long side.
        resize: "squash" shows the whole frame as a square, "crop" a central square.
        size: side of the square in pixels.
        batch_size: videos encoded at a time.
        workers: decoding processes; 0 decodes in this one.
        backend: decoder, as in `vidssl.data.decode.open_video`.
        device: None takes a GPU if there is one.
        missing: listed videos that do not exist: "error", "skip" (left out) or "count" (wrong); both are named.
        cache: folder in which features are kept for the next evaluation; True: one in the user's cache; False: none.
        cache_gigabytes: the most that folder holds.
    """

    frames: int | None = None
    seconds: float | None = None
    stride: int | None = None
    clips: int = 3
    crops: Literal[1, 3] = 1
    resize: Literal["squash", "crop"] = "squash"
    size: int | None = None
    batch_size: int = 16
    workers: int = 2
    backend: str = "auto"
    device: str | None = None
    missing: Missing = "error"
    cache: str | Path | bool = True
    cache_gigabytes: float = 20.0

    def spec(self, encoder: VideoEncoder) -> EvalSpec:
        """The views, completed by what the encoder was trained with."""
        trained: dict[str, Any] = encoder.spec.get("sampling", {})
        frames = self.frames or encoder.usual_frames
        seconds, stride = self.seconds, self.stride
        if seconds is None and stride is None:
            stride = trained.get("stride")
            seconds = None if stride else (trained.get("seconds") or math.inf)
        return EvalSpec(
            clip=ClipSpec(frames, stride=stride, seconds=seconds),
            clips_per_video=1 if seconds == math.inf else self.clips,
            size=self.size or trained.get("size") or encoder.image_size,
            resize=self.resize,
            crops=self.crops,
        )


@dataclass(frozen=True)
class Subject:
    """An encoder under test.

    Attributes:
        path: what the user named: a folder, or the name of a model.
        encoder: in eval mode, on the device.
        untrained: the weights the run started from, None where they are not kept beside the checkpoint.
        options: how videos are shown to them.
    """

    path: Path
    encoder: VideoEncoder
    untrained: VideoEncoder | None
    options: EvalOptions
    device: torch.device


def load_subject(
    checkpoint: str | Path, options: EvalOptions | None = None, before: str | Path | None = None
) -> Subject:
    """Load an encoder, whatever names it (see `load_encoder`), and, when the run keeps it, the encoder it started from.

    Args:
        before: an encoder to stand as the untrained one instead, such as the image model that a run began with.

    Raises:
        VidsslError: for anything that names no encoder, weights that are not finite, or a
            device that is not there.
    """
    path, options = Path(checkpoint), options or EvalOptions()
    device = find_device(options.device)
    encoder, initial = load_encoder(checkpoint).to(device), before or find_initial(path)
    spec = options.spec(encoder)
    encoder.check_size(spec.clip.frames, spec.size)
    untrained = None if initial is None else load_encoder(initial).to(device)
    return Subject(path, encoder, untrained, options, device)


class Labelled(NamedTuple):
    """The labelled videos of a data set, and the paths of those without a label, which no score can use."""

    videos: VideoIndex
    unlabelled: tuple[str, ...]


def read_labelled(data: str | Path, options: EvalOptions) -> Labelled:
    """The labelled videos of a data set; broken files stay among them and will count as wrong.

    Where a list gives no labels at all, as UCF101's of test videos, the folders of its paths do, if there are several. They are
    sorted by path, so that what is held out, drawn or resampled does not depend on the order of a list. Every process has to call this.

    Raises:
        VidsslError: when no video has a label, or a class has no readable video (unless missing ones are to be counted).
    """
    everything = VideoIndex.read(data, options.missing)
    if not everything.classes and len((by_folder := everything.labelled_by_folders()).classes) > 1:
        everything = by_folder
    order = sorted(range(len(everything)), key=everything.paths.__getitem__)
    if order != list(range(len(everything))):
        everything = everything.subset(order)
    rows = [row for row, label in enumerate(everything.labels) if label is not None]
    if not rows:
        raise VidsslError(f"{data}: no labels; expected <class>/<file> or a CSV with path,label")
    left_out = sorted(set(range(len(everything))) - set(rows))
    index = everything.subset(rows) if left_out else everything
    # By one process for all: what it finds out is kept in one file, beside which others would be in each other's way.
    report = on_first(lambda: check_index(index, workers=max(options.workers, 1), backend=options.backend))
    require_readable_classes(report)
    return Labelled(report.known, tuple(everything.paths[row] for row in left_out))


def shown_batches(
    dataset: EvalClipDataset,
    encoder: VideoEncoder,
    options: EvalOptions,
    description: str,
    device: torch.device | str,
) -> Iterator[tuple[ClipBatch, list[Tensor]]]:
    """Decode this process's share of the videos, every n-th of n processes, and cut their views; with a bar.

    No video is left out, repeated or replaced: one that cannot be decoded is black and marked in `ClipBatch.failed`.

    Args:
        dataset: the videos and their views.
        encoder: whose mean and std the views are normalised with.
        options: `batch_size`, of this process, and `workers` count.
        description: of the bar.
        device: where the views are wanted.
    """
    rank, processes = distributed.rank(), distributed.world_size()
    loader = build_eval_loader(
        dataset, options.batch_size, num_processes=processes, rank=rank, num_workers=options.workers
    )
    share = len(range(rank, len(dataset), processes))
    with Progress(description, share, "video", delay=1, show=share > 1) as bar:
        for batch in loader:
            moved = batch.to(device, non_blocking=True)
            yield batch, render_eval_views(moved, dataset.spec, encoder.mean, encoder.std)
            bar.update(len(batch))
