"""How far the rendering of views is from its floor, and from what a loop over clips with torchvision costs.

    python benchmarks/views.py --device cuda --batch 32 --output views.json

Three timings of the same work in one run, per clip (one view of one sample); CPU time of all threads on a CPU, else seconds:
- ours: `render_views` on the whole batch;
- memcpy: a copy of the float bytes that come out, the least any renderer can do;
- torchvision: the same draws applied clip by clip with `torchvision.transforms.v2.functional`: crops of bytes, antialiased, then floats.

The ratios are what to compare between machines; on a shared machine the milliseconds are noisy. A crop alone is the same filter in both, so
the gain there is that of a copy.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tvf

from vidssl.data.batch import ClipBatch, ClipSample, collate_clips
from vidssl.data.rng import Purpose, stream
from vidssl.data.views.draw import ViewDraw, draw_view
from vidssl.data.views.render import render_views
from vidssl.data.views.spec import ViewSpec, expand_views
from vidssl.data.views.strong import OPERATIONS

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
COLOUR: dict[str, Any] = {"jitter": (0.4, 0.4, 0.2, 0.1), "jitter_p": 0.8, "gray_p": 0.2}


def moved(
    x: Tensor, angle: float = 0.0, by: tuple[float, float] = (0, 0), shear: tuple[float, float] = (0, 0)
) -> Tensor:
    there: Tensor = tvf.affine(x, angle, [*by], 1.0, [*shear], InterpolationMode.BILINEAR)
    return there


# Torchvision's counterparts of `vidssl.data.views.strong`; translations there are by whole pixels.
STRONG: dict[str, Callable[[Tensor, float], Tensor]] = {
    "identity": lambda x, s: x,
    "brightness": lambda x, s: tvf.adjust_brightness(x, 1 + 0.9 * s),
    "contrast": lambda x, s: tvf.adjust_contrast(x, 1 + 0.9 * s),
    "colour": lambda x, s: tvf.adjust_saturation(x, 1 + 0.9 * s),
    "sharpness": lambda x, s: tvf.adjust_sharpness(x, 1 + 0.9 * s),
    "posterize": lambda x, s: tvf.posterize(x, 8 - round(4 * abs(s))),
    "solarize": lambda x, s: tvf.solarize(x, 1 - abs(s)),
    "autocontrast": lambda x, s: tvf.autocontrast(x),
    "equalize": lambda x, s: tvf.equalize(x),
    "rotate": lambda x, s: moved(x, angle=-30 * s),
    "shear_x": lambda x, s: moved(x, shear=(math.degrees(math.atan(0.3 * s)), 0)),
    "shear_y": lambda x, s: moved(x, shear=(0, math.degrees(math.atan(0.3 * s)))),
    "translate_x": lambda x, s: moved(x, by=(-150 / 331 * s * x.shape[-1], 0)),
    "translate_y": lambda x, s: moved(x, by=(0, -150 / 331 * s * x.shape[-1])),
}


def presets(frames: int) -> dict[str, list[ViewSpec]]:
    """Crops alone, crops with colours, and colours with blur on every clip (the costliest)."""
    return {
        "crop 224": [ViewSpec("plain", 1, frames)],
        "crop+colour 224": [ViewSpec("colour", 1, frames, **COLOUR)],
        "crop+colour+blur 224": [ViewSpec("blur", 1, frames, **COLOUR, blur_p=1.0)],
        "crop+strong 224": [ViewSpec("strong", 1, frames, strong=2)],
        "crop+colour 96": [ViewSpec("local", 1, frames, size=96, scale=(0.05, 0.4), **COLOUR, blur_p=0.5)],
    }


def make_batch(specs: list[ViewSpec], batch: int, height: int, width: int) -> ClipBatch:
    """Noise frames with real draws; the content does not matter for the time. Strong operations stand equally often."""
    rng = np.random.default_rng(0)
    views = expand_views(specs)
    num = max(spec.frames for spec in views)
    samples = [
        ClipSample(
            frames=torch.from_numpy(rng.integers(0, 256, (num, height, width, 3), dtype=np.uint8)),
            index=[torch.arange(spec.frames) for spec in views],
            times=[torch.zeros(spec.frames) for spec in views],
            video_id=row,
            draws=[
                draw_view(stream(0, Purpose.SPACE, 0, row, number), spec, height, width)._replace(
                    strong=(row + 5 * torch.arange(spec.strong)) % len(OPERATIONS)
                )
                for number, spec in enumerate(views)
            ],
            failures=[],
        )
        for row in range(batch)
    ]
    return collate_clips(samples)


def torchvision_clip(frames: Tensor, draw: ViewDraw, spec: ViewSpec) -> Tensor:
    """One view of one sample, frames (T, H, W, 3) uint8, as a loop over clips would do it."""
    top, left, height, width = draw.box.tolist()
    x = frames.permute(0, 3, 1, 2)[:, :, top : top + height, left : left + width]
    x = tvf.resize(x, [spec.size, spec.size], antialias=True).float() / 255
    x = tvf.horizontal_flip(x) if draw.flip else x
    operations: list[Callable[[Tensor, float], Tensor]] = [
        tvf.adjust_brightness,
        tvf.adjust_contrast,
        tvf.adjust_saturation,
        tvf.adjust_hue,
    ]
    if draw.jitter:
        for number in draw.order.tolist():
            x = operations[number](x, float(draw.factors[number]))
    x = tvf.rgb_to_grayscale(x, 3) if draw.gray else x
    for number, strength in zip(draw.strong.tolist(), draw.strength.tolist(), strict=True):
        x = STRONG[list(OPERATIONS)[number]](x, strength)
    if draw.sigma > 0:
        x = tvf.gaussian_blur(x, [spec.blur_kernel] * 2, [float(draw.sigma)] * 2)
    normalised: Tensor = tvf.normalize(x, list(MEAN), list(STD)).transpose(0, 1).contiguous()
    return normalised


def torchvision_views(batch: ClipBatch, specs: list[ViewSpec]) -> list[Tensor]:
    return [
        torch.stack(
            [
                torchvision_clip(
                    batch.frames[row, index[row]], ViewDraw(*(field[row] for field in draw)), spec
                )
                for row in range(len(batch))
            ]
        )
        for spec, index, draw in zip(expand_views(specs), batch.index, batch.draws, strict=True)
    ]


def copy_all(targets: list[Tensor], sources: list[Tensor]) -> None:
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source)


def clock(run: Callable[[], Any], device: str, repeats: int) -> float:
    """Median seconds of a call, after one that is not counted; of the CPU where that is what computes."""
    seconds = []
    now = time.process_time if device == "cpu" else time.perf_counter
    for _ in range(repeats + 1):
        start = now()
        run()
        if device != "cpu":
            torch.cuda.synchronize()
        seconds.append(now() - start)
    return statistics.median(seconds[1:])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--height", type=int, default=256)
    parser.add_argument("--width", type=int, default=340)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--output", type=Path, help="write the results as JSON")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    rows: list[dict[str, Any]] = []
    for name, specs in presets(args.frames).items():
        # Every strong operation as often as the others.
        rows_of = len(OPERATIONS) if specs[0].strong else args.batch
        batch = make_batch(specs, rows_of, args.height, args.width).to(args.device)
        ours = render_views(batch, specs, MEAN, STD)
        theirs = torchvision_views(batch, specs)
        error = max(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True))
        buffers = [torch.empty_like(view) for view in ours]
        runs: dict[str, Callable[[], Any]] = {
            "ours": partial(render_views, batch, specs, MEAN, STD),
            "memcpy": partial(copy_all, buffers, ours),
            "torchvision": partial(torchvision_views, batch, specs),
        }
        clips = rows_of * len(ours)
        ms = {key: clock(run, args.device, args.repeats) / clips * 1e3 for key, run in runs.items()}
        rows.append(
            {
                "view": name,
                **{f"{key}_ms": round(value, 4) for key, value in ms.items()},
                "ours_over_memcpy": round(ms["ours"] / ms["memcpy"], 2),
                "torchvision_over_ours": round(ms["torchvision"] / ms["ours"], 2),
                "largest_difference": error,  # in units of the normalised output
            }
        )
    columns = list(rows[0])
    print("  ".join(f"{c:>22}" for c in columns))
    for row in rows:
        print(
            "  ".join(f"{row[c]:>22.4g}" if isinstance(row[c], float) else f"{row[c]:>22}" for c in columns)
        )
    setting = {**vars(args), "output": None, "torch": torch.__version__}
    if args.output:
        args.output.write_text(json.dumps({"setting": setting, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
