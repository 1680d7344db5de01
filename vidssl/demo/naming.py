"""The demo's second process: a small CLIP of single frames, which then learns to name motions.

python -m vidssl.demo.naming demo 0            # after the videos were rendered into demo/videos
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vidssl.config import load_config
from vidssl.errors import Stopped, VidsslError
from vidssl.evaluation import EvalOptions, zero_shot
from vidssl.files import write_json
from vidssl.progress import Progress
from vidssl.synthetic.captions import captioned_frames
from vidssl.synthetic.clip import train_toy_clip
from vidssl.training import pretrain

CLIP, RUN, LOG, RESULT = "clip", "naming", "naming.log", "zero_shot.json"
PARTS = (CLIP, RUN, LOG, RESULT)
CAPTIONED, SIZE, STEPS, BATCH = (
    4096,
    32,
    500,
    128,
)  # of the CLIP: frames, pixels of a side, steps, frames in a step
STOPPED = 75  # exit code of a process that was told to stop
TEMPLATE = "{}."  # as in prompts/motions.json


def name_motions(folder: Path, seed: int) -> None:
    """Train the CLIP, teach it motions, and classify by names; all into `folder`, whose videos are there.

    Raises:
        Stopped: when it was told to stop while it learned the names.
    """
    videos, clip = folder / "videos", folder / CLIP
    train_clip(clip, seed)
    recipe = {
        "output": folder / RUN,
        "seed": seed,
        "data.train": videos / "train",
        "model.name": f"local-dir:{clip}",
        "model.pretrained": f"local-dir:{clip}",
    }
    run = pretrain(load_config("demo_concepts", [f"{key}={value}" for key, value in recipe.items()]))
    options = EvalOptions(clips=3, batch_size=60, workers=0)
    result = zero_shot(run, videos / "val", templates=TEMPLATE, options=options)
    write_json(folder / RESULT, result)


class SecondProcess:
    """`name_motions` in a process of its own, one thread, its output in a log file."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._log = folder / LOG
        command = [sys.executable, "-m", "vidssl.demo.naming", str(folder), str(seed)]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, "OMP_NUM_THREADS": "1"}
            )

    def finish(self) -> None:
        """Wait for its end.

        Raises:
            Stopped: when it was told to stop.
            VidsslError: when it failed; the message is its own last line.
        """
        code = self._process.wait()
        said = (self._log.read_text(errors="replace").strip().splitlines() or [""])[-1]
        if code == STOPPED:
            raise Stopped(said)
        if code:
            raise VidsslError(f"the second process of the demo ended with {code}: {said}")

    def end(self) -> None:
        """Tell it to stop, if it still runs, and wait until it has."""
        if self._process.poll() is None:
            self._process.terminate()
        self._process.wait()


@contextmanager
def second_process(folder: Path, seed: int) -> Iterator[SecondProcess]:
    """A block beside which `name_motions` runs; it is over when the block is, however that ends."""
    process = SecondProcess(folder, seed)
    try:
        yield process
    finally:
        process.end()


def train_clip(folder: Path, seed: int) -> None:
    """The demo's CLIP of single frames, trained from their captions, as an open_clip folder."""
    images, captions = captioned_frames(CAPTIONED, size=SIZE, seed=seed, keep=0.5)
    with Progress("clip", STEPS, "step") as bar:

        def progress(step: int, loss: float) -> None:
            bar.note = f"loss {loss:.3f}"
            bar.update(step - bar.done)

        train_toy_clip(
            images,
            captions,
            folder,
            patch_size=8,
            width=64,
            steps=STEPS,
            batch_size=BATCH,
            seed=seed,
            progress=progress,
        )


def main() -> None:
    """The process; mistakes end in one line."""
    import torch

    torch.set_num_threads(1)
    try:
        name_motions(Path(sys.argv[1]), int(sys.argv[2]))
    except VidsslError as error:
        sys.exit(f"vidssl: {error}")
    except Stopped as stop:
        print(f"vidssl: {stop}", file=sys.stderr)  # noqa: T201
        sys.exit(STOPPED)


if __name__ == "__main__":
    main()
