"""What a kind of view is: its length, size and place, and how its colours are changed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vidssl.data.clips import ClipSpec
from vidssl.errors import VidsslError


@dataclass(frozen=True)
class ViewSpec:
    """A kind of view; `count` views of it are cut from every sample, each with its own draw.

    Args:
        name: for logs and errors, e.g. "global".
        count: number of such views per sample.
        frames: T, frames per view.
        seconds: temporal extent; None for the whole decoded window.
        stride: source frames from one frame to the next, instead of `seconds`.
        size: side of the square view, in pixels.
        scale: range of the crop's share of the frame area, uniform.
        ratio: range of the crop's width / height, log-uniform.
        flip: probability of mirroring left-right.
        jitter: strengths (brightness, contrast, saturation, hue) as in torchvision's ColorJitter: the first three
            factors are uniform in [max(0, 1 - s), 1 + s], the hue shift in [-s, s] turns; the order is drawn too.
        jitter_p, gray_p, blur_p, solarize_p: probability of each (solarisation: Grill et al. 2020, BYOL).
        blur_sigma: range of the blur in pixels, uniform; the kernel is about a tenth of the size (BYOL).
        strong: operations of RandAugment (Cubuk et al. 2020) that every clip gets, drawn with replacement; see
            `vidssl.data.views.strong`.
        strength: of these operations, as a share of their range (RandAugment's magnitude over 30).
        drop_p: probability that a frame is lost, each but the first alone: the one before it stays on show.
        reverse_p: probability that the clip runs backwards; its times then fall.
        hide_p: of kept features: probability that a number of their rows is zero throughout the view, the others being
            larger by 1 / (1 - hide_p).
    """

    name: str
    count: int
    frames: int
    seconds: float | None = None
    size: int = 224
    scale: tuple[float, float] = (0.4, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    jitter_p: float = 0.0
    gray_p: float = 0.0
    blur_p: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarize_p: float = 0.0
    stride: int | None = None
    strong: int = 0
    strength: float = 0.3
    drop_p: float = 0.0
    reverse_p: float = 0.0
    hide_p: float = 0.0

    def __post_init__(self) -> None:
        def check(field: str, allowed: bool, text: str) -> None:
            if not allowed:
                raise VidsslError(f"view {self.name!r}: {field}={getattr(self, field)}: {text}")

        check("count", self.count >= 1, "must be at least 1")
        check("frames", self.frames >= 1, "must be at least 1")
        check("size", self.size >= 2, "must be at least 2 pixels")
        check("seconds", self.seconds is None or self.seconds > 0, "must be positive, or None for the window")
        check("stride", self.stride is None or self.stride >= 1, "must be at least 1 frame")
        check("stride", self.stride is None or self.seconds is None, "give seconds or stride, not both")
        check("scale", 0 < self.scale[0] <= self.scale[1] <= 1, "must be 0 < min <= max <= 1")
        check("ratio", 0 < self.ratio[0] <= self.ratio[1], "must be 0 < min <= max")
        check("blur_sigma", 0 < self.blur_sigma[0] <= self.blur_sigma[1], "must be 0 < min <= max")
        check("jitter", len(self.jitter) == 4 and min(self.jitter) >= 0, "must be four numbers of at least 0")
        check("jitter", self.jitter[3] <= 0.5, "the hue shift is at most half a turn")
        check("strong", self.strong >= 0, "must be at least 0 operations")
        check("strength", 0 <= self.strength <= 1, "a share lies between 0 and 1")
        for field in ("flip", "jitter_p", "gray_p", "blur_p", "solarize_p", "drop_p", "reverse_p"):
            check(field, 0 <= getattr(self, field) <= 1, "a probability lies between 0 and 1")
        check("hide_p", 0 <= self.hide_p < 1, "must be at least 0 and below 1, where nothing would be left")

    @property
    def clip(self) -> ClipSpec:
        """Which frames of the decoded window a view shows."""
        return ClipSpec(self.frames, self.stride, None if self.stride else self.seconds or math.inf)

    @property
    def blur_kernel(self) -> int:
        """Odd number of taps, about a tenth of the size, at least 3."""
        return max(3, 2 * (self.size // 20) + 1)


def expand_views(specs: Sequence[ViewSpec]) -> list[ViewSpec]:
    """One entry per view, in the order in which views are drawn and rendered."""
    return [spec for spec in specs for _ in range(spec.count)]
