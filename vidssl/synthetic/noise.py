"""Videos of noise in which motion alone carries the class: no frame, whatever is computed of it, knows anything.

A frame is a random texture n on a torus (opposite borders meet), a stationary field: white noise, smoothed alike everywhere. Frame t of a
clip with velocity v, whole pixels a frame, is n shifted by t·v. The texture is drawn without regard to class and velocity.

**A single frame is independent of the class.** A stationary field on a torus has the same law after a shift: S_u n ~ n for every fixed u.
Given the class c and the velocity v, frame t is S_tv n ~ n. So its law is that of n whatever c, v and t are: p(frame | c) = p(frame), and
every function of one frame, a feature or a probe's answer, is independent of c. What is done to each frame alone, such as resizing, does
not change that; nor does a code without losses (`write_noise_dataset` uses one: of lossy codes the errors know the motion).

**An average over frames is not.** (1/T) Σ S_tv n is blurred along v: its autocorrelation, of second order, tells horizontal from vertical
motion and, over a range of speeds, fast from slow. It does not know the sign: the frames of -v are those of v in reverse, of the texture
S_-(T-1)v n ~ n, so whatever ignores the order of frames has the same law for both. Of the four classes here it can be right in half of all
cases, never more; chance is a quarter.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidssl.data.encode import write_video
from vidssl.errors import VidsslError

NOISE_CLASSES: dict[str, tuple[int, int]] = {
    "drifting_right": (1, 0),
    "drifting_left": (-1, 0),
    "drifting_down": (0, 1),
    "drifting_up": (0, -1),
}
FAST, ASIDE = (2, 3), (-1, 0, 1)  # pixels a frame along the direction of a class, and across it
SMOOTH = 1.0  # pixels: standard deviation of the Gaussian by which noise is smoothed
CONTRAST = 55.0  # grey levels: standard deviation of a texture
SPLITS = ("train", "val")


def noise_texture(rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """(size, size) grey levels of a stationary random field on a torus; its law is the same after any shift by whole pixels."""
    spectrum = np.fft.rfft2(rng.standard_normal((size, size)))
    y, x = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :]
    gain = np.exp(-2 * (np.pi * SMOOTH) ** 2 * (x**2 + y**2))
    field = np.fft.irfft2(spectrum * gain, s=(size, size))
    # Of unit variance by what the filter does to white noise, not by what this texture happens to have.
    full = np.exp(-4 * (np.pi * SMOOTH) ** 2 * (y**2 + np.fft.fftfreq(size)[None, :] ** 2))
    grey: NDArray[np.uint8] = (
        (127.5 + CONTRAST * field / np.sqrt(full.mean())).round().clip(0, 255).astype(np.uint8)
    )
    return grey


def noise_clip(
    name: str, rng: np.random.Generator, frames: int, size: int, shots: int = 1
) -> NDArray[np.uint8]:
    """(frames, size, size, 3): textures, one after the other, all drifting by one velocity of the class.

    Args:
        name: a key of `NOISE_CLASSES`.
        shots: in how many equal parts another texture drifts.
    """
    along, across = np.array(NOISE_CLASSES[name]), np.array(NOISE_CLASSES[name][::-1])
    vx, vy = along * rng.choice(FAST) + across * rng.choice(ASIDE)
    length = frames // shots
    clip = []
    for _ in range(shots):
        texture = noise_texture(rng, size)
        clip += [np.roll(texture, (t * vy, t * vx), axis=(0, 1)) for t in range(length)]
    return np.repeat(np.stack(clip)[..., None], 3, axis=-1)


def write_noise_dataset(
    root: Path | str,
    clips_per_class_train: int = 60,
    clips_per_class_val: int = 60,
    frames: int = 32,
    size: int = 48,
    fps: int = 8,
    seed: int = 0,
    shots: int = 1,
) -> None:
    """Write `<root>/{train,val}/<class>/<class>_0000.mp4` …, compressed without losses.

    Clip i of a class depends on (seed, split, class, i) alone; files of an earlier call are overwritten.

    Args:
        root: folder, made if absent.
        frames, size, fps: T, pixels of a side (even), frames a second.
        shots: see `noise_clip`.

    Raises:
        VidsslError: for counts below 0, an odd size or one below 8, or shots that do not divide the frames into parts of two or more.
    """
    counts = dict(zip(SPLITS, (clips_per_class_train, clips_per_class_val), strict=True))
    if min(counts.values()) < 0 or frames < 2 or fps < 1 or size < 8 or size % 2:
        raise VidsslError(
            f"noise set: clips per class {tuple(counts.values())}, frames {frames}, size {size}, fps {fps}: counts must be >= 0, "
            "frames >= 2, size even and >= 8, fps >= 1"
        )
    if shots < 1 or frames % shots or frames // shots < 2:
        raise VidsslError(f"noise set: shots={shots}: must divide {frames} frames into parts of at least two")
    for split, count in counts.items():
        for number, name in enumerate(NOISE_CLASSES):
            for index in range(count):
                rng = np.random.default_rng((seed, SPLITS.index(split), number, index))
                clip = noise_clip(name, rng, frames, size, shots)
                write_video(Path(root) / split / name / f"{name}_{index:04d}.mp4", clip, fps, lossless=True)
