"""A small video classification set on disk whose classes are motions: H.264 files of vidSprites.

The class is how the sprite moves; shape, colours, textures, position, orientation and size are drawn independently of
it. Each pose variable lives on a circle (see `sprites`), so in every frame its distribution is the same in all
classes: a single frame, whichever it is, cannot tell the class, and a model of single frames stays at chance. The
price is an occasional wrap: a sprite leaves on one side and enters on the other, or snaps back from the largest
size to the smallest; with the amounts below that happens in about a third of the clips that move or grow.

With several `shots` a clip shows one sprite after the other, all moving alike, as a video may show an action from several
sides: what two moments of such a clip have in common is motion, and looks, places and sizes are not.

Directions are those of the image: x points right, y points down, so "moving up" goes towards smaller y.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidssl.data.encode import write_video
from vidssl.errors import VidsslError, check_choice
from vidssl.synthetic.sprites import Sprite, random_sprite, render_clip

# Amounts over a whole clip, uniform between the two ends.
TRAVEL = (0.25, 0.45)  # frame sides
TURN = (np.pi / 2, np.pi)  # radians
GROWTH = (np.log(1.4), np.log(1.6))  # change of log size
SPLITS = ("train", "val")


@dataclass(frozen=True)
class MotionClass:
    """Signs of the motion (right, down, clockwise, growing are positive) and a sentence for zero-shot classification."""

    text: str
    x: int = 0
    y: int = 0
    spin: int = 0
    zoom: int = 0

    def draw(self, rng: np.random.Generator, frames: int) -> Sprite:
        """A sprite of random looks and pose that performs this motion within `frames` frames."""
        travel, turn, growth = (rng.uniform(*ends) / max(frames - 1, 1) for ends in (TRAVEL, TURN, GROWTH))
        return random_sprite(
            rng, vx=self.x * travel, vy=self.y * travel, spin=self.spin * turn, zoom=self.zoom * growth
        )


MOTION_CLASSES: dict[str, MotionClass] = {
    "moving_right": MotionClass("a shape moving to the right", x=1),
    "moving_left": MotionClass("a shape moving to the left", x=-1),
    "moving_up": MotionClass("a shape moving up", y=-1),
    "moving_down": MotionClass("a shape moving down", y=1),
    "spinning_clockwise": MotionClass("a shape spinning clockwise", spin=1),
    "spinning_counterclockwise": MotionClass("a shape spinning counterclockwise", spin=-1),
    "growing": MotionClass("a shape growing larger", zoom=1),
    "shrinking": MotionClass("a shape becoming smaller", zoom=-1),
}


def _render(
    motion: MotionClass, rng: np.random.Generator, frames: int, size: int, shots: int, texture: float
) -> NDArray[np.uint8]:
    """(T, H, W, 3): one sprite after the other, with the same motion."""
    length = frames // shots
    sprite = motion.draw(rng, length)
    parts = []
    for shot in range(shots):
        if shot:
            sprite = random_sprite(rng, sprite.vx, sprite.vy, sprite.spin, sprite.zoom)
        parts.append(render_clip(sprite, length, size, seed=int(rng.integers(2**31)), texture=texture))
    return np.concatenate(parts)


def write_sprite_dataset(
    root: Path | str,
    classes: Sequence[str] = tuple(MOTION_CLASSES),
    clips_per_class_train: int = 40,
    clips_per_class_val: int = 10,
    frames: int = 16,
    size: int = 64,
    fps: int = 8,
    seed: int = 0,
    texture: float = 1.0,
    shots: int = 1,
) -> None:
    """Write `<root>/{train,val}/<class>/<class>_0000.mp4` … and `<root>/classes.csv` (id,name,text).

    Clip i of a class depends on (seed, split, class, i) alone: asking for more clips keeps the first ones, and files of
    an earlier call are overwritten. `text` is a caption of the class for zero-shot classification.

    Args:
        root: folder, made if absent.
        classes: names out of MOTION_CLASSES, which are also the folders' names; ids follow this order.
        frames, size, fps: T, pixels of a side (even), frames a second.
        texture: strength of the textures. They are the surest sign of which video a clip is from, so without them a
            network has to look at shapes and motion to tell videos apart.
        shots: in how many equal parts of a clip another sprite, of other looks and pose, performs the same motion; the
            amounts of travel, turn and growth are those of one part.

    Raises:
        VidsslError: for an unknown or repeated class, a size that is odd, a count below zero, or shots that do not
            divide the frames into parts of two or more.
    """
    for name in classes:
        check_choice("class", name, MOTION_CLASSES, "{name} {value!r}: unknown{guess} (allowed: {allowed})")
    if len(set(classes)) != len(classes) or not classes:
        raise VidsslError(f"classes {list(classes)}: must be one or more different names")
    counts = dict(zip(SPLITS, (clips_per_class_train, clips_per_class_val), strict=True))
    if min(counts.values()) < 0 or frames < 2 or fps < 1 or size < 2:
        raise VidsslError(
            f"sprite set: clips per class {tuple(counts.values())}, frames {frames}, size {size}, fps {fps}: "
            "counts must be >= 0, frames and size >= 2, fps >= 1"
        )
    if shots < 1 or frames % shots or frames // shots < 2:
        raise VidsslError(
            f"sprite set: shots={shots}: must divide {frames} frames into parts of at least two"
        )
    if size % 2:  # frames on disk are then as rendered
        raise VidsslError(f"sprite set: size {size}: H.264 with yuv420p needs even sides")
    root = Path(root)
    for split, count in counts.items():
        for name in classes:
            folder = root / split / name
            folder.mkdir(parents=True, exist_ok=True)
            for index in range(count):
                key = (seed, SPLITS.index(split), list(MOTION_CLASSES).index(name), index)
                rng = np.random.default_rng(key)
                clip = _render(MOTION_CLASSES[name], rng, frames, size, shots, texture)
                write_video(folder / f"{name}_{index:04d}.mp4", clip, fps)
    with (root / "classes.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("id", "name", "text"))
        writer.writerows((i, name, MOTION_CLASSES[name].text) for i, name in enumerate(classes))
