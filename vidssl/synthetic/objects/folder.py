"""Folders of sequences of several sprites: with their truth, to track in, or as plain videos, to train on.

A sequence's folder holds

- `frames/00000.png` …, `masks/00000.png` …: palette images whose pixels are identities, 0 the background;
- `gt.txt`: MOTChallenge's rows `frame,id,x,y,w,h,1,-1,-1,-1`, frames from 1, of every object of which a pixel is seen;
- `groundtruth.txt`: `x,y,w,h` of object 1, a line a frame; it is seen in every one;
- `keypoints.csv`: `frame,id,joint,x,y`, frames and joints from 0, `-1,-1` where a point is hidden.

Coordinates are those of `render`: the upper left corner of the frame is (0, 0), and pixel i of a row spans i to i + 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vidssl.data.encode import write_video
from vidssl.errors import VidsslError
from vidssl.files import require_new_folder, whole_folder, write_json, write_text
from vidssl.synthetic.objects.render import ObjectClip, object_clip
from vidssl.synthetic.objects.scene import Difficulty
from vidssl.version import __version__

RECORD = "objects.json"
# DAVIS's colours of the background and the identities 1 to 6.
PALETTE = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0, 0, 0, 128, 128, 0, 128, 0, 128, 128]


def write_objects(
    folder: Path | str,
    clips: int = 20,
    frames: int = 32,
    size: int = 128,
    seed: int = 0,
    difficulty: Difficulty | None = None,
    videos: bool = False,
    fps: float = 8.0,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write `clips` sequences `0000`, `0001` … with their truth, or as many videos `000000.mp4` … without it.

    A pure function of the arguments, to the byte. A video shows no scene of a sequence, whatever the seeds.

    Args:
        folder: absent or empty. frames, size: T, pixels of a side. difficulty: default Difficulty().
        videos: H.264 files to train on, instead of sequences. fps: of the videos.
        progress: called after every clip with how many are done, and how many there are to do.

    Raises:
        VidsslError: for counts that cannot be, or a folder that holds something; then nothing is written.
    """
    folder, difficulty = Path(folder), difficulty or Difficulty()
    require_new_folder(folder)
    if clips < 1:
        raise VidsslError(f"object clips: clips={clips}: must be at least 1")
    record = {
        "split": "videos" if videos else "sequences",
        "clips": clips,
        "frames": frames,
        "size": size,
        "seed": seed,
        "difficulty": asdict(difficulty),
        "version": __version__,
    }
    with whole_folder(folder) as partial:
        for number in range(clips):
            clip = object_clip(seed, number, frames, size, difficulty, str(record["split"]))
            if videos:
                write_video(partial / f"{number:06d}.mp4", clip.frames, fps)
            else:
                write_sequence(partial / f"{number:04d}", clip)
            if progress is not None:
                progress(number + 1, clips)
        write_json(partial / RECORD, record)


def write_sequence(folder: Path, clip: ObjectClip) -> None:
    """One sequence in the layout above."""
    for name in ("frames", "masks"):
        (folder / name).mkdir(parents=True)
    for number, (frame, mask) in enumerate(zip(clip.frames, clip.masks, strict=True)):
        Image.fromarray(frame).save(folder / "frames" / f"{number:05d}.png")
        image = Image.fromarray(mask)
        image.putpalette(PALETTE)
        image.save(folder / "masks" / f"{number:05d}.png")
    boxes = clip.boxes
    rows = [
        f"{frame + 1},{index + 1},{_joined(boxes[frame, index])},1,-1,-1,-1"
        for frame, index in np.argwhere(boxes[..., 2] > 0).tolist()
    ]
    write_text(folder / "gt.txt", "\n".join(rows) + "\n")
    write_text(folder / "groundtruth.txt", "".join(f"{_joined(box)}\n" for box in boxes[:, 0]))
    points = [
        f"{frame},{index + 1},{joint},{x:.10g},{y:.10g}"
        for (frame, index, joint), (x, y) in zip(
            np.ndindex(clip.keypoints.shape[:3]), clip.keypoints.reshape(-1, 2).tolist(), strict=True
        )
    ]
    write_text(folder / "keypoints.csv", "\n".join(["frame,id,joint,x,y", *points]) + "\n")


def _joined(box: NDArray[np.int64]) -> str:
    return ",".join(map(str, box.tolist()))
