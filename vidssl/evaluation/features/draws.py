"""`vidssl extract --draws`: features of the frames of every video, in several draws of a view, to train on (`data.features`)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from vidssl import distributed
from vidssl.data.batch import ClipBatch
from vidssl.data.clips import ClipSpec
from vidssl.data.features.drawn import DrawnDataset
from vidssl.data.loader import Loader
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.manifest.quarantine import FailedVideo
from vidssl.data.views.crop import squash
from vidssl.data.views.evaluation import EvalSpec, render_eval_views
from vidssl.data.views.render import render_views
from vidssl.data.views.spec import ViewSpec
from vidssl.devices import find_device
from vidssl.errors import VidsslError, check_value
from vidssl.evaluation.features.by_video import OfVideo, write_by_video
from vidssl.evaluation.features.extract import names_beside
from vidssl.evaluation.report import Result, data_record, result_header
from vidssl.evaluation.setup import EvalOptions, Subject
from vidssl.models.encoder import VideoEncoder
from vidssl.models.load import load_encoder
from vidssl.models.temporal.trunk import trunk_digest

AT_ONCE = 64  # frames that the image tower is shown


def extract_draws(
    checkpoint: str | Path,
    data: str | Path,
    output: str | Path,
    *,
    view: ViewSpec,
    grid: int = 3,
    layer: int | None = None,
    rate: float | None = None,
    half: bool = False,
    seed: int = 0,
    encoder: VideoEncoder | None = None,
    options: EvalOptions | None = None,
) -> Result:
    """Write the features of frames (draws, F, R) of every video to `output` (safetensors), names and times to a JSON beside it.

    The tensor of video i of the JSON's list is called ``str(i)``. Its first draw is the whole frame as evaluation shows it, those
    behind it are draws of `view`, each held over the whole video. Videos that are unreadable, or whose features are not
    finite, have none and are named there. Nothing but one video is held in memory. Files already there are replaced, unless
    they hold features of videos that have none now.

    Args:
        view: what is drawn, `count` times; of which frames and of what size is said by `options`.
        grid: cells a side that are kept beside the features, see `vidssl.models.temporal.rows`; 0 for none.
        layer: of whose map, counted from 0; None: the last.
        rate: frames a second, instead of as many of every video.
        half: write float16.
        seed: of the draws.
        encoder: that of `checkpoint`, where it is loaded already.
        options: `frames` F, spread over the whole video, `size` of all draws, decoding and device; nothing else counts.

    Raises:
        VidsslError: in that case, for an encoder that does not see one frame at a time, a wrong grid or `output`, and on several
            processes.
    """
    if distributed.world_size() > 1:
        raise VidsslError("extract: draws are written by one process; start it without accelerate launch")
    check_value("grid", grid, grid >= 0, "at least 0")
    if layer is not None and not grid:
        raise VidsslError(f"layer: {layer}: is of the grid, and there is none; leave it out")
    names_beside(output)  # a wrong name is said before an encoder is loaded
    options = options or EvalOptions()
    device = find_device(options.device)
    encoder = (encoder or load_encoder(checkpoint)).to(device)
    frames, side = options.frames or encoder.usual_frames, options.size or encoder.image_size
    view = replace(view, frames=frames, size=side)
    options = replace(
        options, frames=frames, size=side, seconds=math.inf, stride=None, clips=1, crops=1, resize="squash"
    )
    encoder.check_size(1, view.size)
    size = _row_size(encoder, view.size, grid, layer)
    subject = Subject(Path(checkpoint), encoder, None, options, device)
    index = VideoIndex.read(data, options.missing)
    dataset = DrawnDataset(index, view, rate=rate, seed=seed, backend=options.backend)
    loader = Loader(dataset, [[i] for i in range(len(index))], num_workers=options.workers)

    def of_videos() -> Iterator[OfVideo]:
        for batch in loader:
            if bool(batch.failed[0]):
                yield OfVideo(None, {}, batch.failures[0])
            else:
                times = batch.times[0][0].tolist()
                yield OfVideo(draw_rows(encoder, batch, view, grid, layer), {"times": times}, None)

    def about(failures: list[FailedVideo], written: dict[str, Any]) -> dict[str, Any]:
        rows = {
            "trunk": trunk_digest(encoder),
            "dim": encoder.embed_dim,
            "grid": grid,
            "layer": layer,
            "width": (size - encoder.embed_dim) // grid**2 if grid else 0,
            "size": view.size,
            "draws": 1 + view.count,
            "rate": rate,
            "view": asdict(view),
            "seed": seed,
            **written,
        }
        return {**result_header("extract", subject), "rows": rows, "data": data_record(data, index, failures)}

    return write_by_video(output, index, of_videos(), about, half=half, what="features")


@torch.no_grad()
def _row_size(encoder: VideoEncoder, side: int, grid: int, layer: int | None) -> int:
    """R of frames of `side` pixels, found by a black one."""
    black = next(encoder.parameters()).new_zeros(1, 3, 1, side, side)
    return encoder.frame_rows(black, grid, layer).shape[2]


@torch.no_grad()
def draw_rows(
    encoder: VideoEncoder, batch: ClipBatch, view: ViewSpec, grid: int, layer: int | None
) -> Tensor:
    """(1 + view.count, F, R) of a batch of one video of a `DrawnDataset`."""
    device = next(encoder.parameters()).device
    frames, moved = batch.index[0].shape[1], batch.to(device)
    plain = EvalSpec(ClipSpec(frames, seconds=math.inf), size=view.size, resize="squash")
    shown = replace(
        batch,
        frames=squash(batch.frames[0], view.size, plain.interpolation)[None],
        sizes=torch.tensor([[view.size] * 2]),
    ).to(device)
    shown = replace(shown, index=shown.index[:1])
    clips = render_eval_views(shown, plain, encoder.mean, encoder.std)
    clips += render_views(moved, [replace(view, frames=frames)], encoder.mean, encoder.std)
    rows = [
        encoder.frame_rows(part, grid, layer).float().cpu()
        for clip in clips
        for part in clip.split(AT_ONCE, dim=2)
    ]
    return rearrange(torch.cat(rows, dim=1), "1 (draws frames) row -> draws frames row", frames=frames)
