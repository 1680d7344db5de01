"""`vidssl extract --patches`: the patch features of every video of a folder, as a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from vidssl import distributed
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.manifest.quarantine import FailedVideo
from vidssl.devices import find_device
from vidssl.errors import VidsslError
from vidssl.evaluation.features.by_video import OfVideo, write_by_video
from vidssl.evaluation.features.extract import names_beside
from vidssl.evaluation.patches.videos import whole_videos
from vidssl.evaluation.report import Result, data_record, result_header
from vidssl.evaluation.setup import EvalOptions, Subject
from vidssl.models.load import load_encoder
from vidssl.models.patches.features import Mode, PatchFeatures


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
    names_beside(output)  # a wrong name is said before an encoder is loaded
    options = replace(options or EvalOptions(), clips=1, crops=1, resize="crop")
    device = find_device(options.device)
    subject = Subject(Path(checkpoint), load_encoder(checkpoint).to(device), None, options, device)
    features = PatchFeatures(subject.encoder, layer=layer, stride=stride, mode=mode)
    index, spec = VideoIndex.read(data, options.missing), options.spec(subject.encoder)
    shown = whole_videos(index, spec.clip, spec.size, workers=options.workers, backend=options.backend)

    def of_videos() -> Iterator[OfVideo]:
        for video in shown:
            if video.failure is not None:
                yield OfVideo(None, {}, video.failure)
            else:
                patches = features(video.shown)
                yield OfVideo(patches, {"shape": list(patches.shape), "times": video.times.tolist()}, None)

    def about(failures: list[FailedVideo], written: dict[str, Any]) -> dict[str, Any]:
        header = result_header("extract", subject)
        header["sampling"]["resize"] = "short side"
        return {
            **header,
            "patches": {**features.record, **written},
            "data": data_record(data, index, failures),
        }

    return write_by_video(output, index, of_videos(), about, half=half, what="patch features")
