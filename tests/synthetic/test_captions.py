from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.synthetic.sprite_pictures import render_coverage, torus_centre
from vidssl.errors import VidsslError
from vidssl.synthetic.captions import (
    ORIENTATION_WORDS,
    POSITION_WORDS,
    captioned_frames,
    compose_caption,
    frame_words,
)
from vidssl.synthetic.sprites import Sprite, random_sprite


def frame_caption(sprite: Sprite, frame: float = 0) -> str:
    return compose_caption(frame_words(sprite.at(frame)))


def test_captions_say_what_the_frame_shows() -> None:
    sprite = Sprite(shape=0, fg_hue=0, bg_hue=3, scale=0.45, angle=0.0, x=0.1, y=0.1, vx=0.8 / 15)
    assert (
        frame_caption(sprite) == "a small red heart on a green background, near the top left, pointing north"
    )
    assert "near the top right" in frame_caption(sprite, frame=15)
    assert "an orange arrow" in frame_caption(replace(sprite, shape=2, fg_hue=1)).replace("a small", "an")
    assert frame_words(replace(sprite, angle=np.pi / 2))["orientation"] == "east"
    assert len(set(ORIENTATION_WORDS)) == 8
    assert len(set(POSITION_WORDS)) == 9
    # Motion leaves no trace in the words.
    assert frame_caption(sprite) == frame_caption(replace(sprite, vx=0.0, spin=0.2, zoom=-0.1))


def test_position_words_follow_the_rendered_centre() -> None:
    """The cell read off the pixels, by centre of mass, is the one named (at least a pixel away from the grid)."""
    rng = np.random.default_rng(0)
    for _ in range(40):
        sprite = replace(random_sprite(rng), shape=0)
        x, y = torus_centre(render_coverage(sprite, 1))[0] % 64 / 64 * 3
        if min(abs(v - round(v)) for v in (x, y)) > 0.25:
            assert frame_words(sprite)["position"] == POSITION_WORDS[3 * int(y) + int(x)]


def test_captioned_frames_are_reproducible_and_can_drop_words() -> None:
    images, captions = captioned_frames(12, size=32, seed=4)
    again, same = captioned_frames(12, size=32, seed=4)
    assert images.shape == (12, 32, 32, 3) and np.array_equal(images, again) and captions == same
    short = captioned_frames(200, size=8, seed=4, keep=0.5)[1]
    assert 0.4 < np.mean(["background" in caption for caption in short]) < 0.6
    assert any(caption == "a shape" or caption.startswith("a shape,") for caption in short)
    with pytest.raises(VidsslError, match="keep=0"):
        captioned_frames(2, keep=0)
