"""Time of carrying labels to one frame at 480p, stride 8, against one dense product of all its cells with all keys.

    OMP_NUM_THREADS=1 python benchmarks/propagation.py            # a few minutes on one core, 5 GB
    OMP_NUM_THREADS=1 python benchmarks/propagation.py --quick    # a quarter of the frame, once

Frame 0 and 7 frames of context, 384 channels (ViT-S), 3 labels. Within a repeat all take turns, and what is compared are
the ratios of their processor times to that of the dense product of the same repeat: what else the machine does hits them
alike. The product alone is 8 N² similarities; it has no window, no top-k and no labels yet. The transcription is the
published code of DINO, with its mask built beforehand. Peak memory is that of a process of its own.
Writes propagation.json and .md.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from einops import rearrange
from torch import Tensor
from torch.nn.functional import normalize

from vidssl.evaluation.tracking.presets import preset_of
from vidssl.evaluation.tracking.propagation import SCORES, label_frame, propagate, unit_features
from vidssl.evaluation.tracking.tiles import bands

CONTEXT, DIM, LABELS = 7, 384, 3
MEMORY = """
import sys, torch
from pathlib import Path
from vidssl.evaluation.tracking.propagation import propagate
preset, context, dim, h, w = sys.argv[1], *map(int, sys.argv[2:])
propagate(torch.randn(context + 1, dim, h, w), torch.rand(3, h, w), preset, context=context)
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])  # kB; getrusage knows the parent's peak too
"""


def video(frames: int, h: int, w: int) -> tuple[Tensor, Tensor]:
    """Features of which each frame's resemble those of the frame before, and soft labels."""
    generator = torch.Generator().manual_seed(0)
    frame = torch.randn(DIM, h, w, generator=generator)
    features = [frame]
    for _ in range(frames - 1):
        features.append(0.9 * features[-1] + 0.4 * torch.randn(DIM, h, w, generator=generator))
    return torch.stack(features), torch.rand(LABELS, h, w, generator=generator).softmax(0)


def transcription(features: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Labels of the last frame from all before it, as DINO's `eval_video_segmentation.py` goes about it (Apache-2.0).

    Args:
        features: (T, D, h, w).
        labels: (T - 1, C, h, w).
        mask: (N, N), 1 inside the window.
    """
    h, w = features.shape[2:]
    target = normalize(rearrange(features[-1], "d h w -> (h w) d"), dim=1)
    sources = normalize(rearrange(features[:-1], "t d h w -> t d (h w)"), dim=1)
    contexts = len(sources)
    aff = torch.exp(torch.bmm(target.unsqueeze(0).repeat(contexts, 1, 1), sources) / 0.1)
    aff *= mask.unsqueeze(0)
    aff = aff.transpose(2, 1).reshape(-1, h * w)
    least = torch.topk(aff, dim=0, k=5).values.min(dim=0).values
    aff[aff < least] = 0
    aff = aff / torch.sum(aff, keepdim=True, dim=0)
    segmentations = rearrange(labels, "t c h w -> c (t h w)")
    return rearrange(torch.mm(segmentations, aff), "c (h w) -> c h w", h=h)


def window(h: int, w: int, radius: int) -> Tensor:
    y, x = torch.arange(h).repeat_interleave(w), torch.arange(w).repeat(h)
    return (((y[:, None] - y).abs() <= radius) & ((x[:, None] - x).abs() <= radius)).float()


def seconds(run: Callable[[], Any]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def measure(h: int, w: int, repeats: int) -> dict[str, Any]:
    """Processor seconds of each contender in each repeat, and how far the transcription's labels are from ours."""
    features, labels = video(CONTEXT + 2, h, w)
    mask = window(h, w, 12)
    rows = normalize(rearrange(features, "t d h w -> t (h w) d"), dim=2)
    queries, keys = rows[-1], rows[:-1].flatten(0, 1)
    product = torch.empty(len(keys), len(queries))
    soft = propagate(features, labels)
    theirs = transcription(features, soft[:-1], mask)
    units = {frame: unit_features(cells) for frame, cells in enumerate(features)}

    def ours(preset: str) -> float:
        """Of the last frame, from its features on; like the mask, the tiles are made beforehand."""
        settings = preset_of(preset, context=CONTEXT)
        parts = bands(h, w, settings.radius, settings.window, SCORES // (1 + CONTEXT), features.device)
        last = CONTEXT + 1

        def frame() -> None:
            label_frame(last, {**units, last: unit_features(features[last])}, soft.clone(), parts, settings)

        return seconds(frame)

    contenders: dict[str, Callable[[], float]] = {
        "dense product": lambda: seconds(lambda: torch.mm(keys, queries.T, out=product)),
        "dino": lambda: ours("dino"),
        "vfs, 7 frames": lambda: ours("vfs"),
        "unitrack, 7 frames": lambda: ours("unitrack"),
        "dino transcribed": lambda: seconds(lambda: transcription(features, soft[:-1], mask)),
    }
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for repeat in range(repeats):
        for name, run in contenders.items():
            times[name].append(run())
        print(
            f"repeat {repeat}: " + ", ".join(f"{name} {t[-1]:.2f} s" for name, t in times.items()), flush=True
        )
    return {"seconds": times, "largest_difference": float((theirs - soft[-1]).abs().max())}


def memory(h: int, w: int, context: int) -> dict[str, float]:
    """Peak GB of whole processes, features and all."""
    peaks = {}
    for preset in ("dino", "crw"):
        command = [sys.executable, "-c", MEMORY, preset, *map(str, (context, DIM, h, w))]
        peaks[preset] = (
            int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) / 2**20
        )
        print(f"{preset}, {context} frames of context: {peaks[preset]:.2f} GB", flush=True)
    return peaks


def table(result: dict[str, Any]) -> str:
    dense = result["seconds"]["dense product"]
    lines = [
        "# Propagation: one frame against one dense product",
        "",
        f"{result['machine']}. {result['grid'][0]} x {result['grid'][1]} cells, frame 0 and {CONTEXT} frames of context, {DIM} "
        f"channels, {LABELS} labels; {len(dense)} repeats. The transcription's labels differ from ours by at most "
        f"{result['largest_difference']:.0e}. Reproduce with the command in benchmarks/propagation.py.",
        "",
        "| | seconds, median | times the dense product, median | least | most |",
        "|---|---|---|---|---|",
    ]
    for name, times in result["seconds"].items():
        ratios = [t / d for t, d in zip(times, dense, strict=True)]
        lines.append(
            f"| {name} | {median(times):.2f} | {median(ratios):.2f} | {min(ratios):.2f} | {max(ratios):.2f} |"
        )
    lines += [
        "",
        f"Peak memory of a whole process, {result['peak_context']} frames of context:",
        "",
        "| | GB |",
        "|---|---|",
    ]
    lines += [f"| {name} | {peak:.2f} |" for name, peak in result["peak_gb"].items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    h, w = (30, 54) if options.quick else (60, 107)
    result = {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} thread(s), torch {torch.__version__}",
        "grid": [h, w],
        **measure(h, w, 1 if options.quick else options.repeats),
        "peak_context": 3 if options.quick else 21,
        "peak_gb": memory(h, w, 3 if options.quick else 21),
    }
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "propagation.json").write_text(json.dumps(result, indent=1) + "\n")
    (options.output / "propagation.md").write_text(table(result))
    print(table(result))


if __name__ == "__main__":
    main()
