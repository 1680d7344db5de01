"""What every evaluation starts from: the encoder under test, its untrained twin, and how videos are shown to them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from vidssl.data.clips import ClipSpec
from vidssl.data.manifest.check import check_index, require_readable_classes
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.views.evaluation import EvalSpec
from vidssl.errors import VidsslError
from vidssl.evaluation.features import (
    Extractor,
    FeatureSet,
    encoder_extractor,
    extract_features,
    motion_energy,
)
from vidssl.models.encoder import VideoEncoder
from vidssl.models.export import load
from vidssl.runs import find_initial


@dataclass(frozen=True)
class EvalOptions:
    """How videos are shown; None takes what the checkpoint was trained with.

    Args:
        frames: frames of a clip.
        seconds: temporal extent of a clip; `math.inf` for the whole video.
        stride: distance of two frames, instead of `seconds`.
        clips: clips of a video, whose features are averaged.
        crops: 1 (centre) or 3 along the long side.
        resize: "squash" shows the whole frame as a square, "crop" a central square.
        size: side of the square in pixels.
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

    def spec(self, encoder: VideoEncoder) -> EvalSpec:
        """The views, completed by what the encoder was trained with."""
        trained: dict[str, Any] = encoder.spec.get("sampling", {})
        frames = self.frames or trained.get("frames", 8)
        seconds, stride = self.seconds, self.stride
        if seconds is None and stride is None:
            stride = trained.get("stride")
            seconds = None if stride else (trained.get("seconds") or math.inf)
        return EvalSpec(
            clip=ClipSpec(frames, stride=stride, seconds=seconds),
            clips_per_video=self.clips,
            size=self.size or trained.get("size") or encoder.image_size,
            resize=self.resize,
            crops=self.crops,
        )


@dataclass(frozen=True)
class Subject:
    """An encoder under test.

    Attributes:
        path: what the user named.
        encoder: in eval mode, on the device.
        untrained: the weights the run started from, None where they are not kept beside the checkpoint.
    """

    path: Path
    encoder: VideoEncoder
    untrained: VideoEncoder | None
    device: torch.device

    @property
    def name(self) -> str:
        return str(self.path)

    def extractors(self, motion: bool = False) -> dict[str, Extractor]:
        chosen = {"trained": encoder_extractor(self.encoder, "trained")}
        if self.untrained is not None:
            chosen["untrained"] = encoder_extractor(self.untrained, "untrained")
        if motion:
            chosen["motion"] = motion_energy
        return chosen


@dataclass(frozen=True)
class Split:
    """A labelled data set, its unreadable files and what it looks like in a report."""

    index: VideoIndex
    features: FeatureSet
    record: dict[str, Any]


def load_subject(checkpoint: str | Path, device: str | None = None) -> Subject:
    """Load an encoder and, when the run keeps it, the encoder it started from.

    Raises:
        VidsslError: for anything that is not a run, a checkpoint or an exported encoder.
    """
    path = Path(checkpoint)
    chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    encoder = load(path).to(chosen).eval()
    initial = find_initial(path)
    untrained = load(initial).to(chosen).eval() if initial is not None else None
    return Subject(path, encoder, untrained, chosen)


def read_labelled(data: str | Path, workers: int) -> VideoIndex:
    """A labelled index whose classes all have a readable video; broken files stay in and will count as wrong."""
    index = VideoIndex.read(data)
    if all(label is None for label in index.labels):
        raise VidsslError(f"{data}: no labels; expected <class>/<file> or a CSV with path,label")
    require_readable_classes(check_index(index, workers=max(workers, 1)))
    return index


def features_of(
    subject: Subject, index: VideoIndex, options: EvalOptions, *, motion: bool = False, description: str
) -> FeatureSet:
    """Features of the encoder, its untrained twin and (with `motion`) the motion baseline, in one decoding pass."""
    return extract_features(
        subject.extractors(motion),
        index,
        options.spec(subject.encoder),
        mean=subject.encoder.mean,
        std=subject.encoder.std,
        device=subject.device,
        batch_size=options.batch_size,
        workers=options.workers,
        backend=options.backend,
        description=description,
    )


def split_features(
    subject: Subject, data: str | Path, options: EvalOptions, *, motion: bool = False, description: str
) -> Split:
    """Index a labelled data set and extract its features."""
    index = read_labelled(data, options.workers)
    features = features_of(subject, index, options, motion=motion, description=description)
    return Split(index, features, data_record(data, index, features))


def data_record(data: str | Path, index: VideoIndex, features: FeatureSet) -> dict[str, Any]:
    """What a result says of a data set: its list's hash, and every file that could not be read."""
    return {
        "path": str(data),
        "digest": index.digest,
        "videos": len(index),
        "failed": [{"path": failure.path, "reason": failure.reason} for failure in features.failures],
    }


def sampling_record(spec: EvalSpec) -> dict[str, Any]:
    """The sampling of a result file."""
    return {
        "frames": spec.clip.frames,
        "seconds": None if spec.clip.seconds in (None, math.inf) else spec.clip.seconds,
        "stride": spec.clip.stride,
        "clips_per_video": spec.clips_per_video,
        "crops": spec.crops,
        "size": spec.size,
        "resize": spec.resize,
    }
