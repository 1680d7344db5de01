"""Captions of single sprite frames: what one frame shows, and nothing of how it moves.

An image CLIP trained on these pairs knows shapes, colours, sizes, positions and orientations, but has never met a
word of motion. Motion is then exactly what a video model has to add: it can be read from how those image concepts
change along a clip ("near the left", later "near the right"), and from no single frame.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vidssl.errors import VidsslError
from vidssl.synthetic.shapes import SHAPES
from vidssl.synthetic.sprites import HUES, SCALE_RANGE, Sprite, random_sprite, render_clip

SHAPE_WORDS = dict(zip(SHAPES, ("heart", "letter P", "arrow", "letter L"), strict=True))
COLOUR_WORDS = tuple(HUES)
SIZE_WORDS = ("small", "medium", "large")
# Clockwise from upright in steps of 45°; compass points, so that no word means both a place and an orientation.
ORIENTATION_WORDS = ("north", "northeast", "east", "southeast", "south", "southwest", "west", "northwest")
# Row by row over the 3 x 3 grid.
POSITION_WORDS = (
    "near the top left",
    "near the top",
    "near the top right",
    "near the left",
    "in the centre",
    "near the right",
    "near the bottom left",
    "near the bottom",
    "near the bottom right",
)


def frame_words(sprite: Sprite) -> dict[str, str]:
    """The words of frame 0 under the keys size, colour, shape, background, position and orientation.

    Size is a third of the range of log sizes, position a cell of a 3 x 3 grid, orientation an eighth of a turn ("north"
    is towards smaller y; where a shape's top points). Motion leaves no trace; other frames are ``sprite.at(frame)``.
    """
    low, high = np.log(SCALE_RANGE)
    third = int(3 * (np.log(sprite.scale) - low) / (high - low))
    eighth = round(sprite.angle / (np.pi / 4)) % 8
    return {
        "size": SIZE_WORDS[min(third, 2)],
        "colour": COLOUR_WORDS[sprite.fg_hue],
        "shape": tuple(SHAPE_WORDS.values())[sprite.shape],
        "background": COLOUR_WORDS[sprite.bg_hue],
        "position": POSITION_WORDS[3 * int(3 * (sprite.y % 1.0)) + int(3 * (sprite.x % 1.0))],
        "orientation": ORIENTATION_WORDS[eighth],
    }


def _article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def compose_caption(words: dict[str, str]) -> str:
    """The sentence for any subset of what `frame_words` returns; a missing shape becomes "shape".

    "a small red heart on a green background, near the top left, pointing north"
    """
    noun = " ".join(words[key] for key in ("size", "colour") if key in words)
    caption = _article(f"{noun} {words.get('shape', 'shape')}".strip())
    if "background" in words:
        caption += f" on {_article(words['background'])} background"
    if "position" in words:
        caption += f", {words['position']}"
    if "orientation" in words:
        caption += f", pointing {words['orientation']}"
    return caption


def captioned_frames(
    count: int, size: int = 64, seed: int = 0, keep: float = 1.0
) -> tuple[NDArray[np.uint8], list[str]]:
    """Independent frames with their captions, the training set of a small image CLIP.

    Args:
        count: number of pairs N. size: pixels of a side.
        seed: frames and captions are a pure function of the arguments.
        keep: probability with which each of the six descriptions stays in a caption. Below 1, single words
            ("a heart", "a shape, near the left") become captions too, and so can be asked for alone later.

    Returns:
        (N, size, size, 3) uint8 and N sentences.

    Raises:
        VidsslError: if count is not positive or keep lies outside (0, 1].
    """
    if count < 1 or not 0 < keep <= 1:
        raise VidsslError(
            f"captioned frames: count={count}, keep={keep}: count must be >= 1 and 0 < keep <= 1"
        )
    rng = np.random.default_rng(seed)
    images = np.empty((count, size, size, 3), dtype=np.uint8)
    captions = []
    for row in range(count):
        sprite = random_sprite(rng)
        images[row] = render_clip(sprite, frames=1, size=size, seed=int(rng.integers(2**31)))[0]
        words = frame_words(sprite)
        kept = {key: word for key, word in words.items() if rng.random() < keep}
        captions.append(compose_caption(kept))
    return images, captions
