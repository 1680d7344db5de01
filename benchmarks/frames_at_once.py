"""CPU time of image towers by how they are shown frames: channels apart or next to each other, few frames at once or many.

    OMP_NUM_THREADS=1 python benchmarks/frames_at_once.py [--towers resnet50 …] [--rounds 3]

Random weights: the time does not depend on them. "as it is" goes through the encoder.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from einops import rearrange

import vidssl

TOWERS = {
    "tf_efficientnet_lite2": 160,
    "resnet50": 160,
    "convnext_tiny": 160,
    "vit_small_patch16_224": 224,
}
FRAMES = 64
AT_ONCE = (4, 16, 64)


def milliseconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return (time.process_time() - start) / FRAMES * 1e3


@torch.inference_mode()
def rows(name: str, size: int, rounds: int) -> dict[str, list[float]]:
    """What it is -> CPU milliseconds a frame, a number a round."""
    encoder = vidssl.load_encoder(f"timm/{name}")
    tower = encoder.visual
    assert isinstance(tower, torch.nn.Module)
    clips = torch.randn(8, 3, FRAMES // 8, size, size)
    apart = rearrange(clips, "b c t h w -> (b t) c h w").contiguous()
    beside = apart.contiguous(memory_format=torch.channels_last)
    found: dict[str, list[float]] = {}
    encoder(clips[:1, :, :1])
    for _ in range(rounds):
        for layout, images in {"apart": apart, "together": beside}.items():
            for count in AT_ONCE:
                took = milliseconds(lambda: [tower(some) for some in images.split(count)])  # noqa: B023
                found.setdefault(f"{layout}, {count}", []).append(took)
        found.setdefault("as it is", []).append(milliseconds(lambda: encoder(clips)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--towers", nargs="+", choices=list(TOWERS), default=list(TOWERS))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for name in options.towers:
        found = rows(name, TOWERS[name], options.rounds)
        cells = [f"{kind}: {min(v):.1f} ({max(v):.1f})" for kind, v in found.items()]
        print(f"{name}, {TOWERS[name]} pixels | {' | '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
