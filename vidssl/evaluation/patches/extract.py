"""`vidssl extract --patches`: the patch features of every video of a folder, as a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vidssl import distributed
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.manifest.quarantine import FailedVideo
from vidssl.devices import find_device
from vidssl.errors import VidsslError
from vidssl.evaluation.features.extract import names_beside, refuse_loss, with_tensors
from vidssl.evaluation.features.stream import TensorStream
from vidssl.evaluation.patches.videos import whole_videos
from vidssl.evaluation.report import Result, data_record, result_header
from vidssl.evaluation.results.protocol import sealed
from vidssl.evaluation.setup import EvalOptions, Subject
from vidssl.files import whole_file, write_json
from vidssl.models.load import load_encoder
from vidssl.models.patches.features import Mode, PatchFeatures
from vidssl.progress import Progress


def extract_patches(
    checkpoint: str | Path,
    data: str | Path,
    output: str | Path,
    *,
    layer: int | None = None,
    stride: int | None = None,
    mode: Mode = "static",
    half: bool = False,
    options: EvalOptions | None = None,
) -> Result:
    """Write patch features (T, D, h, w) of whole frames of every video to `output` (safetensors), names to a JSON beside it.

    The tensor of video i of the JSON's list is called ``str(i)``. Videos that are unreadable, or whose features are not
    finite, have none and are named there. Nothing but one video is held in memory. Files already there are replaced, unless
    they hold features of videos that have none now.

    Args:
        layer, stride, mode: see `PatchFeatures`.
        half: write float16.
        options: `frames`, `seconds` and `stride` say which frames (one clip a video, whatever `clips` and `crops` say),
            `size` their short side.

    Raises:
        VidsslError: in that case, for a wrong layer, stride or `output`, and on several processes.
    """
    if distributed.world_size() > 1:
        raise VidsslError("extract: patches are written by one process; start it without accelerate launch")
    output, names_file = Path(output), names_beside(output)
    options = replace(options or EvalOptions(), clips=1, crops=1, resize="crop")
    device = find_device(options.device)
    subject = Subject(Path(checkpoint), load_encoder(checkpoint).to(device), None, options, device)
    features = PatchFeatures(subject.encoder, layer=layer, stride=stride, mode=mode)
    index, spec = VideoIndex.read(data, options.missing), options.spec(subject.encoder)
    videos: list[dict[str, Any]] = []
    failures: list[FailedVideo] = []
    shown = whole_videos(index, spec.clip, spec.size, workers=options.workers, backend=options.backend)
    dtype = torch.float16 if half else torch.float32
    with (
        whole_file(output) as tensors,
        whole_file(names_file) as names,  # both or none
        Progress("extract", len(index), "video", delay=1, show=len(index) > 1) as bar,
    ):
        with tensors.open("wb") as file:
            stream = TensorStream(file, len(index))
            for number, video in enumerate(shown):
                row: dict[str, Any] = {
                    "path": index.paths[number],
                    "label": index.labels[number],
                    "tensor": None,
                }
                failure = video.failure
                if failure is None:
                    patches = features(video.shown).to(dtype)
                    if bool(patches.isfinite().all()):
                        stream.add(str(number), patches)
                        row |= {
                            "tensor": str(number),
                            "shape": list(patches.shape),
                            "times": video.times.tolist(),
                        }
                    else:
                        reason = f"patch features are not finite in {str(dtype).removeprefix('torch.')}"
                        failure = FailedVideo(number, str(index.path(number)), reason)
                if failure is not None:
                    failures.append(failure)
                videos.append(row)
                bar.note = f"{stream.size / 1e6:.0f} MB"
                bar.update()
            stream.finish()
        refuse_loss(
            output,
            with_tensors(names_file) & {*index.missing, *(index.paths[one.video_id] for one in failures)},
        )
        header = result_header("extract", subject)
        header["sampling"]["resize"] = "short side"
        about = {
            **header,
            "patches": {**features.record, "dtype": str(dtype).removeprefix("torch."), "bytes": stream.size},
            "data": data_record(data, index, failures),
            "videos": videos,
        }
        record = sealed(about)
        write_json(names, record)
    return record
