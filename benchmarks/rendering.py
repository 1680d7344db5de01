"""CPU time a frame of the rendered scenes, on one thread: lowest and highest over rounds of different clips.

python benchmarks/rendering.py [--rounds 6]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from vidssl.synthetic.factors.scenes import factor_clips, sample_table
from vidssl.synthetic.objects.render import object_clip

FRAMES, CLIPS = 16, 4


def factors(scene: str) -> Callable[[int], object]:
    table = sample_table(scene, 1000)
    return lambda first: factor_clips(scene, table.values[first : first + CLIPS], FRAMES, 64)


def objects(size: int) -> Callable[[int], object]:
    return lambda first: [object_clip(0, first + clip, FRAMES, size) for clip in range(CLIPS)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    rounds = parser.parse_args().rounds
    scenes = {
        "sprites 64": factors("sprites"),
        "shapes3d 64": factors("shapes3d"),
        **{f"objects {size}": objects(size) for size in (64, 128, 256)},
    }
    for name, render in scenes.items():
        render(0)
        spent = []
        for number in range(rounds):
            start = time.process_time()
            render(number * CLIPS)
            spent.append((time.process_time() - start) / (FRAMES * CLIPS) * 1e3)
        print(f"{name:12} {min(spent):.2f} to {max(spent):.2f} ms a frame")


if __name__ == "__main__":
    main()
