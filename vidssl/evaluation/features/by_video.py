"""A tensor of every video in one file, written one by one, and a JSON beside it that says which is whose."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.manifest.quarantine import FailedVideo
from vidssl.evaluation.features.extract import names_beside, refuse_loss, with_tensors
from vidssl.evaluation.features.stream import TensorStream
from vidssl.evaluation.report import Result
from vidssl.evaluation.results.protocol import sealed
from vidssl.files import whole_file, write_json
from vidssl.progress import Progress


class OfVideo(NamedTuple):
    """What there is of a video: features with what its row says besides, or why there are none."""

    features: Tensor | None
    row: Mapping[str, Any]
    failure: FailedVideo | None


def write_by_video(
    output: str | Path,
    index: VideoIndex,
    found: Iterable[OfVideo],
    about: Callable[[list[FailedVideo], dict[str, Any]], Mapping[str, Any]],
    *,
    half: bool,
    what: str,
) -> Result:
    """Write the features of all videos of an index to `output` (safetensors), and the sealed result with their rows beside it: both or none.

    The tensor of video i is called ``str(i)``. Videos whose features are not finite have none, like those that failed, and the reason in
    their rows. Nothing but one video is held in memory.

    Args:
        found: of each video in order.
        about: what the result says but for the rows of videos, from those that failed and the features' ``dtype`` and ``bytes``.
        half: write float16.
        what: the features are called in a reason.

    Raises:
        VidsslError: for a wrong `output`, and where a file that is there holds features of videos that have none now.
    """
    output, names_file = Path(output), names_beside(output)
    dtype = torch.float16 if half else torch.float32
    kind = str(dtype).removeprefix("torch.")
    videos: list[dict[str, Any]] = []
    failures: list[FailedVideo] = []
    with (
        whole_file(output) as tensors,
        whole_file(names_file) as names,
        Progress("extract", len(index), "video", delay=1, show=len(index) > 1) as bar,
    ):
        with tensors.open("wb") as file:
            stream = TensorStream(file, len(index))
            for number, (features, more, failure) in enumerate(found):
                row = {"path": index.paths[number], "label": index.labels[number], "tensor": None}
                if features is not None:
                    written = features.to(dtype)
                    if bool(written.isfinite().all()):
                        stream.add(str(number), written)
                        row |= {"tensor": str(number), **more}
                    else:
                        reason = f"{what} are not finite in {kind}"
                        failure = FailedVideo(number, str(index.path(number)), reason)
                if failure is not None:
                    failures.append(failure)
                    row["reason"] = failure.reason
                videos.append(row)
                bar.note = f"{stream.size / 1e6:.0f} MB"
                bar.update()
            stream.finish()
        lost = {*index.missing, *(index.paths[one.video_id] for one in failures)}
        refuse_loss(output, with_tensors(names_file) & lost)
        record = sealed({**about(failures, {"dtype": kind, "bytes": stream.size}), "videos": videos})
        write_json(names, record)
    return record
