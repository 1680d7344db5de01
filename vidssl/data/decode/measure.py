"""How long each decoder takes here: a clip of 16 frames, every fourth, from files whose time line is known, in CPU time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from vidssl.data.decode.open import loadable_decoders, open_video
from vidssl.data.decode.reader import DecodeError
from vidssl.data.decode.timeline import Timeline, read_timeline
from vidssl.errors import VidsslError

FRAMES, STRIDE = 16, 4
ROUNDS = 5


def measure_decoders(files: Sequence[Path], clips: int = 4) -> dict[str, float]:
    """Milliseconds of CPU time for a clip with each decoder that can be loaded, over the files that all of them read.

    The decoders take turns, and of their rounds the quickest counts, so that what else the machine does matters little.

    Args:
        files: short ones, of the kind that is to be trained on.
        clips: of each file, at places drawn with a fixed seed.

    Raises:
        VidsslError: no file is read by all decoders.
    """
    decoders, rng = loadable_decoders(), np.random.default_rng(0)
    jobs: list[tuple[Path, Timeline, np.ndarray[tuple[int], np.dtype[np.int64]]]] = []
    for file in files:
        with suppress(DecodeError):
            timeline = read_timeline(file)
            for decoder in decoders:  # also a first time, which loads them
                _decode(decoder, file, timeline, np.zeros(1, np.int64))
            for _ in range(clips):
                start = rng.integers(max(timeline.info.num_frames - FRAMES * STRIDE, 0) + 1)
                indices = start + STRIDE * np.arange(FRAMES)
                jobs.append((file, timeline, np.minimum(indices, timeline.info.num_frames - 1)))
    if not jobs:
        raise VidsslError(f"none of {len(files)} files is read by all of {', '.join(decoders)}")
    best = dict.fromkeys(decoders, np.inf)
    for _ in range(ROUNDS):
        for decoder in decoders:
            started = time.process_time()
            for file, timeline, indices in jobs:
                _decode(decoder, file, timeline, indices)
            best[decoder] = min(best[decoder], (time.process_time() - started) / len(jobs) * 1e3)
    return {name: float(value) for name, value in best.items()}


def _decode(
    decoder: str, file: Path, timeline: Timeline, indices: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> None:
    with open_video(file, decoder, timeline) as video:
        video.frames(indices)
