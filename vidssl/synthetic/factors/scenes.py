"""The scenes that factor videos show: which factors each has, and its clips in memory.

>>> table = sample_table("sprites", clips=1000, seed=0)
>>> clips = factor_clips("sprites", table.values[:16], frames=16, size=64, seed=0)   # (16, 16, 64, 64, 3) uint8
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidssl.errors import NAMED, VidsslError, check_choice
from vidssl.synthetic import sprites
from vidssl.synthetic.factors import shapes3d
from vidssl.synthetic.factors.table import FactorTable

# The factors' values and the looks that no factor names (textures) are drawn from streams of their own.
_VALUES, _LOOKS = 0, 1


@dataclass(frozen=True)
class Scene:
    """What a scene's clips are made from.

    Attributes:
        factors: number of values of each factor, in the order of the columns.
        motion: names of those that frame 0 does not depend on.
        render: (values of the factors by name, frames, size, seed of the rest) -> (T, H, W, 3) uint8.
    """

    factors: dict[str, int]
    motion: frozenset[str]
    render: Callable[[dict[str, int], int, int, int], NDArray[np.uint8]]


def _render_sprite(values: dict[str, int], frames: int, size: int, seed: int) -> NDArray[np.uint8]:
    return sprites.render_clip(sprites.SpriteFactors(**values), frames, size, seed)


SCENES: dict[str, Scene] = {
    "sprites": Scene(sprites.FACTORS, frozenset({"direction", "speed", "spin", "zoom"}), _render_sprite),
    "shapes3d": Scene(shapes3d.FACTORS, shapes3d.MOTION, shapes3d.render_clip),
}


def scene_of(name: str) -> Scene:
    """The scene of that name.

    Raises:
        VidsslError: if there is none.
    """
    check_choice("scene", name, SCENES, NAMED)
    return SCENES[name]


def sample_table(scene: str, clips: int, seed: int = 0) -> FactorTable:
    """Independent, uniform values of all factors, with replacement.

    Clip i depends on (scene, seed, i) alone: asking for more clips keeps the first ones. Its path is the name that
    `write_factor_videos` gives it in its folder.

    Raises:
        VidsslError: if the scene is unknown or clips < 1.
    """
    factors = scene_of(scene).factors
    if clips < 1 or seed < 0:
        raise VidsslError(f"factor clips: clips={clips}, seed={seed}: must be at least 1 and 0")
    rng = np.random.default_rng((_VALUES, seed))
    values = rng.integers(list(factors.values()), size=(clips, len(factors)))
    paths = [Path(f"{index:06d}.mp4") for index in range(clips)]
    return FactorTable(paths, list(factors), values, dict(factors), set(SCENES[scene].motion))


def factor_clips(
    scene: str,
    values: NDArray[np.int64],
    frames: int = 16,
    size: int = 64,
    seed: int = 0,
    numbers: Sequence[int] | None = None,
) -> NDArray[np.uint8]:
    """Render clips in memory, each a pure function of its values, frames, size, seed and number.

    Args:
        values: (n, K) in the order of the scene's factors.
        frames, size: T, pixels of a side.
        seed: with the clip's number, of what no factor names: the textures.
        numbers: of the n clips (default 0 … n - 1), so that a part of a table is rendered as in the whole.

    Returns:
        (n, T, size, size, 3) uint8 RGB.

    Raises:
        VidsslError: for an unknown scene, values that do not fit it, or frames or size below 1.
    """
    found = scene_of(scene)
    sizes = np.array(list(found.factors.values()))
    values = np.asarray(values)
    if values.ndim != 2 or values.shape[1] != len(sizes):
        raise VidsslError(f"scene {scene!r}: values {values.shape}: must be (n, {len(sizes)})")
    if ((values < 0) | (values >= sizes)).any():
        raise VidsslError(f"scene {scene!r}: values out of range (allowed: 0 to below {found.factors})")
    if frames < 1 or size < 1:
        raise VidsslError(f"factor clips: frames={frames}, size={size}: both must be at least 1")
    numbers = range(len(values)) if numbers is None else numbers
    clips = np.empty((len(values), frames, size, size, 3), dtype=np.uint8)
    for clip, row, number in zip(clips, values.tolist(), numbers, strict=True):
        looks = int(np.random.default_rng((_LOOKS, seed, number)).integers(2**31))
        clip[:] = found.render(dict(zip(found.factors, row, strict=True)), frames, size, looks)
    return clips
