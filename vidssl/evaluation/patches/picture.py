"""`vidssl pca`: what an encoder takes for the same in a video, as colours: an mp4, and a strip of frames above theirs as PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from vidssl.data.clips import ClipSpec
from vidssl.data.encode import write_video
from vidssl.data.manifest.content import content_hash
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.devices import find_device
from vidssl.environment import environment
from vidssl.errors import VidsslError, check_value
from vidssl.evaluation.patches.colours import principal_colours
from vidssl.evaluation.patches.videos import whole_videos
from vidssl.evaluation.results.protocol import sealed
from vidssl.files import whole_file, write_json
from vidssl.models.load import load_encoder
from vidssl.models.patches.features import Mode, PatchFeatures

STRIP = 8  # frames in the PNG
READABLE = 160  # pixels: frames of less height are drawn enlarged by a whole number


def pca(
    checkpoint: str | Path,
    video: str | Path,
    output: str | Path,
    *,
    layer: int | None = None,
    stride: int | None = None,
    mode: Mode = "static",
    frames: int = 100,
    size: int | None = None,
    device: str | None = None,
) -> dict[str, Any]:
    """Draw the principal components of a video's patch features over time.

    Args:
        checkpoint: whatever `load_encoder` takes.
        video: a video file.
        output: the mp4, each frame above its colours; a PNG and a JSON of the same name lie beside it. All or none of them.
        layer, stride, mode: see `PatchFeatures`.
        frames: at most so many, spread over the whole video and shown at its speed.
        size: short side of the frames in pixels; by default that of the encoder.

    Returns:
        What the JSON says: encoder, patches, frames, and the components' shares of the variance.

    Raises:
        VidsslError: for an unreadable video, features that are not finite, an output that does not end in ``.mp4``, and what
            `PatchFeatures` refuses.
    """
    output = Path(output)
    if output.suffix != ".mp4":
        raise VidsslError(f"{output}: the video needs the ending .mp4; a .png and a .json go beside it")
    check_value("frames", frames, frames >= 1, "at least 1")
    check_value("size", size, size is None or size >= 1, "at least 1 pixel")
    encoder = load_encoder(checkpoint).to(find_device(device))
    features = PatchFeatures(encoder, layer=layer, stride=stride, mode=mode)
    side = size or encoder.spec.get("sampling", {}).get("size") or encoder.image_size
    clip = ClipSpec(frames, seconds=float("inf"))
    [shown] = whole_videos(VideoIndex.of_files([video]), clip, side)
    if shown.failure is not None:
        raise VidsslError(f"{video}: {shown.failure.reason}")
    pictures, shares = principal_colours(features(shown.shown))
    pairs = above_colours(shown.frames.numpy(), pictures, features.stride)
    about = {
        "task": "pca",
        "checkpoint": str(checkpoint),
        "video": str(video),
        "content": content_hash(video)[:16],
        "patches": features.record,
        "frames": len(pairs),
        "frame_size": list(shown.frames.shape[1:3]),
        "variance_shares": shares.tolist(),
        "environment": environment(),
    }
    record = sealed(about)
    png, json_file = output.with_suffix(".png"), output.with_suffix(".json")
    with whole_file(json_file) as said, whole_file(png) as strip, whole_file(output) as movie:
        write_json(said, record)
        _write_strip(strip, pairs)
        write_video(movie, pairs, _rate(shown.times))
    return record


def above_colours(frames: NDArray[np.uint8], pictures: Tensor, stride: int) -> NDArray[np.uint8]:
    """(T, 2 H, W, 3): frames (T, H, W, 3) above the colours of their cells."""
    height, width = frames.shape[1:3]
    cells = F.interpolate(pictures, scale_factor=stride, mode="nearest")[:, :, :height, :width]
    colours = rearrange((cells * 255).round(), "t c h w -> t h w c").byte().numpy()
    pairs, times = np.concatenate([frames, colours], axis=1), max(1, READABLE // height)
    return pairs.repeat(times, axis=1).repeat(times, axis=2)


def _write_strip(file: Path, pairs: NDArray[np.uint8]) -> None:
    """Some of the pairs side by side, the first and last among them, as PNG."""
    from PIL import Image

    chosen = np.linspace(0, len(pairs) - 1, min(STRIP, len(pairs))).round().astype(int)
    Image.fromarray(np.concatenate(pairs[chosen], axis=1)).save(file, format="PNG")


def _rate(times: Tensor) -> float:
    """Frames a second at which frames of these times (T,) show the video at its speed."""
    seconds = float(times[-1] - times[0])
    return min(max((len(times) - 1) / seconds, 0.1), 120.0) if seconds > 0 else 1.0
